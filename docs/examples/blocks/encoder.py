"""Two gMLP blocks as an encoder."""

import torch

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock

SIZES = {"B": 5, "n": 7, "d": 12}

B, n, d = SIZES.values()
torch.manual_seed(0)
encoder = Encoder(lambda: GMLPBlock(d, 26, seq_len=n), n_layers=2)
encoder(torch.randn(B, n, d))
encoder(torch.randn(B, n, d), key_padding_mask=torch.ones(B, n, dtype=torch.bool))
