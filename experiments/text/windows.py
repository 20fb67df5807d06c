r"""Training windows of a text, in a random order that can be computed for any step.

# Training windows
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.engine.order import BatchSplit, micro_batches
from experiments.text.tokens import Tokens

# Epochs of up to this many windows are shuffled as a list, which takes 32 MB. Longer ones compute
# the order window by window. All recorded runs are below.
MAX_SHUFFLED = 2**22  # windows


class Windows:
    r"""Windows of a text in a random order that depends only on the seed and the step.

    ## Windows

    ```python
    windows = Windows(Tokens(range(1_000)), seq_len=64, batch=12, seed=0)
    inputs, targets = windows.batch_at(step=3)
    ```

    Training reads windows of `seq_len` tokens; the targets are the same windows one token later.
    Each epoch cuts the text into adjacent windows, from a new random start, and shuffles them. So
    each token is read about once an epoch, and seldom at the same position of its window.

    A resumed run needs no saved state, and any number of processes can split a step.

    * `tokens` are those of the training split, at least `2 * seq_len`
    * `seq_len` is the length of a window in tokens
    * `batch` is the number of windows per step
    * `seed` determines the order
    """

    def __init__(self, tokens: Tokens, seq_len: int, batch: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch = batch
        self.seed = seed
        self.per_epoch = len(tokens) // seq_len - 1
        self._epoch = lru_cache(maxsize=2)(self._shuffle_epoch)

    def batch_at(self, step: int) -> tuple[Tensor, Tensor]:
        """Returns inputs and targets of a step, `[batch, seq_len]` each."""
        return self.rows(step, range(self.batch))

    def rows(self, step: int, rows: range) -> tuple[Tensor, Tensor]:
        r"""Reads some windows of a step.

        * `step` is the number of the step
        * `rows` are indices into the step's batch

        Returns inputs and targets, `[len(rows), seq_len]` each.

        Raises `ValueError` for rows outside `range(batch)`.
        """
        if len(rows) and not 0 <= min(rows) <= max(rows) < self.batch:
            raise ValueError(f"rows must lie in [0, batch={self.batch}), got {rows}")
        epochs, places = np.divmod(step * self.batch + np.array(rows, np.int64), self.per_epoch)
        starts = torch.empty(len(rows), dtype=torch.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            first, order = self._epoch(epoch)
            starts[here] = first + self.seq_len * order(places[here])
        window = self.tokens.gather(starts, self.seq_len + 1)
        return window[:, :-1], window[:, 1:]

    def batches(self, step: int, split: BatchSplit) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the micro-batches of one process from `step` on, without end."""
        for number, rows in micro_batches(step, self.batch, split):
            yield self.rows(number, rows)

    # The start of the first window of an epoch, and a function from places in its order to windows.
    def _shuffle_epoch(self, epoch: int) -> tuple[int, Any]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        first = int(torch.randint(self.seq_len, (1,), generator=generator))
        if self.per_epoch <= MAX_SHUFFLED:
            order = torch.randperm(self.per_epoch, generator=generator)
            return first, lambda places: order[places]
        keys = torch.randint(2**62, (ROUNDS,), generator=generator).tolist()
        return first, lambda places: torch.from_numpy(permute(places, self.per_epoch, keys))


ROUNDS = 6


def permute(places: Any, n: int, keys: list[int]) -> Any:
    r"""A pseudorandom permutation of the integers below `n`, computed without storing it.

    ## Permutation without a list

    A list of all windows takes 8 bytes for each, and more while it is shuffled: gigabytes for a
    text of billions of tokens. A Feistel network computes single entries. It splits the bits of a
    place into two halves; each round combines one half by XOR with a hash of the other. Each round
    is invertible for any hash, so different places stay different.

    The result may be $n$ or more, since the bits reach the next power of 4. Then the network is
    applied again until the result is below $n$ (cycle walking). This ends because a permutation
    returns to its starting point.

    * `places` are integers in $[0, n)$, `[k]`
    * `keys` select the permutation, one key per round

    Returns the images of `places` in $[0, n)$, `[k]`.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    images = places.astype(np.uint64)
    outside = np.ones(len(images), dtype=np.bool_)
    while outside.any():
        left, right = images[outside] >> half, images[outside] & low
        for key in keys:
            # Multiplication by a large odd number modulo $2^{64}$: the upper bits of the product
            # depend on all lower bits.
            mixed = (right + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            left, right = right, left ^ (mixed >> (np.uint64(64) - half))
        images[outside] = left << half | right
        outside = images >= n
    return images.astype(np.int64)
