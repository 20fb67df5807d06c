r"""
# The same function in other parameters

Some of our models have fewer numbers than other systems can express: a tied head, or a $W$ that is
made of its diagonals. Written out, they are models of the common kind that compute the same, though
they would train differently. This happens on the way out alone; on the way back nothing tells that
two equal matrices were once one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.table import Table


def written_out(
    ours: Mapping[str, Tensor], config: Config, facts: Mapping[str, Any]
) -> tuple[dict[str, Tensor], Config]:
    r"""
    ## Written out

    * `ours` are the weights of a model of ours, `config` says what it is
    * `facts` are those of a system; what it has itself is left as it is

    Returns the weights and the values of a model that computes the same.
    """
    state, c = dict(ours), dict(config)
    # $E$ once more as the head, and no bias.
    if c["tied"] and facts.get("tied") is False:
        state["head.weight"] = state["embedding.weight"].clone()
        state["head.bias"] = torch.zeros_like(state["head.weight"][:, 0])
        c["tied"] = False
    # Where a system names no form of its own, it has the dense one, and the decayed one beside it.
    known = ("dense", "decayed") if "projection" not in facts else (facts["projection"],)
    if c["layer"] == "gmlp" and c["projection"] not in known:
        suffix = "projection.weight"
        for name in [name for name in state if name.endswith(suffix)]:
            stem = name.removesuffix("weight")
            w = _matrix(state[name], past_alone=c["causal"] or c["projection"] == "decayed")
            # $x_i \, w_{i-j} \, y_j$
            if c["projection"] == "decayed":
                x, y = state.pop(f"{stem}row"), state.pop(f"{stem}column")
                w = w * x[..., :, None] * y[..., None, :]
            state[name] = w
        c["projection"] = "dense"
    return state, c


# Adding zeros changes nothing, so a model without positions fits a table with them.
def with_positions(ours: Mapping[str, Tensor], c: Config, table: Table) -> dict[str, Tensor]:
    state = dict(ours)
    if c["n_positions"] is None and any(row.ours == "positions.weight" for row in table.rows):
        state["positions.weight"] = state["embedding.weight"].new_zeros(c["seq_len"], c["d_model"])
    return state


# $W_{ij} = w_{i-j}$, where offsets below zero are zero or stand in front.
def _matrix(w: Tensor, past_alone: bool) -> Tensor:
    if past_alone:
        w = nn.functional.pad(w, (w.shape[-1] - 1, 0))
    i = torch.arange((w.shape[-1] + 1) // 2, device=w.device)
    return w[..., len(i) - 1 + i[:, None] - i]
