r"""
# The models compared

From the name of a layer and its sizes to a model: a stack of that layer, by one of two encoders,
between the same embedding and head.
"""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from experiments.engine.settings.errors import check_choice
from labml_gmlp import (
    AdditiveGate,
    ConvolutionProjection,
    Encoder,
    ForLabml,
    FromLabml,
    GMLPBlock,
    LanguageModel,
    LinearGate,
    MultiplicativeGate,
    SpatialProjection,
    TinyAttention,
    ToeplitzProjection,
    TransformerLayer,
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    r"""
    ## Sizes

    What all layers need to know, and what some do. A layer ignores what is not for it.

    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `seq_len` is the number of tokens of the longest sequence
    * `n_heads` is the number of attention heads of the Transformer
    * `d_attn` is the number of channels of the tiny attention
    * `kernel` is the length of the convolution in tokens, odd unless the model is causal
    * `dropout` is the share of a layer's results that training sets to zero
    """

    d_model: int
    d_ffn: int
    n_layers: int
    seq_len: int
    n_heads: int = 4
    d_attn: int = 64
    kernel: int = 31
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    def make_dropout(self) -> nn.Module | None:
        """A layer of its own for each that asks; `None` where nothing is dropped."""
        return nn.Dropout(self.dropout) if self.dropout else None


def shape_of(settings: Any) -> Shape:
    """The sizes among the settings of an experiment; what they leave out is as above."""
    names = [field.name for field in dataclasses.fields(Shape)]
    return Shape(**{name: getattr(settings, name) for name in names if hasattr(settings, name)})


# ## Layers
#
# Each is one layer of its kind, from its sizes and whether it may read the future.
def gmlp(shape: Shape, causal: bool) -> nn.Module:
    """The paper's block, with a free $W$ and the split gate of Eq. 4."""
    return GMLPBlock(
        shape.d_model, shape.d_ffn, shape.seq_len, causal=causal, dropout=shape.make_dropout()
    )


def amlp(shape: Shape, causal: bool) -> nn.Module:
    """gMLP with a tiny attention beside $W$."""
    return GMLPBlock(
        shape.d_model,
        shape.d_ffn,
        shape.seq_len,
        causal=causal,
        attention=TinyAttention(shape.d_model, shape.d_ffn // 2, shape.d_attn, causal=causal),
        dropout=shape.make_dropout(),
    )


def toeplitz(shape: Shape, causal: bool) -> nn.Module:
    """gMLP with one weight for each distance, as in the paper's models of language."""
    return GMLPBlock(
        shape.d_model,
        shape.d_ffn,
        causal=causal,
        projection=ToeplitzProjection(shape.seq_len, causal=causal),
        dropout=shape.make_dropout(),
    )


def convolution(shape: Shape, causal: bool) -> nn.Module:
    """gMLP with a short kernel for each channel, as in models of speech."""
    return GMLPBlock(
        shape.d_model,
        shape.d_ffn,
        causal=causal,
        projection=ConvolutionProjection(shape.d_ffn // 2, shape.kernel, causal=causal),
        dropout=shape.make_dropout(),
    )


# The three gates of the ablation that do not split $Z$: their `proj_out` has twice the rows that
# the split gate leaves it, so that equal parameters want a smaller `d_ffn`.
def _without_split(
    gate: type[LinearGate] | type[AdditiveGate] | type[MultiplicativeGate],
) -> Callable[[Shape, bool], nn.Module]:
    def make_layer(shape: Shape, causal: bool) -> nn.Module:
        return GMLPBlock(
            shape.d_model,
            shape.d_ffn,
            causal=causal,
            sgu=gate(shape.d_ffn, SpatialProjection(shape.seq_len, causal=causal)),
            dropout=shape.make_dropout(),
        )

    return make_layer


def transformer(shape: Shape, causal: bool) -> nn.Module:
    """The baseline."""
    return TransformerLayer(
        shape.d_model, shape.n_heads, shape.d_ffn, causal=causal, dropout=shape.make_dropout()
    )


LAYERS: dict[str, Callable[[Shape, bool], nn.Module]] = {
    "gmlp": gmlp,
    "amlp": amlp,
    "toeplitz": toeplitz,
    "convolution": convolution,
    "linear": _without_split(LinearGate),
    "additive": _without_split(AdditiveGate),
    "multiplicative": _without_split(MultiplicativeGate),
    "transformer": transformer,
}


# ## Encoders
#
# What stacks the layers; both are called as `Encoder(make_layer, n_layers, checkpoint_layers=...)`.
def labml_nn_encoder(
    make_layer: Callable[[], nn.Module], n_layers: int, *, checkpoint_layers: bool = False
) -> nn.Module:
    r"""
    ### The encoder of labml_nn

    Our layers in `labml_nn.transformers.Encoder`, and that in our language model: two
    [adapters](../../labml_gmlp/adapters.py). The same seed gives the same initial weights as in our
    encoder, and so the same losses up to rounding.

    * `make_layer` builds one layer, `n_layers` is their number
    * `checkpoint_layers` must be false: this encoder keeps all that the backward pass reads

    Raises `ValueError` where labml_nn cannot be imported, and for `checkpoint_layers`.
    """
    if checkpoint_layers:
        raise ValueError("checkpoint_layers must be false with encoder='labml_nn', got True")
    try:
        # Its docstrings hold escapes that Python warns of when it compiles them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from labml_nn.transformers import Encoder as LabmlEncoder
    except ImportError as e:
        raise ValueError(
            f"encoder must be labml_gmlp where labml_nn cannot be imported, got 'labml_nn' "
            f"({str(e).splitlines()[0]}); to install it: pip install --no-deps labml-nn==0.5.1"
        ) from e
    layers = [ForLabml(make_layer()) for _ in range(n_layers)]
    encoder = LabmlEncoder(layers[0], n_layers)
    # In the place of its copies of one layer, which would all start equal.
    encoder.layers = nn.ModuleList(layers)
    # The layers are causal themselves, so the encoder needs no mask.
    return FromLabml(encoder, size=layers[0].size)


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "labml_gmlp": Encoder,
    "labml_nn": labml_nn_encoder,
}


def make_model(
    layer: str,
    shape: Shape,
    n_tokens: int,
    *,
    causal: bool,
    seed: int,
    encoder: str = "labml_gmlp",
    checkpoint_layers: bool = False,
) -> LanguageModel:
    r"""
    ## The model

    Only the Transformer gets positions. In gMLP row $i$ of $W$ and entry $i$ of $b$ belong to
    position $i$. A Toeplitz $W$ keeps that $b$, and the paper adds no position embedding to it
    either. The convolution has nothing of the kind, and still goes without: its kernel knows
    distances, which is what a text asks for, and the zeros around a sequence show where it ends.

    * `layer` is a name in `LAYERS`, `encoder` one in `ENCODERS`
    * `shape` has the sizes
    * `n_tokens` is the size of the vocabulary
    * `causal` lets no position read a later one
    * `seed` decides the initial weights
    * `checkpoint_layers` trades time for memory, as [the
      encoder](../../labml_gmlp/blocks/encoder.py) says

    Raises `ValueError` for a name that is not known, for the encoder of a package that is not
    installed, and what the layers raise.
    """
    check_choice("layer", layer, LAYERS)
    check_choice("encoder", encoder, ENCODERS)
    torch.manual_seed(seed)
    stack = ENCODERS[encoder](
        lambda: LAYERS[layer](shape, causal), shape.n_layers, checkpoint_layers=checkpoint_layers
    )
    n_positions = shape.seq_len if layer == "transformer" else None
    return LanguageModel(n_tokens, stack, n_positions=n_positions)
