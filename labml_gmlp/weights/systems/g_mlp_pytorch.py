r"""Weights of `gMLP` and `gMLPVision` of the package g-mlp-pytorch.

# g-mlp-pytorch

Phil Wang's package, version 0.1.5, MIT licence: `gMLP` for sequences and `gMLPVision` for images.
Norms and GELU are those of torch, as here. The differences:

* $W$ and $b$ always have an axis of heads; ours have none for one head
* `circulant_matrix` there is our [decayed Toeplitz projection](../../blocks/toeplitz.py). It stores
  $w_{n-1}$ to $w_0$ where we store $w_0$ to $w_{n-1}$, and it is causal whatever `causal` says
* `gMLP` has one more `fn` in its names than `gMLPVision`, for a token shift that may be disabled
* the weights do not record `causal`, `shift_tokens` and the activation of the gate, `act`, so they
  are options. Without `causal=True`, the weights of a causal model load silently as those of a
  bidirectional one
* `prob_survival` skips whole layers in training there; here it is
  [stochastic depth](../../blocks/stochastic_depth.py), which must be added again
"""

from math import isqrt
from typing import Any

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, image_size_of, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers


# $H$ is the number of heads, $n$ the number of tokens, $d$ the width of the model, $h$ half the
# width of $Z$, and $a$ the width of the attention.
def block(c: Config) -> tuple[Row, ...]:
    """Returns the rows of a block without its norm."""
    heads = "1" if c["n_heads"] == 1 else "H"
    bias = "n" if c["n_heads"] == 1 else "H n"
    matrix = f"{bias} n"
    decayed = (
        Row("sgu.projection.row", "sgu.circulant_pos_x", bias, reshape=f"{heads} n"),
        Row("sgu.projection.column", "sgu.circulant_pos_y", bias, reshape=f"{heads} n"),
        Row("sgu.projection.weight", "sgu.weight", bias, reshape=f"{heads} n", flip=True),
    )
    dense = (Row("sgu.projection.weight", "sgu.weight", matrix, reshape=f"{heads} n n"),)
    attention = (
        Row("attention.attention_in.weight", "attn.to_qkv.weight", "3a d"),
        Row("attention.attention_out.weight", "attn.to_out.weight", "h a"),
        Row("attention.attention_out.bias", "attn.to_out.bias", "h"),
    )
    return (
        Row("proj_in.weight", "proj_in.0.weight", "2h d"),
        Row("proj_in.bias", "proj_in.0.bias", "2h"),
        *(() if c["d_attn"] is None else attention),
        *(decayed if c["projection"] == "decayed" else dense),
        Row("sgu.projection.bias", "sgu.bias", bias, reshape=f"{heads} n"),
        Row("sgu.norm.weight", "sgu.norm.weight", "h"),
        Row("sgu.norm.bias", "sgu.norm.bias", "h"),
        Row("proj_out.weight", "proj_out.weight", "d h"),
        Row("proj_out.bias", "proj_out.bias", "d"),
    )


def layers(c: Config, ours: str, to_block: str) -> tuple[Row, ...]:
    """Returns the rows of all layers: each block, then its norm, one level above it."""
    reach = max(c["shifts"] or (0,))
    if c["shifts"] not in (None, (*range(reach + 1),), (*range(-reach, reach + 1),)):
        raise WeightsError(
            f"shifts must be (0, ..., k) or (-k, ..., k) for g-mlp-pytorch, got {c['shifts']}"
        )
    norm = (Row("norm.weight", "fn.norm.weight", "d"), Row("norm.bias", "fn.norm.bias", "d"))
    return prefixed(
        (*prefixed(block(c), "", to_block), *norm), f"{ours}layers.{{i}}.", "layers.{i}."
    )


# $V$ is the size of the vocabulary.
def language(c: Config) -> Table:
    """Returns the table of `gMLP` with an embedding."""
    stack = layers(c, "encoder.", IN_GMLP)
    rows = (
        Row("embedding.weight", "to_embed.weight", "V d"),
        *stack,
        Row("encoder.norm.weight", "to_logits.0.weight", "d"),
        Row("encoder.norm.bias", "to_logits.0.bias", "d"),
        Row("head.weight", "to_logits.1.weight", "V d"),
        Row("head.bias", "to_logits.1.bias", "V"),
    )
    return Table("g-mlp-pytorch gMLP", rows, c["n_layers"])


def stack(c: Config) -> Table:
    """Returns the table of `gMLP` without `num_tokens`: no embedding, last norm or head."""
    return Table("g-mlp-pytorch stack", layers(c, "", IN_GMLP), c["n_layers"])


# A patch is flattened channel by channel and row by row, like the weight of a convolution. $c$ is
# the number of channels of the images, $p$ and $q$ are the height and width of a patch, $C$ is the
# number of classes.
def vision(c: Config) -> Table:
    """Returns the table of `gMLPVision`."""
    rows = (
        Row("patches.weight", "to_patch_embed.1.weight", "d c p q", reshape="d (c p q)"),
        Row("patches.bias", "to_patch_embed.1.bias", "d"),
        *layers(c, "encoder.", IN_VISION),
        Row("encoder.norm.weight", "to_logits.0.weight", "d"),
        Row("encoder.norm.bias", "to_logits.0.bias", "d"),
        Row("head.weight", "to_logits.2.weight", "C d"),
        Row("head.bias", "to_logits.2.bias", "C"),
    )
    p, q = c["patch_size"] or (0, 0)
    sizes = {"c": c["n_channels"], "p": p, "q": q}
    return Table("g-mlp-pytorch gMLPVision", rows, c["n_layers"], sizes)


