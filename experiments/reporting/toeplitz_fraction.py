r"""
# How Toeplitz is a matrix?

The paper finds that its masked language models learn matrices $W$ which are nearly Toeplitz, with
one weight for each distance, and then restricts them to that (as reported). Here "nearly" becomes
a number.
"""

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from labml_gmlp import SpatialProjection


def toeplitz_fraction(weight: Tensor, *, causal: bool = False) -> float:
    r"""
    ## Toeplitz share

    $$\frac{\lVert P(W) \rVert^2}{\lVert W \rVert^2}, \qquad
      P(W)_{ij} = \text{mean of } W_{kl} \text{ over all } k - l = i - j$$

    Of all Toeplitz matrices, $P(W)$ is the nearest to $W$: each diagonal replaced by its mean. As
    $P$ is an orthogonal projection, the share of the squared norm that it keeps lies between 0 and
    1, and is 1 if $W$ is Toeplitz and only then. The rest is how far $W$ is from it:
    $\lVert W - P(W) \rVert^2 / \lVert W \rVert^2$. The mean is not taken out, and the main diagonal
    counts as any other.

    * `weight` is $W$, `[n, n]`
    * `causal` looks at the diagonals on and below the main one only

    Returns the share, and 1 for a matrix of zeros.

    Raises `ValueError` for a `weight` that is not square.
    """
    if weight.dim() != 2 or weight.shape[0] != weight.shape[1]:
        raise ValueError(f"weight must be [n, n], got {list(weight.shape)}")
    w = weight.detach().cpu().double()
    if causal:
        w = w.tril()
    n = len(w)
    # The mean $m$ of a diagonal with $k$ entries contributes $k m^2 = (\text{sum})^2 / k$.
    kept = sum(
        float(w.diagonal(d).sum()) ** 2 / (n - abs(d)) for d in range(1 - n, 1 if causal else n)
    )
    whole = float(w.square().sum())
    return kept / whole if whole else 1.0


def toeplitz_fraction_of_noise(n: int, *, causal: bool = False) -> float:
    r"""
    ## What noise has

    Entries that are independent, with mean zero and equal variance, spread their squared norm
    evenly over all dimensions: the expected share is the number of diagonals over that of entries.
    """
    return 2 / (n + 1) if causal else (2 * n - 1) / n**2


def toeplitz_fractions(model: nn.Module) -> list[float]:
    """The share of each free $W$ in a model, first layer first."""
    free = [m for m in model.modules() if isinstance(m, SpatialProjection)]
    return [toeplitz_fraction(_whole(m.weight), causal=m.causal) for m in free]


# With the strategy fsdp each process holds a part; all of them ask for the rest at once.
def _whole(weight: Tensor) -> Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
