"""One Mixer block; all sizes differ."""

import torch

from labml_gmlp.blocks.mixer import MixerBlock

SIZES = {"B": 5, "seq_len": 7, "d_model": 12, "d_tokens": 9, "d_channels": 26}

B, seq_len, d_model, d_tokens, d_channels = SIZES.values()
torch.manual_seed(0)
MixerBlock(d_model, seq_len, d_tokens, d_channels)(torch.randn(B, seq_len, d_model))
