r"""
# Stochastic depth

In training, some sequences skip some blocks (Huang, Sun, Liu, Sedra and Weinberger, 2016, [arXiv
1603.09382](https://arxiv.org/abs/1603.09382)): a deep network then trains like many shallower ones
of shared weights. It is the only regularisation in the paper's vision models that changes with
their size: they survive with probability 1, 0.95 and 0.8 (paper, as reported).

It stands where a block takes its dropout, between the branch and the shortcut, and is built anew
for each depth:

```python
def make_layer(index):
    survival = survival_at(index, n_layers, last=0.8)
    return GMLPBlock(d_model, d_ffn, seq_len, dropout=StochasticDepth(survival))

Encoder(make_layer, n_layers)
```

Three things can go wrong here, and in public implementations of gMLP each does somewhere. The
choice may fall on the whole batch at once, so that its gradient is that of one depth and noisy. The
survivors may keep their scale, so that the trained network never saw the sums it makes in
evaluation. Or the choice may be made in Python, and then neither `torch.compile` nor `torch.export`
can follow it.

This file needs torch and nothing else, so that it can be copied into any code.
"""

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    r"""
    ## Stochastic depth

    $$\mathrm{drop}(Y)_b = \frac{m_b}{p} \, Y_b, \qquad m_b \sim \mathrm{Bernoulli}(p)$$

    on the branch $Y$ of a residual block, $X + \mathrm{drop}(Y)$. Each sequence $b$ draws its own
    $m_b$, and keeps or loses the branch as a whole. Because of the division, $X + Y$ is the
    expectation of what training sees, and evaluation computes just that. (Huang et al. multiply in
    evaluation instead; in expectation it is the same.)

    * `survival` is $p$, above 0 and at most 1; 1 drops nothing

    Raises `ValueError` for a `survival` outside of that range and `TypeError` for one that is no
    number.
    """

    def __init__(self, survival: float) -> None:
        super().__init__()
        _check_survival("survival", survival)
        self.survival = survival

    def forward(self, y: Tensor) -> Tensor:
        r"""
        * `y` is $Y$, `[B, n, d]`

        Returns $\mathrm{drop}(Y)$ in training, $Y$ itself in evaluation, `[B, n, d]`.

        Raises `ValueError` for a `y` of another shape.
        """
        if y.dim() != 3:
            raise ValueError(f"y must be [B, n, d], got {list(y.shape)}")
        if not self.training or self.survival == 1:
            return y
        # Drawn in float32, where half precision would round $p$, and used as a tensor: what
        # happens to a sequence is data, and the graph the same for all.
        m = torch.rand(y.shape[0], 1, 1, device=y.device) < self.survival  # [B, 1, 1]
        # Choosing and not multiplying, since zero times infinity is not zero.
        return torch.where(m, y / self.survival, 0.0)

    def extra_repr(self) -> str:
        return f"survival={self.survival}"


def survival_at(index: int, n_layers: int, last: float) -> float:
    r"""
    ## Survival by depth

    $$p_l = 1 - \frac{l}{L - 1} (1 - p_{L-1}), \qquad l = 0, \dots, L - 1$$

    Early layers make what all others build on, so they are to survive more often: linearly less
    with depth (Huang et al., section 3). They count the input as layer 0, so that already their
    first block may be dropped; here the first block never is, as in common practice. The paper
    names one probability for each model and not, in what could be read of it, whether depth
    changes it.

    * `index` is $l$, as `Encoder` hands it to `make_layer`
    * `n_layers` is $L$
    * `last` is the probability of the deepest layer, also if it is the only one

    Returns $p_l$.

    Raises `ValueError` for an `n_layers` that is not a positive whole number, an `index` that is
    not a whole number below it and a `last` outside of (0, 1]; `TypeError` for a `last` that is no
    number.
    """
    if type(n_layers) is not int or n_layers < 1:
        raise ValueError(f"n_layers must be a positive whole number, got {n_layers!r}")
    if type(index) is not int or not 0 <= index < n_layers:
        raise ValueError(f"index must be a whole number in [0, {n_layers}), got {index!r}")
    _check_survival("last", last)
    depth = 1.0 if n_layers == 1 else index / (n_layers - 1)
    # The two ends weighted, so that both come out to the last bit.
    return (1 - depth) + depth * last


def _check_survival(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    # NaN is in no range.
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
