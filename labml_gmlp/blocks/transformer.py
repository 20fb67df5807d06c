r"""
# The Transformer layer

The baseline. It keeps the same protocol as `GMLPBlock`, so that both go through the same encoder,
and is the pre-norm layer of today's Transformers: attention, then the feed-forward part, each
behind a norm and beside a shortcut. The paper compares with BERT, which puts the norms after the
shortcuts; pre-norm trains without special care at any depth, and gMLP is pre-norm itself.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class TransformerLayer(nn.Module):
    r"""
    ## Transformer layer

    $$H = X + \mathrm{Attention}(\mathrm{norm}(X)) \, O, \qquad
      Y = H + \sigma(\mathrm{norm}(H) \, U) \, V$$

    * `d_model` is $d$, the number of channels of $X$ and $Y$
    * `n_heads` divides `d_model`
    * `d_ffn` is the number of channels between $U$ and $V$
    * `causal` lets position $i$ read $j \le i$ only
    * `dropout` is a layer on the results of attention and feed-forward part, before the shortcuts
      add them
    * `activation` is $\sigma$, `norm_eps` is added to the variance in both norms

    Raises `ValueError` for sizes that are not positive whole numbers, and for an `n_heads` that
    does not divide `d_model`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ffn: int,
        *,
        causal: bool = False,
        dropout: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] = nn.functional.gelu,
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("d_model", d_model)
        _check_size("n_heads", n_heads)
        _check_size("d_ffn", d_ffn)
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model={d_model}, got {n_heads}")
        self.size = d_model
        self.n_heads = n_heads
        self.causal = causal
        self.activation = activation
        self.attention_norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        # One matrix for query, key and value of all heads: one large product instead of three.
        self.attention_in = nn.Linear(d_model, 3 * d_model, device=device, dtype=dtype)
        self.attention_out = nn.Linear(d_model, d_model, device=device, dtype=dtype)
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        self.proj_in = nn.Linear(d_model, d_ffn, device=device, dtype=dtype)
        self.proj_out = nn.Linear(d_ffn, d_model, device=device, dtype=dtype)
        self.dropout = nn.Identity() if dropout is None else dropout

    def attention(self, x: Tensor, mask: Tensor | None, cache: Any = None) -> Tensor:
        r"""
        ### Attention

        $$\mathrm{Attention}(X)_{ic} = \sum_j A_{ij} V_{jc}, \qquad
          A = \mathrm{softmax}_j \left( \frac{Q K^\top}{\sqrt{d / h}} \right)$$

        for each of the $h$ heads, on its own part of the channels. Compare Eq. 2: $A$ has the place
        of $W$, but is computed from the input.

        * `x` is the normalised $X$, `[B, n, d_model]`
        * `mask` broadcasts to `[B, h, n, n]`, true where $i$ may read $j$
        * `cache` holds the keys and values of earlier positions

        Returns the heads' results side by side, `[B, n, d_model]`.
        """
        query, key_value = self.attention_in(x).split([self.size, 2 * self.size], dim=-1)
        if cache is not None:
            key_value = cache.extend(self, key_value)  # [B, start + n, 2 d]
        # Heads become a second batch axis: `[B, n, d]` to `[B, h, n, d / h]`.
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (query, *key_value.chunk(2, dim=-1))
        )
        # torch takes the triangle or a mask, not both.
        heads = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=self.causal and mask is None
        )  # [B, h, n, d / h]
        return heads.transpose(1, 2).flatten(-2)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `x` is $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$;
          with `causal`, what both allow
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` holds the earlier positions; `x` then follows on them, without any mask

        Returns $Y$, `[B, n, d_model]`; at padded positions, and where a position may read nothing,
        it means nothing.

        Raises `ValueError` for an `x` or a mask of another shape and for a `cache` beside a mask or
        without `causal`, `TypeError` for a mask that is not boolean.
        """
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ValueError(f"x must be [B, n, d_model={self.size}], got {list(x.shape)}")
        if cache is None:
            may_read = self._may_read(x, mask, key_padding_mask)
        else:
            _check_cache(self.causal, mask, key_padding_mask)
            # The new positions are the last rows of the triangle.
            stop = cache.position + x.shape[1]
            may_read = torch.ones(x.shape[1], stop, dtype=torch.bool, device=x.device)
            may_read = may_read.tril(cache.position)
        # $H$
        attended = self.attention(self.attention_norm(x), may_read, cache)
        h = x + self.dropout(self.attention_out(attended))
        return h + self.dropout(self.proj_out(self.activation(self.proj_in(self.norm(h)))))

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
