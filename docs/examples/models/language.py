"""A language model with one block, without and with learned positions."""

import torch

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock
from labml_gmlp.models.language import LanguageModel

SIZES = {"B": 5, "n": 7, "d": 12, "n_tokens": 29, "n_positions": 11}

B, n, d, n_tokens, n_positions = SIZES.values()
torch.manual_seed(0)
encoder = Encoder(lambda: GMLPBlock(d, 26, n_positions, causal=True), n_layers=1)
tokens = torch.randint(n_tokens, (B, n))
LanguageModel(n_tokens, encoder)(tokens)
LanguageModel(n_tokens, encoder, n_positions=n_positions)(tokens)
