r"""Weights of the package SauravMaheshkar/gMLP, whose gate mixes no tokens.

# SauravMaheshkar/gMLP

A package in Flax, version 0.0.1, MIT licence. It is **not a gMLP**: the lines of its gate that mix
tokens are commented out. Its gate is

$$s(Z) = Z_1 \odot \mathrm{norm}(Z_2), \qquad \text{instead of} \quad
  Z_1 \odot (W \, \mathrm{norm}(Z_2) + b)$$

so each token passes through the model by itself. This is Eq. 4 with $W = I$ and $b = 0$, and with
these its weights compute the same here. Loading them warns that they were never trained to mix
tokens. $W$ and $b$ are parameters here and can be trained further.

* With `attn_dim` it has the attention of aMLP, which does mix tokens: one head, always causal, for
  one sequence at a time there and for batches here. So the models built here are causal, as
  $W = I$ allows
* Its weights fit any number of tokens and $W$ does not, so `seq_len` must be given
* A linear layer between the gate and $V$ is [folded](../translate/folding.py) into $V$
* All norms have an epsilon of 1e-6, and GELU is the tanh approximation: the defaults of Flax
* With `num_tokens=None` there is no embedding, no last norm and no head
"""

import warnings
from typing import Any

import torch
from torch import nn

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config, build
from labml_gmlp.weights.translate.folding import FoldedTable
from labml_gmlp.weights.translate.system import State, System, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# Inside `layers_0` of a layer. $d$ is the width of the model and $h$ half the width of $Z$.
# `folded` is the layer that has no parameters here.
BLOCK = (
    Row("norm.weight", "norm/scale", "d"),
    Row("norm.bias", "norm/bias", "d"),
    Row("proj_in.weight", "layers_0/proj_in/kernel", "2h d", transpose=True),
    Row("proj_in.bias", "layers_0/proj_in/bias", "2h"),
    Row("sgu.norm.weight", "layers_0/sgu/norm/scale", "h"),
    Row("sgu.norm.bias", "layers_0/sgu/norm/bias", "h"),
    Row("folded.weight", "layers_0/sgu/proj_out/kernel", "h h", transpose=True),
    Row("folded.bias", "layers_0/sgu/proj_out/bias", "h"),
    Row("proj_out.weight", "layers_0/proj_out/kernel", "d h", transpose=True),
    Row("proj_out.bias", "layers_0/proj_out/bias", "d"),
)
# $a$ is the width of the attention.
ATTENTION = (
    Row("attention.attention_in.weight", "layers_0/attn/to_qkv/kernel", "3a d", transpose=True),
    Row("attention.attention_in.bias", "layers_0/attn/to_qkv/bias", "3a"),
    Row("attention.attention_out.weight", "layers_0/attn/to_out/kernel", "h a", transpose=True),
    Row("attention.attention_out.bias", "layers_0/attn/to_out/bias", "h"),
)
# $V$ is the size of the vocabulary.
AROUND = (
    Row("embedding.weight", "to_embed/embedding", "V d"),
    Row("encoder.norm.weight", "to_logits/layers_0/scale", "d"),
    Row("encoder.norm.bias", "to_logits/layers_0/bias", "d"),
    Row("head.weight", "to_logits/layers_1/kernel", "V d", transpose=True),
    Row("head.bias", "to_logits/layers_1/bias", "V"),
)
FACTS = {
    "layer": "gmlp",
    "projection": "dense",
    "n_heads": 1,
    "causal": True,
    "shifts": None,
    "attn_in_bias": True,
    "attn_out_bias": True,
    "activation": "gelu_tanh",
    "gate_activation": None,
    "norm_eps": 1e-6,
    "sgu_norm_eps": 1e-6,
}


def _build(
    config: Config,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    if config["d_attn"] is None:
        warnings.warn(
            "weights of SauravMaheshkar/gMLP mix no tokens: the gate there has no W, so W = I here",
            stacklevel=2,
        )
    return build(config, device, dtype)


# A file holds the variables of the model, or only their `params`.
def _system(name: str, params: str) -> System:
    proj_in = f"{params}layers_{{i}}/layers_0/layers_0/proj_in/kernel"

    def config(state: State, seq_len: Any = None) -> Config:
        if type(seq_len) is not int or seq_len < 1:
            raise WeightsError(
                f"seq_len must be given as a positive integer, since W needs a size that these "
                f"weights do not record, got {seq_len!r}"
            )
        qkv = size_of(state, f"{params}layers_{{i}}/layers_0/layers_0/attn/to_qkv/kernel", 1)
        embedding = size_of(state, f"{params}to_embed/embedding", 0)
        around = any(
            name.startswith((f"{params}to_embed/", f"{params}to_logits/")) for name in state
        )
        return {
            "kind": "language" if around else "encoder",
            "n_layers": count_layers(state, proj_in),
            "d_model": size_of(state, proj_in, 0),
            "d_ffn": size_of(state, proj_in, 1),
            "seq_len": seq_len,
            "d_attn": qkv // 3 or None,
            "n_tokens": embedding if around else None,
            "last_norm": around,
            "last_norm_eps": 1e-6,
        }

    def table(c: Config) -> Table:
        block = BLOCK if c["d_attn"] is None else (*BLOCK, *ATTENTION)
        top = "encoder." if c["kind"] == "language" else ""
        layers = prefixed(block, f"{top}layers.{{i}}.", f"{params}layers_{{i}}/layers_0/")
        layer = f"{top}layers.{{i}}."
        return FoldedTable(
            name,
            (*layers, *(prefixed(AROUND, "", params) if top else ())),
            c["n_layers"],
            folded=((f"{layer}folded", f"{layer}proj_out"),),
            constants={
                f"{layer}sgu.projection.weight": torch.eye(c["seq_len"]),
                f"{layer}sgu.projection.bias": torch.zeros(c["seq_len"]),
            },
        )

    return System(
        name,
        matches=lambda state: (
            count_layers(state, f"{params}layers_{{i}}/layers_0/layers_0/sgu/norm/scale") > 0
        ),
        config=config,
        table=table,
        facts=FACTS,
        options={"seq_len": "the largest number of tokens of the model here; required"},
        notes="mixes no tokens except by its attention",
        build=_build,
    )


VARIABLES = _system("SauravMaheshkar/gMLP variables", "params/")
PARAMS = _system("SauravMaheshkar/gMLP params", "")

SYSTEMS: tuple[System, ...] = (VARIABLES, PARAMS)
