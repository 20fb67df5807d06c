r"""Weights of MLP-Mixer as published by its authors.

# MLP-Mixer of its authors

The Mixer of google-research/vision_transformer, in Flax, Apache 2.0 licence. Its weights are
published as `.npz` files with flat names. The table follows its source code, which was not run.

* A dense layer stores `[in, out]` and a convolution `[height, width, in, out]`, both transposed
* GELU is the tanh approximation, the default of Flax; torch and timm use the exact form. The norms
  have an epsilon of 1e-6
* An early version of that code stored the matrices across tokens in the block itself, as
  `kernel196` and the like; those names are not read
* Images are `[B, height, width, c]` there and `[B, c, height, width]` here, with pixels from -1 to
  1 (from memory)
"""

from typing import Any

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, image_size_of, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $n$ is the number of patches, $d$ the width of the model, $t$ and $e$ are the hidden widths of the
# two MLPs of a block.
BLOCK = (
    Row("token_norm.weight", "LayerNorm_0/scale", "d"),
    Row("token_norm.bias", "LayerNorm_0/bias", "d"),
    Row("token_in.weight", "token_mixing/Dense_0/kernel", "t n", transpose=True),
    Row("token_in.bias", "token_mixing/Dense_0/bias", "t"),
    Row("token_out.weight", "token_mixing/Dense_1/kernel", "n t", transpose=True),
    Row("token_out.bias", "token_mixing/Dense_1/bias", "n"),
    Row("norm.weight", "LayerNorm_1/scale", "d"),
    Row("norm.bias", "LayerNorm_1/bias", "d"),
    Row("proj_in.weight", "channel_mixing/Dense_0/kernel", "e d", transpose=True),
    Row("proj_in.bias", "channel_mixing/Dense_0/bias", "e"),
    Row("proj_out.weight", "channel_mixing/Dense_1/kernel", "d e", transpose=True),
    Row("proj_out.bias", "channel_mixing/Dense_1/bias", "d"),
)
# $c$ is the number of channels of the images, $p$ and $q$ are the height and width of a patch, $C$
# is the number of classes.
ROWS = (
    Row("patches.weight", "stem/kernel", "d c p q", reshape="p q c d"),
    Row("patches.bias", "stem/bias", "d"),
    *prefixed(BLOCK, "encoder.layers.{i}.", "MixerBlock_{i}/"),
    Row("encoder.norm.weight", "pre_head_layer_norm/scale", "d"),
    Row("encoder.norm.bias", "pre_head_layer_norm/bias", "d"),
    Row("head.weight", "head/kernel", "C d", transpose=True),
    Row("head.bias", "head/bias", "C"),
)
FACTS = {
    "kind": "vision",
    "layer": "mixer",
    "activation": "gelu_tanh",
    "norm_eps": 1e-6,
    "last_norm": True,
    "last_norm_eps": 1e-6,
}


def _config(state: State, image_size: Any = None) -> Config:
    patch = (size_of(state, "stem/kernel", 0), size_of(state, "stem/kernel", 1))
    n = size_of(state, "MixerBlock_{i}/token_mixing/Dense_1/bias", 0)
    return {
        "n_layers": count_layers(state, "MixerBlock_{i}/token_mixing/Dense_0/kernel"),
        "d_model": size_of(state, "stem/kernel", 3),
        "d_ffn": size_of(state, "MixerBlock_{i}/channel_mixing/Dense_0/kernel", 1),
        "d_tokens": size_of(state, "MixerBlock_{i}/token_mixing/Dense_0/kernel", 1),
        "seq_len": n,
        "n_classes": size_of(state, "head/kernel", 1),
        "n_channels": size_of(state, "stem/kernel", 2),
        "image_size": image_size_of(n, patch, image_size) if all(patch) else None,
        "patch_size": patch,
    }


MIXER = System(
    "google mixer",
    matches=lambda state: count_layers(state, "MixerBlock_{i}/token_mixing/Dense_0/kernel") > 0,
    config=_config,
    table=lambda c: Table("google mixer", ROWS, c["n_layers"]),
    facts=FACTS,
    options={"image_size": "(height, width) of the images; a square of patches by default"},
    notes="images are [B, height, width, c] there and [B, c, height, width] here",
)

SYSTEMS: tuple[System, ...] = (MIXER,)
