r"""
# windows
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.engine.devices import BatchSplit
from experiments.text.tokens import Tokens

# Windows in a pass up to which their order is drawn as a whole: 32 MB. More than any recorded run
# has; above, the order is computed window by window.
WINDOWS_DRAWN = 2**22


class Windows:
    r"""
    ## The order of reading

    Training reads windows of `seq_len` tokens and, one further, their targets. In each pass
    over the text the windows lie edge to edge, in a new random order, from a new random start, so
    every token is read about once a pass and seldom at the same place in its window.

    Which windows belong to a step follows from the seed and the step's number alone. So a resumed
    run reads on where it stopped, without any state to save, and any number of processes can share
    a step.

    * `tokens` is the training part, at least `2 * seq_len` long
    * `seq_len` is the length of a window in tokens
    * `batch` is the number of windows a step
    * `seed` decides the order
    """

    def __init__(self, tokens: Tokens, seq_len: int, batch: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch = batch
        self.seed = seed
        self.per_pass = len(tokens) // seq_len - 1
        self._pass = lru_cache(maxsize=2)(self._draw_pass)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, `[batch, seq_len]` each."""
        return self.rows(step, range(self.batch))

    def rows(self, step: int, rows: range) -> tuple[Tensor, Tensor]:
        r"""
        * `rows` are those of the step's `batch` windows that are wanted

        Returns their inputs and targets, `[len(rows), seq_len]` each. Raises `ValueError` for rows
        that the step does not have.
        """
        if len(rows) and not 0 <= min(rows) <= max(rows) < self.batch:
            raise ValueError(f"rows must lie in [0, batch={self.batch}), got {rows}")
        numbers, places = np.divmod(step * self.batch + np.array(rows, np.int64), self.per_pass)
        starts = torch.empty(len(rows), dtype=torch.int64)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            first, order = self._pass(number)
            starts[here] = first + self.seq_len * order(places[here])
        window = self.tokens.gather(starts, self.seq_len + 1)
        return window[:, :-1], window[:, 1:]

    def batches(self, step: int, share: BatchSplit) -> Iterator[tuple[Tensor, Tensor]]:
        """From a step on, without end: what this `share` of the processes reads, in order."""
        for number in itertools.count(step):
            for rows in share.rows(self.batch):
                yield self.rows(number, rows)

    # The start of a pass, and the function from places in its order to windows.
    def _draw_pass(self, number: int) -> tuple[int, Any]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        first = int(torch.randint(self.seq_len, (1,), generator=generator))
        if self.per_pass <= WINDOWS_DRAWN:
            drawn = torch.randperm(self.per_pass, generator=generator)
            return first, lambda places: drawn[places]
        keys = torch.randint(2**62, (ROUNDS,), generator=generator).tolist()
        return first, lambda places: torch.from_numpy(permuted(places, self.per_pass, keys))


ROUNDS = 6


def permuted(places: Any, n: int, keys: list[int]) -> Any:
    r"""
    ## An order without a list

    A Feistel network: the bits of a place are halved, and each round adds to one half, modulo 2,
    what a hash makes of the other. Whatever the hash, each round can be undone, so different
    places stay different. The bits may give a number that is not below $n$; then they go through
    again until they do. That ends, as a permutation leads back to where it began.

    A list of all windows of a pass takes 8 bytes for each, and some of those again while it is
    drawn: gigabytes for a text of billions of tokens.

    * `places` are whole numbers in $[0, n)$, `[k]`
    * `keys` choose one order of many, a key a round

    Returns the numbers in $[0, n)$ that these places have in the order, `[k]`.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), dtype=np.bool_)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & low
        for key in keys:
            # Products modulo $2^{64}$ with large odd numbers: the upper bits depend on all lower.
            mixed = (right + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            left, right = right, left ^ (mixed >> (np.uint64(64) - half))
        found[outside] = left << half | right
        outside = found >= n
    return found.astype(np.int64)
