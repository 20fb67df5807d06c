r"""A spatial projection over windows of tokens that share their weights, for any length.

# The windowed projection

The matrix $W$ of the spatial projection grows with the square of the longest sequence and has no
rows for later tokens. Here the tokens are split into windows, and all windows use the same weights
for themselves and their neighbours. The number of weights does not depend on the length, the cost
is linear in it, and any length works. The idea comes from the local gating unit of
[g-mlp-gpt](https://github.com/lucidrains/g-mlp-gpt); the paper ([arXiv
2105.08050](https://arxiv.org/abs/2105.08050)) has no such layer.

One layer reads up to the neighbouring windows. A stack of $L$ layers reaches $L$ windows to each
side, or only back when causal.

This file imports only torch and the standard library, so you can copy it alone.
"""

import torch
from torch import Tensor, nn


class WindowedProjection(nn.Module):
    r"""A spatial projection of each window and its neighbours with shared weights.

    ## Windowed projection

    $$f_{W,b}(Z)_{uw + p,\,c} = \sum_{q=0}^{3w-1} W_{pq} Z_{(u-1)w + q,\,c} + b_p$$

    Position $i = uw + p$ is place $p$ in window $u$, both counted from zero. It reads window
    $u - 1$ ($q < w$), its own, and window $u + 1$ ($q \ge 2w$). Outside the sequence $Z$ is zero.
    When causal, it reads only

    $$q \le w + p$$

    Unlike Eq. 2 of the paper, $W \in \mathbb{R}^{w \times 3w}$ is the same for all windows: a token
    knows its place in the window, but not the window. With up to $w$ tokens this is Eq. 2 with the
    middle block of $W$.

    ```python
    projection = WindowedProjection(window=32)
    block = GMLPBlock(64, 256, sgu=SpatialGatingUnit(256, projection=projection))
    ```

    * `window` is $w$ in tokens; a layer exported with a dynamic length accepts only whole windows,
      at least two
    * `causal` keeps only $j \le i$; $W$ is then `[w, 2w]`
    * `n_heads` is the number of channel groups, each with its own $W$ and $b$

    Raises `ValueError` if `window` or `n_heads` is not a positive integer.
    """

    def __init__(
        self,
        window: int,
        *,
        causal: bool = False,
        n_heads: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # fold: checks
        _check_size("window", window)
        _check_size("n_heads", n_heads)
        self.window = window
        self.causal = causal
        self.n_heads = n_heads
        # With one head there is no head axis, as in the spatial projection.
        heads = () if n_heads == 1 else (n_heads,)
        size = (*heads, window, (2 if causal else 3) * window)
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(size[:-1], device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws $W$ from $N(0, 10^{-12})$ and sets $b = 1$, so the gate starts at one.

        g-mlp-gpt sets $W$ to exactly zero by mistake; no gradient then reaches $Z$ through it.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Returns $f_{W,b}(Z)$, `[B, n, c]`.

        * `z` is $Z$, `[B, n, c]`; $c$ is a multiple of `n_heads`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$

        Raises `ValueError` if `z` or `mask` has the wrong shape, and `TypeError` if `mask` is not
        boolean.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[-1] % self.n_heads:
            wanted = "[B, n, c]" + f" with c a multiple of {self.n_heads}" * (self.n_heads > 1)
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        # Pad with zeros for the window before the first, the missing end of the last, and the
        # window after it. Then each window reads itself and its neighbours in the same way.
        w, n = self.window, z.shape[1]
        reach = self.weight.shape[-1]  # 2w or 3w
        u = max(n - 1, 0) // w + 1
        after = (u + reach // w - 2) * w - n
        z = nn.functional.pad(z, (0, 0, w, after)).unflatten(-1, (self.n_heads, -1))
        z = z.transpose(1, 2).unflatten(2, (u + reach // w - 1, w))
        reads = torch.cat([z[:, :, k : k + u] for k in range(reach // w)], dim=3)
        # If there is only one window, compute only the rows of its tokens.
        rows = min(n, w) if u == 1 else w
        weight = self.weight[..., :rows, :]
        # Masking $W$, not the product, keeps future tokens out of every sum and makes the gradient
        # of these weights exactly zero. (Future tokens must be finite: 0 times NaN is NaN.)
        if self.causal:
            weight = weight.tril(w)
        weight = weight.view(self.n_heads, 1, -1, reach)  # [h, 1, w, reach]
        bias = self.bias[..., :rows].view(self.n_heads, 1, -1, 1)
        if mask is not None:
            weight = weight * self._seen(mask, z.shape[0], n)
        f = weight @ reads + bias  # [B, h, u, w, c / h]
        return f.flatten(2, 3)[:, :, :n].transpose(1, 2).flatten(-2)

    def _seen(self, mask: Tensor, n_batch: int, n: int) -> Tensor:
        r"""Returns the part of `mask` that each window reads, `[..., u, w, reach]`."""
        _check_mask("mask", mask, (n, n), (n_batch, n, n))
        w, reach = self.window, self.weight.shape[-1]
        n_windows = -(-n // w)
        rows = min(n, w)
        # Row $i = uw + p$ reads column $j = (u - 1) w + q$, which padding moves to $uw + q$.
        after = (n_windows + reach // w - 2) * w - n
        mask = nn.functional.pad(mask, (w, after, 0, n_windows * rows - n))
        u = torch.arange(n_windows, device=mask.device)[:, None, None]
        p = torch.arange(rows, device=mask.device)[:, None]
        q = torch.arange(reach, device=mask.device)
        seen = mask[..., u * w + p, u * w + q]  # [u, w, reach] or [B, u, w, reach]
        return seen if seen.dim() == 3 else seen[:, None]  # [B, 1, u, w, reach]

    def extra_repr(self) -> str:
        return f"window={self.window}, causal={self.causal}, n_heads={self.n_heads}"


# fold: argument checks
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
