r"""The language models compared: one builder per layer, and the encoders that stack the layers.

# Language models compared

All models have the same token embedding and head. They differ in the layer and its sizes; only the
Transformer also has position embeddings.
"""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from experiments.engine.settings.errors import check_choice
from labml_gmlp import (
    AdditiveGate,
    AMLPBlock,
    ConvolutionProjection,
    Encoder,
    ForLabml,
    FromLabml,
    GMLPBlock,
    LanguageModel,
    LinearGate,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    TinyAttention,
    ToeplitzProjection,
    TransformerLayer,
)


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    r"""The sizes of a stack of layers.

    ## Sizes

    ```python
    sizes = LayerSizes(d_model=128, d_ffn=512, n_layers=7, seq_len=64)
    model = make_model("gmlp", sizes, n_tokens=66, causal=True, seed=0)
    ```

    Each layer uses the sizes that it needs and ignores the others.

    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `seq_len` is the maximum sequence length in tokens
    * `n_heads` is the number of attention heads in the Transformer
    * `d_attn` is the number of channels in the tiny attention
    * `kernel` is the kernel size of the convolution in tokens, odd unless the model is causal
    * `dropout` is the dropout probability

    Raises `ValueError` if `dropout` is not in $[0, 1)$.
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
        """Returns a new dropout layer, or `None` without dropout."""
        return nn.Dropout(self.dropout) if self.dropout else None


def layer_sizes(settings: Any) -> LayerSizes:
    """The sizes in the settings of an experiment, with defaults for those that are missing."""
    names = [field.name for field in dataclasses.fields(LayerSizes)]
    return LayerSizes(
        **{name: getattr(settings, name) for name in names if hasattr(settings, name)}
    )


# ## Layers
#
# Each function builds one layer.
def gmlp(sizes: LayerSizes, causal: bool) -> nn.Module:
    """The paper's block, with a free $W$ and the split gate of Eq. 4."""
    return GMLPBlock(
        sizes.d_model, sizes.d_ffn, sizes.seq_len, causal=causal, dropout=sizes.make_dropout()
    )


