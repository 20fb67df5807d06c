r"""Which rows each process reads in each step, and the random generators behind them.

# Data order

The order depends on the seed and the step alone. A resumed run therefore needs no saved position,
and any number of processes reads the same rows in a step.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BatchSplit:
    r"""Splits the rows of a step over processes and micro-batches.

    The batch of a step is one list of rows, whatever the number of processes. It is split into
    `accumulate` consecutive micro-batches, and each micro-batch into one part per process. Only the
    order in which the gradient is summed depends on the split.

        >>> BatchSplit(rank=1, world=2, accumulate=2).rows(8)
        [range(2, 4), range(6, 8)]

    * `rank` is this process, of `world` processes in all
    * `accumulate` is the number of micro-batches in a step
    """

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def rows(self, batch: int) -> list[range]:
        r"""The rows of each micro-batch that this process reads, from a batch of `batch` rows.

        Raises `ValueError` if the parts would differ in size: the mean over parts would then not be
        the mean over rows.
        """
        parts = self.world * self.accumulate
        if batch % parts:
            raise ValueError(
                f"batch must be a multiple of {parts} for {self.world} processes that accumulate "
                f"{self.accumulate} micro-batches, got {batch}"
            )
        size = batch // parts
        starts = [(k * self.world + self.rank) * size for k in range(self.accumulate)]
        return [range(start, start + size) for start in starts]


def micro_batches(step: int, batch: int, split: BatchSplit) -> Iterator[tuple[int, range]]:
    r"""Yields the step and the rows of each micro-batch of this process, without end.

    An experiment's `Task.batches` loops over it:

        for step, rows in micro_batches(step, training.batch, split):
            yield windows.rows(step, rows)

    * `step` is the first step to read
    * `batch` is the number of rows in a step, over all processes

    Raises `ValueError` if `batch` cannot be [split](#BatchSplit.rows) into equal parts.
    """
    parts = split.rows(batch)
    for number in itertools.count(step):
        for rows in parts:
            yield number, rows


class EpochOrder:
    r"""A new random order of all items in each epoch.

    Step $t$ reads the items at positions $tB$ to $tB + B - 1$ of the epochs joined end to end, so a
    batch may end one epoch and start the next.

        >>> order = EpochOrder(n=6, batch=3, seed=0)
        >>> sorted(order.item(step, row) for step in range(2) for row in range(3))
        [0, 1, 2, 3, 4, 5]

    * `n` is the number of items
    * `batch` is the number of rows in a step, over all processes
    * `seed` determines the order
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        self.n, self.batch, self.seed = n, batch, seed
        self._permutation = lru_cache(maxsize=2)(self._draw)

    def item(self, step: int, row: int) -> int:
        """The item that a row of a step reads."""
        epoch, position = divmod(step * self.batch + row, self.n)
        return int(self._permutation(epoch)[position])

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        # numpy pads short keys with zeros, so the key of `row_generator` ends in 0 and this one in
        # 1: the two never coincide.
        return np.random.default_rng((self.seed, epoch, 0, 1)).permutation(self.n)


def row_generator(seed: int, step: int, row: int) -> np.random.Generator:
    """The random generator of one row of a step; it does not advance a global generator."""
    return np.random.default_rng((seed, step, row))
