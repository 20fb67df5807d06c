r"""
# MLP-Mixer

*MLP-Mixer: An all-MLP Architecture for Vision* (Tolstikhin et al., 2021, [arXiv
2105.01601](https://arxiv.org/abs/2105.01601)) asked gMLP's question in the same month. Its block,
too, learns how tokens mix and computes nothing of it from the input. The answers differ in one
point: Mixer puts a whole feed-forward part *across* tokens before the one across channels, where
gMLP puts a single matrix $W$ inside that one and lets it *multiply*. "The paper" in this file is
that of Mixer.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class MixerBlock(nn.Module):
    r"""
    ## Mixer block

    $$U = X + W_2 \, \sigma(W_1 \, \mathrm{norm}(X)), \qquad
      Y = U + \sigma(\mathrm{norm}(U) \, W_3) \, W_4 \tag{1}$$

    What stands to the left of a matrix of tokens mixes its rows, the tokens, and what stands to the
    right mixes its columns, the channels (paper, section 2, Eq. 1, where the second line is written
    for one token as a column). All channels share $W_1$ and $W_2$, as they share $W$ in gMLP. The
    equation leaves out the four biases.

    Each row of $W_1$ reads every position, and its result meets $\sigma$ before $W_2$ hands it on
    to every position. No part of these matrices belongs to one pair of tokens, so none can be
    masked or left out: the block has no causal form, and takes sequences of one length only.

    * `d_model` is $d$, the number of channels of $X$ and $Y$
    * `seq_len` is $n$, the number of tokens of every sequence
    * `d_tokens` is the number of rows of $W_1$; in the paper half of `d_model`
    * `d_channels` is the number of columns of $W_3$; in the paper four times `d_model`
    * `dropout` is a layer on the results of both mixings, before the shortcuts add them
    * `activation` is $\sigma$. The paper says GELU, not which form of it: exact is our choice, and
      the authors' own code has `nn.GELU("tanh")`
    * `norm_eps` is added to the variance in both norms; published weights have 1e-6

    Raises `ValueError` for sizes that are not positive whole numbers.
    """

    def __init__(
        self,
        d_model: int,
        seq_len: int,
        d_tokens: int,
        d_channels: int,
        *,
        dropout: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] = nn.functional.gelu,
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("d_model", d_model)
        _check_size("seq_len", seq_len)
        _check_size("d_tokens", d_tokens)
        _check_size("d_channels", d_channels)
        self.size = d_model
        self.seq_len = seq_len
        self.activation = activation
        # $W_1$ and $W_2$. Nothing starts near zero here, unlike in gMLP: tokens mix from the first
        # step. The paper does not say how the matrices start; torch's own start is our choice.
        self.token_norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        self.token_in = nn.Linear(seq_len, d_tokens, device=device, dtype=dtype)
        # Its bias shifts all channels of a token alike, and every norm behind takes that out again:
        # in a model with a last norm it does nothing. It is here because published weights have it.
        self.token_out = nn.Linear(d_tokens, seq_len, device=device, dtype=dtype)
        # $W_3$ and $W_4$, the feed-forward part of a Transformer, under the names it has there.
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        self.proj_in = nn.Linear(d_model, d_channels, device=device, dtype=dtype)
        self.proj_out = nn.Linear(d_channels, d_model, device=device, dtype=dtype)
        self.dropout = nn.Identity() if dropout is None else dropout

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `x` is $X$, `[B, seq_len, d_model]`
        * `mask`, `key_padding_mask` and `cache` are there for the encoder, and must be `None`

        Returns $Y$, `[B, seq_len, d_model]`.

        Raises `ValueError` for an `x` of another shape, and for a `mask`, a `key_padding_mask` or
        a `cache`.
        """
        # Going on without them would read what may not be read, and say nothing.
        options = {"mask": mask, "key_padding_mask": key_padding_mask, "cache": cache}
        for name, value in options.items():
            if value is not None:
                raise ValueError(
                    f"{name} must be None, as token mixing reads all tokens at once, "
                    f"got a {type(value).__name__}"
                )
        if x.dim() != 3 or x.shape[1:] != (self.seq_len, self.size):
            wanted = f"[B, seq_len={self.seq_len}, d_model={self.size}]"
            raise ValueError(f"x must be {wanted}, got {list(x.shape)}")
        # A linear layer acts on the last axis. Turned over, that is the axis of tokens, and each
        # channel is one row.
        columns = self.token_norm(x).transpose(1, 2)  # [B, d_model, seq_len]
        mixed = self.token_out(self.activation(self.token_in(columns)))  # [B, d_model, seq_len]
        u = x + self.dropout(mixed.transpose(1, 2))  # [B, seq_len, d_model]
        return u + self.dropout(self.proj_out(self.activation(self.proj_in(self.norm(u)))))


# ## Checks
#
# As in `gmlp.py`, and written again here because a block file stands alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
