"""A residual branch in training and in evaluation, with the survival probability of its layer."""

import torch

from labml_gmlp.blocks.stochastic_depth import StochasticDepth, survival_at

SIZES = {"B": 5, "n": 7, "d": 12}

B, n, d = SIZES.values()
torch.manual_seed(0)
drop = StochasticDepth(survival_at(2, 4, last=0.5))
drop(torch.randn(B, n, d))
drop.eval()(torch.randn(B, n, d))
