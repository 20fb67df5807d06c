"""The cost that the paper states: multiply-adds of the gate and of attention, counted by torch."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labml_gmlp import GMLPBlock, SpatialGatingUnit, TinyAttention, TransformerLayer


def multiply_adds(layer: nn.Module, x: torch.Tensor) -> int:
    """The multiply-adds of all matrix products in a forward pass of one sequence."""
    # The fused kernel of attention is one operation that the counter does not know on a CPU.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        layer(x)
    # The counter counts a multiplication and an addition as two.
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("n", "e"), [(16, 24), (32, 24), (16, 48)])
def test_the_gating_unit_takes_half_of_n_squared_times_e(n, e):
    assert multiply_adds(SpatialGatingUnit(e, n), torch.randn(1, n, e)) == n * n * e // 2


# The projections of channels cost $an$ and the products of positions $bn^2$, so the cost of twice
# the sequence, less twice the cost of the sequence, is $2bn^2$.
@pytest.mark.parametrize("n", [16, 48])
@pytest.mark.parametrize(
    ("make", "width", "per_pair"),
    [
        (lambda n: GMLPBlock(12, 40, n), 12, 40 // 2),
        # The scores and the weighted sum of the values, $d$ each, for any number of heads.
        (lambda n: TransformerLayer(12, n_heads=3, d_ffn=40), 12, 2 * 12),
        (lambda n: TransformerLayer(12, n_heads=1, d_ffn=40), 12, 2 * 12),
        (lambda n: TinyAttention(12, 20, 8), 12, 2 * 8),
    ],
    ids=["gMLP", "attention", "attention with one head", "tiny attention"],
)
def test_only_the_products_of_positions_grow_with_n_squared(make, width, per_pair, n):
    once, twice = (multiply_adds(make(k), torch.randn(1, k, width)) for k in (n, 2 * n))
    assert twice - 2 * once == 2 * per_pair * n * n
