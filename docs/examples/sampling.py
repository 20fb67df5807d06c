"""Next-token probabilities with all filters, then greedy."""

import torch

from labml_gmlp.sampling import distribution

SIZES = {"n_tokens": 29, "n_tokens - 1": 28}

n_tokens, _ = SIZES.values()
torch.manual_seed(0)
logits, text = torch.randn(n_tokens), [3, 1, 4, 1, 5, 9]
distribution(logits, text, temperature=0.8, top_k=11, top_p=0.9, repetition_penalty=1.1)
distribution(logits, text, temperature=0)
