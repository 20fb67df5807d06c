"""The aMLP block with each kind of mask; all sizes differ."""

import torch

from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.models.amlp import AMLPBlock

SIZES = {"B": 5, "n": 7, "d_model": 12, "d_ffn": 26, "seq_len": 11}

B, n, d_model, d_ffn, seq_len = SIZES.values()
torch.manual_seed(0)
x = torch.randn(B, n, d_model)
pairs = torch.ones(n, n, dtype=torch.bool)
real = torch.ones(B, n, dtype=torch.bool)

attention = TinyAttention(d_model, d_ffn // 2, 17, causal=True)
block = AMLPBlock(d_model, d_ffn, seq_len, attention=attention, causal=True)
block(x)
block(x, mask=pairs, key_padding_mask=real)
