r"""
# Tiny attention

The paper's second model, aMLP, is gMLP with a little attention: one head of few channels beside the
spatial projection of each block, added inside the gate. In the paper's table, as reported, the base
model of gMLP stays behind BERT on MNLI, which compares two sentences, and that of aMLP does not. It
fits into the [block](gmlp.py) as `GMLPBlock(..., attention=TinyAttention(d_model, d_ffn // 2))`.

What is known of it here comes from an account of the paper's figure, not from the paper itself; it
leaves open which projections have biases and how they start. The paper has no causal model and
masks no padding; both are ours, as in the block.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from typing import Any

import torch
from torch import Tensor, nn


class TinyAttention(nn.Module):
    r"""
    ## Tiny attention

    $$\mathrm{tiny}(X)_i = O \sum_j A_{ij} v_j + o, \qquad
      A_{ij} = \mathrm{softmax}_j \left( \frac{q_i \cdot k_j}{\sqrt{a}} \right)$$

    A single head with $a$ = `d_attn` channels. It reads the *normalised input* of the block, before
    the channels are expanded, and its result joins $f_{W,b}(Z_2)$ before the product with $Z_1$
    (paper, figure of aMLP, as reported):

    $$s(Z) = Z_1 \odot \left( f_{W,b}(Z_2) + \mathrm{tiny}(\mathrm{norm}(X)) \right)$$

    So $W$ says how much each position reads from each other whatever stands there, and $A$ adds
    what depends on the tokens themselves.

    * `d_model` is $d$, the number of channels of $X$
    * `d_out` is the number of channels of the gate: `d_ffn / 2` beside `SpatialGatingUnit`
    * `d_attn` is $a$; the paper has 64, and 128 in its large model (as reported)
    * `causal` lets position $i$ read $j \le i$ only
    * `in_bias` and `out_bias` give the two projections a bias. The paper does not say, and public
      implementations differ; both is our choice

    Raises `ValueError` for sizes that are not positive whole numbers.
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
        # One matrix for $q$, $k$ and $v$, in this order: one product instead of three.
        self.attention_in = nn.Linear(d_model, 3 * d_attn, in_bias, device=device, dtype=dtype)
        self.attention_out = nn.Linear(d_attn, d_out, out_bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""
        $O \approx 0$ and $o = 0$, so that the gate starts at one, as it does without attention, and
        the block as a feed-forward layer. Our choice: it carries the paper's reason for $W \approx
        0$ over to the attention beside it, at the same scale as $W$ has here. Near zero and not
        zero, since $O = 0$ would hide $q$, $k$ and $v$ from the first gradient. What makes these
        keeps torch's start for linear layers.
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
        r"""
        * `x` is the normalised $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$;
          with `causal`, what both allow
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` holds the keys and values of earlier positions; `x` then follows on them, without
          any mask

        Returns $\mathrm{tiny}(X)$, `[B, n, d_out]`; a position that may read nothing gets $o$, and
        zeros without it, as a position without weights gets $b$ from Eq. 2.

        Raises `ValueError` for an `x` or a mask of another shape and for a `cache` beside a mask or
        without `causal`, `TypeError` for a mask that is not boolean.
        """
        if x.dim() != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must be [B, n, d_model={self.d_model}], got {list(x.shape)}")
        if cache is None:
            may_read = self._may_read(x, mask, key_padding_mask)
        else:
            _check_cache(self.causal, mask, key_padding_mask)
            # The new positions are the last rows of the triangle.
            stop = cache.position + x.shape[1]
            may_read = torch.ones(x.shape[1], stop, dtype=torch.bool, device=x.device)
            may_read = may_read.tril(cache.position)
        query, key_value = self.attention_in(x).split([self.d_attn, 2 * self.d_attn], dim=-1)
        if cache is not None:
            key_value = cache.extend(self, key_value)  # [B, start + n, 2 a]
        # torch wants an axis of heads, here of length one.
        query, key, value = (part[:, None] for part in (query, *key_value.chunk(2, dim=-1)))
        # $\sum_j A_{ij} v_j$; torch takes the triangle or a mask, not both. A softmax over nothing
        # is zero there, not NaN.
        read = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=may_read, is_causal=self.causal and may_read is None
        )  # [B, 1, n, a]
        return self.attention_out(read[:, 0])

    def _may_read(
        self, x: Tensor, mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor | None:
        r"""
        Joins what `mask`, `key_padding_mask` and `causal` allow into one mask, `[B or 1, 1, n, n]`.

        `None` if only `causal` restricts, as torch then has a faster way.
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


# ## Checks
#
# As in `gmlp.py`, and written again here because a block file stands alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_cache(causal: bool, *masks: Tensor | None) -> None:
    if not causal:
        raise ValueError("cache needs causal=True: earlier positions may not read new ones")
    if any(mask is not None for mask in masks):
        raise ValueError("mask and key_padding_mask must be None beside a cache")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
