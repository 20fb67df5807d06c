r"""Parity with installed packages: labml_nn 0.5.1, g_mlp_pytorch 0.1.5 and timm 1.0.31.

Each model is built by the package itself, with random parameters. Tolerances are relative to the
largest output or gradient.
"""

import functools
import importlib.metadata
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labml_gmlp import (
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    LanguageModel,
    SpatialGatingUnit,
    SpatialProjection,
    ToeplitzProjection,
    weights,
)
from labml_gmlp.weights import WeightsError
from tests.support.helpers import FLOAT64, assert_raises, randomised
from tests.support.packages import (
    CASES,
    D_FFN,
    N_LAYERS,
    TOLERANCE,
    D,
    N,
    V,
    all_cases,
    assert_close,
    assert_same,
    both_precisions,
    g_mlp,
    images,
    labml_language,
    labml_language_call,
    make_random,
    timm_gmlp,
    tokens,
    vectors,
)

VERSIONS = {"labml-nn": "0.5.1", "g-mlp-pytorch": "0.1.5", "timm": "1.0.31"}


@pytest.mark.parametrize("package", VERSIONS)
def test_these_are_the_versions_compared_with(package):
    try:
        assert importlib.metadata.version(package) == VERSIONS[package]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


def assert_equal_passes(
    calls: Sequence[Callable[[Tensor], Tensor]],
    ours: nn.Module,
    theirs: nn.Module,
    x: Tensor,
    **options: Any,
) -> None:
    """The calls have the same output, and the same gradients of all parameters and of `x`."""
    tolerance = TOLERANCE[next(theirs.parameters()).dtype]
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for _ in calls]
    outputs = [call(each) for call, each in zip(calls, inputs, strict=True)]
    assert_close(*outputs, tolerance)
    direction = torch.randn_like(outputs[0])
    for y in outputs:
        (y * direction).sum().backward()
    if x.is_floating_point():
        assert_close(inputs[0].grad, inputs[1].grad, 4 * tolerance)
    # Gradients go through the same table, except that a scale is inverted by the chain rule.
    system = weights.recognise(theirs.state_dict())
    table = system.table(system.read_config(theirs.state_dict(), **options))
    mine = table.to_theirs({name: p.grad for name, p in ours.named_parameters()})
    others = {name: p.grad for name, p in theirs.named_parameters()}
    scales = {name: row.scale for row, _, name in table.names()}
    # Some gradients are zero up to rounding: those of unused parameters, and of a bias that shifts
    # all channels equally, which the norm removes.
    noise = 1e-3 * max(float(gradient.abs().max()) for gradient in others.values())
    for name, want in others.items():
        assert_close(mine[name] * scales[name] ** 2, want, 4 * tolerance, noise)


@all_cases
@both_precisions
def test_outputs_and_gradients_equal_those_of_the_package(case, dtype):
    _, _, call, make_input, options = CASES[case]
    theirs = make_random(case, dtype)
    ours = weights.from_state(theirs.state_dict(), **options).eval()
    x = make_input()
    x = x.to(dtype) if x.is_floating_point() else x
    assert_equal_passes((ours, call(theirs)), ours, theirs, x, **options)


@both_precisions
@pytest.mark.parametrize("n", [N, 4])
@pytest.mark.parametrize("case", ["labml block", "labml encoder"])
def test_outputs_and_gradients_equal_those_of_labml_nn_under_any_mask(case, n, dtype):
    theirs = make_random(case, dtype)
    ours = weights.from_state(theirs.state_dict()).eval()
    mask = torch.rand(n, n) < 0.5

    def call(x: Tensor) -> Tensor:
        return theirs(x=x.transpose(0, 1), mask=mask[:, :, None]).transpose(0, 1)

    calls = (lambda x: ours(x, mask), call)
    assert_equal_passes(calls, ours, theirs, vectors(n).to(dtype))


