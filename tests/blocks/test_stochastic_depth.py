import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, StochasticDepth, TransformerLayer, survival_at
from tests.support import oracles
from tests.support.helpers import FLOAT64, properties, random, randomised, seeds

# All sizes differ, so swapping two of them fails.
B, N, D = 64, 5, 3

survivals = st.floats(0.05, 0.95)


def survived(y, out):
    """Returns which sequences were kept, `[B]`; each must be kept or dropped as a whole."""
    zero = (out == 0).all(dim=(1, 2))
    assert (out[~zero] != 0).all()
    assert (y != 0).all()
    return ~zero


# In training


@properties
@given(survival=survivals, seed=seeds)
def test_it_equals_its_formula_written_with_loops(survival, seed):
    torch.manual_seed(seed)
    y = random(B, N, D)
    out = StochasticDepth(survival)(y)
    want = oracles.stochastic_depth(y.numpy(), survived(y, out).numpy(), survival)
    np.testing.assert_array_equal(out.numpy(), want)


@pytest.mark.parametrize("survival", [0.1, 0.5, 0.8, 0.99])
def test_mean_and_variance_are_those_of_a_scaled_bernoulli_variable(survival):
    n = 100_000
    torch.manual_seed(0)
    out = StochasticDepth(survival)(torch.ones(n, 1, 1, dtype=FLOAT64))
    # With a Bernoulli variable m, m / p has mean 1 and variance v = (1 - p) / p. The standard error
    # of the mean of n draws is sqrt(v / n); allow five of them. As m is 0 or 1, the sample variance
    # is k (1 - k) / p^2, where k is the mean of m with the standard error sqrt(p (1 - p) / n). Its
    # error is at most |1 - 2 p| / p^2 times the error of k, plus the square of that error over p^2.
    variance = (1 - survival) / survival
    assert abs(out.mean() - 1) < 5 * (variance / n) ** 0.5
    off = 5 * (survival * (1 - survival) / n) ** 0.5
    bound = (abs(1 - 2 * survival) * off + off**2) / survival**2
    assert abs(out.var(correction=0) - variance) <= bound + 1e-12


def test_sequences_draw_independently():
    n_draws, survival = 5_000, 0.7
    torch.manual_seed(0)
    # One batch, in groups of three sequences.
    y = StochasticDepth(survival)(torch.ones(3 * n_draws, 1, 1))
    kept = (y != 0).double().reshape(n_draws, 3)
    covariance = torch.cov(kept.T)
    # Off the diagonal it is 0 in expectation, and its standard deviation p (1 - p) / sqrt(draws).
    apart = covariance[~torch.eye(3, dtype=torch.bool)]
    assert (apart.abs() < 5 * survival * (1 - survival) / n_draws**0.5).all()
    # One draw for the whole batch would have no variance.
    assert (covariance.diagonal() > 0.9 * survival * (1 - survival)).all()


@properties
@given(survival=survivals, seed=seeds)
def test_the_gradient_of_a_dropped_branch_is_zero_and_of_a_kept_one_scaled(survival, seed):
    torch.manual_seed(seed)
    y = random(B, N, D).requires_grad_()
    out = StochasticDepth(survival)(y)
    kept = survived(y, out)
    out.sum().backward()
    want = (kept[:, None, None] / torch.tensor(survival, dtype=FLOAT64)).expand(B, N, D)
    torch.testing.assert_close(y.grad, want, rtol=0, atol=1e-12)


def test_a_dropped_branch_may_be_infinite():
    torch.manual_seed(0)
    y = torch.full((B, N, D), torch.inf, requires_grad=True)
    out = StochasticDepth(0.5)(y)
    assert set(out.unique().tolist()) == {0.0, torch.inf}
    out[out == 0].sum().backward()
    assert not y.grad.any()


def test_a_seed_repeats_the_draw():
    drop, y = StochasticDepth(0.5), torch.ones(B, N, D)

    def draw(seed):
        torch.manual_seed(seed)
        return drop(y)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(drop(y), drop(y))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, FLOAT64], ids=str)
def test_the_draw_does_not_depend_on_the_dtype(dtype):
    kept = []
    for each in (torch.float32, dtype):
        torch.manual_seed(0)
        out = StochasticDepth(0.998)(torch.ones(10_000, 1, 1, dtype=each))
        assert out.dtype == each
        kept.append(out != 0)
    assert torch.equal(*kept)


# In evaluation


