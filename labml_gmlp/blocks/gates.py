r"""
# Gates of the ablation

What does the gate need to be? The paper compares four ways to let $s$ mix tokens, each a step on
the way to its [spatial gating unit](gmlp.py):

| gate | $s(Z)$ | class | starts at |
| --- | --- | --- | --- |
| linear | $f_{W,b}(Z)$ | `LinearGate` | $W = I$, $b = 0$ |
| additive | $Z + f_{W,b}(Z)$ | `AdditiveGate` | $W \approx 0$, $b = 0$ |
| multiplicative, Eq. 3 | $Z \odot f_{W,b}(Z)$ | `MultiplicativeGate` | $W \approx 0$, $b = 1$ |
| with a split, Eq. 4 | $Z_1 \odot f_{W,b}(Z_2)$ | `SpatialGatingUnit` | $W \approx 0$, $b = 1$ |

In the paper's masked language models the perplexity falls from row to row. That order is quoted
from memory; of the four figures, only that of the last row, 4.35, could be found reported, and the
others are not printed here.

The first two only add up what positions say, so that between the norms they are linear in $Z$; the
last two multiply. The start is the paper's for the last two (section 2.1) and our choice for the
others: no token is mixed with another, as there.

Each gate takes the place of the unit, `GMLPBlock(d_model, d_ffn, sgu=MultiplicativeGate(d_ffn,
SpatialProjection(seq_len)))`. The projection $f_{W,b}$ is any layer across tokens, and is received.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class _Gate(nn.Module, ABC):
    r"""
    ## What the gates share

    All but the formula: $f_{W,b}$ reads $\mathrm{norm}(Z)$. For Eq. 4 that norm is the paper's;
    in front of the other three it is our choice, so that the four differ by their formula alone.

    * `d_ffn` is the number of channels of $Z$; without a split, $s(Z)$ has as many
    * `projection` is $f_{W,b}$, called as `projection(z, mask)` on `[B, n, d_ffn]`; it brings its
      own length and says by its `causal` whether it reads the future
    * `norm_eps` is added to the variance in the normalisation

    Raises `ValueError` for a `d_ffn` that is not a positive whole number.
    """

    # What $b$ must be for $s(Z)$ to start as $Z$, given a projection that starts at $W \approx 0$.
    start: ClassVar[float]

    def __init__(
        self,
        d_ffn: int,
        projection: nn.Module,
        *,
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("d_ffn", d_ffn)
        self.d_ffn = d_ffn
        self.d_out = d_ffn
        self.norm = nn.LayerNorm(d_ffn, eps=norm_eps, device=device, dtype=dtype)
        self.projection = projection
        self.causal = getattr(projection, "causal", False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""
        Sets the `bias` of the projection, if it has one. Its weights stay as they are: a projection
        that belongs into a gate starts near zero, whether they are a matrix, diagonals or a kernel.
        """
        bias = getattr(self.projection, "bias", None)
        if bias is not None:
            nn.init.constant_(bias, self.start)

    def forward(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        attended: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `z` is $Z$, `[B, n, d_ffn]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`: true for a real token, false for padding
        * `attended` is added to $f_{W,b}$, `[B, n, d_ffn]`: the tiny attention of aMLP
        * `mask` and `cache` go to the projection

        Returns $s(Z)$, `[B, n, d_ffn]`; at padded positions it means nothing.

        Raises `ValueError` for a `z` or a `key_padding_mask` of another shape, `TypeError` for a
        `key_padding_mask` that is not boolean, and what the projection raises.
        """
        if z.dim() != 3 or z.shape[-1] != self.d_ffn:
            raise ValueError(f"z must be [B, n, d_ffn={self.d_ffn}], got {list(z.shape)}")
        normalised = self.norm(z)
        # A column of $W$ that meets zeros adds nothing: this equals cutting the padding off.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, tuple(z.shape[:2]))
            normalised = normalised.masked_fill(~key_padding_mask[..., None], 0.0)
        # A layer of another origin may know no cache, and is not asked about one that is not there.
        with_cache = {} if cache is None else {"cache": cache}
        f = self.projection(normalised, mask, **with_cache)  # [B, n, d_ffn]
        if attended is not None:
            f = f + attended
        return self.s(z, normalised, f)

    @abstractmethod
    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""The formula, from $Z$, $\mathrm{norm}(Z)$ and $f_{W,b}(\mathrm{norm}(Z))$."""


class LinearGate(_Gate):
    r"""
    ## Linear gate

    $$s(Z) = f_{W,b}(Z), \qquad W = I + W'$$

    A linear layer across tokens and no gate at all. The projection holds $W'$, the distance of $W$
    from the identity: so it starts near zero here as in the other gates, and $s(Z)$ as the identity
    (up to the norm), however it makes its matrix; $I$ plus a Toeplitz matrix is a Toeplitz matrix.
    Weight decay then draws $W$ to $I$, not to zero, and no mask keeps a position from itself.
    """

    start = 0.0

    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""Returns $(I + W') \, \mathrm{norm}(Z) + b$."""
        return normalised + f


class AdditiveGate(_Gate):
    r"""
    ## Additive gate

    $$s(Z) = Z + f_{W,b}(Z)$$

    A shortcut around the projection. As $Z + WZ + b = (I + W) Z + b$, it is the linear gate once
    more, but for the start and for the norm, which here the shortcut passes by.
    """

    start = 0.0

    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""Returns $Z + f_{W,b}(\mathrm{norm}(Z))$."""
        return z + f


class MultiplicativeGate(_Gate):
    r"""
    ## Multiplicative gate

    $$s(Z) = Z \odot f_{W,b}(Z) \tag{3}$$

    Paper, section 2.1, Eq. 3: each token is multiplied with what it reads from the others, which
    makes products $Z_{ic} Z_{jc}$. Eq. 4 lets two different halves of the channels do that.
    """

    start = 1.0

    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""Returns $Z \odot f_{W,b}(\mathrm{norm}(Z))$."""
        return z * f


# ## Checks
#
# As in `gmlp.py`, and written again here because a block file stands alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
