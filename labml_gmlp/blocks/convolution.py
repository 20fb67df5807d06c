r"""
# The convolution projection

gMLP for speech (Sakuma, Komatsu and Scheibler, *MLP-based architecture with variable length input
for automatic speech recognition*, 2021, [openreview](https://openreview.net/forum?id=RA-zVvZLYIy))
puts a depthwise convolution in the place of the matrix $W$. There the block is called cgMLP and its
gate convolutional spatial gating unit; Branchformer and E-Branchformer set it beside attention.
Given to the spatial gating unit, the layer here makes it that gate:

```python
projection = ConvolutionProjection(d_ffn // 2)
GMLPBlock(d_model, d_ffn, projection=projection)
```

What differs from Eq. 2 of *Pay Attention to MLPs* ([arXiv
2105.08050](https://arxiv.org/abs/2105.08050)):

| | Eq. 2 | convolution |
| --- | --- | --- |
| reads | all tokens | as many as the kernel is long |
| weights | one matrix for all channels | one kernel for each channel |
| depends on | both positions | their distance alone |
| bias | one number for each position | one number for each channel |
| length | up to the largest trained | any |
| cost | grows as $n^2$ | grows as $n$ |

Any length has its price: $W$ tells tokens where they stand, but away from the ends of a sequence a
convolution does not; a model that needs positions must get them elsewhere.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from typing import Any

import torch
from torch import Tensor, nn


class ConvolutionProjection(nn.Module):
    r"""
    ## Convolution projection

    $$f_{K,b}(Z)_{ic} = \sum_{t=0}^{k-1} K_{ct} Z_{i-l+t,\,c} + b_c, \qquad
      l = \begin{cases} (k - 1) / 2 & \text{centred} \\ k - 1 & \text{causal} \end{cases}$$

    Each channel $c$ is filtered along the tokens by its own kernel, a row of $K$ (Sakuma et al.,
    the gate by depthwise convolution). Tap $t$ reads position $j = i - l + t$; where that lies
    outside of the sequence, $Z$ is zero. The kernel is not turned over, as in torch and unlike in
    mathematics.

    * `n_channels` is the number of channels of $Z$: `d_ffn / 2` in a spatial gating unit
    * `kernel_size` is $k$, in tokens; odd, unless `causal`
    * `causal` reads $j \le i$ only (our addition)
    * `device` and `dtype` are those of the parameters, as in any torch layer

    Raises `ValueError` for a size that is not a positive whole number, and for an even
    `kernel_size` without `causal`.
    """

    def __init__(
        self,
        n_channels: int,
        kernel_size: int = 31,
        *,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("n_channels", n_channels)
        _check_size("kernel_size", kernel_size)
        # An even kernel has no middle: its result would be shifted by half a token, or shortened.
        if not causal and kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd, to be centred on a token, got {kernel_size}; "
                f"with causal=True any will do"
            )
        self.n_channels = n_channels
        self.kernel_size = kernel_size
        self.causal = causal
        # How many earlier and how many later positions are read.
        self.left = kernel_size - 1 if causal else kernel_size // 2
        self.right = kernel_size - 1 - self.left
        # With an axis in the middle, `[c, 1, k]`, this is the weight of a `nn.Conv1d`.
        self.weight = nn.Parameter(torch.empty(n_channels, kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(n_channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""
        $K \approx 0$ and $b = 1$: as with Eq. 2, the gate starts at one and the block as a
        feed-forward layer. ESPnet has the same two numbers.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        r"""
        * `z` is $Z$, `[B, n, c]`, zero at padded positions: then padding equals cutting it off. The
          spatial gating unit sees to it
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$.
          It costs a copy of $Z$ for each tap
        * `cache` holds what was read before; `z` then follows on it

        Returns $f_{K,b}(Z)$, `[B, n, c]`.

        Raises `ValueError` for a `z` or a mask of another shape, and for a `cache` beside a mask or
        without `causal`; `TypeError` for a mask that is not boolean.
        """
        if z.dim() != 3 or z.shape[-1] != self.n_channels:
            raise ValueError(f"z must be [B, n, c={self.n_channels}], got {list(z.shape)}")
        n = z.shape[1]
        before = 0
        if cache is not None:
            _check_cache(self.causal, mask)
            # Of all earlier positions the kernel reaches the last $k - 1$.
            before = min(cache.position, self.left)
            z = cache.extend(self, z)[:, cache.position - before :]  # [B, before + n, c]
        if mask is not None:
            _check_mask("mask", mask, (n, n), (z.shape[0], n, n))
        # Without a token there is no place for the kernel; an empty result needs none.
        if n == 0:
            return z[:, before:] * self.weight[:, 0] + self.bias
        # The zeros around the sequence. The gate's padding is zero too, *after* the norm, so the
        # last real token cannot tell which of the two it reads. Where padding keeps what the norm
        # makes of it, a sequence has another result in each batch, as it had in ESPnet until
        # [pull request 6660](https://github.com/espnet/espnet/pull/6660).
        z = nn.functional.pad(z.mT, (self.left - before, self.right))  # [B, c, n + k - 1]
        if mask is None:
            f = nn.functional.conv1d(z, self.weight[:, None], self.bias, groups=self.n_channels)
            return f.mT
        # A mask gives each position a kernel of its own, which no convolution has. So the windows
        # are laid out one by one, and each is multiplied by its piece of row $i$ of the mask,
        # $j = i - l + t$.
        windows = z.unfold(-1, self.kernel_size, 1)  # [B, c, n, k]
        i = torch.arange(n, device=z.device)[:, None]
        t = torch.arange(self.kernel_size, device=z.device)
        seen = nn.functional.pad(mask, (self.left, self.right))[..., i, i + t]  # [n, k], [B, n, k]
        kernels = self.weight * seen[..., None, :]  # [n, c, k] or [B, n, c, k]
        kernels = kernels.expand(z.shape[0], -1, -1, -1)
        return torch.einsum("bict,bcit->bic", kernels, windows) + self.bias

    def extra_repr(self) -> str:
        return f"{self.n_channels}, kernel_size={self.kernel_size}, causal={self.causal}"


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
