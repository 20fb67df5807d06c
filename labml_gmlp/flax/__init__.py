r"""The Flax port: gMLP and aMLP for text and images in Flax NNX.

# Flax port

The same models in [Flax NNX](https://flax.readthedocs.io), file for file and, where JAX allows it,
line for line. It needs the extra `flax`: run `pip install ".[flax]"` in the repository. Importing
`labml_gmlp` alone does not import JAX.

* [gmlp.py](gmlp.py): the gMLP block
* [toeplitz.py](toeplitz.py): the Toeplitz projection, for language
* [tiny_attention.py](tiny_attention.py): the tiny attention of aMLP
* [encoder.py](encoder.py): a stack of layers
* [language.py](language.py): the language model
* [vision.py](vision.py): the image classifier
* [weights.py](weights.py): conversion of weights from and to torch

The port does not read token by token. Each file except `weights.py` can be copied alone.
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
