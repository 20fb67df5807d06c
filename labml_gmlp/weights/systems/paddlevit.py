r"""
# PaddleViT

Its gMLP for images, at commit 5ac7d89, Apache 2.0 licence. The names are those of timm but for the
patches and the stack, and the numbers lie otherwise:

* Paddle keeps the matrix of a linear layer as `[in, out]`, so every one is turned over, *$W$ too*.
  It is square: a converter that goes by shapes leaves it as it is, and nobody notices before the
  results do. The convolution of the patches lies as in torch
* All norms have a constant of 1e-6, that inside the gate too, where timm has 1e-5. So PaddleViT's
  own check of its conversion from timm passes with a tolerance only
* A `.pdparams` file is a pickle of arrays with one more entry, `StructuredToParameterName@@`, which
  carries nothing. Files of a run in training have the weights one level down, in `model`
* A model made with `patch_embed_norm=True` has a norm behind the patches; it is not read
"""

from typing import Any

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, axis, image_of, inside
from labml_gmlp.weights.translate.table import Row, Table, layers_of

# $n$ is the number of patches, $d$ the width of the model and $h$ half of that of $Z$.
BLOCK = (
    Row("norm.weight", "norm.weight", "d"),
    Row("norm.bias", "norm.bias", "d"),
    Row("proj_in.weight", "mlp_channels.fc1.weight", "2h d", transpose=True),
    Row("proj_in.bias", "mlp_channels.fc1.bias", "2h"),
    Row("sgu.norm.weight", "mlp_channels.gate.norm.weight", "h"),
    Row("sgu.norm.bias", "mlp_channels.gate.norm.bias", "h"),
    Row("sgu.projection.weight", "mlp_channels.gate.proj.weight", "n n", transpose=True),
    Row("sgu.projection.bias", "mlp_channels.gate.proj.bias", "n"),
    Row("proj_out.weight", "mlp_channels.fc2.weight", "d h", transpose=True),
    Row("proj_out.bias", "mlp_channels.fc2.bias", "d"),
)
# $c$ is the number of channels of the images, $p$ and $q$ are height and width of a patch, $C$ is
# the number of classes.
ROWS = (
    Row("patches.weight", "patch_embed.patch_embed.weight", "d c p q"),
    Row("patches.bias", "patch_embed.patch_embed.bias", "d"),
    *inside(BLOCK, "encoder.layers.{i}.", "mixer_layers.{i}."),
    Row("encoder.norm.weight", "norm.weight", "d"),
    Row("encoder.norm.bias", "norm.bias", "d"),
    Row("head.weight", "head.weight", "C d", transpose=True),
    Row("head.bias", "head.bias", "C"),
)
FACTS = {
    "kind": "vision",
    "layer": "gmlp",
    "projection": "dense",
    "n_heads": 1,
    "causal": False,
    "d_attn": None,
    "shifts": None,
    "activation": "gelu",
    "gate_activation": None,
    "norm_eps": 1e-6,
    "sgu_norm_eps": 1e-6,
    "last_norm": True,
    "last_norm_eps": 1e-6,
}


def _config(state: State, image_size: Any = None) -> Config:
    stem = "patch_embed.patch_embed.weight"
    patch = (axis(state, stem, 2), axis(state, stem, 3))
    n = axis(state, "mixer_layers.{i}.mlp_channels.gate.proj.bias", 0)
    return {
        "n_layers": layers_of(state, "mixer_layers.{i}.mlp_channels.fc1.weight"),
        "d_model": axis(state, stem, 0),
        "d_ffn": axis(state, "mixer_layers.{i}.mlp_channels.fc1.weight", 1),
        "seq_len": n,
        "n_classes": axis(state, "head.weight", 1),
        "n_channels": axis(state, stem, 1),
        "image_size": image_of(n, patch, image_size) if all(patch) else None,
        "patch_size": patch,
    }


GMLP = System(
    "PaddleViT gmlp",
    matches=lambda state: layers_of(state, "mixer_layers.{i}.mlp_channels.gate.proj.weight") > 0,
    config=_config,
    table=lambda c: Table(
        "PaddleViT gmlp",
        ROWS,
        c["n_layers"],
        ignored=("StructuredToParameterName@@",),
    ),
    facts=FACTS,
    options={"image_size": "(height, width) of the images; a square of patches by default"},
    notes="pixels are normalised with mean and deviation 0.5",
)

SYSTEMS: tuple[System, ...] = (GMLP,)
