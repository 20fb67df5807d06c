"""The Flax port computes what the torch models compute."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flax", reason="the Flax port needs the extra flax")

import jax
import jax.numpy as jnp
from flax import nnx

import labml_gmlp
from labml_gmlp import flax
from tests.support.flax_models import (
    CASES,
    SEQ_LEN,
    TOEPLITZ,
    Case,
    X,
    Z,
    array,
    block,
    encoder,
    fresh,
    jit,
    jitted,
    language,
    projection,
    small_float64_arrays,
    tiny,
    unit,
)
from tests.support.helpers import FLOAT64


@pytest.fixture(autouse=True)
def _float64():
    with small_float64_arrays():
        torch.manual_seed(0)
        yield


def in_torch(model, x, arguments, weights) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output, and the gradients of its weighted sum; that of the input has the key `input`."""
    x = x.clone().requires_grad_(x.is_floating_point())
    y = model(x, **arguments)
    (y * weights(y)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if x.grad is not None:
        gradients["input"] = x.grad
    return y.detach(), gradients


def in_flax(port, x, arguments, weights) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    graph, state = nnx.split(port)
    x, arguments = array(x), {name: array(value) for name, value in arguments.items()}

    @jit
    def run(state, x):
        def loss(state, x):
            y = nnx.merge(graph, state)(x, **arguments)
            return (y * array(weights(y))).sum(), y

        wanted = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else (0,)
        return jax.value_and_grad(loss, wanted, has_aux=True)(state, x)

    (_, y), (of_state, *of_input) = run(state, x)
    gradients = flax.to_torch(nnx.merge(graph, of_state))
    if of_input:
        gradients["input"] = torch.from_numpy(np.array(of_input[0]))
    return torch.from_numpy(np.array(y)), gradients


def assert_near(got: torch.Tensor, want: torch.Tensor, rtol: float) -> None:
    """* `rtol` is relative to the largest number in `want`"""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    largest = want.abs().max().item()
    torch.testing.assert_close(got, want, rtol=0, atol=rtol * largest)


def assert_equals_torch(name: str, dtype: torch.dtype, rtol: float) -> None:
    case = CASES[name]
    model, x, arguments = case.torch_model().to(dtype), case.input(), case.arguments()
    port = case.port(model, jnp.float64 if dtype == FLOAT64 else jnp.float32)
    x, *values = (
        value.to(dtype) if value.is_floating_point() else value
        for value in (x, *arguments.values())
    )
    arguments = dict(zip(arguments, values, strict=True))

    def weights(y):
        generator = torch.Generator().manual_seed(1)
        return torch.randn(tuple(y.shape), generator=generator, dtype=dtype)

    want, want_gradients = in_torch(model, x, arguments, weights)
    got, got_gradients = in_flax(port, x, arguments, weights)
    assert_near(got, want, rtol)
    assert set(got_gradients) == set(want_gradients)
    # Gradients that are zero but for rounding are compared with the largest of all.
    largest = max(g.abs().max().item() for g in want_gradients.values())
    for key, gradient in want_gradients.items():
        assert got_gradients[key].dtype == gradient.dtype, key
        assert got_gradients[key].shape == gradient.shape, key
        error = (got_gradients[key] - gradient).abs().max().item()
        assert error <= rtol * largest, key


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_all_gradients_equal_those_of_torch_in_float64(name):
    assert_equals_torch(name, FLOAT64, 1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "projection, causal, heads, short",
        "toeplitz, FFT",
        "unit, all arguments",
        "tiny, causal, masks",
        "block, toeplitz, attention, padding",
        "language, tied",
        "vision",
    ],
)
def test_outputs_and_all_gradients_equal_those_of_torch_in_float32(name):
    assert_equals_torch(name, torch.float32, 1e-6)


# Properties

CAUSAL = {
    "projection": (projection(causal=True, n_heads=2), Z),
    "toeplitz": (projection(TOEPLITZ, causal=True), Z),
    "tiny": (tiny(causal=True), X),
    "unit": (unit(causal=True), (*X[:2], 12)),
    "block": (block(heads=3, attention=True, causal=True), X),
}


def random_port(build: Any) -> Any:
    case = Case(build, X)
    return case.port(case.torch_model())


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, jnp.float32) for name in CAUSAL), ("block", jnp.float64)]
)
def test_the_past_cannot_see_the_future_not_even_in_the_last_bit(name, dtype):
    build, shape = CAUSAL[name]
    case = Case(build, shape)
    layer = jitted(case.port(case.torch_model(), dtype))
    x, other = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    before = layer(x)
    for t in (1, 4):
        after = layer(np.concatenate([x[:, :t], other[:, t:]], axis=1))
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.asarray(after) != before)[:, t:].any()


def test_every_token_reads_every_other():
    # The other public Flax port has no spatial projection, so its tokens never mix.
    layer, x = jitted(random_port(block())), np.random.default_rng(0).standard_normal(X)
    changed = x.copy()
    changed[:, 3] *= -1
    assert (np.asarray(layer(changed)) != layer(x)).any(axis=-1).all()


