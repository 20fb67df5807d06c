"""The Flax twin computes what torch computes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import labml_gmlp
from tests.support.helpers import FLOAT64, assert_raises, kept_tokens, random_mask, randomised

pytest.importorskip("flax", reason="the twin needs the extra flax")

import jax
import jax.numpy as jnp
from flax import nnx

from labml_gmlp import flax

# Sizes that cannot be confused.
B, D, E, SEQ_LEN, N_TOKENS = 2, 4, 12, 7, 11


@pytest.fixture(autouse=True)
def _float64():
    # These arrays are tiny: what takes time is to compile, three times as much with optimisation.
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.enable_x64(True):
        torch.manual_seed(0)
        yield
    jax.config.update("jax_disable_most_optimizations", False)


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
        return model, self.twin(model, jnp.float64)

    def twin(self, model: torch.nn.Module, param_dtype: Any) -> Any:
        # Only described: to draw weights first would take longer than all the rest.
        twin = nnx.eval_shape(lambda: self.build(flax, flax_options(param_dtype=param_dtype)))
        flax.from_torch(twin, model.state_dict())
        return twin

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
        twin = twins.twin(model, jnp.float32)
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


@pytest.mark.parametrize(
    "name",
    [
        "projection, causal, heads, short",
        "toeplitz, by transform",
        "unit, everything",
        "tiny, causal, masks",
        "block, toeplitz, attention, padding",
        "language, tied",
        "vision",
    ],
)
def test_outputs_and_all_gradients_equal_those_of_torch_in_float32(name):
    assert_twins_agree(name, torch.float32, 1e-6)


# What reads tokens and can be causal.
CAUSAL = {
    "projection": (projection(causal=True, n_heads=2), Z),
    "toeplitz": (projection(TOEPLITZ, causal=True), Z),
    "tiny": (tiny(causal=True), X),
    "unit": (unit(causal=True), (B, SEQ_LEN, E)),
    "block": (block(heads=3, attention=True, causal=True), X),
}


def random_twin(build: Callable[[Any, dict[str, Any]], Any]) -> Any:
    return Twins(build, X).pair()[1]


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, jnp.float32) for name in CAUSAL), ("block", jnp.float64)]
)
def test_the_past_cannot_see_the_future_not_even_in_the_last_bit(name, dtype):
    build, shape = CAUSAL[name]
    layer = Twins(build, shape).twin(randomised(build(labml_gmlp, {})), dtype)
    x = jax.random.normal(jax.random.key(0), shape, dtype)
    for t in (1, 4):
        changed = x.at[:, t:].set(jax.random.normal(jax.random.key(1), shape, dtype)[:, t:])
        before, after = layer(x), layer(changed)
        assert jnp.array_equal(before[:, :t], after[:, :t])
        assert not jnp.array_equal(before[:, t:], after[:, t:])


def test_tokens_meet_which_they_do_not_in_the_public_port():
    layer = random_twin(block())
    x = jax.random.normal(jax.random.key(0), X)
    changed = layer(x.at[:, 3].multiply(-1.0)) != layer(x)
    assert changed.any(axis=-1).all()


def test_padding_equals_cutting_off_and_shorter_equals_the_corner():
    layer = random_twin(block(heads=2, attention=True))
    x = jax.random.normal(jax.random.key(0), X)
    kept = jnp.arange(SEQ_LEN)[None] < jnp.array([[SEQ_LEN], [4]])
    padded = layer(x, key_padding_mask=kept)
    np.testing.assert_allclose(padded[1:, :4], layer(x[1:, :4]), rtol=0, atol=1e-12)


def test_a_position_that_may_read_nothing_reads_zeros_and_has_a_finite_gradient():
    layer = random_twin(tiny(out_bias=False))
    nothing = jnp.zeros((SEQ_LEN, SEQ_LEN), bool)
    x = jnp.ones(X)
    assert (layer(x, nothing) == 0).all()
    assert jnp.isfinite(jax.grad(lambda x: layer(x, nothing).sum())(x)).all()


@pytest.mark.parametrize("name", ["unit", "block", "encoder"])
def test_a_large_mean_costs_the_norms_no_digits(name):
    # With the variance as a difference of squares nothing of it would be left in float32.
    model, _ = TWINS[name].pair()
    twin, x = TWINS[name].twin(model.float(), jnp.float32), TWINS[name].input().float() + 1000
    # The shortcut of a block would hide what was added to it.
    shortcut = x if name == "block" else 0
    got = torch.from_numpy(np.array(twin(array(x))))
    assert_near(got - shortcut, model(x).detach() - shortcut, 2e-3)


def test_compiling_changes_nothing():
    layer = random_twin(block(attention=True, causal=True))
    x = jax.random.normal(jax.random.key(0), X)
    compiled = nnx.jit(lambda layer, x: layer(x))
    np.testing.assert_allclose(compiled(layer, x), layer(x), rtol=0, atol=1e-12)


def test_an_ensemble_is_mapped_over_its_weights():
    build = block(heads=2)
    members = [build(flax, flax_options(rngs=nnx.Rngs(seed))) for seed in range(2)]
    graph = nnx.graphdef(members[0])
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(nnx.state, members))
    x = jax.random.normal(jax.random.key(0), X)
    together = jax.vmap(lambda state: nnx.merge(graph, state)(x))(states)
    for got, member in zip(together, members, strict=True):
        np.testing.assert_allclose(got, member(x), rtol=0, atol=1e-12)
    assert not jnp.allclose(together[0], together[1])


def test_a_model_is_described_without_memory():
    model = nnx.eval_shape(lambda: language()(flax, flax_options()))
    leaves = jax.tree.leaves(nnx.state(model))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


@pytest.mark.parametrize("name", ["language, untied, positions", "vision"])
def test_parameters_have_the_names_and_the_order_of_magnitude_of_torch(name):
    twins = TWINS[name]
    want = twins.build(labml_gmlp, {}).state_dict()
    got = flax.to_torch(twins.build(flax, flax_options()))
    assert set(got) == set(want)
    for key, value in got.items():
        assert value.shape == want[key].shape, key
        if not key.endswith(("proj_in.bias", "proj_out.bias", "attention_in.bias", "patches.bias")):
            assert (value.abs().max() == 0) == (want[key].abs().max() == 0), key
            assert value.abs().max() <= 8 * want[key].abs().max(), key


@pytest.mark.parametrize("attention", [False, True])
def test_a_block_starts_as_a_feed_forward_layer(attention):
    layer = block(attention=attention)(flax, flax_options())
    x = jax.random.normal(jax.random.key(0), X)
    changed = layer(x.at[:, 3].set(2.0)) - layer(x)
    others = jnp.delete(changed, 3, axis=1)
    assert jnp.abs(others).max() < 1e-4 * jnp.abs(changed).max()


def test_layers_of_an_encoder_start_different():
    layers = encoder(flax, flax_options()).layers
    assert not jnp.array_equal(layers[0].proj_in.kernel[...], layers[1].proj_in.kernel[...])


# ## Weights


@pytest.mark.parametrize("name", ["toeplitz", "language, untied, positions", "vision"])
def test_weights_survive_the_way_to_flax_and_back(name):
    model, twin = TWINS[name].pair()
    back, there = flax.to_torch(twin), model.state_dict()
    assert set(back) == set(there)
    assert all(torch.equal(back[key], there[key]) for key in there)
    model.load_state_dict(back)


def test_weights_are_copied_and_keep_the_type_of_the_model():
    model = torch.nn.Linear(2, 3)
    twin = nnx.Linear(2, 3, rngs=rngs(), param_dtype=jnp.bfloat16)
    flax.from_torch(twin, model.state_dict())
    assert twin.kernel[...].dtype == jnp.bfloat16
    before = flax.to_torch(twin)
    assert before["weight"].dtype == torch.bfloat16
    assert torch.equal(before["weight"], model.weight.detach().bfloat16())
    flax.from_torch(twin, before)
    assert torch.equal(flax.to_torch(twin)["weight"], before["weight"])
    before["weight"].zero_()
    torch.nn.init.zeros_(model.weight)
    assert (flax.to_torch(twin)["weight"] != 0).any()


def test_one_error_lists_all_faults_and_the_model_is_unchanged():
    twin = nnx.Linear(2, 3, rngs=rngs())
    before = flax.to_torch(twin)
    given = {"weight": torch.ones(2, 3), "other": torch.ones(1), "kernel": torch.ones(2, 3)}
    assert_raises(
        lambda: flax.from_torch(twin, given),
        ValueError,
        "state_dict",
        "missing: bias; unexpected: other, kernel;",
        "weight must be [3, 2], got [2, 3]",
    )
    given = {"weight": torch.ones(3, 2), "bias": torch.ones(3, 1)}
    assert_raises(lambda: flax.from_torch(twin, given), ValueError, "bias must be [3], got [3, 1]")
    after = flax.to_torch(twin)
    assert all(torch.equal(before[key], after[key]) for key in before)


# ## Errors
#
# Each call is made with torch and with Flax; both must say the same.
def ones(system, *shape, dtype=None):
    if system is labml_gmlp:
        return torch.ones(shape, dtype=dtype and getattr(torch, dtype))
    return jnp.ones(shape, dtype=dtype or "float32")


def options(system):
    return {} if system is labml_gmlp else {"rngs": rngs()}


CALLS = {
    "seq_len": lambda s: s.SpatialProjection(0, **options(s)),
    "n_heads": lambda s: s.SpatialProjection(2, n_heads=True, **options(s)),
    "toeplitz seq_len": lambda s: s.ToeplitzProjection(2.0, **options(s)),
    "toeplitz n_heads": lambda s: s.ToeplitzProjection(2, n_heads=0, **options(s)),
    "toeplitz fft_from": lambda s: s.ToeplitzProjection(2, fft_from=0, **options(s)),
    "d_ffn": lambda s: s.SpatialGatingUnit(None, 2, **options(s)),
    "odd d_ffn": lambda s: s.SpatialGatingUnit(3, 2, **options(s)),
    "no seq_len": lambda s: s.SpatialGatingUnit(4, **options(s)),
    "d_model": lambda s: s.GMLPBlock("4", 4, 2, **options(s)),
    "d_ffn of a block": lambda s: s.GMLPBlock(4, -4, 2, **options(s)),
    "tiny d_model": lambda s: s.TinyAttention(0, 2, **options(s)),
    "tiny d_out": lambda s: s.TinyAttention(2, 0, **options(s)),
    "tiny d_attn": lambda s: s.TinyAttention(2, 2, 0, **options(s)),
    **{
        f"{name} that is not causal": lambda s, name=name: s.GMLPBlock(
            4, 4, 2, causal=True, **{name: s.SpatialGatingUnit(4, 2, **options(s))}, **options(s)
        )
        for name in ("projection", "sgu", "attention", "token_shift")
    },
    "sgu and projection": lambda s: s.GMLPBlock(
        4,
        4,
        sgu=s.SpatialGatingUnit(4, 2, **options(s)),
        projection=s.SpatialProjection(2, **options(s)),
        **options(s),
    ),
    "z": lambda s: s.SpatialProjection(3, **options(s))(ones(s, 2, 3)),
    "z of heads": lambda s: s.SpatialProjection(3, n_heads=2, **options(s))(ones(s, 2, 3, 5)),
    "long z": lambda s: s.SpatialProjection(3, **options(s))(ones(s, 2, 4, 5)),
    "mask": lambda s: s.SpatialProjection(3, **options(s))(
        ones(s, 2, 3, 5), ones(s, 1, 3, dtype="bool")
    ),
    "toeplitz z": lambda s: s.ToeplitzProjection(3, n_heads=2, **options(s))(ones(s, 2, 3, 5)),
    "long toeplitz z": lambda s: s.ToeplitzProjection(3, **options(s))(ones(s, 2, 4, 5)),
    "toeplitz mask": lambda s: s.ToeplitzProjection(3, **options(s))(
        ones(s, 2, 3, 5), ones(s, 3, dtype="bool")
    ),
    "z of a unit": lambda s: s.SpatialGatingUnit(6, 3, **options(s))(ones(s, 2, 3, 5)),
    "key_padding_mask": lambda s: s.SpatialGatingUnit(6, 3, **options(s))(
        ones(s, 2, 3, 6), key_padding_mask=ones(s, 3, 2, dtype="bool")
    ),
    "x": lambda s: s.GMLPBlock(4, 6, 3, **options(s))(ones(s, 2, 3, 6)),
    "tiny x": lambda s: s.TinyAttention(4, 6, **options(s))(ones(s, 2, 4)),
    "tiny mask": lambda s: s.TinyAttention(4, 6, **options(s))(
        ones(s, 2, 3, 4), ones(s, 3, 3, 3, dtype="bool")
    ),
    "tiny key_padding_mask": lambda s: s.TinyAttention(4, 6, **options(s))(
        ones(s, 2, 3, 4), key_padding_mask=ones(s, 2, dtype="bool")
    ),
    "n_layers": lambda s: s.Encoder(lambda: None, 0, **options(s)),
    "sizes": lambda s: s.Encoder(lambda i: s.GMLPBlock(i + 1, 2, 2, **options(s)), 2, **options(s)),
    "no layer": lambda s: s.Encoder(lambda: 5, 2, **options(s)),
    "two arguments": lambda s: s.Encoder(lambda a, b: None, 2, **options(s)),
    "n_tokens": lambda s: s.LanguageModel(0, None, **options(s)),
    "n_positions": lambda s: s.LanguageModel(3, None, n_positions=0, **options(s)),
    "tokens": lambda s: small_language(s)(ones(s, 3, dtype="int32")),
    "long tokens": lambda s: small_language(s)(ones(s, 2, 4, dtype="int32")),
    "n_classes": lambda s: s.ImageClassifier(None, 0, image_size=4, patch_size=2, **options(s)),
    "patch_size": lambda s: s.n_patches(4, 3),
    "image_size": lambda s: s.n_patches((4, 4, 4), 2),
    "n_channels": lambda s: s.ImageClassifier(
        None, 3, image_size=4, patch_size=2, n_channels=0, **options(s)
    ),
    "images": lambda s: small_vision(s)(ones(s, 2, 5, 4, 3)),
}


def small_language(system):
    layers = system.Encoder(
        lambda: system.GMLPBlock(2, 2, 4, **options(system)), 1, **options(system)
    )
    return system.LanguageModel(5, layers, n_positions=3, **options(system))


def small_vision(system):
    layers = system.Encoder(
        lambda: system.GMLPBlock(2, 2, 4, **options(system)), 1, **options(system)
    )
    return system.ImageClassifier(layers, 3, image_size=4, patch_size=2, **options(system))


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call_is_refused_in_the_words_of_torch(name):
    with pytest.raises((TypeError, ValueError)) as error:
        CALLS[name](labml_gmlp)
    assert_raises(lambda: CALLS[name](flax), type(error.value), str(error.value))


def test_one_layer_for_all_is_refused():
    layer = block()(flax, flax_options())
    message = "make_layer must build a new layer at each call, got the same one for layer 1"
    assert_raises(lambda: flax.Encoder(lambda: layer, 2, rngs=rngs()), ValueError, message)


@pytest.mark.parametrize("kind", ["SpatialProjection", TOEPLITZ, "TinyAttention"])
@pytest.mark.parametrize(
    ("mask", "got"),
    [
        (np.ones((3, 3)), "float64"),
        (jnp.ones((3, 3), jnp.int32), "int32"),
        ([[True]], "list"),
        (1, "int"),
    ],
)
def test_a_mask_that_is_not_boolean_is_refused(kind, mask, got):
    sizes = (4, 4) if kind == "TinyAttention" else (3,)
    layer = getattr(flax, kind)(*sizes, rngs=rngs())
    message = f"mask must be a boolean array, true for what may be read, got {got}"
    assert_raises(lambda: layer(jnp.ones((2, 3, 4)), mask), TypeError, message)


def test_a_mask_of_numpy_will_do():
    layer = flax.SpatialProjection(3, rngs=rngs())
    z = jnp.ones((2, 3, 4))
    mask = np.eye(3, dtype=bool)
    assert jnp.array_equal(layer(z, mask), layer(z, jnp.array(mask)))


def test_the_library_alone_imports_no_jax():
    program = "import sys, labml_gmlp; assert not {'jax', 'flax', 'numpy.f2py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_model_learns_real_text():
    pytest.importorskip("optax", reason="the training needs the extra flax")
    from experiments.flax_autoregressive import SEQ_LEN as WINDOW
    from experiments.flax_autoregressive import make_model, train
    from experiments.text.corpus import load_corpus

    corpus = load_corpus("python", WINDOW, Path("data"))
    with jax.enable_x64(False):
        model = make_model(len(corpus.vocabulary), d_model=32, d_ffn=128, n_layers=2)
        losses = list(train(model, corpus, steps=30))
    assert np.isfinite(losses).all()
    assert losses[0] == pytest.approx(np.log(len(corpus.vocabulary)), rel=0.05)
    assert losses[-1] < 0.75 * losses[0]
