r"""The block of MLP-Mixer: one MLP across tokens and one across channels.

# MLP-Mixer

*MLP-Mixer: An all-MLP Architecture for Vision* (Tolstikhin et al., 2021, [arXiv
2105.01601](https://arxiv.org/abs/2105.01601)) appeared in the same month as gMLP. Its block also
learns a fixed way to mix tokens. Mixer puts a whole feed-forward network *across* tokens in front
of the one across channels; gMLP puts one matrix $W$ inside it, in a *multiplicative* gate. In this
file, "the paper" is the Mixer paper.

This file imports only torch and the standard library, so you can copy it alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class MixerBlock(nn.Module):
    r"""The Mixer block: token mixing, then channel mixing, each with a norm and a residual.

    ## Mixer block

    $$U = X + W_2 \, \sigma(W_1 \, \mathrm{norm}(X)), \qquad
      Y = U + \sigma(\mathrm{norm}(U) \, W_3) \, W_4 \tag{1}$$

    Multiplying from the left mixes tokens, from the right channels (paper, section 2, Eq. 1, which
    writes the second line for one token as a column). All channels share $W_1$ and $W_2$, as they
    share $W$ in gMLP. The equation leaves out the four biases.

    Each row of $W_1$ reads all positions, and $W_2$ writes to all of them after $\sigma$. No entry
    belongs to one pair of positions, so the block cannot be masked or causal and has a fixed
    length.

    ```python
    block = MixerBlock(d_model=64, seq_len=196, d_tokens=32, d_channels=256)
    y = block(torch.randn(8, 196, 64))  # [8, 196, 64]
    ```

    * `d_model` is $d$, the number of channels of $X$ and $Y$
    * `seq_len` is $n$, the number of tokens of every sequence
    * `d_tokens` is the number of rows of $W_1$, half of `d_model` in the paper
    * `d_channels` is the number of columns of $W_3$, four times `d_model` in the paper
    * `dropout` is applied to the output of both MLPs, before the residual addition
    * `activation` is $\sigma$. The paper says GELU without the variant: exact is our choice, the
      authors' code uses `nn.GELU("tanh")`
    * `norm_eps` is the epsilon of both norms; published weights use 1e-6

    Raises `ValueError` if a size is not a positive integer.
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
        # fold: checks
        _check_size("d_model", d_model)
        _check_size("seq_len", seq_len)
        _check_size("d_tokens", d_tokens)
        _check_size("d_channels", d_channels)
        self.size = d_model
        self.seq_len = seq_len
        self.activation = activation
        # $W_1$ and $W_2$. Unlike in gMLP, tokens mix from the first step. The paper gives no
        # initialisation; torch's default is our choice.
        self.token_norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        self.token_in = nn.Linear(seq_len, d_tokens, device=device, dtype=dtype)
        # Its bias shifts all channels of a token alike, which every later norm removes: with a
        # final norm it has no effect. Published weights have it.
        self.token_out = nn.Linear(d_tokens, seq_len, device=device, dtype=dtype)
        # $W_3$ and $W_4$, named as in a Transformer's feed-forward network.
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, device=device, dtype=dtype)
        self.proj_in = nn.Linear(d_model, d_channels, device=device, dtype=dtype)
        self.proj_out = nn.Linear(d_channels, d_model, device=device, dtype=dtype)
        self.dropout = nn.Identity() if dropout is None else dropout

    def forward(
        self, x: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Returns $Y$, `[B, seq_len, d_model]`.

        * `x` is $X$, `[B, seq_len, d_model]`
        * `mask` and `key_padding_mask` must be `None`; `Encoder` may pass them

        Raises `ValueError` if `x` has the wrong shape, or if a mask is given.
        """
        # Ignoring them would silently read forbidden positions.
        for name, value in {"mask": mask, "key_padding_mask": key_padding_mask}.items():
            if value is not None:
                raise ValueError(
                    f"{name} must be None because token mixing reads all tokens, "
                    f"got {type(value).__name__}"
                )
        if x.dim() != 3 or x.shape[1:] != (self.seq_len, self.size):
            wanted = f"[B, seq_len={self.seq_len}, d_model={self.size}]"
            raise ValueError(f"x must be {wanted}, got {list(x.shape)}")
        # Linear layers act on the last axis: transpose so that this is the axis of tokens.
        columns = self.token_norm(x).transpose(1, 2)  # [B, d_model, seq_len]
        mixed = self.token_out(self.activation(self.token_in(columns)))  # [B, d_model, seq_len]
        u = x + self.dropout(mixed.transpose(1, 2))  # [B, seq_len, d_model]
        return u + self.dropout(self.proj_out(self.activation(self.proj_in(self.norm(u)))))


# fold: argument checks
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
