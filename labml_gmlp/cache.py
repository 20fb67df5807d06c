r"""
# The cache

A causal model that writes one token after another need not read the whole text again for each. What
an earlier position computed cannot depend on a later one, so it stays as it is and is kept: in gMLP
the normalised $Z_2$ of each block, in attention the keys and values. A new token then costs one row
of $W$ instead of the whole matrix.
"""

import torch
from torch import Tensor, nn


class Cache:
    r"""
    ## Cache

    One for a whole model and a whole batch. Each layer that reads other positions hands it what
    they must know of the new ones and gets back the same for all, old and new:

    $$\mathrm{extend}(Z_{p..p+m}) = Z_{0..p+m}$$

    * `n` is the largest number of positions; memory for all of them is taken at once, so that
      growing never copies

    `position` is the number of positions that all layers have read.

    Raises `ValueError` for an `n` that is not a positive whole number.
    """

    def __init__(self, n: int) -> None:
        if type(n) is not int or n < 1:
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
        it.

        Raises `ValueError` when there is no room left, for a batch of another size, and for a layer
        that calls twice before the cache advances: shared by two places of a model, it would mix
        up their memories.
        """
        stop = self.position + new.shape[1]
        if stop > self.n:
            raise ValueError(f"the cache has room for n={self.n} positions, got {stop}")
        if self._ends.get(layer, 0) != self.position:
            raise ValueError(
                f"each layer must extend the cache once for each position, "
                f"{type(layer).__name__} did it {self._ends.get(layer, 0)} times before "
                f"position {self.position}"
            )
        if layer not in self._kept:
            self._kept[layer] = new.new_empty(new.shape[0], self.n, *new.shape[2:])
        kept = self._kept[layer]
        if kept.shape[0] != new.shape[0]:
            raise ValueError(
                f"all steps must have one batch size, got {new.shape[0]} after {kept.shape[0]}"
            )
        self._ends[layer] = stop
        with torch.no_grad():
            kept[:, self.position : stop] = new
        return kept[:, :stop]

    def advance(self, m: int) -> None:
        r"""Called once all layers have read the `m` new positions, as the encoder does."""
        self.position += m

    def clear(self) -> None:
        r"""Forgets everything and keeps the memory for the next text."""
        self.position = 0
        self._ends.clear()
