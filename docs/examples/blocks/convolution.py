"""The convolution with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.convolution import ConvolutionProjection

SIZES = {"B": 5, "n": 11, "c": 13, "k": 7, "n + k - 1": 17}

B, n, c, k, *_ = SIZES.values()
torch.manual_seed(0)
z = torch.randn(B, n, c)
pairs = torch.ones(n, n, dtype=torch.bool)

projection = ConvolutionProjection(c, k)
projection(z)
projection(z, mask=pairs)
projection(z, mask=pairs.expand(B, n, n))
