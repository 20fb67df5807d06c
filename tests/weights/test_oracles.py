r"""Weights of systems that are on no package index or cannot be installed beside torch.

These systems cannot be run here. The names and shapes are those of their files, with random
numbers, and our model is compared with [an oracle](../support/oracles_of_systems.py) that computes
from the same numbers.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from labml_gmlp import weights
from labml_gmlp.weights import SYSTEMS, WeightsError
from tests.support import oracles_of_systems as oracles
from tests.support import packages
from tests.support.helpers import FLOAT64, assert_raises

# No two sizes are equal: tokens, width, half of Z, attention, vocabulary, classes, patch, layers.
B, N, D, H, A, V, C, P, Q, L = 2, 6, 5, 7, 4, 11, 3, 8, 9, 2
ROWS, COLUMNS = 2, 3
IMAGE = (ROWS * P, COLUMNS * Q)
TOLERANCE = {torch.float32: 1e-6, FLOAT64: 1e-12}

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, size: int, scale: str = ".weight", shift: str = ".bias") -> Shapes:
    return {f"{name}{scale}": (size,), f"{name}{shift}": (size,)}


def linear(name: str, n_out: int, n_in: int) -> Shapes:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def transposed(
    name: str, n_out: int, n_in: int, kernel: str = ".weight", bias: str = ".bias"
) -> Shapes:
    return {f"{name}{kernel}": (n_in, n_out), f"{name}{bias}": (n_out,)}


def dense(name: str, n_out: int, n_in: int) -> Shapes:
    return transposed(name, n_out, n_in, "/kernel", "/bias")


def flax_norm(name: str, size: int) -> Shapes:
    return norm(name, size, "/scale", "/bias")


def haiku(name: str, n_out: int, n_in: int) -> Shapes:
    return transposed(name, n_out, n_in, "/w", "/b")


def paddlevit() -> Shapes:
    shapes = {
        "patch_embed.patch_embed.weight": (D, 3, P, Q),
        "patch_embed.patch_embed.bias": (D,),
    }
    for i in range(L):
        layer = f"mixer_layers.{i}"
        shapes |= norm(f"{layer}.norm", D)
        shapes |= transposed(f"{layer}.mlp_channels.fc1", 2 * H, D)
        shapes |= norm(f"{layer}.mlp_channels.gate.norm", H)
        shapes |= transposed(f"{layer}.mlp_channels.gate.proj", N, N)
        shapes |= transposed(f"{layer}.mlp_channels.fc2", D, H)
    return shapes | norm("norm", D) | transposed("head", C, D)


def jaketae(around: str) -> Shapes:
    shapes: Shapes = {}
    for i in range(L):
        layer = f"model.{i}"
        shapes |= norm(f"{layer}.norm", D)
        shapes |= linear(f"{layer}.channel_proj1", 2 * H, D)
        shapes |= linear(f"{layer}.channel_proj2", D, H)
        shapes |= norm(f"{layer}.sgu.norm", H)
        shapes[f"{layer}.sgu.spatial_proj.weight"] = (N, N, 1)
        shapes[f"{layer}.sgu.spatial_proj.bias"] = (N,)
    if around == "embedding":
        shapes["embed.weight"] = (V, D)
    if around == "images":
        # Patches are square there.
        shapes |= {"patcher.weight": (D, 3, P, P), "patcher.bias": (D,)}
        shapes |= linear("classifier", C, D)
    return shapes


def saurav(attention: bool = False, tokens: bool = True, params: str = "params/") -> Shapes:
    shapes: Shapes = {"to_embed/embedding": (V, D)} if tokens else {}
    for i in range(L):
        outer, inner = f"layers_{i}/layers_0", f"layers_{i}/layers_0/layers_0"
        shapes |= flax_norm(f"{outer}/norm", D)
        shapes |= dense(f"{inner}/proj_in", 2 * H, D) | dense(f"{inner}/proj_out", D, H)
        shapes |= flax_norm(f"{inner}/sgu/norm", H) | dense(f"{inner}/sgu/proj_out", H, H)
        if attention:
            shapes |= dense(f"{inner}/attn/to_qkv", 3 * A, D) | dense(f"{inner}/attn/to_out", H, A)
    if tokens:
        shapes |= flax_norm("to_logits/layers_0", D) | dense("to_logits/layers_1", V, D)
    return {params + name: shape for name, shape in shapes.items()}


def mlp_gpt_jax(attention: bool = False) -> Shapes:
    shapes: Shapes = {"embed/embeddings": (V, D)}
    for i in range(L):
        layer = f"gmlp{i}/~"
        shapes |= norm(f"{layer}/layer_norm", D, "/scale", "/offset")
        if attention:
            shapes |= haiku(f"{layer}/attention/~/linear", 3 * A, D)
            shapes |= haiku(f"{layer}/attention/~/linear_1", H, A)
        shapes |= haiku(f"{layer}/linear", 2 * H, D)
        shapes |= norm(f"{layer}/sgu/~/layer_norm", H, "/scale", "/offset")
        shapes |= {f"{layer}/sgu/spatial_weights": (N, N), f"{layer}/sgu/spatial_biases": (N, 1)}
        shapes |= haiku(f"{layer}/sgu/~/linear", H, H) | haiku(f"{layer}/linear_1", D, H)
    shapes |= norm("layer_norm", D, "/scale", "/offset") | haiku("linear", V, D)
    return {f"mlp_gpt/~/{name}": shape for name, shape in shapes.items()}


def google_mixer() -> Shapes:
    shapes: Shapes = {"stem/kernel": (P, Q, 3, D), "stem/bias": (D,)}
    for i in range(L):
        layer = f"MixerBlock_{i}"
        shapes |= flax_norm(f"{layer}/LayerNorm_0", D) | flax_norm(f"{layer}/LayerNorm_1", D)
        shapes |= dense(f"{layer}/token_mixing/Dense_0", A, N)
        shapes |= dense(f"{layer}/token_mixing/Dense_1", N, A)
        shapes |= dense(f"{layer}/channel_mixing/Dense_0", H, D)
        shapes |= dense(f"{layer}/channel_mixing/Dense_1", D, H)
    return shapes | flax_norm("pre_head_layer_norm", D) | dense("head", C, D)


def mlp_mixer() -> Shapes:
    shapes = {"patch_embedding.weight": (D, 1, P, P), "patch_embedding.bias": (D,)}
    for i in range(L):
        layer = f"mixer_layers.{i}"
        shapes |= norm(f"{layer}.ln1", N) | norm(f"{layer}.ln2", N)
        shapes |= linear(f"{layer}.mlp1.fc1", A, D) | linear(f"{layer}.mlp1.fc2", D, A)
        shapes |= linear(f"{layer}.mlp2.fc1", A, N) | linear(f"{layer}.mlp2.fc2", N, A)
    return shapes | linear("clf.0", H, D * N) | linear("clf.2", H, H) | linear("clf.4", C, H)


def espnet(with_linear: bool = False) -> Shapes:
    shapes = linear("channel_proj1.0", 2 * H, D) | norm("csgu.norm", H)
    shapes |= {"csgu.conv.weight": (H, 1, 3), "csgu.conv.bias": (H,)}
    if with_linear:
        shapes |= linear("csgu.linear", H, H)
    return shapes | linear("channel_proj2", D, H)


def tokens() -> np.ndarray:
    return np.random.default_rng(1).integers(V, size=(B, N))


def numbers(*shape: int) -> Callable[[], np.ndarray]:
    return lambda: np.random.default_rng(1).normal(size=(B, *shape))


@dataclass(frozen=True)
class Case:
    system: str
    shapes: Shapes
    oracle: Callable[[np.ndarray, oracles.Parameters], np.ndarray]
    inputs: Callable[[], np.ndarray]
    options: dict[str, Any] = field(default_factory=dict)
    # Folded layers come back as the same function in other numbers.
    folded: bool = False
    warns: bool = False


SEQ_LEN = {"seq_len": N}
VARIABLES = "SauravMaheshkar/gMLP variables"
CASES = {
    "PaddleViT": Case(
        "PaddleViT gmlp", paddlevit(), oracles.paddlevit, numbers(3, *IMAGE), {"image_size": IMAGE}
    ),
    "jaketae, stack": Case("jaketae/g-mlp", jaketae(""), oracles.jaketae, numbers(N, D)),
    "jaketae, embedding": Case("jaketae/g-mlp", jaketae("embedding"), oracles.jaketae, tokens),
    "jaketae, images": Case(
        "jaketae/g-mlp",
        jaketae("images"),
        oracles.jaketae,
        numbers(3, ROWS * P, COLUMNS * P),
        {"image_size": (ROWS * P, COLUMNS * P)},
    ),
    "Saurav": Case(VARIABLES, saurav(), oracles.saurav, tokens, SEQ_LEN, folded=True, warns=True),
    "Saurav, attention": Case(
        VARIABLES, saurav(attention=True), oracles.saurav, tokens, SEQ_LEN, folded=True
    ),
    "Saurav, stack": Case(
        VARIABLES,
        saurav(tokens=False),
        oracles.saurav,
        numbers(N, D),
        SEQ_LEN,
        folded=True,
        warns=True,
    ),
    "Saurav, params": Case(
        "SauravMaheshkar/gMLP params",
        saurav(attention=True, params=""),
        lambda x, p: oracles.saurav(x, {f"params/{name}": value for name, value in p.items()}),
        tokens,
        SEQ_LEN,
        folded=True,
    ),
    "mlp-gpt-jax": Case("mlp-gpt-jax", mlp_gpt_jax(), oracles.mlp_gpt_jax, tokens, folded=True),
    "mlp-gpt-jax, attention": Case(
        "mlp-gpt-jax", mlp_gpt_jax(attention=True), oracles.mlp_gpt_jax, tokens, folded=True
    ),
    "Google's Mixer": Case(
        "google mixer",
        google_mixer(),
        oracles.google_mixer,
        numbers(3, *IMAGE),
        {"image_size": IMAGE},
    ),
    "mlp_mixer": Case(
        "danielelbrecht/mlp_mixer",
        mlp_mixer(),
        oracles.mlp_mixer,
        numbers(1, ROWS * P, COLUMNS * P),
    ),
    "ESPnet": Case("ESPnet cgMLP", espnet(), oracles.espnet, numbers(N, D)),
    "ESPnet, linear": Case("ESPnet cgMLP", espnet(with_linear=True), oracles.espnet, numbers(N, D)),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def filled(shapes: Shapes, dtype: torch.dtype = FLOAT64) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: (0.5 * torch.randn(*s, dtype=FLOAT64)).to(dtype) for name, s in shapes.items()}


def loaded(case: Case, state: dict[str, Tensor]) -> Any:
    warned = contextlib.nullcontext()
    if case.warns:
        warned = pytest.warns(UserWarning, match=r"\btokens\b")
    with warned:
        return weights.from_state(state, **case.options)


def outputs(case: Case, model: Any, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The output of our model, and that of the oracle in float64."""
    dtype = next(iter(state.values())).dtype
    x = case.inputs()
    ours = torch.from_numpy(x) if x.dtype == np.int64 else torch.from_numpy(x).to(dtype)
    wide = ours.double().numpy() if x.dtype != np.int64 else x
    with torch.no_grad():
        got = model(ours)
    want = case.oracle(wide, {name: value.double().numpy() for name, value in state.items()})
    return got, torch.from_numpy(want)


