"""Tokens drawn after a prompt that already fills the window, so that it slides."""

import torch

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock
from labml_gmlp.generation import generate
from labml_gmlp.models.language import LanguageModel

SIZES = {"seq_len": 7, "n_tokens": 29, "seq_len + 1": 8}

seq_len, n_tokens, _ = SIZES.values()
torch.manual_seed(0)
encoder = Encoder(lambda: GMLPBlock(12, 26, seq_len, causal=True), n_layers=1)
model = LanguageModel(n_tokens, encoder).eval()
prompt = torch.randint(n_tokens, (seq_len,))
list(generate(model, prompt, 3, seq_len=seq_len, top_k=4))
list(generate(model, prompt, 3, seq_len=seq_len, temperature=0))
