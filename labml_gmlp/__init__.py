r"""gMLP and its relatives as annotated PyTorch code.

# labml_gmlp

An annotated implementation of *Pay Attention to MLPs* (Liu, Dai, So and Le, 2021, [arXiv
2105.08050](https://arxiv.org/abs/2105.08050)).

Read in this order:

1. [the gMLP block](blocks/gmlp.py): all equations of the paper's model
2. [the encoder](blocks/encoder.py): a stack of blocks
3. [the Transformer layer](blocks/transformer.py): the baseline
4. [the language model](models/language.py): from tokens to logits
5. [generation](generation.py): from logits to text, by [sampling](sampling.py) and [one token at
   a time](incremental.py)
6. [the image classifier](models/vision.py): from pixels to logits
7. [the sizes of the paper](models/sizes.py): the models of its tables, ready to build

Other layers that mix tokens:

* [Toeplitz projections](blocks/toeplitz.py): the form of $W$ in the paper's language models
* [the convolution projection](blocks/convolution.py): the gate of cgMLP, for any length
* [the windowed projection](blocks/windowed.py): shared weights for windows, for any length
* [the multi-head projection](blocks/multi_head.py): a matrix $W$ for each group of channels
* [tiny attention](blocks/tiny_attention.py) and [the aMLP block](models/amlp.py) that adds it
* [the gates of the ablation](blocks/gates.py): Eq. 3 and the steps before it
* [MLP-Mixer](blocks/mixer.py): the all-MLP model of the same month

Options of the block, and operations on whole models:

* [stochastic depth](blocks/stochastic_depth.py): skips residual branches at random in training
* [token shift](blocks/token_shift.py): reads some channels from a neighbouring position
* [resizing](resize.py): adapts a model to another length or image size
* [adapters](adapters.py): our layers in the encoders of labml_nn and torch, and theirs in ours
* [weights](weights/__init__.py): converts models from and to other systems
* [Flax](flax/__init__.py): the same models in JAX
* [storage](storage.py): atomic writing of files

Each file under `blocks/` can be copied alone. The public names are those below.
"""

from labml_gmlp.adapters import ForLabml, ForTorch, FromLabml, FromTorch
from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gates import AdditiveGate, LinearGate, MultiplicativeGate
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.multi_head import MultiHeadSpatialProjection
from labml_gmlp.blocks.stochastic_depth import StochasticDepth, survival_at
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.blocks.transformer import TransformerLayer
from labml_gmlp.blocks.windowed import WindowedProjection
from labml_gmlp.generation import generate, generate_batch
from labml_gmlp.incremental import incremental
from labml_gmlp.models import sizes
from labml_gmlp.models.amlp import AMLPBlock, AMLPGatingUnit
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier, n_patches
from labml_gmlp.resize import extend, interpolate, interpolate_image
from labml_gmlp.sampling import distribution

__version__ = "0.1.0"

__all__ = [
    "AMLPBlock",
    "AMLPGatingUnit",
    "AdditiveGate",
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
    "MultiHeadSpatialProjection",
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
    "incremental",
    "interpolate",
    "interpolate_image",
    "n_patches",
    "sizes",
    "survival_at",
]
