"""The Flax twin computes what torch computes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from helpers import FLOAT64, assert_raises, kept_tokens, random_mask, randomised

import labml_gmlp

pytest.importorskip("flax", reason="the twin needs the extra flax")

import jax
import jax.numpy as jnp
from flax import nnx

from labml_gmlp import flax

# Sizes that cannot be confused.
B, D, E, SEQ_LEN, N_TOKENS = 2, 4, 12, 7, 11


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        torch.manual_seed(0)
        yield


def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)


def flax_options(**changes) -> dict[str, Any]:
    return {"rngs": rngs(), "param_dtype": jnp.float64, **changes}


@dataclass
class Twins:
    """* `build(system, options)` builds from `labml_gmlp` or from its twin
    * `shape` is that of the input; None means tokens
    * `n` is the number of tokens
    * `given` names what else is given to the call
    """

    build: Callable[[Any, dict[str, Any]], Any]
    shape: tuple[int, ...] | None
    given: dict[str, str] = field(default_factory=dict)
    n: int = SEQ_LEN

    def pair(self) -> tuple[Any, Any]:
        model = randomised(self.build(labml_gmlp, {}))
        twin = self.build(flax, flax_options())
        flax.from_torch(twin, model.state_dict())
        return model, twin

    def input(self) -> torch.Tensor:
        if self.shape is None:
            return torch.randint(N_TOKENS, (B, self.n))
        return torch.randn(self.shape, dtype=FLOAT64)

    def arguments(self) -> dict[str, torch.Tensor]:
        made = {
            "one mask": lambda: random_mask("one mask", B, self.n),
            "a mask each": lambda: random_mask("a mask each", B, self.n),
            "reads nothing": lambda: torch.zeros(B, self.n, self.n, dtype=torch.bool),
            "padding": lambda: kept_tokens([self.n, self.n - 2], self.n),
            "attended": lambda: torch.randn(B, self.n, E // 2, dtype=FLOAT64),
        }
        return {name: made[kind]() for name, kind in self.given.items()}


def projection(name: str = "SpatialProjection", **options):
    return lambda system, more: getattr(system, name)(SEQ_LEN, **options, **more)


def unit(**options):
    return lambda system, more: system.SpatialGatingUnit(E, SEQ_LEN, **options, **more)


def block(heads: int = 1, toeplitz: bool = False, attention: bool = False, causal: bool = False):
    def build(system, more):
        kind = system.ToeplitzProjection if toeplitz else system.SpatialProjection
        mixer = kind(SEQ_LEN, causal=causal, n_heads=heads, **more)
        tiny = system.TinyAttention(D, E // 2, 3, causal=causal, **more) if attention else None
        return system.GMLPBlock(D, E, causal=causal, projection=mixer, attention=tiny, **more)

    return build


def encoder(system, more):
    # Layers that differ, in their order too.
    return system.Encoder(lambda i: block(heads=i + 1, attention=i == 1)(system, more), 3, **more)


def language(**options):
    return lambda system, more: system.LanguageModel(
        N_TOKENS, encoder(system, more), **options, **more
    )


def tiny(**options):
    return lambda system, more: system.TinyAttention(D, E // 2, 3, **options, **more)


def vision(system, more):
    layers = system.Encoder(lambda: system.GMLPBlock(D, E, 6, **more), 2, **more)
    return system.ImageClassifier(
        layers, 5, image_size=(4, 9), patch_size=(2, 3), n_channels=3, **more
    )


Z, X = (B, SEQ_LEN, E // 2), (B, SEQ_LEN, D)
SHORT_Z, SHORT_X = (B, 4, E // 2), (B, 4, D)
TOEPLITZ = "ToeplitzProjection"

TWINS = {
    "projection": Twins(projection(), Z),
    "projection, causal, heads, short": Twins(projection(causal=True, n_heads=3), SHORT_Z, n=4),
    "projection, heads, one mask": Twins(projection(n_heads=2), Z, {"mask": "one mask"}),
    "projection, a mask each": Twins(
        projection(causal=True, n_heads=2), Z, {"mask": "a mask each"}
    ),
    "toeplitz": Twins(projection(TOEPLITZ), Z),
    "toeplitz, causal, heads, short": Twins(
        projection(TOEPLITZ, causal=True, n_heads=3), SHORT_Z, n=4
    ),
    "toeplitz, short, heads": Twins(projection(TOEPLITZ, n_heads=2), SHORT_Z, n=4),
    "toeplitz, a mask each": Twins(
        projection(TOEPLITZ, n_heads=2), SHORT_Z, {"mask": "a mask each"}, n=4
    ),
    "toeplitz, by transform": Twins(projection(TOEPLITZ, n_heads=2, fft_from=2), SHORT_Z, n=4),
    "toeplitz, causal, by transform": Twins(projection(TOEPLITZ, causal=True, fft_from=2), Z),
    "unit": Twins(unit(), (B, SEQ_LEN, E)),
    "unit, everything": Twins(
        unit(causal=True),
        (B, SEQ_LEN, E),
        {"mask": "one mask", "key_padding_mask": "padding", "attended": "attended"},
    ),
    "tiny": Twins(tiny(), X),
    "tiny, causal, no biases": Twins(tiny(causal=True, in_bias=False, out_bias=False), X),
    "tiny, causal, masks": Twins(
        tiny(causal=True), X, {"mask": "a mask each", "key_padding_mask": "padding"}
    ),
    "tiny, reads nothing": Twins(tiny(), X, {"mask": "reads nothing"}),
    "block": Twins(block(), X),
    "block, causal, attention, short": Twins(
        block(heads=2, attention=True, causal=True), SHORT_X, n=4
    ),
    "block, toeplitz, attention, padding": Twins(
        block(toeplitz=True, attention=True),
        X,
        {"mask": "one mask", "key_padding_mask": "padding"},
    ),
    "encoder": Twins(encoder, X, {"key_padding_mask": "padding"}),
    "language, tied": Twins(language(), None),
    "language, untied, positions": Twins(
        language(tied=False, n_positions=9), None, {"mask": "one mask"}, n=5
    ),
    "vision": Twins(vision, (B, 3, 4, 9)),
}
every_twin = pytest.mark.parametrize("name", TWINS)


def array(tensor: torch.Tensor) -> jax.Array:
    return jnp.asarray(tensor.detach().numpy())


def in_torch(model, x, given, weights) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output, and the gradients of its weighted sum, that of the input as `input`."""
    x = x.clone().requires_grad_(x.is_floating_point())
    given = {name: value.clone() for name, value in given.items()}
    y = model(x, **given)
    (y * weights(y)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if x.grad is not None:
        gradients["input"] = x.grad
    return y.detach(), gradients


def in_flax(twin, x, given, weights) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    graph, state = nnx.split(twin)
    x, given = array(x), {name: array(value) for name, value in given.items()}

    @jax.jit
    def run(state, x):
        def loss(state, x):
            y = nnx.merge(graph, state)(x, **given)
            return (y * array(weights(y))).sum(), y

        wanted = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else (0,)
        return jax.value_and_grad(loss, wanted, has_aux=True)(state, x)

    (_, y), (of_state, *of_input) = run(state, x)
    gradients = flax.to_torch(nnx.merge(graph, of_state))
    if of_input:
        gradients["input"] = torch.from_numpy(np.array(of_input[0]))
    return torch.from_numpy(np.array(y)), gradients


def assert_near(got: torch.Tensor, want: torch.Tensor, rtol: float) -> None:
    """* `rtol` is relative to the largest number that is wanted"""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    largest = want.abs().max().item()
    torch.testing.assert_close(got, want, rtol=0, atol=rtol * largest)


def assert_twins_agree(name: str, dtype: torch.dtype, rtol: float) -> None:
    twins = TWINS[name]
    model, twin = twins.pair()
    x, given = twins.input(), twins.arguments()
    if dtype != FLOAT64:
        model = model.to(dtype)
        twin = twins.build(flax, flax_options(param_dtype=jnp.float32))
        flax.from_torch(twin, model.state_dict())
        x = x.to(dtype) if x.is_floating_point() else x
        given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in given.items()}

    def weights(y):
        generator = torch.Generator().manual_seed(1)
        return torch.randn(tuple(y.shape), generator=generator, dtype=dtype)

    want, want_gradients = in_torch(model, x, given, weights)
    got, got_gradients = in_flax(twin, x, given, weights)
    assert_near(got, want, rtol)
    assert set(got_gradients) == set(want_gradients)
    # What a loss does not depend on has no gradient in torch and one of zeros in JAX; a gradient
    # that is zero but for rounding is compared with the largest of all.
    largest = max(g.abs().max().item() for g in want_gradients.values())
    for key, gradient in want_gradients.items():
        assert got_gradients[key].dtype == gradient.dtype, key
        assert got_gradients[key].shape == gradient.shape, key
        error = (got_gradients[key] - gradient).abs().max().item()
        assert error <= rtol * largest, key


@every_twin
def test_outputs_and_all_gradients_equal_those_of_torch_in_float64(name):
    assert_twins_agree(name, FLOAT64, 1e-12)


@every_twin
def test_outputs_and_all_gradients_equal_those_of_torch_in_float32(name):
    assert_twins_agree(name, torch.float32, 1e-6)