@both_precisions
def test_the_block_of_g_mlp_pytorch_is_ours_without_norm_and_residual(dtype):
    theirs = make_random("gMLP without tokens", dtype)
    ours = weights.from_state(theirs.state_dict()).eval()
    block, layer = theirs.layers[0].fn.fn.fn, ours.layers[0]
    assert type(block).__name__ == "gMLPBlock"
    x = vectors().to(dtype)
    assert_close(x + block(layer.norm(x)), layer(x), TOLERANCE[dtype])


def test_the_comparison_detects_a_single_different_weight():
    theirs = make_random("labml block", FLOAT64)
    ours = weights.from_state(theirs.state_dict()).eval()
    with torch.no_grad():
        theirs.sgu.weight[1, 2] += 1e-9
    calls = (ours, CASES["labml block"][2](theirs))
    with pytest.raises(AssertionError):
        assert_equal_passes(calls, ours, theirs, vectors().double())


@all_cases
def test_a_round_trip_keeps_bytes_and_order(case):
    state = make_random(case).state_dict()
    system = weights.recognise(state)
    back = weights.to_state(weights.from_state(state, **CASES[case][4]), system.name)
    if "language model" in system.name:
        # The scale of the embedding is exact only for widths that are powers of four.
        name = "src_embed.linear.weight"
        torch.testing.assert_close(back[name], state[name], rtol=2e-7, atol=0)
        back[name] = state[name]
    assert_same(back, state)


@pytest.mark.parametrize("d_model", [4, 16])
def test_the_embedding_of_labml_nn_is_exact_for_widths_that_are_powers_of_four(d_model):
    torch.manual_seed(0)
    state = labml_language(d_model).state_dict()
    model = weights.from_state(state)
    assert_same(weights.to_state(model, "labml-nn"), state)
    assert torch.equal(
        model.embedding.weight, state["src_embed.linear.weight"] * math.sqrt(d_model)
    )
    assert torch.equal(model.positions.weight, state["src_embed.positional_encodings"][:, 0])


@all_cases
def test_the_package_loads_our_model_and_computes_the_same(case):
    system, make, call, make_input, options = CASES[case]
    ours = weights.from_state(make_random(case).state_dict(), **options).eval()
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.1 * torch.randn_like(p))
    theirs = make().eval()
    theirs.load_state_dict(weights.to_state(ours, system))
    x = make_input()
    assert_close(ours(x), call(theirs)(x), 1e-6)


@all_cases
def test_weights_are_recognised_by_one_system_only(case):
    state = make_random(case).state_dict()
    assert [system.name for system in weights.SYSTEMS if system.matches(state)] == [CASES[case][0]]
    # Also with any one parameter missing.
    for name in state:
        rest = {other: value for other, value in state.items() if other != name}
        assert weights.recognise(rest).name == CASES[case][0]


@all_cases
def test_the_configuration_of_a_converted_model_is_that_of_the_weights(case):
    state = make_random(case).state_dict()
    options = CASES[case][4]
    config = weights.recognise(state).read_config(state, **options)
    model = weights.from_state(state, **options)
    found = weights.config_of(model)
    differ = {key for key in config if config[key] != found[key]}
    # A decayed projection is always causal.
    allowed = {"causal"} if config["projection"] == "decayed" else set()
    absent = {"attn_in_bias", "attn_out_bias"} if config["d_attn"] is None else set()
    assert differ <= allowed | absent
    again = weights.build(found)
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]


@all_cases
def test_weights_are_copied_and_trainable(case):
    state = make_random(case).state_dict()
    before = {name: value.clone() for name, value in state.items()}
    model = weights.from_state(state, **CASES[case][4])
    with torch.no_grad():
        for p in model.parameters():
            assert p.requires_grad
            p.zero_()
    assert_same(state, before)


def test_the_constants_of_the_norms_are_those_of_the_system():
    for case, eps in {"gMLP": 1e-5, "timm gMLP": 1e-6, "timm Mixer": 1e-6}.items():
        encoder = weights.from_state(make_random(case).state_dict()).encoder
        assert (encoder.layers[0].norm.eps, encoder.norm.eps) == (eps, eps)
        if "gMLP" in case:
            assert encoder.layers[0].sgu.norm.eps == 1e-5


