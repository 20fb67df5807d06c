r"""
# The Toeplitz projection in Flax

The spatial projection of gMLP may give every pair of positions a weight of its own. Trained on
masked language, its matrix ends up with nearly constant diagonals (paper, as reported): what one
token takes from another depends on how far apart they stand, and hardly on where. Such a matrix is
called *Toeplitz*, and for its language experiments the paper prescribes the form:

$$W_{ij} = w_{i-j}$$

The product is then a convolution. Lay $w$ along the sequence with $w_0$ at the token that is
written, and it says how much each other token contributes; for the next token, shift it by one.
Unlike the kernel of an ordinary convolution it spans the whole sequence, and all channels share it.

| | numbers in $W$ | reads |
| --- | --- | --- |
| `SpatialProjection`, for comparison | $n^2$ | both sides, or the past |
| `ToeplitzProjection` | $2n - 1$ | both sides |
| the same, `causal` | $n$ | the past |

Fewer numbers are one gain, the Fourier transform is the other: it takes the product from $O(n^2)$
operations to $O(n \log n)$ and the memory from $O(n^2)$ to $O(n)$, without ever forming $W$. The
paper mentions no transform; that part is ours, and so is the causal form.

This is the twin of [the Toeplitz projection in torch](../blocks/toeplitz.py), without its cache and
without the decayed form.

This file needs JAX and Flax and nothing else, so that it can be copied into any code.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

# From so many tokens on the transform is used. The number is that of the torch twin, where it was
# measured; in JAX it was not.
FFT_FROM = 1024


def dense_product(w: Array, z: Array, mask: Array | None = None) -> Array:
    r"""
    ## By the rows of W

    $$f_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc}$$

    The definition, computed as it stands: $W$ is written out and multiplied. Needed where single
    entries of $W$ matter, and faster for short sequences.

    * `w` holds $w_{-(n-1)}$ to $w_{n-1}$ in this order, `[2n - 1]`; several heads have an axis in
      front
    * `z` is $Z$, `[B, h, n, c / h]`
    * `mask` is boolean, `[n, n]` or `[B, n, n]`

    Returns $f$, `[B, h, n, c / h]`.
    """
    n = z.shape[-2]
    # Each entry is looked up by its offset.
    i = jnp.arange(n)[:, None]
    j = jnp.arange(n)
    rows = w[..., n - 1 + i - j]  # [n, n]
    if mask is not None:
        rows = rows * (mask if mask.ndim == 2 else mask[:, None])
    return rows @ z


def fft_product(w: Array, z: Array) -> Array:
    r"""
    ## By the Fourier transform

    $$f = \mathcal{F}^{-1}\left(\mathcal{F}(w) \odot \mathcal{F}(Z)\right)$$

    A convolution of two signals is the product of their spectra. The transform takes signals to be
    periodic, so both are filled up with zeros until no period reaches into the result.

    The rounding is the price. Every entry of a spectrum has a share in every position, so the error
    of each output scales with the size of the input *anywhere*, the future included. In a causal
    layer later tokens can therefore change the last bits of earlier outputs. `dense_product` is
    exact here, bit for bit: it multiplies the future by zero.

    * `w` and `z` are those of `dense_product`

    Returns $f$, `[B, h, n, c / h]`: what `dense_product` gives, to rounding.
    """
    # A transform of nothing is an error. The product is as empty as $Z$, with a gradient of zero.
    if z.size == 0:
        return z * w[..., :1, None]
    n = z.shape[-2]
    # Entry $k$ of the full convolution, which has up to $3n - 2$ of them, is wanted for $n$ entries
    # from that of $w_0$ on. With period $m$ entry $k + m$ falls on entry $k$; from $m = 2n - 1$ on
    # it falls outside of what is wanted.
    m = _fast_length(2 * n - 1)
    # There is no transform of half precision, and its sums would be poor.
    wanted = jnp.result_type(w, z)
    dtype = jnp.promote_types(wanted, jnp.float32)
    # A transform is fastest along the last axis, where its numbers lie side by side.
    spectrum = jnp.fft.rfft(w[..., None, :].astype(dtype), m)  # [1, m / 2 + 1]
    spectrum = spectrum * jnp.fft.rfft(z.mT.astype(dtype), m)  # [B, h, c / h, m / 2 + 1]
    f = jnp.fft.irfft(spectrum, m)[..., n - 1 : 2 * n - 1]
    return f.mT.astype(wanted)


def _fast_length(least: int) -> int:
    # The transform splits its length into prime factors and is slow for large ones. Lengths
    # $2^k$, and those with one small odd factor, lie close enough to each other.
    return min(odd << ((least - 1) // odd).bit_length() for odd in (1, 3, 5, 9, 15))


class ToeplitzProjection(nnx.Module):
    r"""
    ## Toeplitz projection

    $$f_{w,b}(Z)_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc} + b_i$$

    Takes the place of `SpatialProjection` in a gMLP block. The paper uses this form for language,
    without loss of quality, and keeps $W$ free for images (as reported).

    `weight` holds $w$ in the order of the offset $i - j$. It starts with $w_{-(n-1)}$, by which the
    first token reads the last, and ends with $w_{n-1}$, by which the last token reads the first;
    $w_0$, the weight of a token for itself, is in the middle. With `causal` the first half is left
    out, and $w_0$ comes first. A shorter sequence has fewer offsets and uses those around $w_0$.

    * `seq_len` is the longest sequence in tokens
    * `causal` keeps $j \le i$ only, for models that predict the next token (unlike the paper)
    * `n_heads` is the number of equal groups of channels, each with its own $w$ and $b$; the paper
      has one
    * `fft_from` is the number of tokens from which on the Fourier transform is used; `None` means
      never
    * `rngs` draws the parameters, and `param_dtype` is their type, as in any Flax layer

    Raises `ValueError` for a `seq_len`, `n_heads` or `fft_from` that is not a positive whole
    number.
    """

    def __init__(
        self,
        seq_len: int,
        *,
        causal: bool = False,
        n_heads: int = 1,
        fft_from: int | None = FFT_FROM,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("seq_len", seq_len)
        _check_size("n_heads", n_heads)
        if fft_from is not None:
            _check_size("fft_from", fft_from)
        self.seq_len = seq_len
        self.causal = causal
        self.n_heads = n_heads
        self.fft_from = fft_from
        heads = () if n_heads == 1 else (n_heads,)
        n_offsets = seq_len if causal else 2 * seq_len - 1
        self.weight = nnx.Param(jnp.empty((*heads, n_offsets), param_dtype))
        self.bias = nnx.Param(jnp.empty((*heads, seq_len), param_dtype))
        self.reset_parameters(rngs)

    def reset_parameters(self, rngs: nnx.Rngs) -> None:
        r"""
        $w \approx 0$ and $b = 1$: the gate starts at one, as with a free $W$ (paper, section 2.1).
        The scale is that of `SpatialProjection`, our choice.
        """
        weight = self.weight[...]
        self.weight[...] = 1e-6 * jax.random.normal(rngs.params(), weight.shape, weight.dtype)
        self.bias[...] = jnp.ones_like(self.bias[...])

    def __call__(self, z: Array, mask: Array | None = None) -> Array:
        r"""
        * `z` is $Z$, `[B, n, c]`; `n_heads` divides $c$
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$.
          `None` allows what `causal` allows

        Returns $f_{w,b}(Z)$, `[B, n, c]`.

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
        if mask is not None:
            _check_mask(mask, (n, n), (z.shape[0], n, n))
        # Heads become a second batch axis.
        shape = z.shape
        z = z.reshape(*shape[:2], self.n_heads, shape[-1] // self.n_heads).swapaxes(1, 2)
        f = self.product(z, mask)  # [B, h, n, c / h]
        f = f + self.bias[..., :n, None]
        return f.swapaxes(1, 2).reshape(shape)

    def product(self, z: Array, mask: Array | None) -> Array:
        r"""
        Returns $WZ$. It takes the rows of $W$ where there is a mask, which changes single entries
        of $W$ that no spectrum shows.
        """
        n = z.shape[-2]
        # The offsets that occur are those nearer to zero than $n$, and zero itself when there is no
        # token. The others are cut off. Offsets below zero, which causal weights do not have, are
        # weights of zero: no row reads a later token.
        reach = max(n, 1) - 1
        middle = 0 if self.causal else self.seq_len - 1
        w = self.weight[..., max(middle - reach, 0) : middle + reach + 1]
        if self.causal:
            w = jnp.pad(w, [(0, 0)] * (w.ndim - 1) + [(reach, 0)])  # [2n - 1]
        if mask is not None or self.fft_from is None or n < self.fft_from:
            return dense_product(w, z, mask)
        return fft_product(w, z)


# ## Checks
#
# What a caller can get wrong, in one sentence each.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_mask(mask: Array, *shapes: tuple[int, ...]) -> None:
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind is not jnp.dtype(bool):
        raise TypeError(f"mask must be a boolean array, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"mask must be {allowed}, got {list(mask.shape)}")
