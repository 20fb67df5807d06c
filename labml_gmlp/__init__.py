r"""
# labml_gmlp

*Pay Attention to MLPs* (Liu, Dai, So and Le, 2021,
[arXiv 2105.08050](https://arxiv.org/abs/2105.08050)) as code that is the article.

Read in this order:

1. [the gMLP block](blocks/gmlp.py): all equations of the paper's model
2. [the encoder](blocks/encoder.py): a stack of such blocks, or of any other layer
3. [the Transformer layer](blocks/transformer.py): the baseline
4. [the language model](models/language.py): from tokens to logits
5. [sampling](sampling.py): from logits to the chances of the next token
6. [generation](generation.py): token after token, a text
7. [the cache](cache.py): what makes that quick

Every file under `blocks/` can be copied alone into other code. The names below are the public ones.
"""

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.transformer import TransformerLayer
from labml_gmlp.cache import Cache
from labml_gmlp.generation import generate, generate_batch
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.sampling import distribution

__version__ = "0.1.0"

__all__ = [
    "Cache",
    "Encoder",
    "GMLPBlock",
    "LanguageModel",
    "SpatialGatingUnit",
    "SpatialProjection",
    "TransformerLayer",
    "distribution",
    "generate",
    "generate_batch",
]