def test_one_error_lists_all_faults():
    state = make_random("timm gMLP").state_dict()
    del state["head.bias"], state["blocks.1.norm.weight"]
    state["stem.norm.weight"] = torch.ones(D)
    state["blocks.0.mlp_channels.fc2.weight"] = torch.zeros(D, 13)
    assert_raises(
        lambda: weights.from_state(state),
        WeightsError,
        "timm gmlp",
        "missing: blocks.1.norm.weight, head.bias;",
        "unexpected: stem.norm.weight;",
        "blocks.0.mlp_channels.fc2.weight",
        "[d h] = [6 12]",
        "[6, 13]",
    )


@pytest.mark.parametrize("case", ["timm gMLP", "gMLPVision", "gMLP, attention", "labml encoder"])
def test_any_missing_parameter_is_named(case):
    state = make_random(case).state_dict()
    for name in state:
        rest = {other: value for other, value in state.items() if other != name}
        load = functools.partial(weights.from_state, rest, **CASES[case][4])
        assert_raises(load, WeightsError, "missing", name)


def test_gmlp_vision_converted_to_timm_computes_the_same():
    theirs = make_random("gMLPVision")
    ours = weights.from_state(theirs.state_dict())
    assert_raises(
        lambda: weights.to_state(ours, "timm"),
        WeightsError,
        "timm gmlp",
        "norm_eps",
        "last_norm_eps",
        "1e-05",
        "1e-06",
        "approximate=True",
    )
    timm = timm_gmlp().eval()
    timm.load_state_dict(weights.to_state(ours, "timm", approximate=True))
    x = images()
    # The constants of the norms differ.
    assert_close(timm(x), theirs(x), 1e-3)
    for module in timm.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    assert_close(timm(x), theirs(x), 1e-6)


OUR_PROJECTIONS: dict[str, Callable[[bool], nn.Module]] = {
    "dense": lambda causal: SpatialProjection(N, causal=causal),
    "toeplitz": lambda causal: ToeplitzProjection(N, causal=causal),
    "decayed": lambda _: DecayedToeplitzProjection(N),
}


def block_with(projection: nn.Module) -> nn.Module:
    unit = SpatialGatingUnit(D_FFN, projection=projection)
    return GMLPBlock(D, D_FFN, causal=projection.causal, sgu=unit)


def our_language_model(projection: str, causal: bool, n_positions: int | None) -> nn.Module:
    """A model with a tied head, our default."""
    make = OUR_PROJECTIONS[projection]
    encoder = Encoder(lambda: block_with(make(causal)), N_LAYERS)
    return randomised(LanguageModel(V, encoder, n_positions=n_positions)).eval()


@pytest.mark.parametrize("projection", OUR_PROJECTIONS)
@pytest.mark.parametrize("causal", [True, False])
def test_our_models_are_materialised_for_g_mlp_pytorch(projection, causal):
    torch.manual_seed(0)
    ours = our_language_model(projection, causal, None)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    state = weights.to_state(ours, "g-mlp-pytorch")
    theirs = g_mlp(causal=causal, circulant_matrix=projection == "decayed").double().eval()
    theirs.load_state_dict(state)
    x = tokens()
    assert_close(ours(x), theirs(x), 1e-12)
    assert_close(ours(x), weights.from_state(state, causal=causal)(x), 1e-12)
    assert_same(ours.state_dict(), before)