@pytest.mark.parametrize("survival", [0.01, 0.5, 1, 1.0])
def test_in_evaluation_it_is_the_identity_without_a_random_draw(survival):
    y, state = torch.randn(B, N, D), torch.get_rng_state()
    assert StochasticDepth(survival).eval()(y) is y
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("survival", [1, 1.0])
def test_survival_of_one_is_the_identity_in_training(survival):
    y, state = torch.randn(B, N, D), torch.get_rng_state()
    assert StochasticDepth(survival)(y) is y
    assert torch.equal(state, torch.get_rng_state())


# In a block


@pytest.mark.parametrize(
    "build",
    [
        lambda drop: GMLPBlock(D, 10, 6, dropout=drop),
        lambda drop: TransformerLayer(D, 1, 10, dropout=drop),
    ],
    ids=["gMLP", "Transformer"],
)
def test_a_dropped_block_is_the_identity_for_the_dropped_sequences_only(build):
    torch.manual_seed(0)
    block = randomised(build(StochasticDepth(0.5)))
    whole = copy.deepcopy(block).eval()
    x = random(B, N, D)
    out = block(x)
    dropped = (out == x).all(dim=(1, 2))
    assert 0 < dropped.sum() < B
    assert not torch.isclose(out[~dropped], x[~dropped]).all(dim=(1, 2)).any()
    if isinstance(block, GMLPBlock):
        # Kept branches are doubled, since the survival probability is one half.
        torch.testing.assert_close(
            (out - x)[~dropped], 2 * (whole(x) - x)[~dropped], rtol=0, atol=1e-12
        )


def test_the_expectation_in_training_is_the_output_in_evaluation():
    torch.manual_seed(0)
    block = randomised(GMLPBlock(D, 10, 6, dropout=StochasticDepth(0.8)))
    x, n = random(1, N, D), 20_000
    many = block(x.expand(n, N, D)).mean(dim=0)
    once = block.eval()(x)[0]
    # The mean is off by |Y| sqrt((1 - p) / p / n), with the same draw at every entry.
    bound = 5 * (once - x[0]).abs() * (0.2 / 0.8 / n) ** 0.5
    assert ((many - once).abs() <= bound).all()


def test_survival_decreases_with_depth_in_an_encoder():
    def make_layer(index):
        return GMLPBlock(D, 10, 6, dropout=StochasticDepth(survival_at(index, 5, last=0.6)))

    encoder = Encoder(make_layer, 5)
    survivals = [layer.dropout.survival for layer in encoder.layers]
    assert survivals == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    assert encoder(torch.randn(B, N, D)).shape == (B, N, D)


# Compiled and exported


# Compiling a whole block would take many seconds; this is the layer with a residual.
class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = StochasticDepth(0.5)

    def forward(self, x):
        return x + self.drop(x.sin())


def test_it_compiles_into_one_graph_that_draws_at_each_call():
    torch._dynamo.reset()
    branch, x = Branch(), random(B, N, D).requires_grad_()
    compiled = torch.compile(branch, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    want = branch(x)
    torch.manual_seed(1)
    got = compiled(x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert not torch.equal(compiled(x), got)
    got.sum().backward()
    dropped = (got == x).all(dim=(1, 2))
    assert torch.equal(x.grad[dropped], torch.ones_like(x)[dropped])
    compiled.eval()
    torch.testing.assert_close(compiled(x), x + x.sin(), rtol=0, atol=1e-12)


def test_it_is_exported_for_any_batch_and_draws_at_each_call():
    torch.manual_seed(0)
    branch, x = Branch(), random(B, N, D)
    batch = torch.export.Dim("batch", min=2, max=1024)
    exported = torch.export.export(branch, (random(7, N, D),), dynamic_shapes=({0: batch},))
    module = exported.module()
    assert not torch.equal(module(x), module(x))
    dropped = (module(x) == x).all(dim=(1, 2))
    assert 0 < dropped.sum() < B
    evaluated = torch.export.export(branch.eval(), (x,)).module()
    assert torch.equal(evaluated(x), x + x.sin())


# By depth


@properties
@given(n_layers=st.integers(2, 60), last=st.floats(1e-3, 1))
def test_survival_falls_in_equal_steps_from_1_to_the_last(n_layers, last):
    p = [survival_at(index, n_layers, last) for index in range(n_layers)]
    assert p[0] == 1
    assert p[-1] == last
    assert np.diff(p) == pytest.approx((last - 1) / (n_layers - 1), abs=1e-12)
    assert [StochasticDepth(each).survival for each in p] == p


@pytest.mark.parametrize("last", [0.3, 1, 1.0])
def test_a_single_layer_is_the_deepest(last):
    assert survival_at(0, 1, last) == last


def test_the_repr_shows_the_arguments():
    assert repr(StochasticDepth(0.8)) == "StochasticDepth(survival=0.8)"
