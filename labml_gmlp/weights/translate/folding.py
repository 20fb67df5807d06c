r"""Two linear layers in sequence, folded into one.

# Folding

A system may have a linear layer $P$ in front of $V$ that our block does not have. Without an
activation in between, both together are one linear layer, so our model computes the same function.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.table import Table, with_index


@dataclass(frozen=True)
class FoldedTable(Table):
    r"""A table that folds linear layers into the layers after them.

    ## Table with folded layers

    $$(\tilde{Z} P + p) V + v = \tilde{Z} (P V) + (p V + v)$$

    $P$ and $V$ cannot be recovered from their product. The other direction writes $P = I$ and
    $p = 0$: the same function in other numbers.

    * `folded` has pairs of names: a layer $P$, which has rows but no parameters here, and the layer
      $V$ that it is folded into; `{i}` stands for the index of the layer
    * `constants` are parameters here that the system does not have, with the values under which our
      model computes the same as the system without them

    For example, for a layer behind the gate:

        FoldedTable("system", rows, 12, folded=(("layers.{i}.folded", "layers.{i}.proj_out"),))
    """

    folded: tuple[tuple[str, str], ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Returns the parameters by our names, folded in float64 and rounded once.

        * `state` are the parameters of the other system by their names

        Raises `WeightsError`, listing all parameters that are missing, unexpected or of another
        shape.
        """
        ours = super().to_ours(state)
        for i in range(self.n_layers):
            for inner, outer in self._pairs(i):
                p, p_bias = (ours.pop(f"{inner}.{part}").double() for part in ("weight", "bias"))
                v, v_bias = ours[f"{outer}.weight"], ours[f"{outer}.bias"]
                # torch stores the transposed matrix of a linear layer, so the factors swap.
                ours[f"{outer}.weight"] = (v.double() @ p).to(v.dtype)
                ours[f"{outer}.bias"] = (v.double() @ p_bias + v_bias.double()).to(v.dtype)
                for name, value in self._constants(i):
                    ours[name] = value.to(v)
        return ours

    def to_theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Returns the parameters by the names of the other system, with $P = I$ and $p = 0$.

        * `state` are our parameters by our names

        Raises `WeightsError`, listing all parameters that are missing, unexpected or of another
        shape, and those that differ from `constants`.
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
                f"{self.system} lacks these parameters, so they must have their constant values of "
                f"identity or zero: {', '.join(wrong)}"
            )
        return super().to_theirs(rest)

    def _pairs(self, i: int) -> Iterator[tuple[str, str]]:
        return ((with_index(p, i), with_index(v, i)) for p, v in self.folded)

    def _constants(self, i: int) -> Iterator[tuple[str, Tensor]]:
        return ((with_index(name, i), value) for name, value in self.constants.items())
