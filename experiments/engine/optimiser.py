r"""
# Optimisation

AdamW, with the rate warmed up and then lowered along a cosine.
"""

import math

import torch
from torch import nn


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    r"""
    ## AdamW with decay groups

    Weight decay belongs to the matrices of linear layers. It is kept from norms and biases, whose
    rest is not zero: decaying $b$ would close the gate that starts at one. It is kept from the
    embeddings and from the spatial $W$ too; both are our choice.

    * `lr` is the peak rate
    * `betas`, `weight_decay` and `eps` are those of AdamW
    """
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            decays = isinstance(module, nn.Linear) and name == "weight"
            (decay if decays else rest).append(p)
    groups = [
        {"params": decay, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def rate(step: int, *, lr: float, warmup: int, steps: int) -> float:
    r"""
    ## Learning rate

    $$\eta_t = \begin{cases}
      \eta \, (t + 1) / (w + 1) & t < w \\
      \eta \left( 0.1 + 0.45 \left( 1 + \cos \pi \frac{t - w}{T - w} \right) \right) & t \ge w
    \end{cases}$$

    for step $t$ of $T$ = `steps`, counted from 0, with $w$ = `warmup` and the peak $\eta$ = `lr`.
    It ends near a tenth of the peak.
    """
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    return lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
