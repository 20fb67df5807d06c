r"""
# What a model is, in plain values

The names and shapes of weights say much of a model, not all: two systems may agree in every name
and yet differ in the constant of a norm. This file writes down all that it takes to compute the
same function, as a dictionary that goes into a JSON file, builds a model from it, and reads it off
a model. Every system says what is true of it in these words.

| key | value | |
| --- | --- | --- |
| `kind` | `"language"`, `"vision"`, `"encoder"`, `"block"` | what stands around the layers |
| `layer` | `"gmlp"`, `"mixer"` | the block |
| `n_layers`, `d_model`, `d_ffn`, `seq_len` | numbers | $L$, $d$, $e$ and $n$ |
| `d_tokens` | number | in Mixer the rows of $W_1$ |
| `projection` | `"dense"`, `"toeplitz"`, `"decayed"` | the form of $W$ |
| `n_heads` | number | how many $W$ there are in a block |
| `causal` | true, false | whether $W$ and the attention read the past alone |
| `d_attn`, `attn_in_bias`, `attn_out_bias` | number or none; true, false | tiny attention |
| `shifts` | numbers or none | token shift |
| `activation` | `"gelu"`, `"gelu_tanh"` | $\sigma$ |
| `gate_activation` | a name or none | what is applied to the gate |
| `norm_eps`, `sgu_norm_eps`, `last_norm_eps` | numbers | the constants of the norms |
| `last_norm` | true, false | whether the encoder ends with a norm |
| `n_tokens`, `n_positions`, `tied` | numbers; true, false | of a language model |
| `n_classes`, `n_channels` | numbers | of a classifier |
| `image_size`, `patch_size` | pairs of numbers | of a classifier, (height, width) |
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.errors import WeightsError

Config = dict[str, Any]

# What is true unless a system says otherwise: our own defaults.
DEFAULTS: Config = {
    "layer": "gmlp",
    "n_layers": 1,
    "d_tokens": None,
    "projection": "dense",
    "n_heads": 1,
    "causal": False,
    "d_attn": None,
    "attn_in_bias": True,
    "attn_out_bias": True,
    "shifts": None,
    "activation": "gelu",
    "gate_activation": None,
    "norm_eps": 1e-5,
    "sgu_norm_eps": 1e-5,
    "last_norm": True,
    "last_norm_eps": 1e-5,
    "n_tokens": None,
    "n_positions": None,
    "tied": False,
    "n_classes": None,
    "n_channels": None,
    "image_size": None,
    "patch_size": None,
}
KINDS = ("language", "vision", "encoder", "block")

# Functions for most of them, as they have no state; torch has the other form of GELU as a module.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_tanh": nn.GELU("tanh"),
    "relu": nn.functional.relu,
    "sigmoid": torch.sigmoid,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


def complete(config: Mapping[str, Any]) -> Config:
    r"""
    ## With all keys

    Returns `config` with the defaults for what it leaves out, and with the lists that JSON makes of
    pairs as pairs again.

    Raises `WeightsError` for a key that is not in the table above, one that has no default and is
    missing, and a value that is not one of the words there.
    """
    needed = {"kind", "d_model", "d_ffn", "seq_len"}
    unknown = sorted(set(config) - set(DEFAULTS) - needed)
    missing = sorted(needed - set(config))
    if unknown or missing:
        raise WeightsError(
            f"config must have the known keys; unknown: {unknown}, missing: {missing}"
        )
    values = {**DEFAULTS, **config}
    for key in ("causal", "last_norm", "tied"):
        if type(values[key]) is not bool:
            raise WeightsError(f"{key} must be true or false, got {values[key]!r}")
    words: dict[str, tuple[str | None, ...]] = {
        "kind": KINDS,
        "layer": ("gmlp", "mixer"),
        "projection": ("dense", "toeplitz", "decayed"),
        "activation": tuple(ACTIVATIONS),
        "gate_activation": (None, *ACTIVATIONS),
    }
    for key, allowed in words.items():
        if values[key] not in allowed:
            raise WeightsError(f"{key} must be one of {list(allowed)}, got {values[key]!r}")
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def build(
    config: Mapping[str, Any],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    r"""
    ## From the values to a model

    Returns the model that `config` describes, with its own random start.

    Raises what `complete` raises, and for sizes that fit together nowhere what the layers raise.
    """
    c = complete(config)
    where: Config = {"device": device, "dtype": dtype}
    if c["kind"] == "block":
        return _layer(c, where)
    encoder = Encoder(lambda: _layer(c, where), c["n_layers"], norm_eps=c["last_norm_eps"], **where)
    # A stack without the norm is the whole model in some systems.
    if not c["last_norm"]:
        encoder.norm = nn.Identity()  # type: ignore[assignment]
    if c["kind"] == "language":
        return LanguageModel(
            c["n_tokens"], encoder, n_positions=c["n_positions"], tied=c["tied"], **where
        )
    if c["kind"] == "vision":
        names = ("image_size", "patch_size", "n_channels")
        return ImageClassifier(encoder, c["n_classes"], **{key: c[key] for key in names}, **where)
    return encoder


def _layer(c: Config, where: Config) -> nn.Module:
    activation = ACTIVATIONS[c["activation"]]
    d, e, n, causal = c["d_model"], c["d_ffn"], c["seq_len"], c["causal"]
    if c["layer"] == "mixer":
        return MixerBlock(
            d, n, c["d_tokens"], e, activation=activation, norm_eps=c["norm_eps"], **where
        )
    projection: nn.Module
    if c["projection"] == "decayed":
        projection = DecayedToeplitzProjection(n, n_heads=c["n_heads"], **where)
    else:
        form = SpatialProjection if c["projection"] == "dense" else ToeplitzProjection
        projection = form(n, causal=causal, n_heads=c["n_heads"], **where)
    gate = None if c["gate_activation"] is None else ACTIVATIONS[c["gate_activation"]]
    sgu = SpatialGatingUnit(
        e, projection=projection, activation=gate, norm_eps=c["sgu_norm_eps"], **where
    )
    attention = None
    if c["d_attn"] is not None:
        attention = TinyAttention(
            d,
            e // 2,
            c["d_attn"],
            causal=causal,
            in_bias=c["attn_in_bias"],
            out_bias=c["attn_out_bias"],
            **where,
        )
    return GMLPBlock(
        d,
        e,
        causal=causal,
        sgu=sgu,
        attention=attention,
        token_shift=None if c["shifts"] is None else TokenShift(c["shifts"]),
        activation=activation,
        norm_eps=c["norm_eps"],
        **where,
    )


def config_of(model: nn.Module) -> Config:
    r"""
    ## From a model to the values

    The other direction: what `build` would need to make this `model`. Dropout is left out, as it
    changes nothing that is computed after training.

    Returns all keys of the table above.

    Raises `WeightsError` for a model with a layer, a norm or a function that the table has no word
    for, and for layers that are not all alike.
    """
    c: Config = {"kind": "encoder"}
    encoder: Any = model
    if isinstance(model, LanguageModel):
        c |= {"kind": "language", "tied": model.head is None}
        c |= {"n_tokens": model.n_tokens, "n_positions": model.n_positions}
        encoder = model.encoder
    elif isinstance(model, ImageClassifier):
        c |= {"kind": "vision", "n_classes": model.head.out_features}
        c |= {"n_channels": model.n_channels, "image_size": model.image_size}
        c["patch_size"] = model.patches.kernel_size
        encoder = model.encoder
    if isinstance(model, GMLPBlock | MixerBlock):
        return complete({**c, "kind": "block", **_of_layer(model)})
    if not isinstance(encoder, Encoder):
        raise WeightsError(f"model must be one of ours, got {type(encoder).__name__}")
    layers = [_of_layer(layer) for layer in encoder.layers]
    if any(layer != layers[0] for layer in layers):
        raise WeightsError("all layers must be alike, got layers of different kinds or sizes")
    c |= {"n_layers": len(layers), "last_norm": isinstance(encoder.norm, nn.LayerNorm)}
    if c["last_norm"]:
        c["last_norm_eps"] = encoder.norm.eps
    return complete({**c, **layers[0]})


def _of_layer(layer: nn.Module) -> Config:
    if isinstance(layer, MixerBlock):
        return {
            "layer": "mixer",
            "d_model": layer.size,
            "d_ffn": layer.proj_in.out_features,
            "seq_len": layer.seq_len,
            "d_tokens": layer.token_in.out_features,
            "activation": _name_of(layer.activation),
            "norm_eps": layer.norm.eps,
        }
    sgu = getattr(layer, "sgu", None)
    if type(layer) is not GMLPBlock or type(sgu) is not SpatialGatingUnit:
        raise WeightsError(
            f"no word for the layer {type(layer).__name__} with {type(sgu).__name__}"
        )
    forms: dict[type, str] = {
        SpatialProjection: "dense",
        ToeplitzProjection: "toeplitz",
        DecayedToeplitzProjection: "decayed",
    }
    projection: Any = sgu.projection
    if type(projection) not in forms:
        raise WeightsError(f"no word for the projection {type(projection).__name__}")
    c = {
        "layer": "gmlp",
        "d_model": layer.size,
        "d_ffn": sgu.d_ffn,
        "seq_len": projection.seq_len,
        "projection": forms[type(projection)],
        "n_heads": projection.n_heads,
        "causal": projection.causal,
        "activation": _name_of(layer.activation),
        "gate_activation": None if sgu.activation is None else _name_of(sgu.activation),
        "norm_eps": layer.norm.eps,
        "sgu_norm_eps": sgu.norm.eps,
    }
    attention, shift = layer.attention, layer.token_shift
    if attention is not None:
        if type(attention) is not TinyAttention:
            raise WeightsError(f"no word for the attention {type(attention).__name__}")
        # A decayed projection is causal whatever stands beside it; the attention is asked then.
        c |= {"causal": attention.causal, "d_attn": attention.d_attn}
        c["attn_in_bias"] = attention.attention_in.bias is not None
        c["attn_out_bias"] = attention.attention_out.bias is not None
    if shift is not None:
        if type(shift) is not TokenShift:
            raise WeightsError(f"no word for the token shift {type(shift).__name__}")
        c["shifts"] = shift.shifts
    return c


# Layers may have been given the function or its module.
def _name_of(activation: Any) -> str:
    modules = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.Tanh: "tanh"}
    if isinstance(activation, nn.GELU):
        return "gelu" if activation.approximate == "none" else "gelu_tanh"
    if type(activation) in modules:
        return modules[type(activation)]
    for name, function in ACTIVATIONS.items():
        if activation is function:
            return name
    raise WeightsError(f"no word for the activation {activation!r}")