@pytest.mark.parametrize("projection", OUR_PROJECTIONS)
@pytest.mark.parametrize("n_positions", [None, 13])
def test_our_models_are_materialised_for_labml_nn(projection, n_positions):
    torch.manual_seed(0)
    ours = our_language_model(projection, True, n_positions)
    state = weights.to_state(ours, "labml-nn")
    theirs = labml_language(learned=True).double()
    # Without positions, as many zeros as W has rows.
    theirs.src_embed.positional_encodings = nn.Parameter(torch.zeros(n_positions or N, 1, D))
    theirs.double().load_state_dict(state)
    for x in (tokens(), tokens(4)):
        assert_close(ours(x), labml_language_call(theirs)(x), 1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_each_head_is_materialised(causal):
    torch.manual_seed(0)
    make = lambda: ToeplitzProjection(N, causal=causal, n_heads=3)  # noqa: E731
    ours = Encoder(lambda: block_with(make()), N_LAYERS)
    ours.norm = nn.Identity()
    ours = randomised(ours)
    theirs = g_mlp(num_tokens=None, heads=3, causal=causal).double().eval()
    theirs.load_state_dict(weights.to_state(ours, "g-mlp-pytorch stack"))
    x = vectors().double()
    assert_close(ours(x), theirs(x), 1e-12)


def _with_unsupported_shift() -> nn.Module:
    config = weights.config_of(weights.from_state(make_random("gMLP").state_dict()))
    return weights.build({**config, "shifts": (0, 2), "attn_in_bias": False})


def _with_unsupported_layer() -> nn.Module:
    model = weights.from_state(make_random("gMLP").state_dict())
    model.encoder.layers[1] = nn.Linear(D, D)
    return model


def _from(case: str, **options: Any) -> nn.Module:
    return weights.from_state(make_random(case).state_dict(), **options)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: weights.from_state({"a.weight": torch.zeros(1)}), ["state", 1, "a.weight"]),
        (lambda: weights.from_state({}), ["state", 0]),
        (lambda: _from("timm gMLP", causal=True), ["timm gmlp", "causal", "['image_size']"]),
        (
            lambda: _from("labml language model", causal=True),
            ["labml-nn language model", "causal", "[]"],
        ),
        (lambda: _from("timm gMLP, no squares"), ["image_size", "(height, width)", 10]),
        (lambda: _from("timm gMLP", image_size=16), ["image_size", 9, "(4, 4)", "(16, 16)"]),
        (lambda: _from("gMLPVision, no squares"), ["patch_size", "(height, width)", 24, 3]),
        (lambda: _from("gMLP", shift_tokens=-1), ["shift_tokens", -1]),
        (
            lambda: _from("gMLP", gate_activation="softmax"),
            ["gate_activation", "'softmax'", "'gelu'", "'gelu_tanh'", "'tanh'"],
        ),
        (lambda: _from("gMLP", causal="yes"), ["causal", "'yes'"]),
        (lambda: _from("gMLPVision", n_channels=0), ["n_channels", 0]),
        (
            lambda: weights.to_state(_with_unsupported_shift(), "g-mlp-pytorch"),
            ["shifts", "g-mlp-pytorch", "(0, 2)"],
        ),
        (
            lambda: weights.build({"kind": "encoder", "d_model": 2, "depth": 2}),
            ["config", "['depth']", "['d_ffn', 'seq_len']"],
        ),
        (
            lambda: weights.to_state(_from("gMLP"), "keras"),
            ["to", "'keras'", *(repr(system.name) for system in weights.SYSTEMS)],
        ),
        (
            lambda: weights.to_state(_from("gMLP"), "timm gmlp"),
            [
                "timm gmlp",
                "kind",
                "'language'",
                "'vision'",
                "norm_eps",
                "last_norm_eps",
                "1e-05",
                "1e-06",
            ],
        ),
        (lambda: weights.config_of(nn.Linear(2, 2)), ["model", "Linear"]),
        (lambda: weights.config_of(_with_unsupported_layer()), ["layer", "Linear"]),
    ],
)
def test_impossible_conversions_are_refused_in_one_sentence(call, parts):
    assert_raises(call, WeightsError, *parts)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "net.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_removed(wrapper):
    state = make_random("gMLP").state_dict()
    wrapped = {wrapper + name: value for name, value in state.items()}
    assert_same(weights.unwrapped(wrapped), state)
    model = weights.from_state(wrapped)
    assert_same(model.state_dict(), weights.from_state(state).state_dict())
    # Names without the prefix mean that it is not a wrapper's.
    mixed = {**wrapped, "other": torch.zeros(1)}
    assert weights.unwrapped(mixed) is mixed
