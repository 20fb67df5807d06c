r"""
# The models compared

From the settings of a run to its model: one of two layers, stacked by one of two encoders, between
the same embedding and head.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from labml_gmlp import (
    Encoder,
    ForLabml,
    FromLabml,
    GMLPBlock,
    LanguageModel,
    TransformerLayer,
)

# The settings know the names below, and these functions the settings; only one may import the
# other.
if TYPE_CHECKING:
    from experiments.autoregressive import Settings


def gmlp(settings: Settings) -> nn.Module:
    return GMLPBlock(settings.d_model, settings.d_ffn, settings.seq_len, causal=True)


def transformer(settings: Settings) -> nn.Module:
    return TransformerLayer(settings.d_model, settings.n_heads, settings.d_ffn, causal=True)


LAYERS: dict[str, Callable[[Settings], nn.Module]] = {"gmlp": gmlp, "transformer": transformer}


def labml_nn_encoder(make_layer: Callable[[], nn.Module], n_layers: int) -> nn.Module:
    r"""
    ## The encoder of labml_nn

    Our layers in `labml_nn.transformers.Encoder`, and that in our language model: two
    [adapters](../labml_gmlp/adapters.py). The same seed gives the same initial weights as in our
    encoder, and so the same losses up to rounding.

    * `make_layer` builds one layer, `n_layers` is their number

    Raises `ValueError` where labml_nn cannot be imported.
    """
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


ENCODERS: dict[str, Callable[[Callable[[], nn.Module], int], nn.Module]] = {
    "labml_gmlp": Encoder,
    "labml_nn": labml_nn_encoder,
}


def make_model(settings: Settings, n_tokens: int) -> LanguageModel:
    r"""
    ## The model

    Only the Transformer gets positions: in gMLP each row of $W$ already has its own.

    Raises `ValueError` for the encoder of a package that is not installed.
    """
    torch.manual_seed(settings.seed)
    make_encoder = ENCODERS[settings.encoder]
    encoder = make_encoder(lambda: LAYERS[settings.layer](settings), settings.n_layers)
    n_positions = settings.seq_len if settings.layer == "transformer" else None
    return LanguageModel(n_tokens, encoder, n_positions=n_positions)
