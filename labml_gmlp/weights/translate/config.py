r"""The configuration of a model: a flat dict of the facts needed to compute the same function.

# Configuration

Two systems may agree in every name and shape and still differ in the epsilon of a norm. A
configuration states everything that a model needs beside its weights. `build` makes a model from
it, `config_of` reads it off a model, and each [system](system.py) states its facts in the same
keys. All layers of a model share one configuration; for models of mixed layers see
[layer trees](../description.py).

| key | value | meaning |
| --- | --- | --- |
| `kind` | `"language"`, `"vision"`, `"encoder"`, `"block"` | the model around the layers |
| `layer` | `"gmlp"`, `"mixer"` | the block |
| `n_layers`, `d_model`, `d_ffn`, `seq_len` | integers | $L$, $d$, $e$ and $n$ |
| `d_tokens` | integer | the number of rows of $W_1$ in Mixer |
| `projection` | `"dense"`, `"toeplitz"`, `"decayed"` | the form of $W$ |
| `n_heads` | integer | the number of matrices $W$ in a block |
| `causal` | boolean | whether $W$ and the attention read only earlier positions |
| `d_attn`, `attn_in_bias`, `attn_out_bias` | integer or `None`; booleans | tiny attention |
| `shifts` | integers or `None` | token shift |
| `activation` | a name of an [activation](activations.py) | $\sigma$ |
| `gate_activation` | the same or `None` | the function applied to the gate |
| `norm_eps`, `sgu_norm_eps`, `last_norm_eps` | numbers | the epsilons of the norms |
| `last_norm` | boolean | whether the encoder ends with a norm |
| `n_tokens`, `n_positions`, `tied` | integers; boolean | the language model |
| `n_classes`, `n_channels` | integers | the image classifier |
| `image_size`, `patch_size` | pairs of integers | the image classifier, (height, width) |
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.multi_head import MultiHeadSpatialProjection
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.models.amlp import AMLPBlock, AMLPGatingUnit
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.activations import ACTIVATIONS, activation_name

Config = dict[str, Any]

# Our own defaults.
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


def complete(config: Mapping[str, Any]) -> Config:
    r"""Returns `config` with defaults for missing keys and with lists as tuples.

    Raises `WeightsError` for an unknown key, a missing key without a default, a boolean key with
    another value, and an unknown `kind`, `layer`, `projection`, `activation` or `gate_activation`.
    """
    needed = {"kind", "d_model", "d_ffn", "seq_len"}
    unknown = sorted(set(config) - set(DEFAULTS) - needed)
    missing = sorted(needed - set(config))
    if unknown or missing:
        raise WeightsError(f"config must have valid keys; unknown: {unknown}, missing: {missing}")
    values = {**DEFAULTS, **config}
    for key in ("causal", "last_norm", "tied"):
        if type(values[key]) is not bool:
            raise WeightsError(f"{key} must be True or False, got {values[key]!r}")
    choices: dict[str, tuple[str | None, ...]] = {
        "kind": KINDS,
        "layer": ("gmlp", "mixer"),
        "projection": ("dense", "toeplitz", "decayed"),
        "activation": tuple(ACTIVATIONS),
        "gate_activation": (None, *ACTIVATIONS),
    }
    for key, allowed in choices.items():
        if values[key] not in allowed:
            raise WeightsError(f"{key} must be one of {list(allowed)}, got {values[key]!r}")
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def build(
    config: Mapping[str, Any],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    r"""Builds the model that a configuration describes, with new random weights.

    ## Configuration to model

    * `config` has the keys of the table above; missing ones take our defaults
    * `device` and `dtype` are those of the parameters

    For example:

        build({"kind": "encoder", "n_layers": 2, "d_model": 16, "d_ffn": 64, "seq_len": 10})

    Raises `WeightsError` for an unknown or missing key or an unknown value, `ValueError` for sizes
    that a layer rejects, such as an odd `d_ffn`.
    """
    c = complete(config)
    where: Config = {"device": device, "dtype": dtype}
    if c["kind"] == "block":
        return _layer(c, where)
    encoder = Encoder(lambda: _layer(c, where), c["n_layers"], norm_eps=c["last_norm_eps"], **where)
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
    projection = _projection(c, where)
    shift = None if c["shifts"] is None else TokenShift(c["shifts"])
    unit_options = {"projection": projection, "norm_eps": c["sgu_norm_eps"], **where}
    options = {"causal": causal, "activation": activation, "norm_eps": c["norm_eps"], **where}
    if c["d_attn"] is None and shift is None and c["gate_activation"] is None:
        return GMLPBlock(d, e, sgu=SpatialGatingUnit(e, **unit_options), **options)
    gate = None if c["gate_activation"] is None else ACTIVATIONS[c["gate_activation"]]
    sgu = AMLPGatingUnit(e, activation=gate, **unit_options)
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
    return AMLPBlock(d, e, sgu=sgu, attention=attention, token_shift=shift, **options)


def _projection(c: Config, where: Config) -> nn.Module:
    n, causal, n_heads = c["seq_len"], c["causal"], c["n_heads"]
    if c["projection"] == "decayed":
        return DecayedToeplitzProjection(n, n_heads=n_heads, **where)
    if c["projection"] == "toeplitz":
        return ToeplitzProjection(n, causal=causal, n_heads=n_heads, **where)
    if n_heads == 1:
        return SpatialProjection(n, causal=causal, **where)
    return MultiHeadSpatialProjection(n, n_heads, causal=causal, **where)


def config_of(model: nn.Module) -> Config:
    r"""Returns the flat configuration that `build` would need to make this model.

    ## Model to configuration

    * `model` is a `LanguageModel`, `ImageClassifier`, `Encoder`, `GMLPBlock`, `AMLPBlock`
      or `MixerBlock`

    Returns all keys of the table above. Dropout is left out, since it has no effect after training.

    Raises `WeightsError` for any other model, for a layer, projection, attention, token shift or
    activation that the table cannot express, and for layers that differ from each other.
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
        return complete({**c, "kind": "block", **_layer_config(model)})
    if not isinstance(encoder, Encoder):
        raise WeightsError(
            f"model must be built from layers of labml_gmlp, got {type(encoder).__name__}"
        )
    layers = [_layer_config(layer) for layer in encoder.layers]
    if any(layer != layers[0] for layer in layers):
        raise WeightsError("all layers of model must have the same type and sizes")
    c |= {"n_layers": len(layers), "last_norm": isinstance(encoder.norm, nn.LayerNorm)}
    if c["last_norm"]:
        c["last_norm_eps"] = encoder.norm.eps
    return complete({**c, **layers[0]})


