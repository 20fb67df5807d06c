r"""
# labml_gmlp

*Pay Attention to MLPs* (Liu, Dai, So and Le, 2021,
[arXiv 2105.08050](https://arxiv.org/abs/2105.08050)) as code that is the article.

Read in this order:

1. [the gMLP block](blocks/gmlp.py): all equations of the paper's model
2. [Toeplitz projections](blocks/toeplitz.py): the form of $W$ that the paper uses for language
3. [the encoder](blocks/encoder.py): a stack of such blocks, or of any other layer
4. [the Transformer layer](blocks/transformer.py): the baseline
5. [the language model](models/language.py): from tokens to logits
6. [generation](generation.py): from logits to text

Every file under `blocks/` can be copied alone into other code. The names below are the public ones.
"""

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.transformer import TransformerLayer
from labml_gmlp.generation import generate
from labml_gmlp.models.language import LanguageModel

__version__ = "0.1.0"

__all__ = [
    "DecayedToeplitzProjection",
    "Encoder",
    "GMLPBlock",
    "LanguageModel",
    "SpatialGatingUnit",
    "SpatialProjection",
    "ToeplitzProjection",
    "TransformerLayer",
    "generate",
]
