r"""Weights of the gMLP of PaddleViT.

# PaddleViT

Its gMLP for images, at commit 5ac7d89, Apache 2.0 licence. Except for the patches and the stack,
the names are those of timm. The layouts differ:

* Paddle stores the matrix of a linear layer as `[in, out]`, so all are transposed, *$W$ too*. $W$
  is square, so a converter that goes by shapes would silently leave it as it is. The convolution
  of the patches has the layout of torch
* All norms have an epsilon of 1e-6, also inside the gate, where timm has 1e-5. So PaddleViT's own
  test of its conversion from timm passes only within a tolerance
* A `.pdparams` file is a pickle of arrays with one more entry, `StructuredToParameterName@@`, which
  holds no weights. Training checkpoints have the weights one level down, under `model`
* A model made with `patch_embed_norm=True` has a norm after the patches, which is not read
"""

from typing import Any

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, image_size_of, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $n$ is the number of patches, $d$ the width of the model and $h$ half the width of $Z$.
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
# $c$ is the number of channels of the images, $p$ and $q$ are the height and width of a patch, $C$
# is the number of classes.
ROWS = (
    Row("patches.weight", "patch_embed.patch_embed.weight", "d c p q"),
    Row("patches.bias", "patch_embed.patch_embed.bias", "d"),
    *prefixed(BLOCK, "encoder.layers.{i}.", "mixer_layers.{i}."),
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
    patch = (size_of(state, stem, 2), size_of(state, stem, 3))
    n = size_of(state, "mixer_layers.{i}.mlp_channels.gate.proj.bias", 0)
    return {
        "n_layers": count_layers(state, "mixer_layers.{i}.mlp_channels.fc1.weight"),
        "d_model": size_of(state, stem, 0),
        "d_ffn": size_of(state, "mixer_layers.{i}.mlp_channels.fc1.weight", 1),
        "seq_len": n,
        "n_classes": size_of(state, "head.weight", 1),
        "n_channels": size_of(state, stem, 1),
        "image_size": image_size_of(n, patch, image_size) if all(patch) else None,
        "patch_size": patch,
    }


GMLP = System(
    "PaddleViT gmlp",
    matches=lambda state: count_layers(state, "mixer_layers.{i}.mlp_channels.gate.proj.weight") > 0,
    config=_config,
    table=lambda c: Table(
        "PaddleViT gmlp",
        ROWS,
        c["n_layers"],
        ignored=("StructuredToParameterName@@",),
    ),
    facts=FACTS,
    options={"image_size": "(height, width) of the images; a square of patches by default"},
    notes="pixels are normalised with a mean and standard deviation of 0.5",
)

SYSTEMS: tuple[System, ...] = (GMLP,)
