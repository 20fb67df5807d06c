"""Three positions, then 70 more, for which the buffer has to grow."""

import torch
from torch import nn

from labml_gmlp.cache import Cache

SIZES = {"B": 2, "c": 5, "m": 70, "position + m": 73}

B, c, m, _ = SIZES.values()
torch.manual_seed(0)
cache, layer = Cache(), nn.Identity()
for new in (3, m):
    cache.extend(layer, torch.randn(B, new, c))
    cache.advance(new)
