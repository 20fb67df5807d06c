"""Six tokens, then one more, through each kind of layer."""

import torch

from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.gmlp import SpatialProjection
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import ToeplitzProjection
from labml_gmlp.incremental import incremental

SIZES = {"B": 5, "m": 7, "c": 12, "seq_len": 23, "k": 4}

B, m, c, seq_len, k = SIZES.values()
torch.manual_seed(0)
for layer in (
    SpatialProjection(seq_len, causal=True),
    ToeplitzProjection(seq_len, causal=True),
    ConvolutionProjection(c, k, causal=True),
    TinyAttention(c, c, 3, causal=True),
):
    reader = incremental(layer)
    reader(torch.randn(B, m, c))
