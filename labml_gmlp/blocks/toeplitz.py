r"""Spatial projections with a Toeplitz matrix, computed directly or with the FFT.

# Toeplitz projections

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
| `DecayedToeplitzProjection` | $n$, and $2n$ position factors | the past |

The FFT reduces the product from $O(n^2)$ to $O(n \log n)$ operations and the memory from $O(n^2)$
to $O(n)$, because $W$ is never materialised. The FFT and the causal form are ours; the paper
mentions neither.

This file imports only torch and the standard library, so you can copy it alone.
"""

import torch
from torch import Tensor, nn

# Use the FFT from this many tokens on (our choice). With 8 sequences of 256 channels on two busy
# Xeon cores, both products took the same time at 1024 tokens. The dense one took 0.79 of the FFT's
# time at 768 tokens and 1.38 at 1536, so a wrong threshold costs little. Memory is saved only
# later: at 2048 tokens the spectra of all channels took 192 MiB, and $W$ with its gradient 116 MiB.
# Measured by
# `python -m benchmarks.toeplitz --sizes 768 1024 1536 2048 --channels 256 --batch 8 --rounds 15`.
FFT_FROM = 1024


def dense_product(w: Tensor, z: Tensor, start: int = 0, mask: Tensor | None = None) -> Tensor:
    r"""Returns the product of the materialised $W$ and $Z$, `[B, h, n - start, c / h]`.

    ## Dense product

    $$f_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc}$$

    A mask needs single entries of $W$, and for short sequences this is faster than the FFT.

    * `w` holds $w_{-(n-1)}$ to $w_{n-1}$ in this order, `[2n - 1]`, or `[h, 2n - 1]`
    * `z` is $Z$, `[B, h, n, c / h]`
    * `start` is the first row of $W$ to compute
    * `mask` is boolean, `[n, n]` or `[B, n, n]`, and requires `start = 0`
    """
    n = z.shape[-2]
    if torch.compiler.is_compiling():
        # Look up each entry by its offset; this keeps $n$ dynamic in a graph.
        i = torch.arange(start, n, device=w.device)[:, None]
        j = torch.arange(n, device=w.device)
        rows = w[..., n - 1 + i - j]  # [n - start, n]
    else:
        # Row $i$ is $w_i, w_{i-1}, \dots, w_{i-n+1}$: a window of $n$ entries, read backwards, that
        # moves by one per row. `unfold` returns the windows as views, and its gradient sums each
        # diagonal in half the time of a look-up's. Flipping the windows materialises the matrix.
        rows = w.unfold(-1, n, 1)[..., start:n, :].flip(-1)  # [n - start, n]
    if mask is not None:
        rows = rows * (mask if mask.dim() == 2 else mask[:, None])
    return rows @ z


def fft_product(w: Tensor, z: Tensor) -> Tensor:
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
    if z.numel() == 0:
        return z * w[..., :1, None]
    n = z.shape[-2]
    # The full convolution has up to $3n - 2$ entries, of which we need $n$, starting at that of
    # $w_0$. With period $m$, entry $k + m$ is added to entry $k$; from $m = 2n - 1$ on, this misses
    # the ones we need.
    m = _fast_length(2 * n - 1)
    # CPUs have no half-precision FFT, and it would be inaccurate: compute in float32.
    dtype = torch.promote_types(z.dtype, torch.float32)
    # The FFT is fastest along the last, contiguous axis.
    spectrum = torch.fft.rfft(w.unsqueeze(-2).to(dtype), m)  # [1, m / 2 + 1]
    spectrum = spectrum * torch.fft.rfft(z.mT.to(dtype), m)  # [B, h, c / h, m / 2 + 1]
    f = torch.fft.irfft(spectrum, m)[..., n - 1 : 2 * n - 1]
    return f.mT.to(z.dtype)


