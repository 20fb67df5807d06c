r"""The linear, additive and multiplicative gates of the paper's ablation.

# Gates of the ablation

The paper compares four forms of $s$, each a step towards its [spatial gating unit](gmlp.py):

| gate | $s(Z)$ | class | initial values |
| --- | --- | --- | --- |
| linear | $f_{W,b}(Z)$ | `LinearGate` | $W = I$, $b = 0$ |
| additive | $Z + f_{W,b}(Z)$ | `AdditiveGate` | $W \approx 0$, $b = 0$ |
| multiplicative, Eq. 3 | $Z \odot f_{W,b}(Z)$ | `MultiplicativeGate` | $W \approx 0$, $b = 1$ |
| with a split, Eq. 4 | $Z_1 \odot f_{W,b}(Z_2)$ | `SpatialGatingUnit` | $W \approx 0$, $b = 1$ |

In the paper's masked language models, perplexity falls from row to row
([source](../../docs/coverage.yml#gate-ablation)).

Between the norms, the first two gates are linear in $Z$; the last two multiply. The initial values
of the last two are the paper's (section 2.1). For the first two they are our choice, with the same
effect: at first, no token is mixed with another.

This file imports only torch and the standard library, so you can copy it alone.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class _Gate(nn.Module, ABC):
    r"""Base class of the three gates: everything but the formula.

    ## Common base of the gates

    The projection $f_{W,b}$ reads $\mathrm{norm}(Z)$. This norm is the paper's for Eq. 4 and our
    choice for the other gates, so that the four differ only in their formula.

    * `d_ffn` is the number of channels of $Z$ and, without a split, of $s(Z)$
    * `projection` is $f_{W,b}$, any token-mixing layer, called as `projection(z, mask)`; its
      attribute `causal` says whether the gate is causal
    * `norm_eps` is the epsilon of the normalisation

    Raises `ValueError` if `d_ffn` is not a positive integer.
    """

    # The initial $b$, so that $s(Z) = Z$ with a projection that starts at $W \approx 0$.
    initial_bias: ClassVar[float]

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
        # fold: checks
        _check_size("d_ffn", d_ffn)
        # Without a split, $s(Z)$ has as many channels as $Z$.
        self.d_ffn = d_ffn
        self.d_out = d_ffn
        self.norm = nn.LayerNorm(d_ffn, eps=norm_eps, device=device, dtype=dtype)
        self.projection = projection
        self.causal = getattr(projection, "causal", False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Sets the `bias` of the projection, if there is one.

        The weights stay: every projection made for a gate initialises them near zero itself.
        """
        bias = getattr(self.projection, "bias", None)
        if bias is not None:
            nn.init.constant_(bias, self.initial_bias)

    def forward(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        attended: Tensor | None = None,
    ) -> Tensor:
        r"""Returns $s(Z)$, `[B, n, d_ffn]`; values at padded positions are arbitrary.

        * `z` is $Z$, `[B, n, d_ffn]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`: true for a real token, false for padding
        * `attended` is added to $f_{W,b}$, `[B, n, d_ffn]`: aMLP's tiny attention

        Raises `ValueError` if `z` or `key_padding_mask` has the wrong shape, and `TypeError` if
        `key_padding_mask` is not boolean; the projection checks `mask` and the number of
        tokens.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[-1] != self.d_ffn:
            raise ValueError(f"z must be [B, n, d_ffn={self.d_ffn}], got {list(z.shape)}")
        # $\mathrm{norm}(Z)$, which $f_{W,b}$ reads
        normalised = self.norm(z)
        # Zero rows add nothing to the sum, so padding has no effect on real tokens.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, tuple(z.shape[:2]))
            normalised = normalised.masked_fill(~key_padding_mask[..., None], 0.0)
        f = self.projection(normalised, mask)  # [B, n, d_ffn]
        if attended is not None:
            f = f + attended
        return self.s(z, normalised, f)

    @abstractmethod
    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""The formula, from $Z$, $\mathrm{norm}(Z)$ and $f_{W,b}(\mathrm{norm}(Z))$."""


class LinearGate(_Gate):
    r"""A linear layer across tokens, without a gate.

    ## Linear gate

    $$s(Z) = f_{W,b}(Z), \qquad W = I + W'$$

    The projection holds $W'$, which starts near zero as in the other gates, so $s(Z)$ starts as
    $\mathrm{norm}(Z)$ for every projection ($I$ plus a Toeplitz matrix is Toeplitz). Weight decay
    then pulls $W$ to $I$ instead of zero, and a mask cannot stop a position from reading itself.

    ```python
    gate = LinearGate(256, SpatialProjection(seq_len=128))
    block = GMLPBlock(d_model=64, d_ffn=256, sgu=gate)
    ```
    """

    initial_bias = 0.0

    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""Returns $(I + W') \, \mathrm{norm}(Z) + b$."""
        return normalised + f


class AdditiveGate(_Gate):
    r"""A projection across tokens with a residual connection.

    ## Additive gate

    $$s(Z) = Z + f_{W,b}(Z)$$

    As $Z + WZ + b = (I + W) Z + b$, it equals the linear gate except for its initialisation and
    because the residual bypasses the norm.

    ```python
    gate = AdditiveGate(256, SpatialProjection(seq_len=128))
    block = GMLPBlock(d_model=64, d_ffn=256, sgu=gate)
    ```
    """

    initial_bias = 0.0

    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""Returns $Z + f_{W,b}(\mathrm{norm}(Z))$."""
        return z + f


class MultiplicativeGate(_Gate):
    r"""A gate that multiplies $Z$ by its own projection across tokens.

    ## Multiplicative gate

    $$s(Z) = Z \odot f_{W,b}(Z) \tag{3}$$

    Each token is multiplied by what it reads from the others, which gives products $Z_{ic} Z_{jc}$
    (paper, section 2.1, Eq. 3). Eq. 4 multiplies two different halves of the channels instead.

    ```python
    gate = MultiplicativeGate(256, SpatialProjection(seq_len=128))
    block = GMLPBlock(d_model=64, d_ffn=256, sgu=gate)
    ```
    """

    initial_bias = 1.0

    def s(self, z: Tensor, normalised: Tensor, f: Tensor) -> Tensor:
        r"""Returns $Z \odot f_{W,b}(\mathrm{norm}(Z))$."""
        return z * f


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
