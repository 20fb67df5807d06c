"""The windowed projection with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.windowed import WindowedProjection

SIZES = {"B": 3, "n": 26, "c": 22, "w": 7, "u": 4, "(u + 1) w": 35}

B, n, c, w, *_ = SIZES.values()
torch.manual_seed(0)
z = torch.randn(B, n, c)
pairs = torch.ones(n, n, dtype=torch.bool)

projection = WindowedProjection(w, causal=True)
projection(z)
projection(z, mask=pairs)
projection(z, mask=pairs.expand(B, n, n))
