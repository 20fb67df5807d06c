r"""
# Where a table is not enough

Two cases are left over by a [table](table.py) that is read in both directions, and both are told
from it here rather than hidden in it:

* a system has a linear layer where we have none, and our model can still compute the same: the two
  linear layers behind each other are one
* a system has a model that is not one of ours, but made of our parts
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System
from labml_gmlp.weights.translate.table import Table


@dataclass(frozen=True)
class FoldedTable(Table):
    r"""
    ## A table with folded layers

    $$(\tilde{Z} P + p) V + v = \tilde{Z} (P V) + (p V + v)$$

    A layer $P$ directly in front of $V$, with nothing between, is no layer of its own: what the two
    compute, $P V$ computes. From the product the two factors cannot be had back, so that the other
    direction takes the simplest two that have it, $P = I$ and $p = 0$: the same function in other
    numbers.

    * `folded` has pairs of names: a layer $P$ that has rows, but no parameters here, and the layer
      $V$ that takes it up
    * `constants` are parameters here that say nothing new there: with these values our model
      computes what the system does without them. `{i}` stands for the index of the layer
    """

    folded: tuple[tuple[str, str], ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def to_ours(self, state: State) -> dict[str, Tensor]:
        r"""
        As for every table, and then folded, in float64: each entry is rounded once.

        Raises `WeightsError` as every table does.
        """
        ours = super().to_ours(state)
        for i in range(self.n_layers):
            for inner, outer in self._pairs(i):
                p, p_bias = (ours.pop(f"{inner}.{part}").double() for part in ("weight", "bias"))
                v, v_bias = ours[f"{outer}.weight"], ours[f"{outer}.bias"]
                # A linear layer of torch keeps its matrix turned over, so the product is, too.
                ours[f"{outer}.weight"] = (v.double() @ p).to(v.dtype)
                ours[f"{outer}.bias"] = (v.double() @ p_bias + v_bias.double()).to(v.dtype)
                for name, value in self._constants(i):
                    ours[name] = value.to(v)
        return ours

    def to_theirs(self, state: State) -> dict[str, Tensor]:
        r"""
        Writes $P = I$ and $p = 0$.

        Raises `WeightsError` as every table does, and for parameters that are not the constants
        that the system computes with.
        """
        rest = dict(state)
        wrong = []
        for i in range(self.n_layers):
            for name, want in self._constants(i):
                value = rest.pop(name, None)
                if value is None or not torch.equal(value, want.to(value)):
                    wrong.append(name)
            for inner, outer in self._pairs(i):
                v = rest.get(f"{outer}.weight")
                if v is not None:
                    rest[f"{inner}.weight"] = torch.eye(v.shape[1]).to(v)
                    rest[f"{inner}.bias"] = torch.zeros(v.shape[1]).to(v)
        if wrong:
            raise WeightsError(
                f"these weights cannot be written for {self.system}, which has no such parameters "
                f"and computes as if they were the identity or zero: {', '.join(wrong)}"
            )
        return super().to_theirs(rest)

    def _pairs(self, i: int) -> list[tuple[str, str]]:
        return [(p.replace("{i}", str(i)), v.replace("{i}", str(i))) for p, v in self.folded]

    def _constants(self, i: int) -> list[tuple[str, Tensor]]:
        return [(name.replace("{i}", str(i)), value) for name, value in self.constants.items()]


@dataclass(frozen=True)
class OtherModel(System):
    r"""
    ## A system whose models are none of ours

    They are built of our blocks by the system's own `build`, and `config` has words of its own. No
    other system has such a model, so its weights go to their own system alone.
    """

    def read_config(self, state: State, **options: Any) -> Config:
        r"""
        Returns all values for `state`. A size that is missing in it is zero.

        Raises `WeightsError` for options that the system does not have.
        """
        return self.known(state, **options)

    def state(self, ours: State, config: Config, *, approximate: bool = False) -> dict[str, Tensor]:
        r"""
        As for every system. There is nothing to write out or to leave out, so `approximate` changes
        nothing.

        Raises `WeightsError` for parameters that are missing, left over or of another shape.
        """
        return self.table(config).to_theirs(ours)
