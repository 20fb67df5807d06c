r"""
# SauravMaheshkar/gMLP

A gMLP in Flax, version 0.0.1, MIT licence, which is **no gMLP**: the lines of its gate that would
mix tokens are commented out. Its gate is

$$s(Z) = Z_1 \odot \mathrm{norm}(Z_2), \qquad \text{and not} \quad
  Z_1 \odot (W \, \mathrm{norm}(Z_2) + b)$$

so that each token goes through the model as if it were alone. That is a special case of Eq. 4,
$W = I$ and $b = 0$, and as such its weights compute here what they compute there. They were never
trained to mix tokens; loading them warns of it. $W$ and $b$ are parameters here, and training can
go on with them.

* With `attn_dim` there is the attention of aMLP, which does mix: one head, always causal, for one
  sequence at a time there and for batches here. The models built here are causal, as $W = I$ is
* Its weights fit any number of tokens, $W$ does not: `seq_len` must be said
* A linear layer stands behind the gate, before $V$; it is [folded](../translate/special.py) into
  $V$
* All norms have a constant of 1e-6, GELU is the approximation by tanh: both are what Flax does when
  it is told nothing
* With `num_tokens=None` there is neither embedding, nor last norm, nor head
"""

import warnings
from typing import Any

import torch
from torch import nn

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config, build
from labml_gmlp.weights.translate.special import FoldedTable
from labml_gmlp.weights.translate.system import State, System, axis, inside
from labml_gmlp.weights.translate.table import Row, Table, layers_of

# Below `layers_0` of a layer. $d$ is the width of the model and $h$ half of that of $Z$. `folded`
# has no parameters here.
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
# $V$ is the number of tokens in the vocabulary.
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
            "weights of SauravMaheshkar/gMLP mix no tokens: its gate has no W, so W = I here",
            stacklevel=2,
        )
    return build(config, device, dtype)


# Files hold the variables of the model, or what is in them under `params`.
def _system(name: str, params: str) -> System:
    proj_in = f"{params}layers_{{i}}/layers_0/layers_0/proj_in/kernel"

    def config(state: State, seq_len: Any = None) -> Config:
        if type(seq_len) is not int or seq_len < 1:
            raise WeightsError(
                f"seq_len must be given as a positive whole number, as these weights fit any "
                f"number of tokens and W does not, got {seq_len!r}"
            )
        qkv = axis(state, f"{params}layers_{{i}}/layers_0/layers_0/attn/to_qkv/kernel", 1)
        embedding = axis(state, f"{params}to_embed/embedding", 0)
        around = any(
            name.startswith((f"{params}to_embed/", f"{params}to_logits/")) for name in state
        )
        return {
            "kind": "language" if around else "encoder",
            "n_layers": layers_of(state, proj_in),
            "d_model": axis(state, proj_in, 0),
            "d_ffn": axis(state, proj_in, 1),
            "seq_len": seq_len,
            "d_attn": qkv // 3 or None,
            "n_tokens": embedding if around else None,
            "last_norm": around,
            "last_norm_eps": 1e-6,
        }

    def table(c: Config) -> Table:
        block = BLOCK if c["d_attn"] is None else (*BLOCK, *ATTENTION)
        # A stack alone has its layers at the top here.
        top = "encoder." if c["kind"] == "language" else ""
        layers = inside(block, f"{top}layers.{{i}}.", f"{params}layers_{{i}}/layers_0/")
        layer = f"{top}layers.{{i}}."
        return FoldedTable(
            name,
            (*layers, *(inside(AROUND, "", params) if top else ())),
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
            layers_of(state, f"{params}layers_{{i}}/layers_0/layers_0/sgu/norm/scale") > 0
        ),
        config=config,
        table=table,
        facts=FACTS,
        options={"seq_len": "how many tokens the model here shall take at most; must be given"},
        notes="mixes no tokens, unless by its attention",
        build=_build,
    )


VARIABLES = _system("SauravMaheshkar/gMLP variables", "params/")
PARAMS = _system("SauravMaheshkar/gMLP params", "")

SYSTEMS: tuple[System, ...] = (VARIABLES, PARAMS)
