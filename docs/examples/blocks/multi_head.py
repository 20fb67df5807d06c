"""The multi-head projection with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.multi_head import MultiHeadSpatialProjection

SIZES = {"B": 5, "n": 7, "c": 24, "n_heads": 3, "seq_len": 11}

B, n, c, n_heads, seq_len = SIZES.values()
torch.manual_seed(0)
z = torch.randn(B, n, c)
pairs = torch.ones(n, n, dtype=torch.bool)

projection = MultiHeadSpatialProjection(seq_len, n_heads, causal=True)
projection(z)
projection(z, mask=pairs)
projection(z, mask=pairs.expand(B, n, n))
