r"""A language model: token embedding, encoder and head.

# The language model

The layers of the encoder decide which model it is. With causal layers it predicts the *next* token:
the logits at position $i$ depend on the tokens up to $i$. Otherwise it is a *masked* language model
as in the paper, which predicts hidden tokens from both sides.
"""

import torch
from torch import Tensor, nn


class LanguageModel(nn.Module):
    r"""Maps tokens to logits with an embedding, an encoder and a head, tied or untied.

    ## Language model

    $$\mathrm{logits} = \mathrm{Encoder}(E_{t}) \, E^\top$$

    for tokens $t$ and an embedding matrix $E$, which is also the head (tied). The paper's parameter
    counts imply a tied head.

    As in the paper (section 2), gMLP has no position embedding: row $i$ of $W$ belongs to position
    $i$. A Transformer layer needs one; `n_positions` adds learned positions, $E_t + P$.

    ```python
    encoder = Encoder(lambda: GMLPBlock(64, 256, seq_len=128, causal=True), n_layers=6)
    logits = LanguageModel(65, encoder)(torch.randint(65, (8, 100)))  # [8, 100, 65]
    ```

    * `n_tokens` is the size of the vocabulary
    * `encoder` maps `[B, n, d]` to `[B, n, d]` and has its width $d$ as `size`
    * `n_positions` is the number of learned positions; `None` means no position embedding
    * `tied=False` gives the head its own matrix and bias

    Raises `ValueError` if `n_tokens` or `n_positions` is not a positive integer.
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
            self.positions = LearnedPositions(n_positions, d_model, device=device, dtype=dtype)
        self.encoder = encoder
        self.head = None
        if not tied:
            self.head = nn.Linear(d_model, n_tokens, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws the embeddings and the head from $N(0, 0.02^2)$, as BERT does.

        torch draws embeddings from $N(0, 1)$. With a tied head, logits would start as large as
        $\sqrt{d}$ and the loss far above that of a uniform guess. The encoder is not reset.
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
    ) -> Tensor:
        r"""Returns the logits, `[B, n, n_tokens]`.

        * `tokens` are integers below `n_tokens`, `[B, n]`
        * `mask` and `key_padding_mask` go to the encoder

        Raises `ValueError` if `tokens` does not have two axes, or if there are more than
        `n_positions`; the encoder checks the masks and `seq_len`.
        """
        if tokens.dim() != 2:
            raise ValueError(f"tokens must be [B, n], got {list(tokens.shape)}")
        x = self.embedding(tokens)  # [B, n, d]
        if self.positions is not None:
            x = self.positions(x)
        y = self.encoder(x, mask, key_padding_mask)  # [B, n, d]
        if self.head is not None:
            return self.head(y)  # [B, n, n_tokens]
        return nn.functional.linear(y, self.embedding.weight)  # [B, n, n_tokens]


class LearnedPositions(nn.Embedding):
    r"""Adds a learned vector to each token, one for each position.

    ## Learned positions

    $$X_i = E_{t_i} + P_i$$

    ```python
    positions = LearnedPositions(128, 64)
    x = positions(torch.randn(8, 100, 64))  # [8, 100, 64]
    ```

    The arguments are those of `torch.nn.Embedding`: the number of positions, then $d$.
    """

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        r"""Returns `x` plus the vectors of positions `start` and up, `[B, n, d]`.

        * `x` are the embedded tokens, `[B, n, d]`

        Raises `ValueError` if there are fewer positions.
        """
        stop = start + x.shape[1]
        if stop > self.num_embeddings:
            raise ValueError(
                f"tokens must be [B, n] with n at most n_positions={self.num_embeddings}, "
                f"got {stop}"
            )
        return x + self.weight[start:stop]


def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