def test_padding_equals_cutting_it_off_and_a_shorter_sequence_uses_the_corner():
    layer = jitted(random_port(block(heads=2, attention=True)))
    x = np.random.default_rng(0).standard_normal(X)
    kept = np.arange(SEQ_LEN)[None] < np.array([[SEQ_LEN], [4]])
    padded = layer(x, key_padding_mask=kept)
    np.testing.assert_allclose(padded[1:, :4], layer(x[1:, :4]), rtol=0, atol=1e-12)


def test_a_position_that_may_read_nothing_reads_zeros_and_has_a_finite_gradient():
    layer = random_port(tiny(out_bias=False))
    nothing, x = np.zeros((SEQ_LEN, SEQ_LEN), bool), jnp.ones(X)
    y, gradient = jit(
        lambda x: (layer(x, nothing), jax.grad(lambda x: layer(x, nothing).sum())(x))
    )(x)
    assert not np.asarray(y).any()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["unit", "block", "encoder"])
def test_the_norms_keep_their_digits_when_the_mean_is_large(name):
    # As a difference of squares, the variance would lose all its digits in float32.
    case = CASES[name]
    model = case.torch_model().float()
    port, x = case.port(model, jnp.float32), case.input().float() + 1000
    # The residual connection of a block would hide its output.
    residual = x if name == "block" else 0
    got = torch.from_numpy(np.array(jitted(port)(array(x))))
    assert_near(got - residual, model(x).detach() - residual, 2e-3)


def test_nnx_jit_and_a_vmap_over_the_weights_equal_plain_calls():
    members = [fresh(unit(), seed) for seed in range(2)]
    for member, value in zip(members, (1.0, 2.0), strict=True):
        member.projection.weight[...] = value * member.projection.weight[...] * 1e6
    x = np.random.default_rng(0).standard_normal((*X[:2], 12))
    plain = [member(x) for member in members]
    compiled = nnx.jit(lambda layer, x: layer(x))(members[0], x)
    np.testing.assert_allclose(compiled, plain[0], rtol=0, atol=1e-12)
    graph = nnx.graphdef(members[0])
    states = jax.tree.map(lambda *leaves: np.stack(leaves), *map(nnx.state, members))
    together = jit(jax.vmap(lambda state: nnx.merge(graph, state)(x)))(states)
    np.testing.assert_allclose(together, np.stack(plain), rtol=0, atol=1e-12)
    assert not np.allclose(together[0], together[1])


def test_eval_shape_builds_a_model_without_memory():
    model = nnx.eval_shape(lambda: language()(flax, {"rngs": nnx.Rngs(0)}))
    leaves = jax.tree.leaves(nnx.state(model))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


# Initialisation


@pytest.mark.parametrize("name", ["language, untied, positions", "vision"])
def test_parameters_have_the_names_and_the_order_of_magnitude_of_torch(name):
    build = CASES[name].build
    want, got = build(labml_gmlp, {}).state_dict(), flax.to_torch(fresh(build))
    assert set(got) == set(want)
    for key, value in got.items():
        assert value.shape == want[key].shape, key
        if not key.endswith(("proj_in.bias", "proj_out.bias", "attention_in.bias", "patches.bias")):
            assert (value.abs().max() == 0) == (want[key].abs().max() == 0), key
            assert value.abs().max() <= 8 * want[key].abs().max(), key


def test_a_block_starts_as_a_feed_forward_layer_and_layers_start_different():
    layers = fresh(encoder).layers
    x = np.random.default_rng(0).standard_normal(X)
    changed = x.copy()
    changed[:, 3] = 2.0
    # The second layer has tiny attention.
    for layer in layers[:2]:
        call = jitted(layer)
        difference = np.abs(np.asarray(call(changed)) - call(x))
        others = np.delete(difference, 3, axis=1)
        assert others.max() < 1e-4 * difference.max()
    assert not np.array_equal(layers[0].proj_in.kernel[...], layers[1].proj_in.kernel[...])


# Use


def test_importing_the_library_does_not_import_jax():
    program = "import sys, labml_gmlp; assert not {'jax', 'flax', 'numpy.f2py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_model_learns_real_text():
    pytest.importorskip("optax", reason="the training needs the extra flax")
    from experiments.flax_autoregressive import SEQ_LEN as WINDOW
    from experiments.flax_autoregressive import make_model, train
    from experiments.text.corpus import load_corpus

    # One file of the standard library instead of all of them.
    corpus = load_corpus(argparse.__file__, WINDOW, Path("data"))
    with jax.enable_x64(False):
        model = make_model(len(corpus.vocabulary), d_model=32, d_ffn=64, n_layers=1)
        losses = list(train(model, corpus, steps=30))
    assert np.isfinite(losses).all()
    assert losses[0] == pytest.approx(np.log(len(corpus.vocabulary)), rel=0.05)
    assert losses[-1] < 0.75 * losses[0]
