r"""Tiny attention: a single small attention head that turns gMLP into aMLP.

# Tiny attention

The paper's second model, aMLP, adds one attention head with few channels to the gate of each gMLP
block. On MNLI, which compares two sentences, gMLP-base is behind BERT and aMLP-base is not (paper,
[source](../../docs/coverage.yml#tiny-attention)). This page is the head; the [aMLP
block](../models/amlp.py) adds it to the gate.

Which projections have biases and how they are initialised is our choice. Causality and padding
masks are our additions.

This file imports only torch and the standard library, so you can copy it alone.
"""

import torch
from torch import Tensor, nn


class TinyAttention(nn.Module):
    r"""Single-head attention whose output is added inside the spatial gating unit.

    ## Tiny attention

    $$\mathrm{tiny}(X)_i = O \sum_j A_{ij} v_j + o, \qquad
      A_{ij} = \mathrm{softmax}_j \left( \frac{q_i \cdot k_j}{\sqrt{a}} \right)$$

    A single head with $a$ = `d_attn` channels. It reads the *normalised input* of the block, before
    the channels are expanded, and its output is added to $f_{W,b}(Z_2)$ before the product with
    $Z_1$ (paper, figure of aMLP):

    $$s(Z) = Z_1 \odot \left( f_{W,b}(Z_2) + \mathrm{tiny}(\mathrm{norm}(X)) \right)$$

    $W$ mixes positions in the same way for every input; $A$ depends on the tokens.

    ```python
    attention = TinyAttention(d_model=64, d_out=128)
    block = AMLPBlock(d_model=64, d_ffn=256, seq_len=128, attention=attention)
    ```

    * `d_model` is $d$, the number of channels of $X$
    * `d_out` is the number of channels of the gate: `d_ffn / 2` with `SpatialGatingUnit`
    * `d_attn` is $a$; the paper uses 64, and 128 in its large model
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
        # fold: checks
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
    ) -> Tensor:
        r"""Returns $\mathrm{tiny}(X)$, `[B, n, d_out]`.

        * `x` is the normalised $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        A position that may read nothing gets $o$, or zeros without a bias; Eq. 2 gives it $b$.

        Raises `ValueError` if `x` or a mask has the wrong shape, and `TypeError` if a mask is not
        boolean.
        """
        # fold: checks
        if x.dim() != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must be [B, n, d_model={self.d_model}], got {list(x.shape)}")
        # Both masks and `causal` become one mask.
        batch, n, _ = x.shape
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
        # $q_i$, $k_j$ and $v_j$
        query, key, value = self.attention_in(x).chunk(3, dim=-1)  # [B, n, d_attn] each
        read = self.attend(query, key, value, may_read)  # [B, n, d_attn]
        # $O \sum_j A_{ij} v_j + o$
        return self.attention_out(read)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, may_read: Tensor | None) -> Tensor:
        r"""Returns $\sum_j A_{ij} v_j$, `[B, n, d_attn]`.

        * `query`, `key` and `value` are `[B, n, d_attn]`; the last two may have another $n$
        * `may_read` broadcasts to `[B, 1, n, n]`; `None` means what `causal` says
        """
        # torch expects an axis of heads, takes `is_causal` or a mask, not both, and is faster
        # without one. A softmax over no position gives zero there, not NaN.
        query, key, value = query[:, None], key[:, None], value[:, None]  # [B, 1, n, d_attn]
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=may_read, is_causal=self.causal and may_read is None
        )[:, 0]

    def extra_repr(self) -> str:
        return f"causal={self.causal}"


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