def _fast_length(least: int) -> int:
    # The FFT is slow for lengths with large prime factors. Powers of two, and these times one small
    # odd factor, are dense enough.
    return min(odd << ((least - 1) // odd).bit_length() for odd in (1, 3, 5, 9, 15))


class ToeplitzProjection(nn.Module):
    r"""A spatial projection whose weights depend only on the distance of two tokens.

    ## Toeplitz projection

    $$f_{w,b}(Z)_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc} + b_i$$

    It replaces `SpatialProjection` in a gMLP block. The paper uses it for language, without loss of
    quality, and a free $W$ for images.

    `weight` holds $w$ ordered by the offset $i - j$, from $w_{-(n-1)}$ (the first token reads the
    last) over $w_0$ to $w_{n-1}$ (the last token reads the first). With `causal` it starts at
    $w_0$. A shorter sequence uses the offsets around $w_0$.

    ```python
    projection = ToeplitzProjection(seq_len=128)
    block = GMLPBlock(64, 256, sgu=SpatialGatingUnit(256, projection=projection))
    ```

    * `seq_len` is the longest sequence in tokens
    * `causal` keeps only $j \le i$, for next-token models (unlike the paper)
    * `n_heads` is the number of channel groups, each with its own $w$ and $b$; the paper has one
    * `fft_from` is the number of tokens from which the FFT is used; `None` means never. An exported
      layer needs `None` for a dynamic number of tokens, because a graph fixes the length of an FFT

    Raises `ValueError` if `seq_len`, `n_heads` or `fft_from` is not a positive integer.
    """

    def __init__(
        self,
        seq_len: int,
        *,
        causal: bool = False,
        n_heads: int = 1,
        fft_from: int | None = FFT_FROM,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # fold: checks
        _check_size("seq_len", seq_len)
        _check_size("n_heads", n_heads)
        if fft_from is not None:
            _check_size("fft_from", fft_from)
        self.seq_len = seq_len
        self.causal = causal
        self.n_heads = n_heads
        self.fft_from = fft_from
        # $w$, one weight for each offset, and $b$; for several heads, a row for each
        heads = () if n_heads == 1 else (n_heads,)
        n_offsets = seq_len if causal else 2 * seq_len - 1
        self.weight = nn.Parameter(torch.empty(*heads, n_offsets, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(*heads, seq_len, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws $w$ from $N(0, 10^{-12})$ and sets $b = 1$, so the gate starts at one.

        This is the paper's start (section 2.1) with the scale of `SpatialProjection`, our choice.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Returns $f_{w,b}(Z)$, `[B, n, c]`.

        * `z` is $Z$, `[B, n, c]`; $c$ is a multiple of `n_heads`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$

        Raises `ValueError` if `z` or `mask` has the wrong shape or there are more than `seq_len`
        tokens, and `TypeError` if `mask` is not boolean.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[1] > self.seq_len or z.shape[2] % self.n_heads:
            wanted = f"[B, n, c] with n at most seq_len={self.seq_len}"
            wanted += f" and c a multiple of n_heads={self.n_heads}" * (self.n_heads > 1)
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        n = z.shape[1]
        if mask is not None:
            _check_mask(mask, (n, n), (z.shape[0], n, n))
        # A mask changes single entries of $W$, which the FFT never has.
        by_fft = mask is None and self.fft_from is not None and n >= self.fft_from
        return self.project(z, mask, by_fft=by_fft)

    def project(
        self, z: Tensor, mask: Tensor | None = None, start: int = 0, by_fft: bool = False
    ) -> Tensor:
        r"""Returns $f_{w,b}(Z)$ from position `start` on, `[B, n - start, c]`.

        * `z` and `mask` are those of `forward`
        * `start` is the first row of $W$ to compute, 0 with the FFT
        """
        # The heads become a second batch axis.
        heads = z.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, h, n, c / h]
        f = self.product(heads, mask, start, by_fft)  # [B, h, n - start, c / h]
        f = f + _cut(self.bias, start, z.shape[1])[..., None]
        return f.transpose(1, 2).flatten(-2)

    def product(self, z: Tensor, mask: Tensor | None, start: int, by_fft: bool) -> Tensor:
        r"""Returns $WZ$ of all heads from row `start` on, `[B, h, n - start, c / h]`."""
        # Keep the offsets $-(n-1)$ to $n-1$, and offset 0 if there are no tokens. Causal weights
        # have no negative offsets: pad them with zeros, so that no row reads a later token.
        reach = max(z.shape[-2], 1) - 1
        cut = reach - (self.seq_len - 1)
        w = nn.functional.pad(self.weight, (reach if self.causal else cut, cut))  # [2n - 1]
        return fft_product(w, z) if by_fft else dense_product(w, z, start, mask)

    def extra_repr(self) -> str:
        return (
            f"seq_len={self.seq_len}, causal={self.causal}, n_heads={self.n_heads}, "
            f"fft_from={self.fft_from}"
        )


class DecayedToeplitzProjection(ToeplitzProjection):
    r"""A causal Toeplitz projection scaled by a factor for each of the two positions.

    ## Decayed Toeplitz projection

    $$W_{ij} = \begin{cases} x_i \, w_{i-j} \, y_j & j \le i \\ 0 & j > i \end{cases}$$

    It was proposed by PENG Bo (RWKV-LM, August 2021), not by the paper. In a causal model, early
    tokens have less to read than later ones; the factors can compensate for it. In RWKV, $w$ was
    also initialised with decaying curves.

    g-mlp-pytorch calls it `circulant_matrix`, but it is not circulant: its diagonals do not wrap
    around. It is always causal, in g-mlp-pytorch too, whatever its argument `causal` says. So it
    does not suit masked language models, and it has no argument `causal` here.

    ```python
    projection = DecayedToeplitzProjection(seq_len=128)
    block = GMLPBlock(64, 256, causal=True, sgu=SpatialGatingUnit(256, projection=projection))
    ```

    * `seq_len`, `n_heads` and `fft_from` are those of `ToeplitzProjection`

    The parameters are $w_0$ to $w_{n-1}$ in `weight` (g-mlp-pytorch stores them in reverse), $x$ in
    `row`, $y$ in `column` and $b$ in `bias`, each `[seq_len]`, or `[n_heads, seq_len]` for more
    than one head.

    Raises `ValueError` if `seq_len`, `n_heads` or `fft_from` is not a positive integer.
    """

    def __init__(
        self,
        seq_len: int,
        *,
        n_heads: int = 1,
        fft_from: int | None = FFT_FROM,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            seq_len, causal=True, n_heads=n_heads, fft_from=fft_from, device=device, dtype=dtype
        )
        self.row = nn.Parameter(torch.ones_like(self.bias))
        self.column = nn.Parameter(torch.ones_like(self.bias))

    def reset_parameters(self) -> None:
        r"""Sets $x = y = 1$, as in the proposal, and $w$ and $b$ as in `ToeplitzProjection`."""
        super().reset_parameters()
        # The base class also calls this before the factors exist.
        for name, parameter in self.named_parameters():
            if name in ("row", "column"):
                nn.init.ones_(parameter)

    def product(self, z: Tensor, mask: Tensor | None, start: int, by_fft: bool) -> Tensor:
        r"""Returns $WZ$ of all heads from row `start` on, `[B, h, n - start, c / h]`.

        Scaling column $j$ of $W$ by $y_j$ equals scaling row $j$ of $Z$, and $x_i$ scales row $i$
        of the product. The matrix in between is Toeplitz, so both ways to multiply it still apply.
        """
        n = z.shape[-2]
        z = z * _cut(self.column, 0, n)[..., None]
        return super().product(z, mask, start, by_fft) * _cut(self.row, start, n)[..., None]


# Entries `start` to `stop` of $b$, $x$ or $y$. Negative padding removes the rest. `torch.export`
# rejects a slice here, because whether it is contiguous depends on $n$.
def _cut(p: Tensor, start: int, stop: int) -> Tensor:
    return nn.functional.pad(p[..., start:], (0, stop - p.shape[-1]))


# fold: argument checks
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _check_mask(mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"mask must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"mask must be {allowed}, got {list(mask.shape)}")
