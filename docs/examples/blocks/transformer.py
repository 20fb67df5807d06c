"""The Transformer layer with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.transformer import TransformerLayer

SIZES = {"B": 5, "n": 7, "d_model": 26, "d_ffn": 31, "n_heads": 2}

B, n, d_model, d_ffn, n_heads = SIZES.values()
torch.manual_seed(0)
x = torch.randn(B, n, d_model)
pairs = torch.ones(n, n, dtype=torch.bool)
real = torch.ones(B, n, dtype=torch.bool)

layer = TransformerLayer(d_model, n_heads, d_ffn, causal=True)
layer(x)
layer(x, mask=pairs, key_padding_mask=real)
layer(x, mask=pairs.expand(B, n, n))
