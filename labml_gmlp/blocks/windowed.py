r"""
# The windowed projection

The matrix $W$ of the spatial projection grows with the square of the longest sequence, and has no
row for a token beyond it. Here the tokens are cut into windows instead, and every window uses the
same weights for itself and its neighbours: the number of weights no longer depends on the length,
the cost grows in proportion to it, and a sequence of any length will do. The idea is that of the
local gating unit in [g-mlp-gpt](https://github.com/lucidrains/g-mlp-gpt); the paper ([arXiv
2105.08050](https://arxiv.org/abs/2105.08050)) has no such layer.

In one layer a token reads no further than the neighbours of its window, but a stack reads on: what
it got from there it hands to its own neighbours in the next layer. After $L$ layers it has seen $L$
windows to each side, or before its own when causal.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from typing import Any

import torch
from torch import Tensor, nn


class WindowedProjection(nn.Module):
    r"""
    ## Windowed projection

    $$f_{W,b}(Z)_{uw + p,\,c} = \sum_{q=0}^{3w-1} W_{pq} Z_{(u-1)w + q,\,c} + b_p$$

    Position $i = uw + p$ is place $p$ of window $u$, both counted from zero. It reads window
    $u - 1$ ($q < w$), its own, and window $u + 1$ ($q \ge 2w$); outside of the sequence $Z$ is
    zero. When causal, the last of the three is left out, and so is what lies ahead in its own
    window:

    $$q \le w + p$$

    Unlike Eq. 2 of the paper, $W \in \mathbb{R}^{w \times 3w}$ is the same for every window $u$: a
    token knows its place in the window, not which window it is. Up to $w$ tokens are one window,
    and this is Eq. 2 with the block of $W$ that belongs to the own window.

    * `window` is $w$, in tokens; exported for any number of tokens, the layer takes whole windows
      only, and at least two
    * `causal` keeps $j \le i$ only; $W$ is then `[w, 2w]`
    * `n_heads` is the number of equal groups of channels, each with its own $W$ and $b$
    * `device` and `dtype` are those of the parameters, as in any torch layer

    Raises `ValueError` for a `window` or `n_heads` that is not a positive whole number.
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
        _check_size("window", window)
        _check_size("n_heads", n_heads)
        self.window = window
        self.causal = causal
        self.n_heads = n_heads
        # One head has no axis of its own, as in the spatial projection.
        heads = () if n_heads == 1 else (n_heads,)
        size = (*heads, window, (2 if causal else 3) * window)
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(size[:-1], device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""
        $W \approx 0$ and $b = 1$: the gate starts at one and the block as a feed-forward layer. Not
        exactly zero, as by mistake in g-mlp-gpt, since no gradient would then reach $Z$ through it.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        r"""
        * `z` is $Z$, `[B, n, c]`; `n_heads` divides $c$
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$.
          `None` allows what the windows and `causal` allow
        * `cache` holds what was read before; `z` then follows on it

        Returns $f_{W,b}(Z)$, `[B, n, c]`.

        Raises `ValueError` for a `z` or a mask of another shape, and for a `cache` beside a mask or
        without `causal`; `TypeError` for a mask that is not boolean.
        """
        if z.dim() != 3 or z.shape[-1] % self.n_heads:
            wanted = "[B, n, c]" + f" with c a multiple of {self.n_heads}" * (self.n_heads > 1)
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        # The positions from `start` to `stop` are new; they lie in the windows from `first` to
        # `last`, and what these read starts at `begin`. Without a cache all positions are new.
        w, n = self.window, z.shape[1]
        start = 0 if cache is None else cache.position
        stop = start + n
        first, last = start // w, max(stop - 1, start) // w
        begin = max(first - 1, 0) * w
        if cache is not None:
            _check_cache(self.causal, mask)
            z = cache.extend(self, z)[:, begin:]  # [B, stop - begin, c]
        # Zeros stand for the window before the first, for the missing end of the last one, and for
        # the one after it. Then all windows are alike, and each reads itself and its neighbours.
        reach = self.weight.shape[-1]  # 2w or 3w
        before, after = (w if first == 0 else 0), (last + reach // w - 1) * w - stop
        z = nn.functional.pad(z, (0, 0, before, after)).unflatten(-1, (self.n_heads, -1))
        u = last - first + 1
        z = z.transpose(1, 2).unflatten(2, (u + reach // w - 1, w))
        reads = torch.cat([z[:, :, k : k + u] for k in range(reach // w)], dim=3)
        # Of a single window only the rows of the new positions are needed: a step of generation
        # costs one row of $W$. Of more, all rows are computed, and the old ones dropped at the end.
        place = start - first * w
        low, high = (place, place + n) if first == last else (0, w)
        weight = self.weight[..., low:high, :]
        # What lies ahead is cut out of $W$, not of the product, so that its gradient is exactly
        # zero. (The future must be finite: zero times NaN is NaN.)
        if self.causal:
            weight = weight.tril(w + low)
        weight = weight.view(self.n_heads, 1, -1, reach)  # [h, 1, w, reach]
        bias = self.bias[..., low:high].view(self.n_heads, 1, -1, 1)
        if mask is not None:
            weight = weight * self._seen(mask, z.shape[0], n)
        f = weight @ reads + bias  # [B, h, u, w, c / h]
        new = slice(place - low, place - low + n)
        return f.flatten(2, 3)[:, :, new].transpose(1, 2).flatten(-2)

    def _seen(self, mask: Tensor, n_batch: int, n: int) -> Tensor:
        r"""
        * `mask` as in `forward`

        Returns the pieces of it that the windows see, cut as $W$ is: `[u, w, reach]`, or with more
        axes in front.
        """
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


# ## Checks
#
# What a caller can get wrong, in one sentence each.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_cache(causal: bool, mask: Tensor | None) -> None:
    if not causal:
        raise ValueError("cache needs causal=True: earlier positions may not read new ones")
    if mask is not None:
        raise ValueError("mask must be None beside a cache")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
