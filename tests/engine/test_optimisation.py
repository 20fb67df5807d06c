"""Weight decay groups and the learning rate schedule."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from experiments.engine.optimiser import learning_rate, make_optimizer
from experiments.models.language import LayerSizes, make_model
from tests.support.helpers import properties, randomised

LAYERS = ["gmlp", "transformer"]
TINY = LayerSizes(d_model=8, d_ffn=12, n_layers=2, n_heads=2, seq_len=5)


def model_of(layer: str) -> nn.Module:
    return randomised(make_model(layer, TINY, 7, causal=True, seed=0))


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    return make_optimizer(model, lr=0.1, betas=(0.9, 0.99), weight_decay=0.5, eps=1e-7)


def linear_weights(model: nn.Module) -> set[str]:
    return {f"{name}.weight" for name, m in model.named_modules() if type(m) is nn.Linear}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_parameter_is_in_exactly_one_group(layer):
    model = model_of(layer)
    groups = optimizer_of(model).param_groups
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("layer", LAYERS)
def test_exactly_the_weights_of_linear_layers_decay(layer):
    model = model_of(layer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer_of(model).step()
    # With a zero gradient, AdamW only scales decaying weights by 1 - lr * weight_decay.
    linear = linear_weights(model)
    for name, p in model.named_parameters():
        want = before[name] * (1 - 0.1 * 0.5) if name in linear else before[name]
        torch.testing.assert_close(p.detach(), want, rtol=0, atol=1e-12, msg=name)


def test_the_parameters_that_decay_are_the_projections():
    assert {name.rpartition("layers.")[2] for name in linear_weights(model_of("gmlp"))} == {
        f"{i}.{name}.weight" for i in range(2) for name in ("proj_in", "proj_out")
    }
    spatial = [name for name, _ in model_of("gmlp").named_parameters() if "sgu" in name]
    assert spatial
    assert not set(spatial) & linear_weights(model_of("gmlp"))


def test_the_optimizer_has_the_given_settings():
    decay, rest = optimizer_of(model_of("gmlp")).param_groups
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.5, 0.0)
    for group in (decay, rest):
        assert group["lr"] == 0.1
        assert group["betas"] == (0.9, 0.99)
        assert group["eps"] == 1e-7


schedules = st.integers(1, 500).flatmap(
    lambda steps: st.tuples(st.just(steps), st.integers(0, steps - 1))
)


@properties
@given(schedule=schedules, lr=st.floats(1e-6, 1.0))
def test_the_rate_is_a_straight_line_and_then_half_a_cosine(schedule, lr):
    steps, warmup = schedule
    for t in range(steps):
        if t < warmup:
            want = lr * (t + 1) / (warmup + 1)
        else:
            # Half a turn from the peak to a tenth of it, written with the half angle.
            want = lr * (1 - 0.9 * math.sin(math.pi / 2 * (t - warmup) / (steps - warmup)) ** 2)
        assert learning_rate(t, peak=lr, warmup=warmup, steps=steps) == pytest.approx(
            want, rel=1e-12
        )


@properties
@given(schedule=schedules, lr=st.floats(1e-6, 1.0))
def test_the_rate_rises_to_its_peak_at_the_end_of_warmup_and_falls_from_there(schedule, lr):
    steps, warmup = schedule
    rates = [learning_rate(t, peak=lr, warmup=warmup, steps=steps) for t in range(steps)]
    assert rates[warmup] == pytest.approx(lr, rel=1e-12)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(0 < r <= lr * (1 + 1e-12) for r in rates)


def test_warmup_passes_into_the_cosine_without_a_jump():
    warmup, steps = 100, 2_000
    rates = [learning_rate(t, peak=1.0, warmup=warmup, steps=steps) for t in range(steps)]
    jumps = [abs(after - before) for before, after in itertools.pairwise(rates)]
    assert max(jumps) == pytest.approx(1 / (warmup + 1))


def test_the_rate_starts_at_the_peak_without_warmup_and_ends_near_a_tenth_of_it():
    assert learning_rate(0, peak=0.3, warmup=0, steps=10) == pytest.approx(0.3, rel=1e-12)
    assert learning_rate(1_999, peak=1.0, warmup=100, steps=2_000) == pytest.approx(0.1, rel=1e-4)
