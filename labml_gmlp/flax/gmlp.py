r"""
# The gMLP block in Flax

*Pay Attention to MLPs* (Liu, Dai, So and Le, 2021, [arXiv
2105.08050](https://arxiv.org/abs/2105.08050)) asks how much of a Transformer is owed to attention.
Its answer is a block without any: a feed-forward layer with a gate in the middle, and the gate is
the only place where tokens meet. Where attention computes from the tokens how much each reads from
each other, gMLP *learns* these weights once, as one matrix $W$ per block, and uses them for every
input.

Three equations make the block, and each has its class here:

| paper | class | what it does |
| --- | --- | --- |
| Eq. 1 | `GMLPBlock` | channels up, gate, channels down |
| Eq. 4 | `SpatialGatingUnit` | multiplies one half of the channels with a view of the other half |
| Eq. 2 | `SpatialProjection` | mixes tokens: the matrix $W$ |

They are read here from the inside out. Eq. 3, the gate without the split, belongs to the paper's
ablation and not to the block. The paper has no causal model and masks no padding; what serves these
two uses is ours.

This is the twin of [the block in torch](../blocks/gmlp.py): line by line the same where JAX lets
it, and [with weights that go both ways](weights.py). Unlike that one it has no cache, so that it
generates text only by reading all of it again for each token. The one public port of gMLP to Flax
that we know has no spatial projection: its tokens never meet.

Under `nnx.jit` and `nnx.vmap` a layer works as any other of Flax. Parameters start as their torch
twins do, but for the linear layers, which keep Flax's start.

This file needs JAX and Flax and nothing else, so that it can be copied into any code.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


# Flax's own `gelu` approximates by tanh unless told otherwise.
def exact_gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


class SpatialProjection(nnx.Module):
    r"""
    ## Spatial projection

    $$f_{W,b}(Z) = W Z + b, \qquad W \in \mathbb{R}^{n \times n}, \quad b \in \mathbb{R}^n \tag{2}$$

    A linear layer across tokens instead of channels (paper, section 2.1, Eq. 2). With indices,

    $$f_{W,b}(Z)_{ic} = \sum_{j=1}^{n} W_{ij} Z_{jc} + b_i$$

    Every channel $c$ is mixed by the same $W$, and $W$ does not depend on the input: this separates
    it from attention, whose weights are computed from $Z$ anew each time. As row $i$ of $W$ belongs
    to position $i$, the layer knows positions without any embedding of them.

    * `seq_len` is the longest sequence in tokens; shorter ones use the top left corner of $W$ and
      the first entries of $b$
    * `causal` keeps $j \le i$ only, for models that predict the next token (unlike the paper)
    * `n_heads` is the number of equal groups of channels, each with its own $W$ and $b$; the paper
      has one
    * `rngs` draws the parameters, and `param_dtype` is their type, as in any Flax layer

    Raises `ValueError` for a `seq_len` or `n_heads` that is not a positive whole number.
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
        # One head has no axis of its own, so that $W$ has the shape that the paper gives it.
        heads = () if n_heads == 1 else (n_heads,)
        size = (*heads, seq_len, seq_len)
        self.weight = nnx.Param(jnp.empty(size, param_dtype))
        self.bias = nnx.Param(jnp.empty(size[:-1], param_dtype))
        self.reset_parameters(rngs)

    def reset_parameters(self, rngs: nnx.Rngs) -> None:
        r"""
        $W \approx 0$ and $b = 1$, so that $f_{W,b}(Z) \approx 1$ whatever $Z$ is. The gate then
        passes its other half unchanged, and each block starts as a feed-forward layer that treats
        every token alone; tokens begin to mix only as training finds a use for it (paper, section
        2.1). The paper says "near zero" without a number; the scale is our choice.
        """
        weight = self.weight[...]
        self.weight[...] = 1e-6 * jax.random.normal(rngs.params(), weight.shape, weight.dtype)
        self.bias[...] = jnp.ones_like(self.bias[...])

    def __call__(self, z: Array, mask: Array | None = None) -> Array:
        r"""
        * `z` is $Z$, `[B, n, c]`; `n_heads` divides $c$
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$.
          `None` allows what `causal` allows

        Returns $f_{W,b}(Z)$, `[B, n, c]`.

        Raises `ValueError` for a `z` or a mask of another shape and for a sequence longer than
        `seq_len`; `TypeError` for a mask that is not boolean.
        """
        if z.ndim != 3 or z.shape[-1] % self.n_heads:
            wanted = "[B, n, c]" + f" with c a multiple of {self.n_heads}" * (self.n_heads > 1)
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        n = z.shape[1]
        if n > self.seq_len:
            raise ValueError(
                f"z must have at most seq_len={self.seq_len} tokens, got {n}; "
                f"W has no weights for later positions"
            )
        weight = self.weight[..., :n, :n]  # [n, n] or [h, n, n]
        bias = self.bias[..., :n]  # [n] or [h, n]
        # What lies above the diagonal is $j > i$, the future. Cutting it out of $W$, not out of the
        # product, keeps it from every sum and makes its gradient exactly zero. (The future must be
        # finite: zero times NaN is NaN.)
        if self.causal:
            weight = jnp.tril(weight)
        if mask is not None:
            _check_mask("mask", mask, (n, n), (z.shape[0], n, n))
            weight = weight * (mask if mask.ndim == 2 else mask[:, None])
        # $WZ + b$ for each sequence and each head, which becomes a second batch axis.
        shape = z.shape
        z = z.reshape(*shape[:2], self.n_heads, shape[-1] // self.n_heads).swapaxes(1, 2)
        f = weight @ z + bias[..., None]  # [B, h, n, c / h]
        return f.swapaxes(1, 2).reshape(shape)


class SpatialGatingUnit(nnx.Module):
    r"""
    ## Spatial gating unit

    $$s(Z) = Z_1 \odot f_{W,b}(Z_2) \tag{4}$$

    $Z$ is split along its channels: the first half $Z_1$ is carried through, the second half $Z_2$
    becomes the gate (paper, section 2.1, Eq. 4). The product makes the unit quadratic in its input:
    it multiplies what token $i$ says by what token $j$ says, weighted by $W_{ij}$. Splitting works
    better than gating $Z$ with itself, which is Eq. 3 (paper, as reported).

    The unit costs $n^2 e / 2$ multiply-adds for $e$ = `d_ffn` channels (paper, section 2.1).

    * `d_ffn` is the number of channels of $Z$, even
    * `seq_len` and `causal` are handed to `SpatialProjection`
    * `projection` replaces it by any other layer across tokens, called as `projection(z2, mask)` on
      `[B, n, d_ffn / 2]`; it brings its own length, and `seq_len` may be left out
    * `activation` is applied to the gate; `None`, as in the paper, means none
    * `norm_eps` is added to the variance in the normalisation

    Raises `ValueError` for a `d_ffn` that is odd or not a positive whole number, for
    `causal=True` beside a `projection` that is not causal itself, and what `SpatialProjection`
    raises.
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
        # The paper normalises the input of $f_{W,b}$ and reports that this steadies the training of
        # large language models. Flax's fast variance, the mean of squares less the square of the
        # mean, loses digits where the mean is large.
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
        r"""
        * `z` is $Z$, `[B, n, d_ffn]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, as in `SpatialProjection.__call__`
        * `key_padding_mask` is boolean, `[B, n]`: true for a real token, false for padding
        * `attended` is added to $f_{W,b}(Z_2)$, `[B, n, d_ffn / 2]`: the tiny attention of aMLP

        Returns $s(Z)$, `[B, n, d_ffn / 2]`; at padded positions it means nothing.

        Raises `ValueError` for a `z` or a mask of another shape, `TypeError` for a mask that is not
        boolean, and what the projection raises.
        """
        if z.ndim != 3 or z.shape[-1] != self.d_ffn:
            raise ValueError(f"z must be [B, n, d_ffn={self.d_ffn}], got {list(z.shape)}")
        z1, z2 = jnp.split(z, 2, axis=-1)  # [B, n, d_ffn / 2] each
        z2 = self.norm(z2)
        # A column of $W$ that meets zeros adds nothing. Zeroing the padding *after* the norm, which
        # would turn zeros into its bias, therefore equals cutting it off: a sequence gives the same
        # result alone and in a padded batch. Our addition; the paper masks no padding.
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
    r"""
    ## gMLP block

    $$Z = \sigma(X U), \qquad \tilde{Z} = s(Z), \qquad Y = \tilde{Z} V \tag{1}$$

    $U$ and $V$ act on channels, as the two layers of a Transformer's feed-forward part do; $s$
    between them acts on tokens (paper, section 2, Eq. 1). Were $s$ the identity, this would be that
    feed-forward part. The equation leaves out the norm in front, the shortcut around and all
    biases, as the paper says; its figure 1 shows the norm and the shortcut.

    * `d_model` is $d$, the number of channels of $X$ and $Y$
    * `d_ffn` is the number of channels of $Z$, even; $\tilde{Z}$ has half as many, or `sgu.d_out`
    * `seq_len`, `causal` and `projection` are handed to `SpatialGatingUnit`
    * `sgu` replaces that unit by another gate, such as those of the paper's ablation
    * `attention` reads the normalised $X$, and the gate adds what it returns, `d_out` wide: aMLP
    * `token_shift` and `dropout` are layers on the normalised $X$ and on $Y$
    * `activation` is $\sigma$. The paper says GELU, not which form of it: exact is our choice, and
      `nnx.gelu`, whose default is the approximation by tanh, is the other
    * `norm_eps` and `sgu_norm_eps` are the constants of the two norms; published weights differ in
      both

    Raises `ValueError` for sizes that are not positive whole numbers, for `causal=True` beside a
    `sgu`, an `attention` or a `token_shift` that is not causal itself, for a `sgu` beside a
    `projection`, and what `SpatialGatingUnit` raises.
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
        # What a stack of layers must know of each: its width.
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
            raise ValueError("projection must be None beside a given sgu; give it to the sgu")
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
        r"""
        * `x` is $X$, `[B, n, d_model]`
        * `mask` and `key_padding_mask` as in `SpatialGatingUnit.__call__`

        Returns $X + Y$, `[B, n, d_model]`.

        Raises `ValueError` for an `x` of another shape, and what the layers inside raise.
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
        # Adding $X$ itself, not its normalised form, keeps a path through all blocks that no norm
        # touches.
        return x + y


# ## Checks
#
# What a caller can get wrong, in one sentence each. JAX itself would take some of it and go on:
# a mask of numbers multiplies $W$, a mask of one row is broadcast.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_causal(name: str, layer: nnx.Module | None, causal: bool) -> None:
    # In a causal block, a layer that reads the future would leak it without a word.
    if causal and layer is not None and getattr(layer, "causal", None) is not True:
        raise ValueError(f"{name} must be causal itself inside a causal layer")


def _check_mask(name: str, mask: Array, *shapes: tuple[int, ...]) -> None:
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind is not jnp.dtype(bool):
        raise TypeError(f"{name} must be a boolean array, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
