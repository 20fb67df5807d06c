r"""
# The cache

A causal model that writes one token after another need not read the whole text again for each. What
an earlier position computed cannot depend on a later one, so it stays as it is and is kept: in gMLP
the normalised $Z_2$ of each block, in attention the keys and values. A new token then costs one row
of $W$ instead of the whole matrix.

None of this is in the paper, which has no causal model.
"""

import torch
from torch import Tensor, nn


class Cache:
    r"""
    ## Cache

    One for a whole model and a whole batch. Each layer that reads other positions hands it what
    they must know of the new ones and gets back the same for all, old and new:

    $$\mathrm{extend}(Z_{p..p+m}) = Z_{0..p+m}$$

    * `n` is the largest number of positions; `None` means any number

    `position` is $p$, the number of positions that all layers have read.

    Raises `ValueError` for an `n` that is not a positive whole number.
    """

    def __init__(self, n: int | None = None) -> None:
        if n is not None and (type(n) is not int or n < 1):
            raise ValueError(f"n must be a positive whole number, got {n!r}")
        self.n = n
        self.position = 0
        self._kept: dict[nn.Module, Tensor] = {}
        self._ends: dict[nn.Module, int] = {}

    def extend(self, layer: nn.Module, new: Tensor) -> Tensor:
        r"""
        * `layer` is the one that calls
        * `new` is what it keeps of the new positions, `[B, m, c]`

        Returns what it has kept of all positions, `[B, position + m, c]`. No gradient flows through
        it, and what is returned is a view: the next text overwrites it.

        Raises `ValueError` when there is no room left, for a batch or a width other than before,
        and for a layer that calls twice before the cache advances: shared by two places of a model,
        it would mix up their memories.
        """
        start = self.position
        stop = start + new.shape[1]
        if self.n is not None and stop > self.n:
            raise ValueError(f"the cache has room for n={self.n} positions, got {stop}")
        if self._ends.get(layer, 0) != start:
            raise ValueError(
                f"each layer must extend the cache once for each position, "
                f"{type(layer).__name__} did it {self._ends.get(layer, 0)} times before "
                f"position {start}"
            )
        kept = self._kept.get(layer)
        if kept is None or kept.shape[1] < stop or _row(kept) != _row(new):
            kept = self._kept[layer] = self._grown(kept if start else None, new, stop)
        self._ends[layer] = stop
        kept[:, start:stop] = new.detach()
        return kept[:, :stop]

    def _grown(self, kept: Tensor | None, new: Tensor, stop: int) -> Tensor:
        if kept is not None and _row(kept) != _row(new):
            raise ValueError(
                f"all steps must have one batch size, width, dtype and device, "
                f"got {_row(new)} after {_row(kept)}"
            )
        # Twice the room each time: all copies together then cost no more than writing each position
        # twice, and no text has to be as long as `n` for memory of `n` positions to be taken.
        room = max(stop, 64 if kept is None else 2 * kept.shape[1])
        if self.n is not None:
            room = min(room, self.n)
        grown = torch.empty(new.shape[0], room, *new.shape[2:], dtype=new.dtype, device=new.device)
        if kept is not None:
            grown[:, : self.position] = kept[:, : self.position]
        return grown

    def advance(self, m: int) -> None:
        r"""Called once all layers have read the `m` new positions, as the encoder does."""
        self.position += m

    def clear(self) -> None:
        r"""
        Forgets everything and keeps the memory for the next text. Its batch may be of another size,
        and then takes new memory.
        """
        self.position = 0
        self._ends.clear()


def _row(t: Tensor) -> tuple[object, ...]:
    r"""What is the same for any number of positions."""
    return (t.shape[0], *t.shape[2:], t.dtype, t.device)
