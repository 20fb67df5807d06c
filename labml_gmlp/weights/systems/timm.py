r"""Weights of gMLP and MLP-Mixer of timm.

# timm

PyTorch Image Models, version 1.0.31, Apache 2.0 licence. Its gMLP and its Mixer are one image model
with two kinds of blocks, and its published weights have these names.

* Its norms have an epsilon of 1e-6, except for the norm inside the gate, which has torch's 1e-5:
  timm does not pass the norm of the model to it
* Its layer across tokens is a linear layer on the transposed tensor, so its matrix has the layout
  of $W$
* A model made with `num_classes=0` has no head, and one with `stem_norm=True` has a norm after the
  patches; neither is read
"""

from typing import Any

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, image_size_of, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $c$ is the number of channels of the images, $p$ and $q$ are the height and width of a patch, $C$
# is the number of classes.
STEM = (
    Row("patches.weight", "stem.proj.weight", "d c p q"),
    Row("patches.bias", "stem.proj.bias", "d"),
)
HEAD = (
    Row("encoder.norm.weight", "norm.weight", "d"),
    Row("encoder.norm.bias", "norm.bias", "d"),
    Row("head.weight", "head.weight", "C d"),
    Row("head.bias", "head.bias", "C"),
)
# $n$ is the number of patches, $d$ the width of the model and $h$ half the width of $Z$.
GMLP_BLOCK = (
    Row("norm.weight", "norm.weight", "d"),
    Row("norm.bias", "norm.bias", "d"),
    Row("proj_in.weight", "mlp_channels.fc1.weight", "2h d"),
    Row("proj_in.bias", "mlp_channels.fc1.bias", "2h"),
    Row("sgu.norm.weight", "mlp_channels.gate.norm.weight", "h"),
    Row("sgu.norm.bias", "mlp_channels.gate.norm.bias", "h"),
    Row("sgu.projection.weight", "mlp_channels.gate.proj.weight", "n n"),
    Row("sgu.projection.bias", "mlp_channels.gate.proj.bias", "n"),
    Row("proj_out.weight", "mlp_channels.fc2.weight", "d h"),
    Row("proj_out.bias", "mlp_channels.fc2.bias", "d"),
)
# $t$ and $e$ are the hidden widths of the two MLPs of a Mixer block.
MIXER_BLOCK = (
    Row("token_norm.weight", "norm1.weight", "d"),
    Row("token_norm.bias", "norm1.bias", "d"),
    Row("token_in.weight", "mlp_tokens.fc1.weight", "t n"),
    Row("token_in.bias", "mlp_tokens.fc1.bias", "t"),
    Row("token_out.weight", "mlp_tokens.fc2.weight", "n t"),
    Row("token_out.bias", "mlp_tokens.fc2.bias", "n"),
    Row("norm.weight", "norm2.weight", "d"),
    Row("norm.bias", "norm2.bias", "d"),
    Row("proj_in.weight", "mlp_channels.fc1.weight", "e d"),
    Row("proj_in.bias", "mlp_channels.fc1.bias", "e"),
    Row("proj_out.weight", "mlp_channels.fc2.weight", "d e"),
    Row("proj_out.bias", "mlp_channels.fc2.bias", "d"),
)

FACTS = {
    "kind": "vision",
    "activation": "gelu",
    "norm_eps": 1e-6,
    "last_norm": True,
    "last_norm_eps": 1e-6,
}
GMLP_FACTS = {
    **FACTS,
    "layer": "gmlp",
    "projection": "dense",
    "n_heads": 1,
    "causal": False,
    "d_attn": None,
    "shifts": None,
    "gate_activation": None,
    "sgu_norm_eps": 1e-5,
}
MIXER_FACTS = {**FACTS, "layer": "mixer"}
OPTIONS = {"image_size": "(height, width) of the images; a square of patches by default"}


def _config(state: State, n: int, image_size: Any) -> Config:
    patch = (size_of(state, "stem.proj.weight", 2), size_of(state, "stem.proj.weight", 3))
    return {
        "n_layers": count_layers(state, "blocks.{i}."),
        "d_model": size_of(state, "stem.proj.weight", 0),
        "d_ffn": size_of(state, "blocks.{i}.mlp_channels.fc1.weight", 0),
        "seq_len": n,
        "n_classes": size_of(state, "head.weight", 0),
        "n_channels": size_of(state, "stem.proj.weight", 1),
        "image_size": image_size_of(n, patch, image_size) if all(patch) else None,
        "patch_size": patch,
    }


def _gmlp_config(state: State, image_size: Any = None) -> Config:
    return _config(state, size_of(state, "blocks.{i}.mlp_channels.gate.proj.bias", 0), image_size)


def _mixer_config(state: State, image_size: Any = None) -> Config:
    n = size_of(state, "blocks.{i}.mlp_tokens.fc2.bias", 0)
    d_tokens = size_of(state, "blocks.{i}.mlp_tokens.fc2.weight", 1)
    return {**_config(state, n, image_size), "d_tokens": d_tokens}


def _rows(block: tuple[Row, ...]) -> tuple[Row, ...]:
    return (*STEM, *prefixed(block, "encoder.layers.{i}.", "blocks.{i}."), *HEAD)


GMLP = System(
    "timm gmlp",
    matches=lambda state: count_layers(state, "blocks.{i}.mlp_channels.gate.") > 0,
    config=_gmlp_config,
    table=lambda c: Table("timm gmlp", _rows(GMLP_BLOCK), c["n_layers"]),
    facts=GMLP_FACTS,
    options=OPTIONS,
)
MIXER = System(
    "timm mixer",
    matches=lambda state: count_layers(state, "blocks.{i}.mlp_tokens.") > 0,
    config=_mixer_config,
    table=lambda c: Table("timm mixer", _rows(MIXER_BLOCK), c["n_layers"]),
    facts=MIXER_FACTS,
    options=OPTIONS,
)

SYSTEMS: tuple[System, ...] = (GMLP, MIXER)
