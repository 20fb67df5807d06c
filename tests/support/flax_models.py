"""Pairs of a torch model and its Flax port under the same random weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

import labml_gmlp
from labml_gmlp import AMLPBlock, AMLPGatingUnit, GMLPBlock, SpatialGatingUnit, flax
from tests.support.helpers import FLOAT64, kept_tokens, random_mask, randomised

# No two sizes are equal, so swapping two axes fails.
B, D, E, SEQ_LEN, N_TOKENS = 2, 4, 12, 7, 11
Z, X = (B, SEQ_LEN, E // 2), (B, SEQ_LEN, D)
SHORT_Z, SHORT_X = (B, 4, E // 2), (B, 4, D)
TOEPLITZ = "ToeplitzProjection"

# `build(package, options)` builds a model from `labml_gmlp` or from `labml_gmlp.flax`.
Build = Callable[[Any, dict[str, Any]], Any]


@contextmanager
def small_float64_arrays() -> Iterator[None]:
    """Compiles without optimisation, which for arrays this small saves two thirds of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit`, with kernels that take half of the time to compile."""
    return jax.jit(function, compiler_options={"xla_cpu_use_fusion_emitters": False})


def fresh(build: Build, seed: int = 0) -> Any:
    """A Flax model as it is initialised, in float64."""

    def model() -> Any:
        return build(flax, {"param_dtype": jnp.float64, "rngs": nnx.Rngs(seed)})

    # One compiled program instead of one for each shape that is drawn.
    graph = nnx.graphdef(nnx.eval_shape(model))
    return nnx.merge(graph, jit(lambda: nnx.state(model()))())


def jitted(model: nnx.Module) -> Callable[..., jax.Array]:
    """`model(...)`, compiled as a whole."""
    graph, state = nnx.split(model)
    call = jit(lambda state, *args, **options: nnx.merge(graph, state)(*args, **options))
    return lambda *args, **options: call(state, *args, **options)


def array(tensor: torch.Tensor) -> jax.Array:
    return jnp.asarray(tensor.detach().numpy())


@dataclass
class Case:
    """One model and the arguments that it is called with.

    * `shape` is that of the input; None means tokens
    * `masks` says of which kind each further argument is
    * `n` is the number of tokens
    """

    build: Build
    shape: tuple[int, ...] | None
    masks: dict[str, str] = field(default_factory=dict)
    n: int = SEQ_LEN

    def torch_model(self) -> Any:
        return randomised(self.build(labml_gmlp, {}))

    def port(self, model: torch.nn.Module, param_dtype: Any = jnp.float64) -> Any:
        # `eval_shape` builds the port without drawing weights, which would take most of the time.
        options = {"param_dtype": param_dtype}
        port = nnx.eval_shape(lambda: self.build(flax, options | {"rngs": rngs()}))
        flax.from_torch(port, model.state_dict())
        return port

    def input(self) -> torch.Tensor:
        if self.shape is None:
            return torch.randint(N_TOKENS, (B, self.n))
        return torch.randn(self.shape, dtype=FLOAT64)

    def arguments(self) -> dict[str, torch.Tensor]:
        kinds = {
            "one mask": lambda: random_mask("one mask", B, self.n),
            "a mask each": lambda: random_mask("a mask each", B, self.n),
            "reads nothing": lambda: torch.zeros(B, self.n, self.n, dtype=torch.bool),
            "padding": lambda: kept_tokens([self.n, self.n - 2], self.n),
            "attended": lambda: torch.randn(B, self.n, E // 2, dtype=FLOAT64),
        }
        return {name: kinds[kind]() for name, kind in self.masks.items()}


# In torch, heads and tiny attention are layers of their own. The port has them as arguments.
def projection(name: str = "SpatialProjection", **options: Any) -> Build:
    def build(package: Any, more: dict[str, Any]) -> Any:
        several = options.get("n_heads", 1) > 1 and name == "SpatialProjection"
        kind = "MultiHeadSpatialProjection" if several and package is labml_gmlp else name
        return getattr(package, kind)(SEQ_LEN, **options, **more)

    return build


def unit(attended: bool = False, **options: Any) -> Build:
    def build(package: Any, more: dict[str, Any]) -> Any:
        own = attended and package is labml_gmlp
        kind = package.AMLPGatingUnit if own else package.SpatialGatingUnit
        return kind(E, SEQ_LEN, **options, **more)

    return build


def tiny(**options: Any) -> Build:
    return lambda package, more: package.TinyAttention(D, E // 2, 3, **options, **more)


def block(
    heads: int = 1, toeplitz: bool = False, attention: bool = False, causal: bool = False
) -> Build:
    def build(package: Any, more: dict[str, Any]) -> Any:
        options = {"causal": causal} | ({"n_heads": heads} if heads > 1 else {})
        mixer = projection(TOEPLITZ if toeplitz else "SpatialProjection", **options)(package, more)
        tiny = package.TinyAttention(D, E // 2, 3, causal=causal, **more) if attention else None
        if package is not labml_gmlp:
            parts = {"projection": mixer, "attention": tiny}
            return package.GMLPBlock(D, E, causal=causal, **parts, **more)
        if tiny is None:
            return GMLPBlock(D, E, causal=causal, sgu=SpatialGatingUnit(E, projection=mixer))
        sgu = AMLPGatingUnit(E, projection=mixer)
        return AMLPBlock(D, E, causal=causal, sgu=sgu, attention=tiny)

    return build


def encoder(package: Any, more: dict[str, Any]) -> Any:
    # All layers differ, so that their order matters.
    return package.Encoder(lambda i: block(heads=i + 1, attention=i == 1)(package, more), 3, **more)


# Compilation takes most of the time and grows with the layers, so whole models have only one.
def language(**options: Any) -> Build:
    def build(package: Any, more: dict[str, Any]) -> Any:
        layers = package.Encoder(lambda: block(attention=True)(package, more), 1, **more)
        return package.LanguageModel(N_TOKENS, layers, **options, **more)

    return build


def vision(package: Any, more: dict[str, Any]) -> Any:
    layers = package.Encoder(lambda: package.GMLPBlock(D, E, 6, **more), 1, **more)
    return package.ImageClassifier(
        layers, 5, image_size=(4, 9), patch_size=(2, 3), n_channels=3, **more
    )


CASES = {
    "projection": Case(projection(), Z),
    "projection, causal, heads, short": Case(projection(causal=True, n_heads=3), SHORT_Z, n=4),
    "projection, heads, one mask": Case(projection(n_heads=2), Z, {"mask": "one mask"}),
    "projection, a mask each": Case(projection(causal=True, n_heads=2), Z, {"mask": "a mask each"}),
    "toeplitz": Case(projection(TOEPLITZ), Z),
    "toeplitz, causal, heads, short": Case(
        projection(TOEPLITZ, causal=True, n_heads=3), SHORT_Z, n=4
    ),
    "toeplitz, short, heads": Case(projection(TOEPLITZ, n_heads=2), SHORT_Z, n=4),
    "toeplitz, a mask each": Case(
        projection(TOEPLITZ, n_heads=2), SHORT_Z, {"mask": "a mask each"}, n=4
    ),
    "toeplitz, FFT": Case(projection(TOEPLITZ, n_heads=2, fft_from=2), SHORT_Z, n=4),
    "toeplitz, causal, FFT": Case(projection(TOEPLITZ, causal=True, fft_from=2), Z),
    "unit": Case(unit(), (B, SEQ_LEN, E)),
    "unit, all arguments": Case(
        unit(attended=True, causal=True),
        (B, SEQ_LEN, E),
        {"mask": "one mask", "key_padding_mask": "padding", "attended": "attended"},
    ),
    "tiny": Case(tiny(), X),
    "tiny, causal, no biases": Case(tiny(causal=True, in_bias=False, out_bias=False), X),
    "tiny, causal, masks": Case(
        tiny(causal=True), X, {"mask": "a mask each", "key_padding_mask": "padding"}
    ),
    "tiny, reads nothing": Case(tiny(), X, {"mask": "reads nothing"}),
    "block": Case(block(), X),
    "block, causal, attention, short": Case(
        block(heads=2, attention=True, causal=True), SHORT_X, n=4
    ),
    "block, toeplitz, attention, padding": Case(
        block(toeplitz=True, attention=True),
        X,
        {"mask": "one mask", "key_padding_mask": "padding"},
    ),
    "encoder": Case(encoder, X, {"key_padding_mask": "padding"}),
    "language, tied": Case(language(), None),
    "language, untied, positions": Case(
        language(tied=False, n_positions=9), None, {"mask": "one mask"}, n=5
    ),
    "vision": Case(vision, (B, 3, 4, 9)),
}
