r"""
# Tiny attention in Flax

The paper's second model, aMLP, is gMLP with a little attention: one head of few channels beside the
spatial projection of each block, added inside the gate. In the paper's table, as reported, the base
model of gMLP stays behind BERT on MNLI, which compares two sentences, and that of aMLP does not. It
fits into the [block](gmlp.py) as `GMLPBlock(..., attention=TinyAttention(d_model, d_ffn // 2))`.

What is known of it here comes from an account of the paper's figure, not from the paper itself; it
leaves open which projections have biases and how they start. The paper has no causal model and
masks no padding; both are ours, as in the block.

This is the twin of [tiny attention in torch](../blocks/tiny_attention.py), without its cache.

This file needs JAX and Flax and nothing else, so that it can be copied into any code.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class TinyAttention(nnx.Module):
    r"""
    ## Tiny attention

    $$\mathrm{tiny}(X)_i = O \sum_j A_{ij} v_j + o, \qquad
      A_{ij} = \mathrm{softmax}_j \left( \frac{q_i \cdot k_j}{\sqrt{a}} \right)$$

    A single head with $a$ = `d_attn` channels. It reads the *normalised input* of the block, before
    the channels are expanded, and its result joins $f_{W,b}(Z_2)$ before the product with $Z_1$
    (paper, figure of aMLP, as reported):

    $$s(Z) = Z_1 \odot \left( f_{W,b}(Z_2) + \mathrm{tiny}(\mathrm{norm}(X)) \right)$$

    So $W$ says how much each position reads from each other whatever stands there, and $A$ adds
    what depends on the tokens themselves.

    * `d_model` is $d$, the number of channels of $X$
    * `d_out` is the number of channels of the gate: `d_ffn / 2` beside `SpatialGatingUnit`
    * `d_attn` is $a$; the paper has 64, and 128 in its large model (as reported)
    * `causal` lets position $i$ read $j \le i$ only
    * `in_bias` and `out_bias` give the two projections a bias. The paper does not say, and public
      implementations differ; both is our choice

    Raises `ValueError` for sizes that are not positive whole numbers.
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
        # One matrix for $q$, $k$ and $v$, in this order: one product instead of three.
        self.attention_in = nnx.Linear(
            d_model, 3 * d_attn, use_bias=in_bias, rngs=rngs, param_dtype=param_dtype
        )
        self.attention_out = nnx.Linear(
            d_attn, d_out, use_bias=out_bias, rngs=rngs, param_dtype=param_dtype
        )
        self.reset_parameters(rngs)

    def reset_parameters(self, rngs: nnx.Rngs) -> None:
        r"""
        $O \approx 0$ and $o = 0$, so that the gate starts at one, as it does without attention, and
        the block as a feed-forward layer. Our choice: it carries the paper's reason for $W \approx
        0$ over to the attention beside it, at the same scale as $W$ has here. Near zero and not
        zero, since $O = 0$ would hide $q$, $k$ and $v$ from the first gradient. What makes these
        keeps Flax's start for linear layers.
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
        r"""
        * `x` is the normalised $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$;
          with `causal`, what both allow
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        Returns $\mathrm{tiny}(X)$, `[B, n, d_out]`; a position that may read nothing gets $o$, and
        zeros without it, as a position without weights gets $b$ from Eq. 2.

        Raises `ValueError` for an `x` or a mask of another shape, `TypeError` for a mask that is
        not boolean.
        """
        if x.ndim != 3 or x.shape[-1] != self.d_model:
            raise ValueError(f"x must be [B, n, d_model={self.d_model}], got {list(x.shape)}")
        may_read = self._may_read(x, mask, key_padding_mask)
        query, key, value = jnp.split(self.attention_in(x), 3, axis=-1)  # [B, n, a] each
        # $\sum_j A_{ij} v_j$, written out, as JAX's own attention lets a position that may read
        # nothing read everything. A softmax over nothing is zero here, not NaN.
        a = jax.nn.softmax(query @ key.mT / self.d_attn**0.5, where=may_read)  # [B, n, n]
        return self.attention_out(a @ value)

    def _may_read(
        self, x: Array, mask: Array | None, key_padding_mask: Array | None
    ) -> Array | None:
        r"""
        Joins what `mask`, `key_padding_mask` and `causal` allow into one mask, `[B or 1, n, n]`.

        `None` if nothing restricts.
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


# ## Checks
#
# As in `gmlp.py`, and written again here because a block file stands alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_mask(name: str, mask: Array, *shapes: tuple[int, ...]) -> None:
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind is not jnp.dtype(bool):
        raise TypeError(f"{name} must be a boolean array, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
