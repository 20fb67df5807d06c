r"""
# The language model in Flax

Tokens to logits: an embedding, the encoder, and the embedding again as the head. Which model it is
depends on the layers, not on this file. Built with `causal=True`, they make a model of the *next*
token: the logits at position $i$ depend on the tokens up to $i$. Without, they make a *masked*
language model as in the paper, which restores tokens that were hidden from it on both sides.

This is the twin of [the language model in torch](../models/language.py), without its cache.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class LanguageModel(nnx.Module):
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
        encoder: nnx.Module,
        *,
        n_positions: int | None = None,
        tied: bool = True,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("n_tokens", n_tokens)
        if n_positions is not None:
            _check_size("n_positions", n_positions)
        d_model = int(encoder.size)  # type: ignore[attr-defined]
        self.n_tokens = n_tokens
        self.n_positions = n_positions
        # Flax draws embeddings from $N(0, 1 / d)$. BERT's scale makes the first logits smaller, so
        # that the first loss is nearer to guessing.
        small = nnx.initializers.normal(0.02)
        self.embedding = nnx.Embed(
            n_tokens, d_model, embedding_init=small, rngs=rngs, param_dtype=param_dtype
        )
        # A part that is None at first stays so in Flax, hence no `if` around the assignments.
        self.positions = (
            nnx.Embed(
                n_positions, d_model, embedding_init=small, rngs=rngs, param_dtype=param_dtype
            )
            if n_positions is not None
            else None
        )
        self.encoder = encoder
        self.head = (
            nnx.Linear(d_model, n_tokens, kernel_init=small, rngs=rngs, param_dtype=param_dtype)
            if not tied
            else None
        )

    def __call__(
        self,
        tokens: Array,
        mask: Array | None = None,
        key_padding_mask: Array | None = None,
    ) -> Array:
        r"""
        * `tokens` are whole numbers below `n_tokens`, `[B, n]`; for others JAX, which cannot
          refuse them, returns NaN
        * `mask` and `key_padding_mask` go to the encoder

        Returns the logits, `[B, n, n_tokens]`.

        Raises `ValueError` for `tokens` of another shape and for more tokens than `n_positions`.
        """
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be [B, n], got {list(tokens.shape)}")
        x = self.embedding(tokens)  # [B, n, d]
        if self.positions is not None:
            n = tokens.shape[1]
            if n > self.positions.num_embeddings:
                raise ValueError(
                    f"tokens must be [B, n] with n at most n_positions={self.n_positions}, got {n}"
                )
            x = x + self.positions.embedding[:n]
        y = self.encoder(x, mask, key_padding_mask)  # [B, n, d]
        if self.head is not None:
            return self.head(y)  # [B, n, n_tokens]
        return y @ self.embedding.embedding[...].T  # [B, n, n_tokens]


def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
