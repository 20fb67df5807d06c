r"""
# The Flax twin

The same models in [Flax NNX](https://flax.readthedocs.io), file for file and line for line where
JAX lets them be. It needs the extra `flax`, `pip install ".[flax]"` in this folder; importing
`labml_gmlp` alone imports nothing of it.

* [gmlp.py](gmlp.py): the block
* [toeplitz.py](toeplitz.py): the form of $W$ for language
* [tiny_attention.py](tiny_attention.py): what makes gMLP an aMLP
* [encoder.py](encoder.py): the stack
* [language.py](language.py): tokens to logits
* [vision.py](vision.py): images to logits
* [weights.py](weights.py): weights to torch and back

Nothing here has a cache. All but the last can be copied alone.
"""

from labml_gmlp.flax.encoder import Encoder
from labml_gmlp.flax.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.flax.language import LanguageModel
from labml_gmlp.flax.tiny_attention import TinyAttention
from labml_gmlp.flax.toeplitz import ToeplitzProjection
from labml_gmlp.flax.vision import ImageClassifier, n_patches
from labml_gmlp.flax.weights import from_torch, to_torch

__all__ = [
    "Encoder",
    "GMLPBlock",
    "ImageClassifier",
    "LanguageModel",
    "SpatialGatingUnit",
    "SpatialProjection",
    "TinyAttention",
    "ToeplitzProjection",
    "from_torch",
    "n_patches",
    "to_torch",
]
