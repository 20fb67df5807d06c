"""The gMLP block with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.gmlp import GMLPBlock

SIZES = {"B": 5, "n": 7, "d_model": 12, "d_ffn": 26, "seq_len": 11}

B, n, d_model, d_ffn, seq_len = SIZES.values()
torch.manual_seed(0)
x = torch.randn(B, n, d_model)
pairs = torch.ones(n, n, dtype=torch.bool)
real = torch.ones(B, n, dtype=torch.bool)

block = GMLPBlock(d_model, d_ffn, seq_len, causal=True)
block(x)
block(x, mask=pairs, key_padding_mask=real)
block(x, mask=pairs.expand(B, n, n))