def _layer_config(layer: Any) -> Config:
    if isinstance(layer, MixerBlock):
        return {
            "layer": "mixer",
            "d_model": layer.size,
            "d_ffn": layer.proj_in.out_features,
            "seq_len": layer.seq_len,
            "d_tokens": layer.token_in.out_features,
            "activation": activation_name(layer.activation),
            "norm_eps": layer.norm.eps,
        }
    sgu: Any = getattr(layer, "sgu", None)
    if type(layer) not in (GMLPBlock, AMLPBlock) or type(sgu) not in (
        SpatialGatingUnit,
        AMLPGatingUnit,
    ):
        raise WeightsError(
            f"a layer must be a GMLPBlock with a SpatialGatingUnit or a MixerBlock, got a "
            f"{type(layer).__name__} with {type(sgu).__name__}"
        )
    forms: dict[type, str] = {
        SpatialProjection: "dense",
        MultiHeadSpatialProjection: "dense",
        ToeplitzProjection: "toeplitz",
        DecayedToeplitzProjection: "decayed",
    }
    projection: Any = sgu.projection
    if type(projection) not in forms:
        raise WeightsError(
            f"projection must be dense, Toeplitz or decayed, got a {type(projection).__name__}"
        )
    gate = getattr(sgu, "activation", None)
    c = {
        "layer": "gmlp",
        "d_model": layer.size,
        "d_ffn": sgu.d_ffn,
        "seq_len": projection.seq_len,
        "projection": forms[type(projection)],
        "n_heads": getattr(projection, "n_heads", 1),
        "causal": projection.causal,
        "activation": activation_name(layer.activation),
        "gate_activation": None if gate is None else activation_name(gate),
        "norm_eps": layer.norm.eps,
        "sgu_norm_eps": sgu.norm.eps,
    }
    attention, shift = getattr(layer, "attention", None), getattr(layer, "token_shift", None)
    if attention is not None:
        if type(attention) is not TinyAttention:
            raise WeightsError(f"attention must be TinyAttention, got {type(attention).__name__}")
        # A decayed projection is always causal, so the attention decides.
        c |= {"causal": attention.causal, "d_attn": attention.d_attn}
        c["attn_in_bias"] = attention.attention_in.bias is not None
        c["attn_out_bias"] = attention.attention_out.bias is not None
    if shift is not None:
        if type(shift) is not TokenShift:
            raise WeightsError(f"token_shift must be TokenShift, got {type(shift).__name__}")
        c["shifts"] = shift.shifts
    return c
