"""Conversion of weights between torch and Flax."""

import pytest
import torch

pytest.importorskip("flax", reason="the Flax port needs the extra flax")

import jax.numpy as jnp
from flax import nnx

from labml_gmlp import flax
from tests.support.flax_models import CASES, rngs, small_float64_arrays
from tests.support.helpers import assert_raises


@pytest.fixture(autouse=True)
def _float64():
    with small_float64_arrays():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", ["toeplitz", "language, untied, positions", "vision"])
def test_weights_survive_the_conversion_to_flax_and_back(name):
    model = CASES[name].torch_model()
    back, before = flax.to_torch(CASES[name].port(model)), model.state_dict()
    assert set(back) == set(before)
    assert all(torch.equal(back[key], before[key]) for key in before)
    model.load_state_dict(back)


def test_weights_are_copied_and_keep_the_dtype_of_the_model():
    model = torch.nn.Linear(2, 3)
    port = nnx.Linear(2, 3, rngs=rngs(), param_dtype=jnp.bfloat16)
    flax.from_torch(port, model.state_dict())
    assert port.kernel[...].dtype == jnp.bfloat16
    before = flax.to_torch(port)
    assert before["weight"].dtype == torch.bfloat16
    assert torch.equal(before["weight"], model.weight.detach().bfloat16())
    flax.from_torch(port, before)
    assert torch.equal(flax.to_torch(port)["weight"], before["weight"])
    before["weight"].zero_()
    torch.nn.init.zeros_(model.weight)
    assert (flax.to_torch(port)["weight"] != 0).any()


def test_one_error_lists_all_weights_that_do_not_fit_and_changes_nothing():
    port = nnx.Linear(2, 3, rngs=rngs())
    before = flax.to_torch(port)
    weights = {"weight": torch.ones(2, 3), "other": torch.ones(1), "kernel": torch.ones(2, 3)}
    assert_raises(
        lambda: flax.from_torch(port, weights),
        ValueError,
        *("state_dict", "missing: bias", "other, kernel", "weight", [3, 2], [2, 3]),
    )
    weights = {"weight": torch.ones(3, 2), "bias": torch.ones(3, 1)}
    assert_raises(
        lambda: flax.from_torch(port, weights), ValueError, "state_dict", "bias", [3], [3, 1]
    )
    after = flax.to_torch(port)
    assert all(torch.equal(before[key], after[key]) for key in before)
