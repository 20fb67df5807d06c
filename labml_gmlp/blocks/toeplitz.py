r"""
# Toeplitz projections

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
| `DecayedToeplitzProjection` | $n$, and $2n$ factors of positions | the past |

Fewer numbers are one gain, the Fourier transform is the other: it takes the product from $O(n^2)$
operations to $O(n \log n)$ and the memory from $O(n^2)$ to $O(n)$, without ever forming $W$. The
paper mentions no transform; that part is ours, and so is the causal form.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from typing import Any

import torch
from torch import Tensor, nn

# From so many tokens on the transform is used, our choice. With 8 sequences of 256 channels, on two
# busy cores of a Xeon, both ways took the same time at 1024 tokens; the rows took 0.79 of the
# transform's time at 768 and 1.38 of it at 1536, so a threshold that is off costs little. Memory is
# saved only later: at 2048 tokens the spectra of all channels still took 192 MiB, the one $W$ with
# its gradient 116. Measured by
# `python -m benchmarks.toeplitz --sizes 768 1024 1536 2048 --channels 256 --batch 8 --rounds 15`.
FFT_FROM = 1024


def dense_product(w: Tensor, z: Tensor, start: int = 0, mask: Tensor | None = None) -> Tensor:
    r"""
    ## By the rows of W

    $$f_{ic} = \sum_{j=1}^{n} w_{i-j} Z_{jc}$$

    The definition, computed as it stands: $W$ is written out and multiplied. Needed where single
    entries of $W$ matter, and faster for short sequences.

    * `w` holds $w_{-(n-1)}$ to $w_{n-1}$ in this order, `[2n - 1]`; several heads have an axis in
      front
    * `z` is $Z$, `[B, h, n, c / h]`
    * `start` is the first row of $W$ that is wanted; the rows before are not formed
    * `mask` is boolean, `[n, n]` or `[B, n, n]`; it needs all rows

    Returns $f$ from row `start` on, `[B, h, n - start, c / h]`.
    """
    n = z.shape[-2]
    if torch.compiler.is_compiling():
        # In a graph each entry is looked up by its offset, which leaves $n$ open.
        i = torch.arange(start, n, device=w.device)[:, None]
        j = torch.arange(n, device=w.device)
        rows = w[..., n - 1 + i - j]  # [n - start, n]
    else:
        # Row $i$ reads $w_i, w_{i-1}, \dots, w_{i-n+1}$: a window of $n$ entries that moves by one
        # for each row, read backwards. `unfold` gives the windows as views of the same few numbers,
        # and its gradient sums each diagonal, in half the time of a look-up's. Turning the windows
        # round makes the matrix real.
        rows = w.unfold(-1, n, 1)[..., start:n, :].flip(-1)  # [n - start, n]
    if mask is not None:
        rows = rows * (mask if mask.dim() == 2 else mask[:, None])
    return rows @ z


def fft_product(w: Tensor, z: Tensor) -> Tensor:
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
    if z.numel() == 0:
        return z * w[..., :1, None]
    n = z.shape[-2]
    # Entry $k$ of the full convolution, which has up to $3n - 2$ of them, is wanted for $n$ entries
    # from that of $w_0$ on. With period $m$ entry $k + m$ falls on entry $k$; from $m = 2n - 1$ on
    # it falls outside of what is wanted.
    m = _fast_length(2 * n - 1)
    # There is no transform of half precision on a CPU, and its sums would be poor.
    dtype = torch.promote_types(z.dtype, torch.float32)
    # A transform is fastest along the last axis, where its numbers lie side by side.
    spectrum = torch.fft.rfft(w.unsqueeze(-2).to(dtype), m)  # [1, m / 2 + 1]
    spectrum = spectrum * torch.fft.rfft(z.mT.to(dtype), m)  # [B, h, c / h, m / 2 + 1]
    f = torch.fft.irfft(spectrum, m)[..., n - 1 : 2 * n - 1]
    return f.mT.to(z.dtype)


def _fast_length(least: int) -> int:
    # The transform splits its length into prime factors and is slow for large ones. Lengths
    # $2^k$, and those with one small odd factor, lie close enough to each other.
    return min(odd << ((least - 1) // odd).bit_length() for odd in (1, 3, 5, 9, 15))


class ToeplitzProjection(nn.Module):
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
      never, and only then is a layer exported for any number of tokens: the length of a transform
      is fixed in a graph
    * `device` and `dtype` are those of the parameters, as in any torch layer

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
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
        self.weight = nn.Parameter(torch.empty(*heads, n_offsets, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(*heads, seq_len, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""
        $w \approx 0$ and $b = 1$: the gate starts at one, as with a free $W$ (paper, section 2.1).
        The scale is that of `SpatialProjection`, our choice.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        r"""
        * `z` is $Z$, `[B, n, c]`; `n_heads` divides $c$
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$.
          `None` allows what `causal` allows
        * `cache` holds what was read before; `z` then follows on it

        Returns $f_{w,b}(Z)$, `[B, n, c]`.

        Raises `ValueError` for a `z` or a mask of another shape, for a sequence longer than
        `seq_len`, and for a `cache` beside a mask or without `causal`; `TypeError` for a mask that
        is not boolean.
        """
        if z.dim() != 3 or z.shape[-1] % self.n_heads:
            wanted = "[B, n, c]" + f" with c a multiple of {self.n_heads}" * (self.n_heads > 1)
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        # `z` holds the positions from `start` on, and they read all up to `stop`. Without a cache
        # these are all positions.
        start = 0 if cache is None else cache.position
        stop = start + z.shape[1]
        if stop > self.seq_len:
            raise ValueError(
                f"z must have at most seq_len={self.seq_len} tokens, got {stop}; "
                f"W has no weights for later positions"
            )
        if cache is not None:
            _check_cache(self.causal, mask)
            z = cache.extend(self, z)  # [B, stop, c]
        if mask is not None:
            _check_mask(mask, (stop, stop), (z.shape[0], stop, stop))
        # Heads become a second batch axis.
        z = z.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, h, stop, c / h]
        f = self.product(z, start, mask, by_rows=cache is not None)  # [B, h, n, c / h]
        f = f + _cut(self.bias, start, stop)[..., None]
        return f.transpose(1, 2).flatten(-2)

    def product(self, z: Tensor, start: int, mask: Tensor | None, by_rows: bool) -> Tensor:
        r"""
        Returns $WZ$ from row `start` on. It takes the rows of $W$ where there is a mask, which
        changes single entries of $W$ that no spectrum shows, and where there is a cache, which
        wants few rows and outputs that stay as they are.
        """
        n = z.shape[-2]
        # The offsets that occur are those nearer to zero than $n$, and zero itself when there is no
        # token. The others are cut off. Offsets below zero, which causal weights do not have, are
        # weights of zero: no row reads a later token.
        reach = max(n, 1) - 1
        cut = reach - (self.seq_len - 1)
        w = nn.functional.pad(self.weight, (reach if self.causal else cut, cut))  # [2n - 1]
        if by_rows or mask is not None or self.fft_from is None or n < self.fft_from:
            return dense_product(w, z, start, mask)
        return fft_product(w, z)

    def extra_repr(self) -> str:
        return (
            f"seq_len={self.seq_len}, causal={self.causal}, n_heads={self.n_heads}, "
            f"fft_from={self.fft_from}"
        )


class DecayedToeplitzProjection(ToeplitzProjection):
    r"""
    ## Decayed Toeplitz projection

    $$W_{ij} = \begin{cases} x_i \, w_{i-j} \, y_j & j \le i \\ 0 & j > i \end{cases}$$

    The proposal of PENG Bo (RWKV-LM, August 2021), not of the paper: a weight for each distance,
    scaled by a factor of the position that is written and one of the position that is read. In a
    causal model the first tokens have less to read than the later ones, and the factors can make up
    for it; that was their purpose in RWKV, where $w$ also started as decaying curves.

    g-mlp-pytorch calls it `circulant_matrix`, but it is not circulant: in a circulant matrix a
    diagonal that leaves on one side comes back on the other, here it does not. Nor is it of use for
    a masked language model, which must read both sides: no token here reads a later one, and in
    that package none does either, whatever its argument `causal` says. Hence there is no such
    argument here, and the attribute `causal` is always true.

    * `seq_len`, `n_heads`, `fft_from`, `device` and `dtype` are those of `ToeplitzProjection`

    The parameters are $w_0$ to $w_{n-1}$ in `weight` (that package stores them the other way
    round), $x$ in `row`, $y$ in `column` and $b$ in `bias`, each `[seq_len]`, or
    `[n_heads, seq_len]` for more than one head.

    Raises what `ToeplitzProjection` raises.
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
        r"""
        $w \approx 0$ and $b = 1$ start the gate at one; with $x = y = 1$, as in the proposal, the
        layer starts as the causal `ToeplitzProjection`.
        """
        super().reset_parameters()
        # The layer above calls this too, before there are factors.
        for name, parameter in self.named_parameters():
            if name in ("row", "column"):
                nn.init.ones_(parameter)

    def product(self, z: Tensor, start: int, mask: Tensor | None, by_rows: bool) -> Tensor:
        r"""
        Returns $WZ$ from row `start` on. $x_i$ and $y_j$ need no place in $W$: a column of $W$
        meets one row of $Z$, and a row of $W$ makes one row of the result. What is left between
        them is Toeplitz, and both ways to multiply it remain.
        """
        stop = z.shape[-2]
        z = z * _cut(self.column, 0, stop)[..., None]
        return super().product(z, start, mask, by_rows) * _cut(self.row, start, stop)[..., None]


# Entries `start` to `stop` of $b$, $x$ or $y$. A negative padding cuts off the rest; a slice would
# too, but not for `torch.export`, which asks whether it is contiguous: that depends on $n$.
def _cut(p: Tensor, start: int, stop: int) -> Tensor:
    return nn.functional.pad(p[..., start:], (0, stop - p.shape[-1]))


# ## Checks
#
# What a caller can get wrong, in one sentence each.
def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def _check_cache(causal: bool, mask: Tensor | None) -> None:
    if not causal:
        raise ValueError("cache needs causal=True: earlier positions may not read new ones")
    if mask is not None:
        raise ValueError("mask must be None beside a cache")


def _check_mask(mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"mask must be a boolean tensor, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"mask must be {allowed}, got {list(mask.shape)}")
