"""Each gate with masks ; all sizes differ."""

import torch

from labml_gmlp.blocks.gates import AdditiveGate, LinearGate, MultiplicativeGate
from labml_gmlp.blocks.gmlp import SpatialProjection

SIZES = {"B": 5, "n": 7, "d_ffn": 26}

B, n, d_ffn = SIZES.values()
torch.manual_seed(0)
z = torch.randn(B, n, d_ffn)
pairs = torch.ones(n, n, dtype=torch.bool)
real = torch.ones(B, n, dtype=torch.bool)

for gate in (LinearGate, AdditiveGate, MultiplicativeGate):
    layer = gate(d_ffn, SpatialProjection(n, causal=True))
    layer(z)
    layer(z, mask=pairs, key_padding_mask=real, attended=z)
