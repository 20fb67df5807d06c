r"""A language model in Flax: token embedding, encoder and head.

# The language model in Flax

The layers of the encoder decide which model it is. With causal layers it predicts the *next* token:
the logits at position $i$ depend on the tokens up to $i$. Otherwise it is a *masked* language model
as in the paper, which predicts hidden tokens from both sides.

This is the port of [the torch language model](../models/language.py).
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class LanguageModel(nnx.Module):
    r"""Maps tokens to logits with an embedding, an encoder and a head, tied or untied.

    ## Language model

    $$\mathrm{logits} = \mathrm{Encoder}(E_{t}) \, E^\top$$

    for tokens $t$ and an embedding matrix $E$, which is also the head (tied). The paper's parameter
    counts imply a tied head.

    As in the paper (section 2), gMLP has no position embedding: row $i$ of $W$ belongs to position
    $i$. Attention alone needs one; `n_positions` adds learned positions, $E_t + P$.

    ```python
    rngs = nnx.Rngs(0)
    encoder = Encoder(lambda: GMLPBlock(64, 256, 128, causal=True, rngs=rngs), 6, rngs=rngs)
    logits = LanguageModel(256, encoder, rngs=rngs)(jnp.zeros((8, 100), int))  # [8, 100, 256]
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
        # Flax draws embeddings from $N(0, 1 / d)$. With 0.02, as in BERT, the logits are small and
        # the initial loss is close to that of a uniform guess.
        small = nnx.initializers.normal(0.02)
        self.embedding = nnx.Embed(
            n_tokens, d_model, embedding_init=small, rngs=rngs, param_dtype=param_dtype
        )
        # Flax treats an attribute that starts as None as static, so each one is assigned once.
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
        r"""Returns the logits, `[B, n, n_tokens]`.

        * `tokens` are integers from 0 to `n_tokens - 1`, `[B, n]`. Larger ones give NaN, since JAX
          cannot raise on values
        * `mask` and `key_padding_mask` go to the encoder

        Raises `ValueError` if `tokens` or a mask has another shape, or if $n$ is larger than
        `n_positions` or the `seq_len` of a layer; `TypeError` if a mask is not boolean.
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
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
