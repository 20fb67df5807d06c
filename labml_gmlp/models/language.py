r"""
# The language model

Tokens to logits: an embedding, the encoder, and the embedding again as the head. Which model it is
depends on the layers, not on this file. Built with `causal=True`, they make a model of the *next*
token: the logits at position $i$ depend on the tokens up to $i$. Without, they make a *masked*
language model as in the paper, which restores tokens that were hidden from it on both sides.
"""

from typing import Any

import torch
from torch import Tensor, nn


class LanguageModel(nn.Module):
    r"""
    ## Language model

    $$\mathrm{logits} = \mathrm{Encoder}(E_{t}) \, E^\top$$

    for tokens $t$ and one embedding matrix $E$, used on both sides: tied. The paper's parameter
    counts hold with a tied head.

    gMLP gets no position embedding, as in the paper (section 2): row $i$ of $W$ already belongs to
    position $i$. A Transformer layer is blind to order without one, so `n_positions` adds learned
    positions, $E_t + P$.

    * `n_tokens` is the size of the vocabulary
    * `encoder` maps `[B, n, d]` to `[B, n, d]` and has its width as `size`, as `Encoder` does
    * `n_positions` is the number of learned positions; `None` means no position embedding
    * `tied` set to false gives the head a matrix and a bias of its own

    Raises `ValueError` for an `n_tokens` or `n_positions` that is not a positive whole number.
    """

    def __init__(
        self,
        n_tokens: int,
        encoder: nn.Module,
        *,
        n_positions: int | None = None,
        tied: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("n_tokens", n_tokens)
        if n_positions is not None:
            _check_size("n_positions", n_positions)
        d_model = int(encoder.size)  # type: ignore[arg-type]
        self.n_tokens = n_tokens
        self.n_positions = n_positions
        self.embedding = nn.Embedding(n_tokens, d_model, device=device, dtype=dtype)
        self.positions = None
        if n_positions is not None:
            self.positions = nn.Embedding(n_positions, d_model, device=device, dtype=dtype)
        self.encoder = encoder
        self.head = None
        if not tied:
            self.head = nn.Linear(d_model, n_tokens, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""
        torch draws embeddings from $N(0, 1)$. As a head, that would make the first logits as large
        as $\sqrt{d}$ and the first loss far worse than guessing; BERT's scale makes them small.

        The encoder is left as it is: its layers have a `reset_parameters` of their own.
        """
        for matrix in (self.embedding, self.positions, self.head):
            if matrix is not None:
                nn.init.normal_(matrix.weight, std=0.02)
        if self.head is not None:
            nn.init.zeros_(self.head.bias)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `tokens` are whole numbers below `n_tokens`, `[B, n]`
        * `mask` and `key_padding_mask` go to the encoder
        * `cache` is a [`Cache`](../cache.py) with the tokens before; `tokens` then follow on them

        Returns the logits, `[B, n, n_tokens]`.

        Raises `ValueError` for `tokens` of another shape and for more tokens than `n_positions`.
        """
        if tokens.dim() != 2:
            raise ValueError(f"tokens must be [B, n], got {list(tokens.shape)}")
        x = self.embedding(tokens)  # [B, n, d]
        if self.positions is not None:
            start = 0 if cache is None else cache.position
            stop = start + tokens.shape[1]
            if stop > self.positions.num_embeddings:
                raise ValueError(
                    f"tokens must be [B, n] with n at most n_positions={self.n_positions}, "
                    f"got {stop}"
                )
            x = x + self.positions.weight[start:stop]
        # Encoders of other packages know no cache.
        with_cache = {} if cache is None else {"cache": cache}
        y = self.encoder(x, mask, key_padding_mask, **with_cache)  # [B, n, d]
        if self.head is not None:
            return self.head(y)  # [B, n, n_tokens]
        return nn.functional.linear(y, self.embedding.weight)  # [B, n, n_tokens]


def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
