r"""The spatial projection with several heads: each group of channels has its own matrix.

# The multi-head spatial projection

The paper uses one $W$ for all channels of a block. Here the channels are split into $h$ groups, and
each group has its own $W$ and $b$, like the heads of attention. g-mlp-pytorch and mlp-gpt-jax call
this option `heads`; the paper does not have it.

This file imports only torch and the standard library, so you can copy it alone.
"""

from typing import Any

import torch
from torch import Tensor, nn


class MultiHeadSpatialProjection(nn.Module):
    r"""A linear layer across tokens with its own matrix for each group of channels.

    ## Heads

    $$f_{W,b}(Z)_{ic} = \sum_{j=1}^{n} W^{(h)}_{ij} Z_{jc} + b^{(h)}_i
      \quad \text{for channel } c \text{ in group } h$$

    With one head this is [Eq. 2](gmlp.py#SpatialProjection). Its cost does not depend on the
    number of heads; $W$ has $h n^2$ weights.

    ```python
    projection = MultiHeadSpatialProjection(seq_len=128, n_heads=4)
    block = GMLPBlock(64, 256, sgu=SpatialGatingUnit(256, projection=projection))
    ```

    * `seq_len` is the longest sequence in tokens
    * `n_heads` is the number of groups
    * `causal` keeps only $j \le i$
    * `device` and `dtype` are those of the parameters

    The parameters are `weight`, `[n_heads, seq_len, seq_len]`, and `bias`, `[n_heads, seq_len]`.

    Raises `ValueError` if `seq_len` or `n_heads` is not a positive integer.
    """

    def __init__(self, seq_len: int, n_heads: int, *, causal: bool = False, **factory: Any) -> None:
        super().__init__()
        # fold: checks
        _check_sizes(seq_len=seq_len, n_heads=n_heads)
        self.seq_len = seq_len
        self.n_heads = n_heads
        self.causal = causal
        # One $W$ and one $b$ for each head
        self.weight = nn.Parameter(torch.empty(n_heads, seq_len, seq_len, **factory))
        self.bias = nn.Parameter(torch.empty(n_heads, seq_len, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws $W$ from $N(0, 10^{-12})$ and sets $b = 1$, as with one head."""
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Returns $f_{W,b}(Z)$, `[B, n, c]`.

        * `z` is $Z$, `[B, n, c]`; $c$ is a multiple of `n_heads`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$

        Raises `ValueError` if `z` or `mask` has the wrong shape or there are more than `seq_len`
        tokens, and `TypeError` if `mask` is not boolean.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[1] > self.seq_len or z.shape[2] % self.n_heads:
            raise ValueError(
                f"z must be [B, n, c] with n at most seq_len={self.seq_len} and c a multiple of "
                f"n_heads={self.n_heads}, got {list(z.shape)}"
            )
        n = z.shape[1]
        # The corner `[:n, :n]` of each $W$, as in the spatial projection.
        cut = n - self.seq_len
        weight = nn.functional.pad(self.weight, (0, cut, 0, cut))  # [h, n, n]
        bias = nn.functional.pad(self.bias, (0, cut))  # [h, n]
        if self.causal:
            weight = weight.tril()
        # All heads share the mask.
        if mask is not None:
            _check_mask("mask", mask, (n, n), (z.shape[0], n, n))
            weight = weight * (mask if mask.dim() == 2 else mask[:, None])
        heads = self.split(z)  # [B, h, n, c / h]
        weight = weight.expand(z.shape[0], -1, -1, -1)  # [B, h, n, n]
        return self.join(weight @ heads + bias[..., None])

    # The heads become a second batch axis.
    def split(self, z: Tensor) -> Tensor:
        r"""Returns the groups of channels, `[B, h, n, c / h]`."""
        return z.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def join(self, heads: Tensor) -> Tensor:
        r"""Returns the channels of all groups side by side, `[B, n, c]`."""
        return heads.transpose(1, 2).flatten(-2)

    def extra_repr(self) -> str:
        return f"seq_len={self.seq_len}, n_heads={self.n_heads}, causal={self.causal}"


# fold: argument checks
def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
