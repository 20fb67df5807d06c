r"""Weights of the repository jaketae/g-mlp.

# jaketae/g-mlp

One file of torch code with three models: `gMLP`, `gMLPForLanguageModeling` and
`gMLPForImageClassification`. The table follows its source code, which was not run.

* $W$ is the kernel of a convolution of size one whose channels are the tokens, `[n, n, 1]`
* Its argument `d_ffn` is the width of *half* of $Z$: `d_ffn=512` there is `d_ffn=1024` here
* None of the three models has a last norm
* The language model has no head: it returns the output of the last block. So the model built here
  is an embedding and an encoder. It is not one of our [language models](../../models/language.py)
  and cannot be written for another system
* It has no masks: $W$ reads both sides
* In some versions of the file, the norm of the gate has half of the channels it needs, and the
  model cannot run; there are no weights of those
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config, build
from labml_gmlp.weights.translate.system import State, System, image_size_of, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $n$ is the number of tokens, $d$ the width of the model and $h$ half the width of $Z$.
BLOCK = (
    Row("norm.weight", "norm.weight", "d"),
    Row("norm.bias", "norm.bias", "d"),
    Row("proj_in.weight", "channel_proj1.weight", "2h d"),
    Row("proj_in.bias", "channel_proj1.bias", "2h"),
    Row("proj_out.weight", "channel_proj2.weight", "d h"),
    Row("proj_out.bias", "channel_proj2.bias", "d"),
    Row("sgu.norm.weight", "sgu.norm.weight", "h"),
    Row("sgu.norm.bias", "sgu.norm.bias", "h"),
    Row("sgu.projection.weight", "sgu.spatial_proj.weight", "n n", reshape="n n 1"),
    Row("sgu.projection.bias", "sgu.spatial_proj.bias", "n"),
)
# $c$ is the number of channels of the images, $p$ the side of a patch, $C$ the number of classes.
VISION = (
    *prefixed(BLOCK, "encoder.layers.{i}.", "model.{i}."),
    Row("patches.weight", "patcher.weight", "d c p p"),
    Row("patches.bias", "patcher.bias", "d"),
    Row("head.weight", "classifier.weight", "C d"),
    Row("head.bias", "classifier.bias", "C"),
)
# $V$ is the size of the vocabulary.
EMBEDDED = (
    *prefixed(BLOCK, "encoder.layers.{i}.", "model.{i}."),
    Row("embedding.weight", "embed.weight", "V d"),
)
STACK = prefixed(BLOCK, "layers.{i}.", "model.{i}.")
FACTS = {
    "layer": "gmlp",
    "projection": "dense",
    "n_heads": 1,
    "causal": False,
    "d_attn": None,
    "shifts": None,
    "activation": "gelu",
    "gate_activation": None,
    "norm_eps": 1e-5,
    "sgu_norm_eps": 1e-5,
    "last_norm": False,
}
NAME = "jaketae/g-mlp"


def _config(state: State, image_size: Any = None) -> Config:
    n = size_of(state, "model.{i}.sgu.spatial_proj.bias", 0)
    c: Config = {
        "kind": "encoder",
        "n_layers": count_layers(state, "model.{i}.sgu.spatial_proj.weight"),
        "d_model": size_of(state, "model.{i}.channel_proj1.weight", 1),
        "d_ffn": size_of(state, "model.{i}.channel_proj1.weight", 0),
        "seq_len": n,
    }
    if "embed.weight" in state:
        return {**c, "n_tokens": size_of(state, "embed.weight", 0)}
    if "patcher.weight" not in state and "classifier.weight" not in state:
        return c
    patch = (size_of(state, "patcher.weight", 2), size_of(state, "patcher.weight", 3))
    return {
        **c,
        "kind": "vision",
        "n_classes": size_of(state, "classifier.weight", 0),
        "n_channels": size_of(state, "patcher.weight", 1),
        "image_size": image_size_of(n, patch, image_size) if all(patch) else None,
        "patch_size": patch,
    }


def _table(c: Config) -> Table:
    if c["kind"] not in ("vision", "encoder"):
        raise WeightsError(f"kind must be 'encoder' or 'vision' for {NAME}, got {c['kind']!r}")
    without = STACK if c["n_tokens"] is None else EMBEDDED
    rows = VISION if c["kind"] == "vision" else without
    return Table(NAME, rows, c["n_layers"])


def _build(
    config: Config,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    model = build(config, device, dtype)
    if config["n_tokens"] is None:
        return model
    sizes = config["n_tokens"], config["d_model"]
    embedding = nn.Embedding(*sizes, device=device, dtype=dtype)
    return nn.Sequential(OrderedDict(embedding=embedding, encoder=model))


GMLP = System(
    NAME,
    matches=lambda state: count_layers(state, "model.{i}.sgu.spatial_proj.weight") > 0,
    config=_config,
    table=_table,
    facts=FACTS,
    options={"image_size": "(height, width) of the images; a square of patches by default"},
    notes="d_ffn is the width of half of Z there and of all of Z here",
    build=_build,
)

SYSTEMS: tuple[System, ...] = (GMLP,)