IN_GMLP, IN_VISION = "fn.fn.fn.", "fn.fn."
FACTS = {
    "layer": "gmlp",
    "attn_in_bias": False,
    "attn_out_bias": True,
    "activation": "gelu",
    "norm_eps": 1e-5,
    "sgu_norm_eps": 1e-5,
}
WITH_LAST_NORM = {**FACTS, "last_norm": True, "last_norm_eps": 1e-5}


def _layers_config(state: State, to_block: str) -> Config:
    prefix = f"layers.{{i}}.{to_block}"
    decayed = count_layers(state, f"{prefix}sgu.circulant_") > 0
    return {
        "n_layers": count_layers(state, "layers.{i}."),
        "d_model": size_of(state, f"{prefix}proj_in.0.weight", 1),
        "d_ffn": size_of(state, f"{prefix}proj_in.0.weight", 0),
        "seq_len": size_of(state, f"{prefix}sgu.bias", 1),
        "n_heads": size_of(state, f"{prefix}sgu.bias", 0),
        "projection": "decayed" if decayed else "dense",
        "d_attn": size_of(state, f"{prefix}attn.to_out.weight", 1) or None,
    }


def _stack_config(
    state: State,
    causal: bool = False,
    shift_tokens: int = 0,
    gate_activation: str | None = None,
) -> Config:
    if type(shift_tokens) is not int or shift_tokens < 0:
        raise WeightsError(f"shift_tokens must be a non-negative integer, got {shift_tokens!r}")
    # A causal model shifts only from earlier tokens.
    shifts = tuple(range(0 if causal else -shift_tokens, shift_tokens + 1))
    return {
        **_layers_config(state, IN_GMLP),
        "causal": causal,
        "shifts": shifts if shift_tokens else None,
        "gate_activation": gate_activation,
    }


def _language_config(state: State, **options: Any) -> Config:
    return {**_stack_config(state, **options), "n_tokens": size_of(state, "to_embed.weight", 0)}


def _vision_config(
    state: State,
    image_size: Any = None,
    patch_size: int | tuple[int, int] | None = None,
    n_channels: int = 3,
) -> Config:
    if type(n_channels) is not int or n_channels < 1:
        raise WeightsError(f"n_channels must be a positive integer, got {n_channels!r}")
    c = _layers_config(state, IN_VISION)
    numbers = size_of(state, "to_patch_embed.1.weight", 1)
    if patch_size is None and numbers:
        side = isqrt(numbers // n_channels)
        if n_channels * side * side != numbers:
            raise WeightsError(
                f"patch_size must be given as (height, width), since {numbers} numbers in "
                f"{n_channels} channels make no square"
            )
        patch_size = side
    patch = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    return {
        **c,
        "n_classes": size_of(state, "to_logits.2.weight", 0),
        "n_channels": n_channels,
        "image_size": image_size_of(c["seq_len"], patch, image_size) if patch else None,
        "patch_size": patch,
    }


OPTIONS = {
    "causal": "the `causal` of the original model; False by default",
    "shift_tokens": "the `shift_tokens` of the original model; 0 by default",
    "gate_activation": "the name of the `act` of the original model, such as tanh; None by default",
}
LANGUAGE = System(
    "g-mlp-pytorch gMLP",
    matches=lambda state: (
        count_layers(state, "layers.{i}.fn.fn.fn.") > 0
        and any(name.startswith(("to_embed.", "to_logits.")) for name in state)
    ),
    config=_language_config,
    table=language,
    facts={**WITH_LAST_NORM, "kind": "language", "tied": False, "n_positions": None},
    options=OPTIONS,
)
STACK = System(
    "g-mlp-pytorch stack",
    matches=lambda state: (
        count_layers(state, "layers.{i}.fn.fn.fn.") > 0
        and not any(name.startswith(("to_embed.", "to_logits.")) for name in state)
    ),
    config=_stack_config,
    table=stack,
    facts={**FACTS, "kind": "encoder", "last_norm": False},
    options=OPTIONS,
)
VISION = System(
    "g-mlp-pytorch gMLPVision",
    matches=lambda state: count_layers(state, "layers.{i}.fn.fn.sgu.") > 0,
    config=_vision_config,
    table=vision,
    facts={
        **WITH_LAST_NORM,
        "kind": "vision",
        "projection": "dense",
        "causal": False,
        "shifts": None,
        "gate_activation": None,
    },
    options={
        "image_size": "(height, width) of the images; a square of patches by default",
        "patch_size": "(height, width) of a patch; a square by default",
        "n_channels": "channels of the images; 3 by default",
    },
)

SYSTEMS: tuple[System, ...] = (LANGUAGE, STACK, VISION)
