r"""The Toeplitz fraction: how close a matrix is to a Toeplitz matrix, from 0 to 1.

# Toeplitz fraction

The paper finds that the spatial matrices $W$ of its masked language models become nearly Toeplitz,
with one weight for each distance, and then makes them so by construction
([source](../../docs/coverage.yml#toeplitz-weights)). This file measures "nearly".
"""

from torch import Tensor, nn

from experiments.engine.sharding import full_tensor
from labml_gmlp import SpatialProjection


def toeplitz_fraction(weight: Tensor, *, causal: bool = False) -> float:
    r"""The fraction of the squared norm of $W$ that its nearest Toeplitz matrix keeps.

    ## Toeplitz fraction

    $$\frac{\lVert P(W) \rVert^2}{\lVert W \rVert^2}, \qquad
      P(W)_{ij} = \text{mean of } W_{kl} \text{ over all } k - l = i - j$$

    $P(W)$ replaces each diagonal by its mean; it is the Toeplitz matrix nearest to $W$. $P$ is an
    orthogonal projection, so the fraction is between 0 and 1, and 1 only for a Toeplitz matrix. The
    rest, $\lVert W - P(W) \rVert^2 / \lVert W \rVert^2$, is the distance. $W$ is not centred, and
    the main diagonal is treated as any other.

    * `weight` is $W$, `[n, n]`
    * `causal` restricts $W$ to the main diagonal and below

    Returns 1 for a matrix of zeros.

    Raises `ValueError` if `weight` is not square.
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
    r"""The expected fraction of a random $n \times n$ matrix.

    ## Random baseline

    Independent entries with mean zero and equal variance spread their squared norm evenly over all
    dimensions, so the expected fraction is the number of diagonals over the number of entries.
    """
    return 2 / (n + 1) if causal else (2 * n - 1) / n**2


def toeplitz_fractions(model: nn.Module) -> list[float]:
    """The Toeplitz fraction of each free $W$ in a model, first layer first."""
    free = [m for m in model.modules() if isinstance(m, SpatialProjection)]
    return [toeplitz_fraction(full_tensor(m.weight), causal=m.causal) for m in free]
