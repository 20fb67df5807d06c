"""Both Toeplitz projections, dense and by FFT, with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection

SIZES = {"B": 5, "n": 7, "c": 12, "seq_len": 11}
SIZES |= {"2 seq_len - 1": 21, "2n - 1": 13, "m": 15, "m / 2 + 1": 8}

B, n, c, seq_len, *_ = SIZES.values()
torch.manual_seed(0)
z = torch.randn(B, n, c)
pairs = torch.ones(n, n, dtype=torch.bool)

for projection in (
    ToeplitzProjection(seq_len),
    ToeplitzProjection(seq_len, fft_from=n),
    DecayedToeplitzProjection(seq_len),
):
    projection(z)
    projection(z, mask=pairs)
    projection(z, mask=pairs.expand(B, n, n))
