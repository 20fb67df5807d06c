"""Token shift with and without padding, and with channels left over."""

import torch

from labml_gmlp.blocks.token_shift import TokenShift

SIZES = {"B": 7, "n": 9, "d": 26, "n + 1": 10, "n + 2": 11, "d // 3": 8}

B, n, d, *_ = SIZES.values()
torch.manual_seed(0)
x = torch.randn(B, n, d)
TokenShift((0, 1))(x)
TokenShift((-1, 0, 1))(x, torch.ones(B, n, dtype=torch.bool))
