r"""
# g-mlp-pytorch

Phil Wang's package, version 0.1.5, MIT licence: `gMLP` for sequences and `gMLPVision` for images.
Norms and GELU are those of torch, as here. What differs:

* $W$ and $b$ always have an axis of heads. With one head ours have none
* what it calls `circulant_matrix` is our [decayed Toeplitz
  projection](../../blocks/toeplitz.py); it keeps $w_{n-1}$ to $w_0$ where we keep $w_0$ to
  $w_{n-1}$. It is causal there too, whatever `causal` says
* the names have one `fn` more in `gMLP` than in `gMLPVision`, for a token shift that may shift by
  nothing
* `causal`, `shift_tokens` and the function on the gate, `act`, are in no weight, so they are
  options: weights of a causal model load without a word as those of one that reads both sides
* a whole layer may be left out in training there, `prob_survival`; here this is
  [stochastic depth](../../blocks/stochastic_depth.py), and to be put in anew
"""

from math import isqrt
from typing import Any

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, axis, image_of, inside
from labml_gmlp.weights.translate.table import Row, Table, layers_of


# $H$ is the number of heads, $n$ that of tokens, $d$ the width of the model, $h$ half of that of
# $Z$, and $a$ the width of the attention.
def block(c: Config) -> tuple[Row, ...]:
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


# The norm stands one level above the block, and behind it in the order of the names.
def layers(c: Config, ours: str, to_block: str) -> tuple[Row, ...]:
    reach = max(c["shifts"] or (0,))
    if c["shifts"] not in (None, (*range(reach + 1),), (*range(-reach, reach + 1),)):
        raise WeightsError(f"g-mlp-pytorch has no token shift by {c['shifts']}")
    norm = (Row("norm.weight", "fn.norm.weight", "d"), Row("norm.bias", "fn.norm.bias", "d"))
    return inside((*inside(block(c), "", to_block), *norm), f"{ours}layers.{{i}}.", "layers.{i}.")


# $V$ is the number of tokens in the vocabulary.
def language(c: Config) -> Table:
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


# Without `num_tokens` neither embedding, nor last norm, nor head.
def stack(c: Config) -> Table:
    return Table("g-mlp-pytorch stack", layers(c, "", IN_GMLP), c["n_layers"])


# A patch is cut out channel by channel, each row by row: a convolution's weight in one line. $c$ is
# the number of channels of the images, $p$ and $q$ are height and width of a patch, $C$ is the
# number of classes.
def vision(c: Config) -> Table:
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


def _of_layers(state: State, to_block: str) -> Config:
    prefix = f"layers.{{i}}.{to_block}"
    decayed = layers_of(state, f"{prefix}sgu.circulant_") > 0
    return {
        "n_layers": layers_of(state, "layers.{i}."),
        "d_model": axis(state, f"{prefix}proj_in.0.weight", 1),
        "d_ffn": axis(state, f"{prefix}proj_in.0.weight", 0),
        "seq_len": axis(state, f"{prefix}sgu.bias", 1),
        "n_heads": axis(state, f"{prefix}sgu.bias", 0),
        "projection": "decayed" if decayed else "dense",
        "d_attn": axis(state, f"{prefix}attn.to_out.weight", 1) or None,
    }


def _stack_config(
    state: State,
    causal: bool = False,
    shift_tokens: int = 0,
    gate_activation: str | None = None,
) -> Config:
    if type(shift_tokens) is not int or shift_tokens < 0:
        raise WeightsError(f"shift_tokens must be a whole number from 0 on, got {shift_tokens!r}")
    # The channels of a causal model are never read from the right.
    shifts = tuple(range(0 if causal else -shift_tokens, shift_tokens + 1))
    return {
        **_of_layers(state, IN_GMLP),
        "causal": causal,
        "shifts": shifts if shift_tokens else None,
        "gate_activation": gate_activation,
    }


def _language_config(state: State, **options: Any) -> Config:
    return {**_stack_config(state, **options), "n_tokens": axis(state, "to_embed.weight", 0)}


def _vision_config(
    state: State,
    image_size: Any = None,
    patch_size: int | tuple[int, int] | None = None,
    n_channels: int = 3,
) -> Config:
    if type(n_channels) is not int or n_channels < 1:
        raise WeightsError(f"n_channels must be a positive whole number, got {n_channels!r}")
    c = _of_layers(state, IN_VISION)
    numbers = axis(state, "to_patch_embed.1.weight", 1)
    if patch_size is None and numbers:
        side = isqrt(numbers // n_channels)
        if n_channels * side * side != numbers:
            raise WeightsError(
                f"patch_size must be given as (height, width), as {numbers} numbers in "
                f"{n_channels} channels make no square"
            )
        patch_size = side
    patch = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    return {
        **c,
        "n_classes": axis(state, "to_logits.2.weight", 0),
        "n_channels": n_channels,
        "image_size": image_of(c["seq_len"], patch, image_size) if patch else None,
        "patch_size": patch,
    }


OPTIONS = {
    "causal": "what the model was made with; false by default, as there",
    "shift_tokens": "what the model was made with; 0 by default, as there",
    "gate_activation": "the name of its `act`, such as 'tanh'; none by default, as there",
}
LANGUAGE = System(
    "g-mlp-pytorch gMLP",
    matches=lambda state: (
        layers_of(state, "layers.{i}.fn.fn.fn.") > 0
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
        layers_of(state, "layers.{i}.fn.fn.fn.") > 0
        and not any(name.startswith(("to_embed.", "to_logits.")) for name in state)
    ),
    config=_stack_config,
    table=stack,
    facts={**FACTS, "kind": "encoder", "last_norm": False},
    options=OPTIONS,
)
VISION = System(
    "g-mlp-pytorch gMLPVision",
    matches=lambda state: layers_of(state, "layers.{i}.fn.fn.sgu.") > 0,
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
