r"""A spatial projection with a Toeplitz matrix in Flax, computed directly or with the FFT.

# The Toeplitz projection in Flax

The spatial projection of gMLP gives each pair of positions its own weight. In masked language
models its diagonals become nearly constant (paper,
[source](../../docs/coverage.yml#toeplitz-weights)): a weight depends on the distance of the two
tokens and hardly on their positions. Such a matrix is called *Toeplitz*, and the paper
uses it for its language experiments:

$$W_{ij} = w_{i-j}$$

The product is then a convolution whose kernel spans the whole sequence and is shared by all
channels.

| | parameters in $W$ | reads |
| --- | --- | --- |
| `SpatialProjection`, for comparison | $n^2$ | all tokens, or the past |
| `ToeplitzProjection` | $2n - 1$ | all tokens |
| the same, `causal` | $n$ | the past |

The FFT reduces the product from $O(n^2)$ to $O(n \log n)$ operations and the memory from $O(n^2)$
to $O(n)$, because $W$ is never materialised. The FFT and the causal form are ours; the paper
mentions neither.

This is the port of [the torch Toeplitz projection](../blocks/toeplitz.py), without the decayed
form.

This file imports only JAX, Flax and the standard library, so you can copy it alone.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

# Use the FFT from this many tokens on. The value was measured in torch, not in JAX.
FFT_FROM = 1024


def dense_product(w: Array, z: Array, mask: Array | None = None) -> Array:
    r"""Returns the product of the materialised $W$ and $Z$, `[B, h, n, c / h]`.

    ## Dense product

    $$f_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc}$$

    A mask needs single entries of $W$, and for short sequences this is faster than the FFT.

    * `w` holds $w_{-(n-1)}$ to $w_{n-1}$ in this order, `[2n - 1]`, or `[h, 2n - 1]`
    * `z` is $Z$, `[B, h, n, c / h]`
    * `mask` is boolean, `[n, n]` or `[B, n, n]`
    """
    n = z.shape[-2]
    # Entry $(i, j)$ of $W$ is $w_{i-j}$.
    i = jnp.arange(n)[:, None]
    j = jnp.arange(n)
    rows = w[..., n - 1 + i - j]  # [n, n]
    if mask is not None:
        rows = rows * (mask if mask.ndim == 2 else mask[:, None])
    return rows @ z


def fft_product(w: Array, z: Array) -> Array:
    r"""Returns the same product as `dense_product`, up to rounding, `[B, h, n, c / h]`.

    ## Product by FFT

    $$f = \mathcal{F}^{-1}\left(\mathcal{F}(w) \odot \mathcal{F}(Z)\right)$$

    The spectrum of a convolution is the product of the spectra. The FFT treats signals as periodic,
    so both are padded with zeros until no period overlaps the result.

    Rounding errors are the price. Each entry of a spectrum affects every position, so the error of
    an output scales with the size of *all* inputs, including future ones. In a causal layer, later
    tokens can therefore change the last bits of earlier outputs. `dense_product` multiplies the
    future by zero and is exact here.

    * `w` and `z` are those of `dense_product`
    """
    # The FFT rejects empty input; return an empty product that still carries a gradient.
    if z.size == 0:
        return z * w[..., :1, None]
    n = z.shape[-2]
    # The full convolution has $3n - 2$ entries, of which we need $n$, starting with entry $n - 1$.
    # With period $m$, entry $k + m$ is added to entry $k$. For $m \ge 2n - 1$ this affects only
    # entries that we do not need.
    m = _fast_length(2 * n - 1)
    # There is no half-precision FFT, and it would be inaccurate: compute in float32.
    wanted = jnp.result_type(w, z)
    dtype = jnp.promote_types(wanted, jnp.float32)
    # The FFT is fastest along the last axis, which is contiguous.
    spectrum = jnp.fft.rfft(w[..., None, :].astype(dtype), m)  # [1, m / 2 + 1]
    spectrum = spectrum * jnp.fft.rfft(z.mT.astype(dtype), m)  # [B, h, c / h, m / 2 + 1]
    f = jnp.fft.irfft(spectrum, m)[..., n - 1 : 2 * n - 1]
    return f.mT.astype(wanted)


def _fast_length(least: int) -> int:
    # The FFT is slow for lengths with large prime factors, so round up to $2^k$ times a small odd
    # number.
    return min(odd << ((least - 1) // odd).bit_length() for odd in (1, 3, 5, 9, 15))


class ToeplitzProjection(nnx.Module):
    r"""A spatial projection whose weights depend only on the distance of two tokens.

    ## Toeplitz projection

    $$f_{w,b}(Z)_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc} + b_i$$

    It replaces `SpatialProjection` in a gMLP block. The paper uses it for language, without loss of
    quality, and a free $W$ for images.

    `weight` holds $w$ ordered by the offset $i - j$, from $w_{-(n-1)}$ (the first token reads the
    last) over $w_0$ to $w_{n-1}$ (the last token reads the first). With `causal` it starts at
    $w_0$. A shorter sequence uses the offsets around $w_0$.

    ```python
    rngs = nnx.Rngs(0)
    projection = ToeplitzProjection(seq_len=128, causal=True, rngs=rngs)
    block = GMLPBlock(d_model=64, d_ffn=256, causal=True, projection=projection, rngs=rngs)
    ```

    * `seq_len` is the longest sequence in tokens
    * `causal` keeps only $j \le i$, for next-token models (unlike the paper)
    * `n_heads` is the number of channel groups, each with its own $w$ and $b$; the paper has one
    * `fft_from` is the number of tokens from which the FFT is used; `None` means never
    * `rngs` draws the parameters, and `param_dtype` is their type

    Raises `ValueError` if `seq_len`, `n_heads` or `fft_from` is not a positive integer.
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
        r"""Draws $w$ from $N(0, 10^{-12})$ and sets $b = 1$, so the gate starts at one.

        The paper (section 2.1) says only "near zero"; the scale is our choice.
        """
        weight = self.weight[...]
        self.weight[...] = 1e-6 * jax.random.normal(rngs.params(), weight.shape, weight.dtype)
        self.bias[...] = jnp.ones_like(self.bias[...])

    def __call__(self, z: Array, mask: Array | None = None) -> Array:
        r"""Returns $f_{w,b}(Z)$, `[B, n, c]`.

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
        if mask is not None:
            _check_mask(mask, (n, n), (z.shape[0], n, n))
        # The heads are a second batch axis.
        shape = z.shape
        z = z.reshape(*shape[:2], self.n_heads, shape[-1] // self.n_heads).swapaxes(1, 2)
        f = self.product(z, mask)  # [B, h, n, c / h]
        f = f + self.bias[..., :n, None]
        return f.swapaxes(1, 2).reshape(shape)

    def product(self, z: Array, mask: Array | None) -> Array:
        r"""Returns $WZ$, without the FFT if there is a mask."""
        n = z.shape[-2]
        # Keep the offsets $-(n-1)$ to $n-1$, and offset 0 if there are no tokens. Causal weights
        # have no negative offsets: pad them with zeros, so that no row reads a later token.
        reach = max(n, 1) - 1
        middle = 0 if self.causal else self.seq_len - 1
        w = self.weight[..., max(middle - reach, 0) : middle + reach + 1]
        if self.causal:
            w = jnp.pad(w, [(0, 0)] * (w.ndim - 1) + [(reach, 0)])  # [2n - 1]
        if mask is not None or self.fft_from is None or n < self.fft_from:
            return dense_product(w, z, mask)
        return fft_product(w, z)


# ## Argument checks
#
# Each block file has its own copy, so that it can be copied alone.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_mask(mask: Array, *shapes: tuple[int, ...]) -> None:
    kind = getattr(mask, "dtype", type(mask).__name__)
    if kind is not jnp.dtype(bool):
        raise TypeError(f"mask must be a boolean array, true = may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"mask must be {allowed}, got {list(mask.shape)}")
