r"""The gMLP block with its spatial gating unit and spatial projection in Flax (Eq. 1, 4 and 2).

# The gMLP block in Flax

*Pay Attention to MLPs* (Liu, Dai, So and Le, 2021, [arXiv
2105.08050](https://arxiv.org/abs/2105.08050)) replaces attention by a gate. Attention computes its
mixing weights from the tokens. gMLP learns them once, as one $n \times n$ matrix $W$ per block, and
uses the same $W$ for every input.

Each equation is one class. This page goes from the inside out:

| paper | class | operation |
| --- | --- | --- |
| Eq. 2 | `SpatialProjection` | mixes tokens with the matrix $W$ |
| Eq. 4 | `SpatialGatingUnit` | multiplies one half of the channels by a projection of the other |
| Eq. 1 | `GMLPBlock` | expands the channels, applies the gate, projects back |

This is the port of [the torch block](../blocks/gmlp.py), with [weights that convert both
ways](weights.py). Heads, tiny attention and token shift are arguments here, and layers of their
own there. Parameters are initialised as in torch, except those of linear layers, which keep Flax's
default. Layers work under `nnx.jit` and `nnx.vmap` as usual.
Causality and padding masks are our additions to the paper.

The only other public Flax port that we know of has no spatial projection, so its tokens never mix.

This file imports only JAX, Flax and the standard library, so you can copy it alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


def exact_gelu(x: Array) -> Array:
    """Returns the exact GELU; `jax.nn.gelu` uses the tanh approximation by default."""
    return jax.nn.gelu(x, approximate=False)


class SpatialProjection(nnx.Module):
    r"""A linear layer across tokens: it mixes positions with a learned matrix.

    ## Spatial projection

    $$f_{W,b}(Z) = W Z + b, \qquad W \in \mathbb{R}^{n \times n}, \quad b \in \mathbb{R}^n \tag{2}$$

    It acts on tokens where an ordinary linear layer acts on channels (paper, section 2.1, Eq. 2).
    With indices,

    $$f_{W,b}(Z)_{ic} = \sum_{j=1}^{n} W_{ij} Z_{jc} + b_i$$

    All channels $c$ share one $W$, and $W$ does not depend on the input. Row $i$ of $W$ belongs to
    position $i$, so the layer needs no position embedding.

    ```python
    projection = SpatialProjection(seq_len=128, causal=True, rngs=nnx.Rngs(0))
    y = projection(jnp.ones((8, 100, 64)))  # [8, 100, 64]
    ```

    * `seq_len` is the longest sequence in tokens; shorter ones use the top left corner of $W$ and
      the first entries of $b$
    * `causal` keeps only $j \le i$, for next-token models (unlike the paper)
    * `n_heads` is the number of channel groups, each with its own $W$ and $b$; the paper has one
    * `rngs` draws the parameters, and `param_dtype` is their type

    Raises `ValueError` if `seq_len` or `n_heads` is not a positive integer.
    """

    def __init__(
        self,
        seq_len: int,
        *,
        causal: bool = False,
        n_heads: int = 1,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("seq_len", seq_len)
        _check_size("n_heads", n_heads)
        self.seq_len = seq_len
        self.causal = causal
        self.n_heads = n_heads
        # With one head there is no head axis, so $W$ is `[n, n]` as in the paper.
        heads = () if n_heads == 1 else (n_heads,)
        size = (*heads, seq_len, seq_len)
        self.weight = nnx.Param(jnp.empty(size, param_dtype))
        self.bias = nnx.Param(jnp.empty(size[:-1], param_dtype))
        self.reset_parameters(rngs)

    def reset_parameters(self, rngs: nnx.Rngs) -> None:
        r"""Draws $W$ from $N(0, 10^{-12})$ and sets $b = 1$.

        The gate then starts at one, and the block as a feed-forward layer on single tokens (paper,
        section 2.1). The paper says only "near zero"; the scale is our choice.
        """
        weight = self.weight[...]
        self.weight[...] = 1e-6 * jax.random.normal(rngs.params(), weight.shape, weight.dtype)
        self.bias[...] = jnp.ones_like(self.bias[...])

    def __call__(self, z: Array, mask: Array | None = None) -> Array:
        r"""Returns $f_{W,b}(Z)$, `[B, n, c]`.

        * `z` is $Z$, `[B, n, c]`; $c$ is a multiple of `n_heads`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$

        Raises `ValueError` if `z` or `mask` has the wrong shape, or if there are more than
        `seq_len` tokens; `TypeError` if `mask` is not boolean.
        """
        if z.ndim != 3 or z.shape[-1] % self.n_heads:
            wanted = "[B, n, c]" + f" with c a multiple of n_heads={self.n_heads}"
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        n = z.shape[1]
        if n > self.seq_len:
            raise ValueError(f"z must have at most seq_len={self.seq_len} tokens, got {n}")
        weight = self.weight[..., :n, :n]  # [n, n] or [h, n, n]
        bias = self.bias[..., :n]  # [n] or [h, n]
        # Above the diagonal, $j > i$ is the future. Masking $W$, not the product, keeps future
        # tokens out of every sum and makes their gradient exactly zero. (Future tokens must be
        # finite: 0 times NaN is NaN.)
        if self.causal:
            weight = jnp.tril(weight)
        if mask is not None:
            _check_mask("mask", mask, (n, n), (z.shape[0], n, n))
            weight = weight * (mask if mask.ndim == 2 else mask[:, None])
        # $WZ + b$, with the heads as a second batch axis.
        shape = z.shape
        z = z.reshape(*shape[:2], self.n_heads, shape[-1] // self.n_heads).swapaxes(1, 2)
        f = weight @ z + bias[..., None]  # [B, h, n, c / h]
        return f.swapaxes(1, 2).reshape(shape)


class SpatialGatingUnit(nnx.Module):
    r"""A gate that multiplies one half of the channels by a spatial projection of the other half.

    ## Spatial gating unit

    $$s(Z) = Z_1 \odot f_{W,b}(Z_2) \tag{4}$$

    $Z$ is split along its channels into $Z_1$, which is passed on, and $Z_2$, which becomes the
    gate (paper, section 2.1, Eq. 4). The product contains terms $Z_{ic} Z_{jc'}$ weighted by
    $W_{ij}$, so the unit is quadratic in its input. It costs $n^2 e / 2$ multiply-adds for $e$ =
    `d_ffn` (section 2.1).

    ```python
    unit = SpatialGatingUnit(d_ffn=256, seq_len=128, rngs=nnx.Rngs(0))
    y = unit(jnp.ones((8, 100, 256)))  # [8, 100, 128]
    ```

    * `d_ffn` is the number of channels of $Z$, even
    * `seq_len` and `causal` go to `SpatialProjection`
    * `projection` replaces `SpatialProjection` by another token-mixing layer, called as
      `projection(z2, mask)` on `[B, n, d_ffn / 2]`; `seq_len` is then not used
    * `activation` is applied to the gate; `None` means none, as in the paper
    * `norm_eps` is the epsilon of the normalisation

    Raises `ValueError` if `d_ffn` is not a positive even integer, if `seq_len` is not a positive
    integer and no `projection` is given, or if `causal=True` and the `projection` is not causal.
    """

    def __init__(
        self,
        d_ffn: int,
        seq_len: int | None = None,
        *,
        causal: bool = False,
        projection: nnx.Module | None = None,
        activation: Callable[[Array], Array] | None = None,
        norm_eps: float = 1e-5,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("d_ffn", d_ffn)
        if d_ffn % 2:
            raise ValueError(f"d_ffn must be even to split Z into Z1 and Z2, got {d_ffn}")
        _check_causal("projection", projection, causal)
        self.d_ffn = d_ffn
        self.d_out = d_ffn // 2
        # The paper normalises the input of $f_{W,b}$ because it stabilises the training of large
        # language models. Flax's fast variance, $E[z^2] - E[z]^2$, loses digits when the mean is
        # large.
        self.norm = nnx.LayerNorm(
            d_ffn // 2,
            epsilon=norm_eps,
            use_fast_variance=False,
            rngs=rngs,
            param_dtype=param_dtype,
        )
        if projection is None:
            projection = SpatialProjection(
                seq_len,  # type: ignore[arg-type]
                causal=causal,
                rngs=rngs,
                param_dtype=param_dtype,
            )
        self.projection = projection
        self.causal = getattr(projection, "causal", False)
        self.activation = activation

    def __call__(
        self,
        z: Array,
        mask: Array | None = None,
        key_padding_mask: Array | None = None,
        attended: Array | None = None,
    ) -> Array:
        r"""Returns $s(Z)$, `[B, n, d_ffn / 2]`; values at padded positions are arbitrary.

        * `z` is $Z$, `[B, n, d_ffn]`
        * `mask` is that of `SpatialProjection.__call__`
        * `key_padding_mask` is boolean, `[B, n]`: true for a real token, false for padding
        * `attended` is added to $f_{W,b}(Z_2)$, `[B, n, d_ffn / 2]`: aMLP's tiny attention

        Raises `ValueError` if `z` or a mask has the wrong shape, or if there are more than
        `seq_len` tokens; `TypeError` if a mask is not boolean.
        """
        if z.ndim != 3 or z.shape[-1] != self.d_ffn:
            raise ValueError(f"z must be [B, n, d_ffn={self.d_ffn}], got {list(z.shape)}")
        z1, z2 = jnp.split(z, 2, axis=-1)  # [B, n, d_ffn / 2] each
        z2 = self.norm(z2)
        # Zero rows of $Z_2$ add nothing to the sum, so a sequence gives the same result alone and
        # in a padded batch. The rows are zeroed *after* the norm, which would turn zeros into its
        # bias. Our addition; the paper has no padding mask.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, z.shape[:2])
            z2 = jnp.where(key_padding_mask[..., None], z2, 0.0)
        gate = self.projection(z2, mask)  # [B, n, d_ffn / 2]
        if attended is not None:
            gate = gate + attended
        if self.activation is not None:
            gate = self.activation(gate)
        return z1 * gate


class GMLPBlock(nnx.Module):
    r"""The gMLP block: a feed-forward layer with a spatial gating unit in the middle.

    ## gMLP block

    $$Z = \sigma(X U), \qquad \tilde{Z} = s(Z), \qquad Y = \tilde{Z} V \tag{1}$$

    $U$ and $V$ act on channels, like the two layers of a Transformer's feed-forward network, and
    $s$ acts on tokens (paper, section 2, Eq. 1). The equation omits the norm, the residual
    connection ("shortcut" in the paper) and all biases; figure 1 of the paper shows the norm and
    the shortcut.

    ```python
    block = GMLPBlock(d_model=64, d_ffn=256, seq_len=128, rngs=nnx.Rngs(0))
    y = block(jnp.ones((8, 100, 64)))  # [8, 100, 64]
    ```

    * `d_model` is $d$, the number of channels of $X$ and $Y$
    * `d_ffn` is the number of channels of $Z$; $\tilde{Z}$ has half as many, or `sgu.d_out`
    * `seq_len`, `causal` and `projection` go to `SpatialGatingUnit`
    * `sgu` replaces `SpatialGatingUnit` by another gate
    * `attention` reads the normalised $X$, and the gate adds its output: aMLP's tiny attention
    * `token_shift` is applied to the normalised $X$ and `dropout` to $Y$
    * `activation` is $\sigma$; the paper says GELU, and its exact form is our choice. `nnx.gelu` is
      the tanh approximation
    * `norm_eps` and `sgu_norm_eps` are the epsilons of the two norms

    Raises `ValueError` if `d_model` or `d_ffn` is not a positive integer, if `projection` and `sgu`
    are both given, or if `causal=True` and `sgu`, `projection`, `attention` or `token_shift` is not
    causal. Without `sgu`, also if `d_ffn` is odd, or if `seq_len` is not a positive integer and no
    `projection` is given.
    """

    def __init__(
        self,
        d_model: int,
        d_ffn: int,
        seq_len: int | None = None,
        *,
        causal: bool = False,
        projection: nnx.Module | None = None,
        sgu: nnx.Module | None = None,
        attention: nnx.Module | None = None,
        token_shift: nnx.Module | None = None,
        dropout: nnx.Module | None = None,
        activation: Callable[[Array], Array] = exact_gelu,
        norm_eps: float = 1e-5,
        sgu_norm_eps: float = 1e-5,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("d_model", d_model)
        _check_size("d_ffn", d_ffn)
        _check_causal("attention", attention, causal)
        _check_causal("token_shift", token_shift, causal)
        # `Encoder` reads the width from here.
        self.size = d_model
        self.norm = nnx.LayerNorm(
            d_model, epsilon=norm_eps, use_fast_variance=False, rngs=rngs, param_dtype=param_dtype
        )
        self.token_shift = token_shift
        self.attention = attention
        self.proj_in = nnx.Linear(d_model, d_ffn, rngs=rngs, param_dtype=param_dtype)
        self.activation = activation
        if sgu is None:
            sgu = SpatialGatingUnit(
                d_ffn,
                seq_len,
                causal=causal,
                projection=projection,
                norm_eps=sgu_norm_eps,
                rngs=rngs,
                param_dtype=param_dtype,
            )
        elif projection is not None:
            raise ValueError("projection must be None when sgu is given; pass it to the sgu")
        _check_causal("sgu", sgu, causal)
        self.sgu = sgu
        d_out = int(sgu.d_out)  # type: ignore[attr-defined]
        self.proj_out = nnx.Linear(d_out, d_model, rngs=rngs, param_dtype=param_dtype)
        self.dropout = dropout

    def __call__(
        self,
        x: Array,
        mask: Array | None = None,
        key_padding_mask: Array | None = None,
    ) -> Array:
        r"""Returns $X + Y$, `[B, n, d_model]`; values at padded positions are arbitrary.

        * `x` is $X$, `[B, n, d_model]`
        * `mask` and `key_padding_mask` are those of `SpatialGatingUnit.__call__`

        Raises `ValueError` if `x` or a mask has the wrong shape, or if there are more than
        `seq_len` tokens; `TypeError` if a mask is not boolean.
        """
        if x.ndim != 3 or x.shape[-1] != self.size:
            raise ValueError(f"x must be [B, n, d_model={self.size}], got {list(x.shape)}")
        normalised = self.norm(x)
        if self.token_shift is not None:
            normalised = self.token_shift(normalised, key_padding_mask)
        # $Z = \sigma(XU)$
        z = self.activation(self.proj_in(normalised))  # [B, n, d_ffn]
        attended = None
        if self.attention is not None:
            attended = self.attention(normalised, mask, key_padding_mask)
        # $\tilde{Z} = s(Z)$
        z_tilde = self.sgu(z, mask, key_padding_mask, attended)  # [B, n, d_out]
        # $Y = \tilde{Z} V$
        y = self.proj_out(z_tilde)  # [B, n, d_model]
        if self.dropout is not None:
            y = self.dropout(y)
        # The residual adds $X$, not its normalised form: one path through all blocks has no norm.
        return x + y


# ## Argument checks
#
# JAX accepts some of these mistakes silently: it multiplies $W$ by a mask of numbers and broadcasts
# a mask of one row. Each block file has its own copy, so that it can be copied alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_causal(name: str, layer: nnx.Module | None, causal: bool) -> None:
    # A layer that reads the future would silently leak it into a causal block.
    if causal and layer is not None and getattr(layer, "causal", None) is not True:
        raise ValueError(f"{name} must be causal in a causal layer, got {type(layer).__name__}")


def _check_mask(name: str, mask: Array, *shapes: tuple[int, ...]) -> None:
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind is not jnp.dtype(bool):
        raise TypeError(f"{name} must be a boolean array, true = may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