def amlp(sizes: LayerSizes, causal: bool) -> nn.Module:
    """gMLP with a tiny attention added to the gate."""
    return AMLPBlock(
        sizes.d_model,
        sizes.d_ffn,
        sizes.seq_len,
        causal=causal,
        attention=TinyAttention(sizes.d_model, sizes.d_ffn // 2, sizes.d_attn, causal=causal),
        dropout=sizes.make_dropout(),
    )


def toeplitz(sizes: LayerSizes, causal: bool) -> nn.Module:
    """gMLP with one weight per relative position, as in the paper's language models."""
    return _with_projection(ToeplitzProjection(sizes.seq_len, causal=causal), sizes, causal)


def convolution(sizes: LayerSizes, causal: bool) -> nn.Module:
    """gMLP with a short convolution per channel, as in models of speech."""
    projection = ConvolutionProjection(sizes.d_ffn // 2, sizes.kernel, causal=causal)
    return _with_projection(projection, sizes, causal)


def _with_projection(projection: nn.Module, sizes: LayerSizes, causal: bool) -> nn.Module:
    return GMLPBlock(
        sizes.d_model,
        sizes.d_ffn,
        causal=causal,
        sgu=SpatialGatingUnit(sizes.d_ffn, projection=projection),
        dropout=sizes.make_dropout(),
    )


# The three gates of the ablation that do not split $Z$. Their `proj_out` has twice as many inputs
# as with the split gate, so equal parameter counts need a smaller `d_ffn`.
def _without_split(
    gate: type[LinearGate] | type[AdditiveGate] | type[MultiplicativeGate],
) -> Callable[[LayerSizes, bool], nn.Module]:
    def make_layer(sizes: LayerSizes, causal: bool) -> nn.Module:
        return GMLPBlock(
            sizes.d_model,
            sizes.d_ffn,
            causal=causal,
            sgu=gate(sizes.d_ffn, SpatialProjection(sizes.seq_len, causal=causal)),
            dropout=sizes.make_dropout(),
        )

    return make_layer


def transformer(sizes: LayerSizes, causal: bool) -> nn.Module:
    """The Transformer layer, the baseline."""
    return TransformerLayer(
        sizes.d_model, sizes.n_heads, sizes.d_ffn, causal=causal, dropout=sizes.make_dropout()
    )


# The names of the layers and their builders. A test asserts that both have the same names.
LayerName = Literal[
    "gmlp",
    "amlp",
    "toeplitz",
    "convolution",
    "linear",
    "additive",
    "multiplicative",
    "transformer",
]
LAYERS: dict[str, Callable[[LayerSizes, bool], nn.Module]] = {
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
# Both are called as `Encoder(make_layer, n_layers, checkpoint_layers=...)`.
def labml_nn_encoder(
    make_layer: Callable[[], nn.Module], n_layers: int, *, checkpoint_layers: bool = False
) -> nn.Module:
    r"""Our layers in `labml_nn.transformers.Encoder`, wrapped for our language model.

    ### The encoder of labml_nn

    It uses both [adapters](../../labml_gmlp/adapters.py). Equal seeds give the same initial weights
    as in our encoder, and the same losses up to rounding.

    * `make_layer` builds one layer
    * `n_layers` is the number of layers
    * `checkpoint_layers` must be false: this encoder cannot recompute activations

    Raises `ValueError` if labml_nn cannot be imported, and if `checkpoint_layers` is true.
    """
    if checkpoint_layers:
        raise ValueError("checkpoint_layers must be false with encoder='labml_nn', got True")
    try:
        # Its docstrings contain invalid escapes, which Python warns about on the first import.
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
    # The encoder has copied one layer, so all copies would start equal. Replace them.
    encoder.layers = nn.ModuleList(layers)
    # The layers are causal themselves, so the encoder needs no mask.
    return FromLabml(encoder, size=layers[0].size)


ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "labml_gmlp": Encoder,
    "labml_nn": labml_nn_encoder,
}


def make_model(
    layer: str,
    sizes: LayerSizes,
    n_tokens: int,
    *,
    causal: bool,
    seed: int,
    encoder: str = "labml_gmlp",
    checkpoint_layers: bool = False,
) -> LanguageModel:
    r"""Builds a language model with new weights.

    ## Building a model

    Only the Transformer has position embeddings. In gMLP, row $i$ of $W$ and entry $i$ of $b$
    belong to position $i$. A Toeplitz $W$ keeps $b$, and the paper adds no position embeddings to
    it either. The convolution has no parameters for absolute positions; its kernel knows relative
    positions, and the zero padding marks the ends of the sequence.

    * `layer` is a key of `LAYERS`
    * `sizes` are the sizes of the layers
    * `n_tokens` is the size of the vocabulary
    * `causal` keeps each position from reading later ones
    * `seed` determines the initial weights
    * `encoder` is a key of `ENCODERS`
    * `checkpoint_layers` recomputes activations in the backward pass to save memory, as in [the
      encoder](../../labml_gmlp/blocks/encoder.py)

    Raises `ValueError` for an unknown `layer` or `encoder`; for `encoder="labml_nn"` if labml_nn
    cannot be imported or `checkpoint_layers` is true; for a size below 1; if `d_ffn` is odd in a
    layer that splits it; if `n_heads` does not divide `d_model`; and if `kernel` is even in a model
    that is not causal.
    """
    check_choice("layer", layer, LAYERS)
    check_choice("encoder", encoder, ENCODERS)
    torch.manual_seed(seed)
    stack = ENCODERS[encoder](
        lambda: LAYERS[layer](sizes, causal), sizes.n_layers, checkpoint_layers=checkpoint_layers
    )
    n_positions = sizes.seq_len if layer == "transformer" else None
    return LanguageModel(n_tokens, stack, n_positions=n_positions)
