r"""Tiny attention in Flax: a single small attention head that turns gMLP into aMLP.

# Tiny attention in Flax

The paper's second model, aMLP, adds one attention head with few channels to the gate of each [gMLP
block](gmlp.py).

Which projections have biases and how they are initialised is our choice. Causality and padding
masks are our additions.

This is the port of [the torch tiny attention](../blocks/tiny_attention.py).

This file imports only JAX, Flax and the standard library, so you can copy it alone.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class TinyAttention(nnx.Module):
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
    rngs = nnx.Rngs(0)
    attention = TinyAttention(d_model=64, d_out=128, rngs=rngs)
    block = GMLPBlock(d_model=64, d_ffn=256, seq_len=128, attention=attention, rngs=rngs)
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
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("d_model", d_model)
        _check_size("d_out", d_out)
        _check_size("d_attn", d_attn)
        self.d_model = d_model
        self.d_attn = d_attn
        self.causal = causal
        # One product for $q$, $k$ and $v$, in this order, instead of three.
        self.attention_in = nnx.Linear(
            d_model, 3 * d_attn, use_bias=in_bias, rngs=rngs, param_dtype=param_dtype
        )
        self.attention_out = nnx.Linear(
            d_attn, d_out, use_bias=out_bias, rngs=rngs, param_dtype=param_dtype
        )
        self.reset_parameters(rngs)

    def reset_parameters(self, rngs: nnx.Rngs) -> None:
        r"""Draws $O$ from $N(0, 10^{-12})$; with $o = 0$ the gate starts at one.

        Our choice: this follows the paper's reason for $W \approx 0$, at the scale of our $W$. With
        $O = 0$ exactly, the first gradient of $q$, $k$ and $v$ would be zero. These keep Flax's
        default.
        """
        weight = self.attention_out.kernel[...]
        weight = 1e-6 * jax.random.normal(rngs.params(), weight.shape, weight.dtype)
        self.attention_out.kernel[...] = weight

    def __call__(
        self,
        x: Array,
        mask: Array | None = None,
        key_padding_mask: Array | None = None,
    ) -> Array:
        r"""Returns $\mathrm{tiny}(X)$, `[B, n, d_out]`.

        * `x` is the normalised $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        A position that may read nothing gets $o$, or zeros without a bias; Eq. 2 gives it $b$.

        Raises `ValueError` if `x` or a mask has the wrong shape; `TypeError` if a mask is not
        boolean.
        """
        if x.ndim != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must be [B, n, d_model={self.d_model}], got {list(x.shape)}")
        may_read = self._may_read(x, mask, key_padding_mask)
        query, key, value = jnp.split(self.attention_in(x), 3, axis=-1)  # [B, n, a] each
        # $\sum_j A_{ij} v_j$. `jax.nn.dot_product_attention` would let a position that may read
        # nothing read everything. Softmax with `where` gives zero there, not NaN.
        a = jax.nn.softmax(query @ key.mT / self.d_attn**0.5, where=may_read)  # [B, n, n]
        return self.attention_out(a @ value)

    def _may_read(
        self, x: Array, mask: Array | None, key_padding_mask: Array | None
    ) -> Array | None:
        r"""Combines `mask`, `key_padding_mask` and `causal` into one mask, `[B or 1, n, n]`.

        `None` if there is no restriction.
        """
        batch, n, _ = x.shape
        joined = None
        if mask is not None:
            _check_mask("mask", mask, (n, n), (batch, n, n))
            joined = mask[None] if mask.ndim == 2 else mask
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, (batch, n))
            columns = key_padding_mask[:, None, :]
            joined = columns if joined is None else joined & columns
        if self.causal:
            triangle = jnp.tril(jnp.ones((1, n, n), dtype=bool))
            joined = triangle if joined is None else joined & triangle
        return joined


# ## Argument checks
#
# Each block file has its own copy, so that it can be copied alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_mask(name: str, mask: Array, *shapes: tuple[int, ...]) -> None:
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind is not jnp.dtype(bool):
        raise TypeError(f"{name} must be a boolean array, true = may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
