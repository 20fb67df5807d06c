r"""Tied heads and Toeplitz matrices, materialised as ordinary parameters.

# Materialising

Some of our models have fewer parameters than other systems expect: a tied head, or a $W$ that is
made from its diagonals. Materialised, they compute the same function, though they would train
differently. This is done when weights are written for another system. It cannot be undone: the
file does not show that two equal matrices were one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.table import Table


def materialise(
    ours: Mapping[str, Tensor], config: Config, facts: Mapping[str, Any]
) -> tuple[dict[str, Tensor], Config]:
    r"""Returns the weights and the configuration of an untied, dense model of the same function.

    * `ours` are the weights of a model of ours, `config` is its configuration
    * `facts` are those of the system to write for; what it can express is left unchanged
    """
    state, c = dict(ours), dict(config)
    # The head becomes a copy of $E$, with a bias of zero.
    if c["tied"] and facts.get("tied") is False:
        state["head.weight"] = state["embedding.weight"].clone()
        state["head.bias"] = torch.zeros_like(state["head.weight"][:, 0])
        c["tied"] = False
    # A system that states no form of $W$ has the dense and the decayed one.
    known = ("dense", "decayed") if "projection" not in facts else (facts["projection"],)
    if c["layer"] == "gmlp" and c["projection"] not in known:
        suffix = "projection.weight"
        for name in [name for name in state if name.endswith(suffix)]:
            prefix = name.removesuffix("weight")
            w = _toeplitz_matrix(state[name], causal=c["causal"] or c["projection"] == "decayed")
            # $x_i \, w_{i-j} \, y_j$
            if c["projection"] == "decayed":
                x, y = state.pop(f"{prefix}row"), state.pop(f"{prefix}column")
                w = w * x[..., :, None] * y[..., None, :]
            state[name] = w
        c["projection"] = "dense"
    return state, c


def with_zero_positions(ours: Mapping[str, Tensor], c: Config, table: Table) -> dict[str, Tensor]:
    r"""Returns the weights with position embeddings of zero if `table` needs some.

    * `ours` are the weights, `c` is the configuration of the model
    """
    state = dict(ours)
    if c["n_positions"] is None and any(row.ours == "positions.weight" for row in table.rows):
        state["positions.weight"] = state["embedding.weight"].new_zeros(c["seq_len"], c["d_model"])
    return state


# $W_{ij} = w_{i-j}$. The weights of negative offsets are zero if causal; otherwise they come first
# in `w`.
def _toeplitz_matrix(w: Tensor, causal: bool) -> Tensor:
    if causal:
        w = nn.functional.pad(w, (w.shape[-1] - 1, 0))
    i = torch.arange((w.shape[-1] + 1) // 2, device=w.device)
    return w[..., len(i) - 1 + i[:, None] - i]
