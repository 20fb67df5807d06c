r"""A pre-norm Transformer layer with the interface of `GMLPBlock`.

# The Transformer layer

This layer is the baseline. It runs in the same [encoder](encoder.py) as `GMLPBlock`. Attention and
the feed-forward network each have a norm in front and a residual connection around them. The paper
compares with BERT, which normalises after the residual addition. We use pre-norm because it trains
without special care at any depth, and because gMLP is pre-norm too.

This file imports only torch and the standard library, so you can copy it alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class TransformerLayer(nn.Module):
    r"""A pre-norm Transformer layer: multi-head attention, then a feed-forward network.

    ## Transformer layer

    $$H = X + \mathrm{Attention}(\mathrm{norm}(X)) \, O, \qquad
      Y = H + \sigma(\mathrm{norm}(H) \, U) \, V$$

    ```python
    layer = TransformerLayer(d_model=64, n_heads=4, d_ffn=256)
    y = layer(torch.randn(8, 100, 64))  # [8, 100, 64]
    ```

    * `d_model` is $d$, the number of channels of $X$ and $Y$
    * `n_heads` divides `d_model`
    * `d_ffn` is the number of channels between $U$ and $V$
    * `causal` keeps only $j \le i$
    * `dropout` is applied to both branches, before the residual additions
    * `activation` is $\sigma$, `norm_eps` the epsilon of both norms

    Raises `ValueError` if a size is not a positive integer, or if `n_heads` does not divide
    `d_model`.
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
        # fold: checks
        _check_size("d_model", d_model)
        _check_size("n_heads", n_heads)
        _check_size("d_ffn", d_ffn)
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model={d_model}, got {n_heads}")
        # The norms stand in front (pre-norm).
        self.size = d_model
        self.activation = activation
        self.attention_norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        # One product for the queries, keys and values of all heads instead of three.
        self.attention_in = nn.Linear(d_model, 3 * d_model, device=device, dtype=dtype)
        self.attention = SelfAttention(n_heads, causal=causal)
        self.attention_out = nn.Linear(d_model, d_model, device=device, dtype=dtype)
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        self.proj_in = nn.Linear(d_model, d_ffn, device=device, dtype=dtype)
        self.proj_out = nn.Linear(d_ffn, d_model, device=device, dtype=dtype)
        self.dropout = nn.Identity() if dropout is None else dropout

    def forward(
        self, x: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Returns $Y$, `[B, n, d_model]`.

        * `x` is $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        Values at padded positions, and where a position may read nothing, are arbitrary.

        Raises `ValueError` if `x` or a mask has the wrong shape, and `TypeError` if a mask is not
        boolean.
        """
        # fold: checks
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ValueError(f"x must be [B, n, d_model={self.size}], got {list(x.shape)}")
        # $H = X + \mathrm{Attention}(\mathrm{norm}(X)) \, O$
        query_key_value = self.attention_in(self.attention_norm(x))  # [B, n, 3 d_model]
        attended = self.attention(query_key_value, mask, key_padding_mask)  # [B, n, d_model]
        h = x + self.dropout(self.attention_out(attended))  # [B, n, d_model]
        # $Y = H + \sigma(\mathrm{norm}(H) \, U) \, V$
        return h + self.dropout(self.proj_out(self.activation(self.proj_in(self.norm(h)))))


class SelfAttention(nn.Module):
    r"""Multi-head attention among the tokens of a sequence, without its linear layers.

    ## Attention

    $$\mathrm{Attention}(X)_{ic} = \sum_j A_{ij} V_{jc}, \qquad
      A = \mathrm{softmax}_j \left( \frac{Q K^\top}{\sqrt{d / h}} \right)$$

    for each of the $h$ heads, on its own group of channels. $A$ takes the place of $W$ in Eq. 2,
    but is computed from the input.

    * `n_heads` is $h$
    * `causal` keeps only $j \le i$
    """

    def __init__(self, n_heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.causal = causal

    def forward(
        self,
        query_key_value: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        r"""Returns the outputs of the heads side by side, `[B, n, d_model]`.

        * `query_key_value` holds $Q$, $K$ and $V$, `[B, n, 3 d_model]`
        * `mask` and `key_padding_mask` are those of `TransformerLayer.forward`

        Raises `ValueError` if a mask has the wrong shape, and `TypeError` if it is not boolean.
        """
        # Both masks and `causal` become one mask.
        batch, n, _ = query_key_value.shape
        may_read = None  # [B or 1, 1, n, n]
        if mask is not None:
            _check_mask("mask", mask, (n, n), (batch, n, n))
            may_read = (mask[None] if mask.dim() == 2 else mask)[:, None]
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, (batch, n))
            columns = key_padding_mask[:, None, None, :]
            may_read = columns if may_read is None else may_read & columns
        if may_read is not None and self.causal:
            may_read = may_read & torch.ones(n, n, dtype=torch.bool, device=may_read.device).tril()
        query, key, value = query_key_value.chunk(3, dim=-1)  # [B, n, d_model] each
        return self.attend(query, key, value, may_read)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, may_read: Tensor | None) -> Tensor:
        r"""Returns $A V$ of all heads side by side, `[B, n, d_model]`.

        * `query` is $Q$, `[B, n, d_model]`; `key` and `value` may have another number of tokens
        * `may_read` broadcasts to `[B, h, n, n]`; `None` means what `causal` says
        """
        # The heads become a second batch axis: `[B, n, d]` to `[B, h, n, d / h]`.
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        # torch takes `is_causal` or a mask, not both. Without a mask it has a faster path.
        heads = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=may_read, is_causal=self.causal and may_read is None
        )  # [B, h, n, d / h]
        return heads.transpose(1, 2).flatten(-2)


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