def assert_same_function(case: Case, model: Any, state: dict[str, Tensor]) -> None:
    got, want = outputs(case, model, state)
    assert got.shape == want.shape
    scale = want.abs().max()
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(got.double() / scale, want / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@every_case
def test_our_model_equals_the_oracle(case, dtype):
    state = filled(case.shapes, dtype)
    assert_same_function(case, loaded(case, state), state)


def test_every_system_is_compared_with_its_package_or_an_oracle():
    by_oracle = {case.system for case in CASES.values()}
    by_package = {system for system, *_ in packages.CASES.values()}
    assert by_oracle | by_package == {system.name for system in SYSTEMS}


@every_case
def test_weights_are_recognised_by_one_system_only(case):
    state = filled(case.shapes)
    assert [system.name for system in SYSTEMS if system.matches(state)] == [case.system]
    assert weights.recognise(state).name == case.system


@every_case
def test_a_round_trip_keeps_the_weights_or_the_function(case):
    state = filled(case.shapes)
    system = weights.recognise(state)
    model = loaded(case, state)
    back = system.to_state(model.state_dict(), system.read_config(state, **case.options))
    assert {name: value.shape for name, value in back.items()} == {
        name: value.shape for name, value in state.items()
    }
    if not case.folded:
        assert all(torch.equal(back[name], value) for name, value in state.items())
    else:
        assert_same_function(case, loaded(case, back), state)
        # A second round trip changes nothing.
        again = system.table(system.read_config(back, **case.options)).to_ours(back)
        assert all(torch.equal(again[name], v) for name, v in model.state_dict().items())


@every_case
def test_missing_and_unexpected_names_are_listed_together(case):
    state = filled(case.shapes)
    # Without its embedding, jaketae's second model is the valid first one.
    last = [name for name in state if name != "embed.weight"][-1]
    del state[last]
    state["unknown"] = torch.zeros(1)
    load = functools.partial(weights.from_state, state, **case.options)
    assert_raises(load, WeightsError, "missing", last, "unexpected", "unknown")


CUSTOM = ["jaketae, embedding", "mlp_mixer", "ESPnet", "ESPnet, linear"]


@pytest.mark.parametrize("name", [name for name in CASES if name not in CUSTOM])
def test_a_converted_model_is_written_for_its_own_system(name):
    case = CASES[name]
    state = filled(case.shapes)
    model = loaded(case, state)
    assert weights.to_state(model, case.system).keys() == state.keys()


@pytest.mark.parametrize("name", CUSTOM)
def test_a_custom_model_is_not_written_for_any_system(name):
    model = loaded(CASES[name], filled(CASES[name].shapes))
    write = functools.partial(weights.to_state, model, CASES[name].system)
    assert_raises(write, WeightsError, "model", "layers", "labml_gmlp")


@pytest.mark.parametrize("wrapper", ["model.", "module.", "model.model."])
def test_prefixes_of_wrappers_are_distinguished_from_the_names_of_jaketae(wrapper):
    case = CASES["jaketae, stack"]
    state = filled(case.shapes)
    wrapped = {wrapper + name: value for name, value in state.items()}
    assert_same_function(case, weights.from_state(wrapped), state)


def test_sauravs_model_mixes_no_tokens():
    case = CASES["Saurav"]
    model = loaded(case, filled(case.shapes))
    before = torch.from_numpy(case.inputs())
    after = before.clone()
    after[:, 3] = (after[:, 3] + 1) % V
    changed = (model(before) != model(after)).any(-1)
    assert changed.nonzero()[:, 1].unique().tolist() == [3]


def test_a_model_that_mixes_tokens_is_not_written_for_saurav():
    case = CASES["Saurav"]
    model = loaded(case, filled(case.shapes))
    with torch.no_grad():
        model.encoder.layers[1].sgu.projection.weight[2, 1] = 1e-3
    assert_raises(
        lambda: weights.to_state(model, case.system),
        WeightsError,
        case.system,
        "encoder.layers.1.sgu.projection.weight",
    )


@pytest.mark.parametrize("seq_len", [None, 0, 2.5])
def test_saurav_needs_seq_len(seq_len):
    state = filled(CASES["Saurav"].shapes)
    assert_raises(
        lambda: weights.from_state(state, seq_len=seq_len),
        WeightsError,
        "seq_len",
        seq_len,
    )


def test_the_square_matrix_of_paddle_is_transposed_too():
    case = CASES["PaddleViT"]
    state = filled(case.shapes)
    ours = loaded(case, state).encoder.layers[0].sgu.projection.weight
    assert torch.equal(ours, state["mixer_layers.0.mlp_channels.gate.proj.weight"].T)
    assert not torch.equal(ours, ours.T)


def test_the_variable_names_of_paddle_are_ignored():
    case = CASES["PaddleViT"]
    state = filled(case.shapes)
    assert_same_function(
        case, loaded(case, {**state, "StructuredToParameterName@@": torch.zeros(0)}), state
    )


def test_the_norm_of_the_gate_has_the_epsilon_of_paddlevit_not_of_timm():
    case = CASES["PaddleViT"]
    state = filled(case.shapes)
    model = loaded(case, state)
    assert model.encoder.layers[0].sgu.norm.eps == 1e-6
    write = functools.partial(weights.to_state, model, "timm gmlp")
    assert_raises(write, WeightsError, "sgu_norm_eps", "1e-06", "1e-05")
    there = weights.to_state(model, "timm gmlp", approximate=True)
    assert weights.recognise(there).name == "timm gmlp"


def test_a_language_model_is_not_written_for_jaketae():
    case = CASES["mlp-gpt-jax"]
    model = loaded(case, filled(case.shapes))
    write = functools.partial(weights.to_state, model, "jaketae/g-mlp")
    assert_raises(write, WeightsError, "jaketae/g-mlp", "function")


GATES = {
    "identity": lambda x: x,
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "relu": lambda x: np.maximum(x, 0),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", GATES)
def test_the_gate_of_espnet_has_the_given_activation(name):
    state = filled(espnet())
    model = weights.from_state(state, gate_activation=name)
    x = torch.randn(B, N, D, dtype=FLOAT64)
    z = torch.nn.functional.gelu(model.proj_in(x))
    z1, z2 = z.chunk(2, dim=-1)
    gate = model.sgu.projection(model.sgu.norm(z2))
    want = model.proj_out(z1 * torch.from_numpy(GATES[name](gate.detach().numpy())))
    torch.testing.assert_close(model(x), want, rtol=0, atol=1e-12)


def test_an_unknown_gate_activation_of_espnet_is_refused():
    load = functools.partial(weights.from_state, filled(espnet()), gate_activation="sigmoid")
    assert_raises(load, WeightsError, "gate_activation", "'identity'", "'sigmoid'")


def test_padding_in_espnet_equals_a_shorter_sequence():
    model = weights.from_state(filled(espnet(with_linear=True)))
    x = torch.randn(B, N, D, dtype=FLOAT64)
    kept = torch.arange(N) < 4
    got = model(x, kept.expand(B, N))[:, :4]
    torch.testing.assert_close(got, model(x[:, :4]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp_mixer", "ESPnet"])
def test_a_custom_system_refuses_unknown_options(name):
    load = functools.partial(weights.from_state, filled(CASES[name].shapes), causal=True)
    assert_raises(load, WeightsError, "option", "causal")


# Parameter counts as published for these configurations.
PUBLISHED = {
    "PaddleViT gmlp_s16": (
        {
            "patch_embed.patch_embed.weight": (256, 3, 16, 16),
            "norm.weight": (256,),
            "head.weight": (256, 1000),
            "mixer_layers.29.mlp_channels.fc1.weight": (256, 1536),
            "mixer_layers.29.mlp_channels.gate.proj.weight": (196, 196),
            "mixer_layers.29.mlp_channels.gate.proj.bias": (196,),
        },
        19_422_656,
    ),
    "Google's Mixer B/16": (
        {
            "stem/kernel": (16, 16, 3, 768),
            "head/kernel": (768, 1000),
            "MixerBlock_11/token_mixing/Dense_0/kernel": (196, 384),
            "MixerBlock_11/token_mixing/Dense_1/bias": (196,),
            "MixerBlock_11/channel_mixing/Dense_0/kernel": (768, 3072),
        },
        59_880_472,
    ),
    "mlp_mixer, as in its README": (
        {
            "patch_embedding.weight": (128, 1, 7, 7),
            "mixer_layers.2.ln1.weight": (16,),
            "mixer_layers.2.mlp1.fc1.weight": (64, 128),
            "mixer_layers.2.mlp2.fc1.weight": (64, 16),
            "clf.0.weight": (512, 2048),
            "clf.4.weight": (10, 512),
        },
        1_379_578,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_of_published_sizes_have_the_published_number_of_parameters(name):
    shapes, count = PUBLISHED[name]
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    system = weights.recognise(state)
    model = system.build(system.read_config(state), device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count
