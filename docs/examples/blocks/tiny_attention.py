"""Tiny attention with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.tiny_attention import TinyAttention

SIZES = {"B": 5, "n": 7, "d_model": 12, "d_out": 31, "d_attn": 17}

B, n, d_model, d_out, d_attn = SIZES.values()
torch.manual_seed(0)
x = torch.randn(B, n, d_model)
pairs = torch.ones(n, n, dtype=torch.bool)
real = torch.ones(B, n, dtype=torch.bool)

layer = TinyAttention(d_model, d_out, d_attn, causal=True)
layer(x)
layer(x, mask=pairs, key_padding_mask=real)
layer(x, mask=pairs.expand(B, n, n))
