"""The Toeplitz fraction of a matrix, against its definition with loops."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from experiments.reporting.toeplitz_fraction import (
    toeplitz_fraction,
    toeplitz_fraction_of_noise,
    toeplitz_fractions,
)
from labml_gmlp import SpatialProjection
from tests.support.helpers import assert_raises, properties, seeds


def fraction_with_loops(w: np.ndarray, causal: bool) -> float:
    n = len(w)
    places = [(i, j) for i in range(n) for j in range(n) if not causal or j <= i]
    kept = 0.0
    for i, j in places:
        diagonal = [w[k, l] for k, l in places if k - l == i - j]
        kept += (sum(diagonal) / len(diagonal)) ** 2
    return kept / sum(w[i, j] ** 2 for i, j in places)


@properties
@given(n=st.integers(1, 9), causal=st.booleans(), seed=seeds)
def test_the_fraction_equals_the_projection_written_with_loops(n, causal, seed):
    w = np.random.default_rng(seed).normal(size=(n, n))
    fraction = toeplitz_fraction(torch.from_numpy(w), causal=causal)
    assert fraction == pytest.approx(fraction_with_loops(w, causal), abs=1e-12)
    assert 0 <= fraction <= 1 + 1e-12


@properties
@given(n=st.integers(2, 9), causal=st.booleans(), seed=seeds)
def test_a_toeplitz_matrix_has_a_fraction_of_1_and_a_changed_entry_lowers_it(n, causal, seed):
    random = np.random.default_rng(seed)
    w = random.normal(size=2 * n - 1)
    i, j = np.indices((n, n))
    matrix = torch.from_numpy(w[i - j + n - 1])
    assert toeplitz_fraction(matrix, causal=causal) == pytest.approx(1, abs=1e-12)
    # Adding 1 to one of the n entries of the diagonal leaves 1 - 1 / n of its square outside of the
    # mean of the diagonal, for every seed.
    other = matrix.clone()
    other[0, 0] += 1
    energy = (other.tril() if causal else other).square().sum().item()
    fraction = toeplitz_fraction(other, causal=causal)
    assert fraction == pytest.approx(1 - (1 - 1 / n) / energy, abs=1e-12)
    assert fraction < 1


def test_a_causal_fraction_ignores_entries_above_the_diagonal():
    torch.manual_seed(0)
    w = torch.randn(6, 6)
    other = w.tril() + torch.randn(6, 6).triu(1)
    assert toeplitz_fraction(w, causal=True) == toeplitz_fraction(other, causal=True)
    assert toeplitz_fraction(w) != toeplitz_fraction(other)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [4, 32])
def test_noise_keeps_one_dimension_per_diagonal(n, causal):
    random = np.random.default_rng(0)
    fractions = [
        toeplitz_fraction(torch.from_numpy(random.normal(size=(n, n))), causal=causal)
        for _ in range(400)
    ]
    expected = (n if causal else 2 * n - 1) / (n * (n + 1) / 2 if causal else n * n)
    assert toeplitz_fraction_of_noise(n, causal=causal) == pytest.approx(expected, abs=1e-15)
    assert np.mean(fractions) == pytest.approx(expected, rel=0.06)


def test_a_matrix_of_zeros_is_toeplitz():
    assert toeplitz_fraction(torch.zeros(3, 3)) == 1


@pytest.mark.parametrize("shape", [[3, 4], [2, 3, 3]])
def test_a_matrix_that_is_not_square_is_refused(shape):
    assert_raises(
        lambda: toeplitz_fraction(torch.zeros(shape)), ValueError, "weight", "[n, n]", shape
    )


def test_a_sharded_matrix_is_gathered_first():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Sequential(SpatialProjection(5), SpatialProjection(5, causal=True))
        whole = toeplitz_fractions(model)
        mesh = init_device_mesh("cpu", (1,))
        for layer in model:
            layer.weight = nn.Parameter(distribute_tensor(layer.weight, mesh, [Shard(0)]))
        assert toeplitz_fractions(model) == whole
        assert whole[0] != whole[1]
    finally:
        dist.destroy_process_group()
