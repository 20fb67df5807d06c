r"""
# labml_gmlp

*Pay Attention to MLPs* (Liu, Dai, So and Le, 2021,
[arXiv 2105.08050](https://arxiv.org/abs/2105.08050)) as code that is the article.

Read in this order:

1. [the gMLP block](blocks/gmlp.py): all equations of the paper's model
2. [the encoder](blocks/encoder.py): a stack of such blocks, or of any other layer
3. [the Transformer layer](blocks/transformer.py): the baseline
4. [the language model](models/language.py): from tokens to logits
5. [generation](generation.py): from logits to text, by [sampling](sampling.py)
   and with a [cache](cache.py)
6. [the image classifier](models/vision.py): from pixels to logits
7. [the sizes of the paper](models/sizes.py): its tables of models, ready to build

Other ways to mix tokens in the block:

* [Toeplitz projections](blocks/toeplitz.py): the form of $W$ that the paper uses for language
* [the convolution projection](blocks/convolution.py): the gate of cgMLP, for any length
* [the windowed projection](blocks/windowed.py): shared weights for windows, for any length
* [tiny attention](blocks/tiny_attention.py): beside the projection, it makes gMLP an aMLP
* [the gates of the ablation](blocks/gates.py): Eq. 3, and what came before it
* [MLP-Mixer](blocks/mixer.py): the neighbour from the same month

What else a block can be given, and what can be done with a whole model:

* [stochastic depth](blocks/stochastic_depth.py): lets sequences skip blocks in training
* [token shift](blocks/token_shift.py): reads some channels from a neighbour
* [resizing](resize.py): goes on at another length or image size
* [adapters](adapters.py): these layers in the stacks of labml_nn and torch, and theirs in ours
* [weights](weights/__init__.py): brings models of other systems here, and takes ours there
* [the Flax twin](flax/__init__.py): the same models in JAX
* [files](storage.py) that are never seen half written

Every file under `blocks/` can be copied alone into other code. The names below are the public ones.
"""

from labml_gmlp.adapters import ForLabml, ForTorch, FromLabml, FromTorch
from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gates import AdditiveGate, LinearGate, MultiplicativeGate
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth, survival_at
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.blocks.transformer import TransformerLayer
from labml_gmlp.blocks.windowed import WindowedProjection
from labml_gmlp.cache import Cache
from labml_gmlp.generation import generate, generate_batch
from labml_gmlp.models import sizes
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier, n_patches
from labml_gmlp.resize import extend, interpolate, interpolate_image
from labml_gmlp.sampling import distribution

__version__ = "0.1.0"

__all__ = [
    "AdditiveGate",
    "Cache",
    "ConvolutionProjection",
    "DecayedToeplitzProjection",
    "Encoder",
    "ForLabml",
    "ForTorch",
    "FromLabml",
    "FromTorch",
    "GMLPBlock",
    "ImageClassifier",
    "LanguageModel",
    "LinearGate",
    "MixerBlock",
    "MultiplicativeGate",
    "SpatialGatingUnit",
    "SpatialProjection",
    "StochasticDepth",
    "TinyAttention",
    "ToeplitzProjection",
    "TokenShift",
    "TransformerLayer",
    "WindowedProjection",
    "distribution",
    "extend",
    "generate",
    "generate_batch",
    "interpolate",
    "interpolate_image",
    "n_patches",
    "sizes",
    "survival_at",
]
