r"""Generation cache: the activations of earlier positions in a causal model.

# Generation cache

In a causal model, earlier positions do not depend on later ones, so their activations can be stored
while text is generated: the normalised $Z_2$ of each gMLP block, the keys and values of attention.
A new token then costs one row of $W$ instead of the whole matrix.

The paper has no causal model; the cache is our addition.
"""

import torch
from torch import Tensor, nn


class Cache:
    r"""Activations of all positions read so far, for every layer of one model.

    ## Cache

    One cache serves a whole model and batch. Each layer that mixes positions passes in the
    activations of the $m$ new positions and gets back those of all positions, old and new:

    $$\mathrm{extend}(Z_{p..p+m}) = Z_{0..p+m}$$

    * `n` is the largest number of positions; `None` means no limit

    The attribute `position` is $p$, the number of positions that all layers have read.

    Raises `ValueError` if `n` is not a positive integer.

    ```python
    cache = Cache()
    logits = model(prompt, cache=cache)  # reads the whole prompt
    logits = model(next_token, cache=cache)  # reads one token
    ```
    """

    def __init__(self, n: int | None = None) -> None:
        if n is not None and (type(n) is not int or n < 1):
            raise ValueError(f"n must be a positive integer, got {n!r}")
        self.n = n
        self.position = 0
        self._buffers: dict[nn.Module, Tensor] = {}
        self._ends: dict[nn.Module, int] = {}

    def extend(self, layer: nn.Module, new: Tensor) -> Tensor:
        r"""Appends the activations of new positions and returns those of all positions.

        * `layer` is the calling layer; each layer has its own buffer
        * `new` holds the activations of the new positions, `[B, m, c]`

        Returns `[B, position + m, c]`, detached from the graph. It is a view of the buffer, which
        the next text overwrites.

        Raises `ValueError` if there are more than `n` positions; if batch size, width, dtype or
        device differ from the previous step; and if `layer` missed a step, or called twice in one.
        A layer used at two places in a model would call twice and mix up its activations.
        """
        start = self.position
        stop = start + new.shape[1]
        if self.n is not None and stop > self.n:
            raise ValueError(f"cache holds at most n={self.n} positions, got {stop}")
        if self._ends.get(layer, 0) != start:
            raise ValueError(
                f"each layer must extend the cache once per step, got {type(layer).__name__} with "
                f"{self._ends.get(layer, 0)} positions at position {start}"
            )
        buffer = self._buffers.get(layer)
        if buffer is None or buffer.shape[1] < stop or _layout(buffer) != _layout(new):
            buffer = self._grow(buffer if start else None, new, stop)
            self._buffers[layer] = buffer
        self._ends[layer] = stop
        buffer[:, start:stop] = new.detach()
        return buffer[:, :stop]

    def _grow(self, buffer: Tensor | None, new: Tensor, stop: int) -> Tensor:
        if buffer is not None and _layout(buffer) != _layout(new):
            raise ValueError(
                f"new must have the batch size, width, dtype and device of the previous step, "
                f"got {_layout(new)} after {_layout(buffer)}"
            )
        # Doubling the buffer keeps the total cost of copying linear in the length of the text, and
        # a short text takes no memory for `n` positions.
        size = max(stop, 64 if buffer is None else 2 * buffer.shape[1])
        if self.n is not None:
            size = min(size, self.n)
        grown = torch.empty(new.shape[0], size, *new.shape[2:], dtype=new.dtype, device=new.device)
        if buffer is not None:
            grown[:, : self.position] = buffer[:, : self.position]
        return grown

    def advance(self, m: int) -> None:
        r"""Increases `position` by `m`; the encoder calls this after its last layer."""
        self.position += m

    def clear(self) -> None:
        r"""Starts a new text, of any batch size. Buffers that still fit are used again."""
        self.position = 0
        self._ends.clear()


# The properties that must not change from step to step.
def _layout(t: Tensor) -> tuple[object, ...]:
    return (t.shape[0], *t.shape[2:], t.dtype, t.device)
