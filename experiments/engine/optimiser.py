r"""AdamW with a warmup and cosine schedule.

# Optimiser
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
    r"""AdamW that decays only the matrices of linear layers.

    ## Weight decay

    Norms and biases do not decay: decaying $b$ would close the gate, which starts at one.
    Embeddings and the spatial $W$ do not decay either; both are our choice.

    * `lr` is the peak learning rate
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


def learning_rate(step: int, *, peak: float, warmup: int, steps: int) -> float:
    r"""The learning rate of a step: linear warmup, then half a cosine.

    ## Learning rate

    $$\eta_t = \begin{cases}
      \eta \, (t + 1) / (w + 1) & t < w \\
      \eta \left( 0.1 + 0.45 \left( 1 + \cos \pi \frac{t - w}{T - w} \right) \right) & t \ge w
    \end{cases}$$

    for step $t$ of $T$ = `steps`, counted from 0, with $w$ = `warmup` and $\eta$ = `peak`. It ends
    near a tenth of the peak.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
