r"""Stochastic depth: in training, each sequence skips some residual branches at random.

# Stochastic depth

A deep network then trains like many shallower ones with shared weights (Huang, Sun, Liu, Sedra and
Weinberger, 2016, [arXiv 1603.09382](https://arxiv.org/abs/1603.09382)). It is the only
regularisation in the paper's vision models that changes with their size: the survival probabilities
are 1, 0.95 and 0.8 (paper, [source](../../docs/coverage.yml#stochastic-depth)).

Public gMLP implementations make three mistakes here. Dropping a branch for the whole batch makes
the gradient noisy. Not rescaling the kept branches makes training and evaluation differ. Choosing
in Python breaks `torch.compile` and `torch.export`.

This file imports only torch and the standard library, so you can copy it alone.
"""

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    r"""Drops a residual branch at random for each sequence, in training only.

    ## Stochastic depth

    $$\mathrm{drop}(Y)_b = \frac{m_b}{p} \, Y_b, \qquad m_b \sim \mathrm{Bernoulli}(p)$$

    on the branch $Y$ of a residual block, $X + \mathrm{drop}(Y)$. Each sequence $b$ draws its own
    $m_b$. Dividing by $p$ keeps the expectation at $X + Y$, which evaluation computes. (Huang et
    al. multiply by $p$ in evaluation instead.)

    ```python
    drop = lambda i: StochasticDepth(survival_at(i, 6, last=0.8))
    encoder = Encoder(lambda i: GMLPBlock(64, 256, 128, dropout=drop(i)), n_layers=6)
    ```

    * `survival` is $p$, in (0, 1]; 1 drops nothing

    Raises `ValueError` if `survival` is outside this range, and `TypeError` if it is not a number.
    """

    def __init__(self, survival: float) -> None:
        super().__init__()
        _check_survival("survival", survival)
        self.survival = survival

    def forward(self, y: Tensor) -> Tensor:
        r"""Returns $\mathrm{drop}(Y)$ in training and $Y$ in evaluation, `[B, n, d]`.

        * `y` is $Y$, `[B, n, d]`

        Raises `ValueError` if `y` does not have three axes.
        """
        if y.dim() != 3:
            raise ValueError(f"y must be [B, n, d], got {list(y.shape)}")
        if not self.training or self.survival == 1:
            return y
        # Draw in float32, because half precision would round $p$. A tensor, not a Python branch,
        # keeps the graph the same for all sequences.
        m = torch.rand(y.shape[0], 1, 1, device=y.device) < self.survival  # [B, 1, 1]
        # `where` instead of a product, since 0 times infinity is NaN.
        return torch.where(m, y / self.survival, 0.0)

    def extra_repr(self) -> str:
        return f"survival={self.survival}"


def survival_at(index: int, n_layers: int, last: float) -> float:
    r"""Returns the survival probability $p_l$ of layer $l$, which decreases linearly with depth.

    ## Survival by depth

    $$p_l = 1 - \frac{l}{L - 1} (1 - p_{L-1}), \qquad l = 0, \dots, L - 1$$

    All later layers build on the early ones, so these survive more often (Huang et al., section 3).
    Huang et al. count the input as layer 0 and may drop the first block; here it is never dropped,
    as is common. The paper gives one probability per model; that it decreases with depth is our
    choice.

    * `index` is $l$, as `Encoder` passes it to `make_layer`
    * `n_layers` is $L$
    * `last` is the probability of the deepest layer, also if there is only one layer

    Raises `ValueError` if `n_layers` is not a positive integer, `index` is not an integer in [0,
    `n_layers`), or `last` is outside (0, 1]; `TypeError` if `last` is not a number.
    """
    if type(n_layers) is not int or n_layers < 1:
        raise ValueError(f"n_layers must be a positive integer, got {n_layers!r}")
    if type(index) is not int or not 0 <= index < n_layers:
        raise ValueError(f"index must be an integer in [0, {n_layers}), got {index!r}")
    _check_survival("last", last)
    depth = 1.0 if n_layers == 1 else index / (n_layers - 1)
    # This form is exact at both ends.
    return (1 - depth) + depth * last


def _check_survival(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    # This also rejects NaN.
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
