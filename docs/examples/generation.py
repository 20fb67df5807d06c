"""A batch of three texts that outgrow the window, then one greedy text."""

import torch

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock
from labml_gmlp.generation import generate, generate_batch
from labml_gmlp.models.language import LanguageModel

SIZES = {"B": 3, "seq_len": 7, "n_tokens": 29}

_, seq_len, n_tokens = SIZES.values()
torch.manual_seed(0)
encoder = Encoder(lambda: GMLPBlock(12, 26, seq_len, causal=True), n_layers=1)
model = LanguageModel(n_tokens, encoder).eval()
prompts = [torch.randint(n_tokens, (n,)) for n in (5, 5, 8)]
list(generate_batch(model, prompts, 9, seq_len=seq_len, slide=3, seed=0, top_p=0.9))
list(generate(model, prompts[0], 3, seq_len=seq_len, temperature=0, slide=1))
