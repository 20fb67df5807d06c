r"""Weights of the packages in PyTorch: labml_nn 0.5.1, g_mlp_pytorch 0.1.5 and timm 1.0.31.

Every model is made by the package itself, with random numbers in all parameters. Outputs and
gradients are relative to the largest number among them.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from labml_gmlp import (
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    LanguageModel,
    SpatialProjection,
    ToeplitzProjection,
    weights,
)
from labml_gmlp.weights import WeightsError
from tests.support.helpers import assert_raises, randomised
from tests.support.other_packages import (
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
    made,
    timm_gmlp,
    tokens,
    vectors,
)


@all_cases
@both_precisions
def test_the_model_computes_the_same_forwards_and_backwards(case, dtype):
    _, _, call, make_input, options = CASES[case]
    theirs = made(case, dtype)
    ours = weights.from_state(theirs.state_dict(), **options).eval()
    x = make_input()
    x = x.to(dtype) if x.is_floating_point() else x
    outputs = [model(x.clone()) for model in (ours, call(theirs))]
    assert_close(*outputs, TOLERANCE[dtype])
    direction = torch.randn_like(outputs[0])
    for y in outputs:
        (y * direction).sum().backward()
    # Gradients go through the same table; only a scale turns round, as for any change of variables.
    system = weights.recognise(theirs.state_dict())
    table = system.table(system.read_config(theirs.state_dict(), **options))
    mine = table.to_theirs({name: p.grad for name, p in ours.named_parameters()})
    others = {name: p.grad for name, p in theirs.named_parameters()}
    scales = {name: row.scale for row, _, name in table.names()}
    # Some gradients are zero but for rounding: those of what nothing reads, and of the shift of all
    # channels alike that every norm takes out again.
    noise = 1e-3 * max(float(gradient.abs().max()) for gradient in others.values())
    for name, want in others.items():
        assert_close(mine[name] * scales[name] ** 2, want, 4 * TOLERANCE[dtype], noise)


@all_cases
def test_there_and_back_is_the_same_in_bytes_and_in_order(case):
    state = made(case).state_dict()
    system = weights.recognise(state)
    back = weights.to_state(weights.from_state(state, **CASES[case][4]), system.name)
    if "language model" in system.name:
        # The square root of this width is not a power of two.
        name = "src_embed.linear.weight"
        torch.testing.assert_close(back[name], state[name], rtol=2e-7, atol=0)
        back[name] = state[name]
    assert_same(back, state)


@pytest.mark.parametrize("d_model", [4, 16])
def test_labml_nns_embedding_comes_back_in_bytes_for_powers_of_four(d_model):
    torch.manual_seed(0)
    state = labml_language(d_model).state_dict()
    model = weights.from_state(state)
    assert_same(weights.to_state(model, "labml-nn"), state)
    assert torch.equal(
        model.embedding.weight, state["src_embed.linear.weight"] * math.sqrt(d_model)
    )
    assert torch.equal(model.positions.weight, state["src_embed.positional_encodings"][:, 0])


@all_cases
def test_our_model_taken_out_is_a_model_that_the_package_loads(case):
    system, make, call, make_input, options = CASES[case]
    ours = weights.from_state(made(case).state_dict(), **options).eval()
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.1 * torch.randn_like(p))
    theirs = make().eval()
    theirs.load_state_dict(weights.to_state(ours, system))
    x = make_input()
    assert_close(ours(x), call(theirs)(x), 1e-6)


@all_cases
def test_a_system_knows_its_weights_and_no_others(case):
    state = made(case).state_dict()
    assert [system.name for system in weights.SYSTEMS if system.matches(state)] == [CASES[case][0]]
    # One parameter that is missing is no reason not to know them.
    for name in state:
        rest = {other: value for other, value in state.items() if other != name}
        assert weights.recognise(rest).name == CASES[case][0]


@all_cases
def test_what_a_model_is_can_be_read_off_it(case):
    state = made(case).state_dict()
    options = CASES[case][4]
    config = weights.recognise(state).read_config(state, **options)
    model = weights.from_state(state, **options)
    found = weights.config_of(model)
    differ = {key for key in config if config[key] != found[key]}
    # A decayed projection reads the past alone, and its model may as well be called causal.
    allowed = {"causal"} if config["projection"] == "decayed" else set()
    absent = {"attn_in_bias", "attn_out_bias"} if config["d_attn"] is None else set()
    assert differ <= allowed | absent
    again = weights.build(found)
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]


@all_cases
def test_weights_are_copied_and_can_be_trained(case):
    state = made(case).state_dict()
    before = {name: value.clone() for name, value in state.items()}
    model = weights.from_state(state, **CASES[case][4])
    with torch.no_grad():
        for p in model.parameters():
            assert p.requires_grad
            p.zero_()
    assert_same(state, before)


def test_the_constants_of_the_norms_are_those_of_the_system():
    eps = {
        case: [
            weights.from_state(made(case).state_dict(), **CASES[case][4])
            .encoder.layers[0]
            .norm.eps,
            weights.from_state(made(case).state_dict(), **CASES[case][4]).encoder.norm.eps,
        ]
        for case in ("gMLP", "timm gMLP", "timm Mixer")
    }
    assert eps == {"gMLP": [1e-5, 1e-5], "timm gMLP": [1e-6, 1e-6], "timm Mixer": [1e-6, 1e-6]}
    timm = weights.from_state(made("timm gMLP").state_dict())
    assert timm.encoder.layers[0].sgu.norm.eps == 1e-5


def test_one_error_lists_all_that_does_not_fit():
    state = made("timm gMLP").state_dict()
    del state["head.bias"], state["blocks.1.norm.weight"]
    state["stem.norm.weight"] = torch.ones(D)
    state["blocks.0.mlp_channels.fc2.weight"] = torch.zeros(D, 13)
    assert_raises(
        lambda: weights.from_state(state),
        WeightsError,
        "the weights do not fit timm gmlp; missing: blocks.1.norm.weight, head.bias; "
        "left over: stem.norm.weight; of another shape: "
        "blocks.0.mlp_channels.fc2.weight must be [d h] = [6 12], got [6, 13]",
    )


@pytest.mark.parametrize("case", ["timm gMLP", "gMLPVision", "gMLP, attention", "labml encoder"])
def test_any_one_parameter_that_is_missing_is_named(case):
    state = made(case).state_dict()
    for name in state:
        rest = {other: value for other, value in state.items() if other != name}
        with pytest.raises(WeightsError, match=f"missing: .*{name}"):
            weights.from_state(rest, **CASES[case][4])


def test_a_converted_gmlp_vision_is_timms_model():
    theirs = made("gMLPVision")
    ours = weights.from_state(theirs.state_dict())
    assert_raises(
        lambda: weights.to_state(ours, "timm"),
        WeightsError,
        "timm gmlp computes something else: norm_eps is 1e-05 here and 1e-06 there, "
        "last_norm_eps is 1e-05 here and 1e-06 there; approximate=True writes it all the same",
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


def our_language_model(projection: str, causal: bool, n_positions: int | None) -> nn.Module:
    """Tied, as ours are by default."""
    make = OUR_PROJECTIONS[projection]
    encoder = Encoder(lambda: GMLPBlock(D, D_FFN, causal=causal, projection=make(causal)), N_LAYERS)
    return randomised(LanguageModel(V, encoder, n_positions=n_positions)).eval()


@pytest.mark.parametrize("projection", OUR_PROJECTIONS)
@pytest.mark.parametrize("causal", [True, False])
def test_our_own_models_are_written_out_for_g_mlp_pytorch(projection, causal):
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
def test_our_own_models_are_written_out_for_labml_nn(projection, n_positions):
    torch.manual_seed(0)
    ours = our_language_model(projection, True, n_positions)
    state = weights.to_state(ours, "labml-nn")
    theirs = labml_language(learned=True).double()
    # Without positions, zeros for as many as W has.
    theirs.src_embed.positional_encodings = nn.Parameter(torch.zeros(n_positions or N, 1, D))
    theirs.double().load_state_dict(state)
    for x in (tokens(), tokens(4)):
        assert_close(ours(x), labml_language_call(theirs)(x), 1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_several_heads_are_written_out_each(causal):
    torch.manual_seed(0)
    make = lambda: ToeplitzProjection(N, causal=causal, n_heads=3)  # noqa: E731
    ours = Encoder(lambda: GMLPBlock(D, D_FFN, causal=causal, projection=make()), N_LAYERS)
    ours.norm = nn.Identity()
    ours = randomised(ours)
    theirs = g_mlp(num_tokens=None, heads=3, causal=causal).double().eval()
    theirs.load_state_dict(weights.to_state(ours, "g-mlp-pytorch stack"))
    x = vectors().double()
    assert_close(ours(x), theirs(x), 1e-12)


def _with_strange_shift() -> nn.Module:
    config = weights.config_of(weights.from_state(made("gMLP").state_dict()))
    return weights.build({**config, "shifts": (0, 2), "attn_in_bias": False})


def _with_strange_layer() -> nn.Module:
    model = weights.from_state(made("gMLP").state_dict())
    model.encoder.layers[1] = nn.Linear(D, D)
    return model


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: weights.from_state({"a.weight": torch.zeros(1)}),
            "no system has weights of these names: a.weight, 1 in all",
        ),
        (
            lambda: weights.from_state({}),
            "no system has weights of these names: none, 0 in all",
        ),
        (
            lambda: weights.from_state(made("timm gMLP").state_dict(), causal=True),
            "causal is no option of timm gmlp; it has ['image_size']",
        ),
        (
            lambda: weights.from_state(made("labml language model").state_dict(), causal=True),
            "causal is no option of labml-nn language model; it has none",
        ),
        (
            lambda: weights.from_state(made("timm gMLP, no squares").state_dict()),
            "image_size must be given as (height, width), as 10 patches make no square",
        ),
        (
            lambda: weights.from_state(made("timm gMLP").state_dict(), image_size=16),
            "image_size must make 9 patches of (4, 4), got (16, 16)",
        ),
        (
            lambda: weights.from_state(made("gMLPVision, no squares").state_dict()),
            "patch_size must be given as (height, width), "
            "as 24 numbers in 3 channels make no square",
        ),
        (
            lambda: weights.from_state(made("gMLP").state_dict(), shift_tokens=-1),
            "shift_tokens must be a whole number from 0 on, got -1",
        ),
        (
            lambda: weights.from_state(made("gMLP").state_dict(), gate_activation="softmax"),
            "gate_activation must be one of "
            "[None, 'gelu', 'gelu_tanh', 'relu', 'sigmoid', 'silu', 'tanh'], got 'softmax'",
        ),
        (
            lambda: weights.from_state(made("gMLP").state_dict(), causal="yes"),
            "causal must be true or false, got 'yes'",
        ),
        (
            lambda: weights.from_state(made("gMLPVision").state_dict(), n_channels=0),
            "n_channels must be a positive whole number, got 0",
        ),
        (
            lambda: weights.to_state(_with_strange_shift(), "g-mlp-pytorch"),
            "g-mlp-pytorch has no token shift by (0, 2)",
        ),
        (
            lambda: weights.build({"kind": "encoder", "d_model": 2, "depth": 2}),
            "config must have the known keys; unknown: ['depth'], missing: ['d_ffn', 'seq_len']",
        ),
        (
            lambda: weights.to_state(weights.from_state(made("gMLP").state_dict()), "keras"),
            f"to must be one of {[system.name for system in weights.SYSTEMS]}, got 'keras'",
        ),
        (
            lambda: weights.to_state(weights.from_state(made("gMLP").state_dict()), "timm gmlp"),
            "timm gmlp computes something else: kind is 'language' here and 'vision' there, "
            "norm_eps is 1e-05 here and 1e-06 there, last_norm_eps is 1e-05 here and 1e-06 there",
        ),
        (
            lambda: weights.config_of(nn.Linear(2, 2)),
            "model must be one of ours, got Linear",
        ),
        (
            lambda: weights.config_of(_with_strange_layer()),
            "no word for the layer Linear with NoneType",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_sentence(call, message):
    assert_raises(call, WeightsError, message)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "net.", "module._orig_mod."])
def test_what_wraps_a_model_is_taken_off(wrapper):
    state = made("gMLP").state_dict()
    wrapped = {wrapper + name: value for name, value in state.items()}
    assert_same(weights.unwrapped(wrapped), state)
    model = weights.from_state(wrapped)
    assert_same(model.state_dict(), weights.from_state(state).state_dict())
    # Part of the names only is no wrapper.
    mixed = {**wrapped, "other": torch.zeros(1)}
    assert weights.unwrapped(mixed) is mixed
