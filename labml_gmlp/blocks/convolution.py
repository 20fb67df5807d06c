r"""A depthwise convolution over tokens that replaces the spatial projection, as in cgMLP.

# The convolution projection

gMLP for speech (Sakuma, Komatsu and Scheibler, *MLP-based architecture with variable length input
for automatic speech recognition*, 2021, [openreview](https://openreview.net/forum?id=RA-zVvZLYIy))
replaces the matrix $W$ by a depthwise convolution. Its block is called cgMLP and its gate the
convolutional spatial gating unit; Branchformer and E-Branchformer run it in parallel with
attention.

Compared with Eq. 2 of *Pay Attention to MLPs* ([arXiv
2105.08050](https://arxiv.org/abs/2105.08050)):

| | Eq. 2 | convolution |
| --- | --- | --- |
| each token reads | all tokens | `kernel_size` tokens |
| weights | one matrix for all channels | one kernel for each channel |
| depend on | both positions | their distance only |
| bias | one number for each position | one number for each channel |
| sequence length | up to `seq_len` | any |
| cost | $O(n^2)$ | $O(n)$ |

Away from the ends of a sequence, a convolution cannot tell positions apart. A model that needs
positions must add them elsewhere.

This file imports only torch and the standard library, so you can copy it alone.
"""

import torch
from torch import Tensor, nn


class ConvolutionProjection(nn.Module):
    r"""A depthwise convolution over tokens, for the gate of cgMLP.

    ## Convolution projection

    $$f_{K,b}(Z)_{ic} = \sum_{t=0}^{k-1} K_{ct} Z_{i-l+t,\,c} + b_c, \qquad
      l = \begin{cases} (k - 1) / 2 & \text{centred} \\ k - 1 & \text{causal} \end{cases}$$

    Each channel $c$ is filtered along the tokens by its own kernel, row $c$ of $K$ (Sakuma et al.).
    Tap $t$ reads position $j = i - l + t$; outside the sequence $Z$ is zero. As in torch, this is
    cross-correlation: the kernel is not flipped.

    ```python
    projection = ConvolutionProjection(n_channels=128, kernel_size=31)
    block = GMLPBlock(64, 256, sgu=SpatialGatingUnit(256, projection=projection))
    ```

    * `n_channels` is the number of channels of $Z$: `d_ffn / 2` in a spatial gating unit
    * `kernel_size` is $k$ in tokens, odd unless `causal`
    * `causal` keeps only $j \le i$ (our addition)

    Raises `ValueError` if `n_channels` or `kernel_size` is not a positive integer, or if
    `kernel_size` is even without `causal`.
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
        # fold: checks
        _check_size("n_channels", n_channels)
        _check_size("kernel_size", kernel_size)
        if not causal and kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd to be centred on a token unless causal=True, "
                f"got {kernel_size}"
            )
        # An even kernel has no centre: its output would be shifted by half a token.
        self.n_channels = n_channels
        self.kernel_size = kernel_size
        self.causal = causal
        # The number of earlier and of later positions that are read.
        self.left = kernel_size - 1 if causal else kernel_size // 2
        self.right = kernel_size - 1 - self.left
        # `[c, k]`; with a middle axis, `[c, 1, k]`, it is the weight of a `nn.Conv1d`.
        self.weight = nn.Parameter(torch.empty(n_channels, kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(n_channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws $K$ from $N(0, 10^{-12})$ and sets $b = 1$: the gate starts at one, as with Eq. 2.

        ESPnet uses the same two values.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Returns $f_{K,b}(Z)$, `[B, n, c]`.

        * `z` is $Z$, `[B, n, c]`; padded positions must be zero, as the spatial gating unit makes
          them
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$.
          It costs one copy of $Z$ per tap

        Raises `ValueError` if `z` or `mask` has the wrong shape, and `TypeError` if `mask` is not
        boolean.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[-1] != self.n_channels:
            raise ValueError(f"z must be [B, n, c={self.n_channels}], got {list(z.shape)}")
        n = z.shape[1]
        if mask is not None:
            _check_mask("mask", mask, (n, n), (z.shape[0], n, n))
        # torch cannot convolve zero tokens; return an empty result that carries a gradient.
        if n == 0:
            return z * self.weight[:, 0] + self.bias
        # Zeros surround the sequence, and padded tokens are zero *after* the norm, so padding does
        # not change the result. In ESPnet they kept the bias of the norm until [pull request
        # 6660](https://github.com/espnet/espnet/pull/6660), so a result depended on the batch.
        z = nn.functional.pad(z.mT, (self.left, self.right))  # [B, c, n + k - 1]
        if mask is None:
            f = nn.functional.conv1d(z, self.weight[:, None], self.bias, groups=self.n_channels)
            return f.mT
        # A mask gives each position its own kernel, which no convolution allows. So the windows are
        # materialised, and each is multiplied by its part of row $i$ of the mask, $j = i - l + t$.
        windows = z.unfold(-1, self.kernel_size, 1)  # [B, c, n, k]
        i = torch.arange(n, device=z.device)[:, None]
        t = torch.arange(self.kernel_size, device=z.device)
        seen = nn.functional.pad(mask, (self.left, self.right))[..., i, i + t]  # [n, k], [B, n, k]
        kernels = self.weight * seen[..., None, :]  # [n, c, k] or [B, n, c, k]
        kernels = kernels.expand(z.shape[0], -1, -1, -1)
        return torch.einsum("bict,bcit->bic", kernels, windows) + self.bias

    def extra_repr(self) -> str:
        return f"{self.n_channels}, kernel_size={self.kernel_size}, causal={self.causal}"


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
