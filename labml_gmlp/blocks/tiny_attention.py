r"""Tiny attention: a single small attention head that turns gMLP into aMLP.

# Tiny attention

The paper's second model, aMLP, adds one attention head with few channels to the gate of each gMLP
block. On MNLI, which compares two sentences, gMLP-base is behind BERT and aMLP-base is not (paper,
as reported).

We know the design from an account of the paper's figure, which does not say which projections have
biases and how they are initialised. Causality and padding masks are our additions.

This file imports only torch and the standard library, so you can copy it alone.
"""

from typing import Any

import torch
from torch import Tensor, nn


class TinyAttention(nn.Module):
    r"""Single-head attention whose output is added inside the spatial gating unit.

    ## Tiny attention

    $$\mathrm{tiny}(X)_i = O \sum_j A_{ij} v_j + o, \qquad
      A_{ij} = \mathrm{softmax}_j \left( \frac{q_i \cdot k_j}{\sqrt{a}} \right)$$

    A single head with $a$ = `d_attn` channels. It reads the *normalised input* of the block, before
    the channels are expanded, and its output is added to $f_{W,b}(Z_2)$ before the product with
    $Z_1$ (paper, figure of aMLP, as reported):

    $$s(Z) = Z_1 \odot \left( f_{W,b}(Z_2) + \mathrm{tiny}(\mathrm{norm}(X)) \right)$$

    $W$ mixes positions in the same way for every input; $A$ depends on the tokens.

    ```python
    attention = TinyAttention(d_model=64, d_out=128)
    block = GMLPBlock(d_model=64, d_ffn=256, seq_len=128, attention=attention)
    ```

    * `d_model` is $d$, the number of channels of $X$
    * `d_out` is the number of channels of the gate: `d_ffn / 2` with `SpatialGatingUnit`
    * `d_attn` is $a$; the paper uses 64, and 128 in its large model (as reported)
    * `causal` keeps only $j \le i$
    * `in_bias` and `out_bias` give the two projections a bias. Public implementations differ; both
      is our choice

    Raises `ValueError` if a size is not a positive integer.
    """

    def __init__(
        self,
        d_model: int,
        d_out: int,
        d_attn: int = 64,
        *,
        causal: bool = False,
        in_bias: bool = True,
        out_bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("d_model", d_model)
        _check_size("d_out", d_out)
        _check_size("d_attn", d_attn)
        self.d_model = d_model
        self.d_attn = d_attn
        self.causal = causal
        # One product for $q$, $k$ and $v$, in this order, instead of three.
        self.attention_in = nn.Linear(d_model, 3 * d_attn, in_bias, device=device, dtype=dtype)
        self.attention_out = nn.Linear(d_attn, d_out, out_bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws $O$ from $N(0, 10^{-12})$ and sets $o = 0$, so the gate starts at one.

        Our choice: this follows the paper's reason for $W \approx 0$, at the scale of our $W$. With
        $O = 0$ exactly, the first gradient of $q$, $k$ and $v$ would be zero. These keep torch's
        default.
        """
        self.attention_in.reset_parameters()
        nn.init.normal_(self.attention_out.weight, std=1e-6)
        if self.attention_out.bias is not None:
            nn.init.zeros_(self.attention_out.bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""Returns $\mathrm{tiny}(X)$, `[B, n, d_out]`.

        * `x` is the normalised $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` holds earlier keys and values; `x` then holds only the new positions

        A position that may read nothing gets $o$, or zeros without a bias; Eq. 2 gives it $b$.

        Raises `ValueError` if `x` or a mask has the wrong shape, or if `cache` is used with a mask
        or without `causal`; `TypeError` if a mask is not boolean.
        """
        if x.dim() != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must be [B, n, d_model={self.d_model}], got {list(x.shape)}")
        if cache is None:
            may_read = self._may_read(x, mask, key_padding_mask)
        else:
            _check_cache(self.causal, mask, key_padding_mask)
            # The last rows of the causal mask.
            stop = cache.position + x.shape[1]
            may_read = torch.ones(x.shape[1], stop, dtype=torch.bool, device=x.device)
            may_read = may_read.tril(cache.position)
        query, key_value = self.attention_in(x).split([self.d_attn, 2 * self.d_attn], dim=-1)
        if cache is not None:
            key_value = cache.extend(self, key_value)  # [B, start + n, 2 a]
        # torch expects an axis of heads; here it has length one.
        query, key, value = (part[:, None] for part in (query, *key_value.chunk(2, dim=-1)))
        # $\sum_j A_{ij} v_j$. torch accepts `is_causal` or a mask, not both. A softmax over no
        # position gives zero there, not NaN.
        read = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=may_read, is_causal=self.causal and may_read is None
        )  # [B, 1, n, a]
        return self.attention_out(read[:, 0])

    def _may_read(
        self, x: Tensor, mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor | None:
        r"""Combines `mask`, `key_padding_mask` and `causal` into one mask, `[B or 1, 1, n, n]`.

        `None` if only `causal` applies, for which torch has a faster path.
        """
        batch, n, _ = x.shape
        joined = None
        if mask is not None:
            _check_mask("mask", mask, (n, n), (batch, n, n))
            joined = (mask[None] if mask.dim() == 2 else mask)[:, None]
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, (batch, n))
            columns = key_padding_mask[:, None, None, :]
            joined = columns if joined is None else joined & columns
        if joined is not None and self.causal:
            joined = joined & torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        return joined

    def extra_repr(self) -> str:
        return f"causal={self.causal}"


# ## Argument checks
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_cache(causal: bool, *masks: Tensor | None) -> None:
    if not causal:
        raise ValueError("cache needs causal=True: earlier positions must not read new ones")
    if any(mask is not None for mask in masks):
        raise ValueError("mask and key_padding_mask must be None when cache is given")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
