"""Each adapter with each kind of mask, with sizes that are all different."""

import torch
from torch import nn

from labml_gmlp.adapters import ForLabml, ForTorch, FromLabml, FromTorch
from labml_gmlp.blocks.gmlp import GMLPBlock

SIZES = {"B": 5, "n": 7, "d": 12, "B h": 15}

B, n, d, _ = SIZES.values()
torch.manual_seed(0)
x = torch.randn(B, n, d)
pairs = torch.ones(n, n, dtype=torch.bool)
real = torch.ones(B, n, dtype=torch.bool)

layer = GMLPBlock(d, 26, n)
labml = ForLabml(layer)
labml(x=x.transpose(0, 1))
labml(x=x.transpose(0, 1), mask=pairs[:, :, None])
labml(x=x.transpose(0, 1), mask=real.T[None])
ForTorch(layer, batch_first=True)(x, src_mask=~pairs, src_key_padding_mask=~real)
ForTorch(layer)(x.transpose(0, 1), src_mask=~pairs)
# Our layer in `ForLabml` has the interface of a labml_nn layer.
FromLabml(labml)(x, mask=pairs)
FromLabml(labml)(x, mask=pairs.expand(B, n, n))
FromLabml(labml)(x, key_padding_mask=real)
for batch_first in (True, False):
    theirs = nn.TransformerEncoderLayer(d, 3, 26, batch_first=batch_first)
    FromTorch(theirs)(x, mask=pairs, key_padding_mask=real)
    FromTorch(theirs, causal=True)(x)
