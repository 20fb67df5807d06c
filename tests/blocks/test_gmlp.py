import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    MASKS_AND_PADDING,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_padding_equals_truncation,
    assert_padding_is_never_read,
    assert_the_past_cannot_see_the_future,
    kept_tokens,
    masks,
    properties,
    random,
    random_mask,
    randomised,
    seeds,
    with_another_future,
)

# All sizes differ, so swapping two of them fails.
B, D_MODEL, D_FFN, SEQ_LEN = 2, 3, 10, 6

# Name: how to build it for the longest sequence, and the number of channels it takes.
LAYERS = {
    "SpatialProjection": (lambda n, **options: SpatialProjection(n, **options), 3),
    "SpatialGatingUnit": (lambda n, **options: SpatialGatingUnit(D_FFN, n, **options), D_FFN),
    "GMLPBlock": (lambda n, **options: GMLPBlock(D_MODEL, D_FFN, n, **options), D_MODEL),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_layer_with_padding = pytest.mark.parametrize("name", ["SpatialGatingUnit", "GMLPBlock"])

whole_and_shorter = pytest.mark.parametrize("n", [SEQ_LEN, 4])
causal_or_not = pytest.mark.parametrize("causal", [False, True])
every_mask = pytest.mark.parametrize("mask", MASKS)
every_mask_and_padding = pytest.mark.parametrize(("mask", "padded"), MASKS_AND_PADDING)


def true(*shape):
    return torch.ones(*shape, dtype=torch.bool)


# The equations


@whole_and_shorter
@causal_or_not
@every_mask
def test_the_spatial_projection_equals_equation_2_written_with_loops(n, causal, mask):
    torch.manual_seed(0)
    projection = randomised(SpatialProjection(SEQ_LEN, causal=causal))
    z, mask = random(B, n, 3), random_mask(mask, B, n)
    want = oracles.spatial_projection(
        z.numpy(), arrays(projection), causal=causal, mask=as_array(mask)
    )
    assert_equals_oracle(projection(z, mask), want)


@whole_and_shorter
@causal_or_not
@every_mask_and_padding
def test_the_spatial_gating_unit_equals_equation_4_written_with_loops(n, causal, mask, padded):
    torch.manual_seed(0)
    unit = randomised(SpatialGatingUnit(D_FFN, SEQ_LEN, causal=causal))
    z, mask = random(B, n, D_FFN), random_mask(mask, B, n)
    kept = kept_tokens([n - 2, n] if padded else [n, n], n)
    want = oracles.cut(
        oracles.spatial_gating_unit,
        z.numpy(),
        kept.numpy(),
        as_array(mask),
        p=arrays(unit),
        causal=causal,
    )
    assert_equals_oracle(unit(z, mask, kept if padded else None), want, kept)


@whole_and_shorter
@causal_or_not
@every_mask_and_padding
def test_the_block_equals_equation_1_written_with_loops(n, causal, mask, padded):
    torch.manual_seed(0)
    block = randomised(GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=causal))
    x, mask = random(B, n, D_MODEL), random_mask(mask, B, n)
    kept = kept_tokens([n - 2, n] if padded else [n, n], n)
    want = oracles.cut(
        oracles.gmlp_block, x.numpy(), kept.numpy(), as_array(mask), p=arrays(block), causal=causal
    )
    assert_equals_oracle(block(x, mask, kept if padded else None), want, kept)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize(("eps", "sgu_eps"), [(1e-5, 1e-5), (1e-12, 1e-3), (0.3, 1e-6)])
def test_the_block_equals_equation_1_for_both_gelus_and_any_norm_eps(approximate, eps, sgu_eps):
    torch.manual_seed(0)
    block = randomised(
        GMLPBlock(
            D_MODEL,
            D_FFN,
            activation=nn.GELU(approximate),
            norm_eps=eps,
            sgu=SpatialGatingUnit(D_FFN, SEQ_LEN, norm_eps=sgu_eps),
        )
    )
    x = random(B, SEQ_LEN, D_MODEL)
    want = oracles.gmlp_block(
        x.numpy(), arrays(block), eps=eps, sgu_eps=sgu_eps, approximate=approximate
    )
    assert_equals_oracle(block(x), want)


@pytest.mark.parametrize("eps", [1e-12, 0.3])
def test_the_unit_equals_equation_4_for_any_norm_eps(eps):
    torch.manual_seed(0)
    unit = randomised(SpatialGatingUnit(D_FFN, SEQ_LEN, norm_eps=eps))
    z = random(B, SEQ_LEN, D_FFN)
    want = oracles.spatial_gating_unit(z.numpy(), arrays(unit), eps=eps)
    assert_equals_oracle(unit(z), want)


def test_a_position_that_may_read_nothing_gets_the_bias_alone():
    torch.manual_seed(0)
    projection = randomised(SpatialProjection(SEQ_LEN))
    mask = true(4, 4)
    mask[2] = False
    assert torch.equal(projection(random(B, 4, 3), mask)[:, 2], projection.bias[2].expand(B, 3))


# Causality


@every_layer
@properties
@given(mask=masks, n=st.integers(2, 8), data=st.data(), seed=seeds)
def test_in_a_causal_layer_the_past_cannot_see_the_future(name, mask, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    longest = data.draw(st.integers(n, 8), label="seq_len")
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer, mask = randomised(build(longest, causal=True)), random_mask(mask, B, n)
    x = random(B, n, width)
    assert_the_past_cannot_see_the_future(lambda x: layer(x, mask), x, with_another_future(x, t), t)


@every_layer
def test_in_a_layer_that_is_not_causal_the_past_sees_the_future(name):
    torch.manual_seed(0)
    build, width = LAYERS[name]
    layer, x = randomised(build(SEQ_LEN)), random(B, SEQ_LEN, width)
    before, after = layer(x), layer(with_another_future(x, 5))
    assert not torch.isclose(before[:, :5], after[:, :5]).any()


@every_layer
@properties
@given(n=st.integers(2, 6), causal=st.booleans(), seed=seeds)
def test_the_future_has_no_gradient_exactly_if_causal(name, n, causal, seed):
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer = randomised(build(SEQ_LEN, causal=causal))
    layer(random(B, n, width)).square().sum().backward()
    [gradient] = [p.grad for key, p in layer.named_parameters() if p.shape == (SEQ_LEN, SEQ_LEN)]
    future = true(n, n).triu(1)
    assert (gradient[:n, :n][~future] != 0).all()
    assert ((gradient[:n, :n][future] == 0) == causal).all()


@every_layer
def test_causal_equals_a_triangular_mask(name):
    torch.manual_seed(0)
    build, width = LAYERS[name]
    layer, free = randomised(build(SEQ_LEN, causal=True)), build(SEQ_LEN).double()
    free.load_state_dict(layer.state_dict())
    x = random(B, 4, width)
    # The mask is transposed, so its memory is not contiguous.
    assert torch.equal(layer(x), free(x, true(4, 4).triu().T))


# Shorter sequences and padding


@properties
@given(n=st.integers(1, 6), seq_len=st.integers(6, 9), causal=st.booleans(), seed=seeds)
def test_a_shorter_sequence_uses_the_top_left_corner(n, seq_len, causal, seed):
    torch.manual_seed(seed)
    long = randomised(SpatialProjection(seq_len, causal=causal))
    short = SpatialProjection(n, causal=causal, dtype=FLOAT64)
    with torch.no_grad():
        short.weight.copy_(long.weight[:n, :n])
        short.bias.copy_(long.bias[:n])
    z = random(B, n, 3)
    assert torch.equal(long(z), short(z))
    long(z).square().sum().backward()
    assert long.weight.grad[:n, :n].any()
    assert not long.weight.grad[n:].any()
    assert not long.weight.grad[:, n:].any()
    assert not long.bias.grad[n:].any()


@every_layer_with_padding
@properties
@given(
    mask=masks,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    causal=st.booleans(),
    seed=seeds,
)
def test_padding_equals_cutting_it_off(name, mask, lengths, causal, seed):
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer = randomised(build(SEQ_LEN, causal=causal))
    x, mask = random(len(lengths), SEQ_LEN, width), random_mask(mask, len(lengths), SEQ_LEN)
    assert_padding_equals_truncation(layer, x, mask, lengths)


@every_layer_with_padding
@properties
@given(n=st.integers(1, 6), causal=st.booleans(), seed=seeds)
def test_padding_anywhere_is_never_read(name, n, causal, seed):
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer, x, kept = (
        randomised(build(SEQ_LEN, causal=causal)),
        random(B, n, width),
        torch.rand(B, n) < 0.5,
    )
    assert_padding_is_never_read(layer, x, kept)


# A freshly built unit


def test_a_fresh_unit_passes_the_first_half_unchanged():
    torch.manual_seed(0)
    z = torch.randn(4, 64, 32)
    assert (SpatialGatingUnit(32, 64)(z) - z[..., :16]).abs().max() < 1e-3


def test_a_fresh_projection_has_a_bias_of_one_and_weights_near_zero():
    torch.manual_seed(0)
    projection = SpatialProjection(64)
    assert torch.equal(projection.bias, torch.ones(64))
    # The relative error of the standard deviation of N normal numbers is about 1 / sqrt(2 N), that
    # of their mean 1 / sqrt(N); allow five times that for N = 64 * 64.
    weight = projection.weight.detach() / 1e-6
    assert abs(weight.std() - 1) < 5 / (2 * 64**2) ** 0.5
    assert abs(weight.mean()) < 5 / 64
    assert not torch.equal(projection.weight, SpatialProjection(64).weight)


# As a torch module


@every_layer
def test_device_and_dtype_reach_every_parameter(name):
    build, width = LAYERS[name]
    layer = build(SEQ_LEN, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", FLOAT64)}
    layer = build(SEQ_LEN, dtype=torch.bfloat16)
    y = layer(torch.randn(B, 4, width, dtype=torch.bfloat16), true(4, 4).tril())
    assert y.dtype == torch.bfloat16


def test_the_parameters_have_the_documented_names():
    assert {key: list(value.shape) for key, value in GMLPBlock(3, 10, 6).state_dict().items()} == {
        "norm.weight": [3],
        "norm.bias": [3],
        "proj_in.weight": [10, 3],
        "proj_in.bias": [10],
        "sgu.norm.weight": [5],
        "sgu.norm.bias": [5],
        "sgu.projection.weight": [6, 6],
        "sgu.projection.bias": [6],
        "proj_out.weight": [3, 5],
        "proj_out.bias": [3],
    }


@every_layer
def test_every_parameter_has_a_gradient_and_nothing_changes_in_place(name):
    torch.manual_seed(0)
    build, width = LAYERS[name]
    layer, x = randomised(build(SEQ_LEN)), random(B, SEQ_LEN, width)
    before, x_before = copy.deepcopy(layer.state_dict()), x.clone()
    layer(x, true(6, 6)).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in layer.parameters())
    assert torch.equal(x, x_before)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_the_block_has_a_size_and_accepts_keywords():
    torch.manual_seed(0)
    block, x = randomised(GMLPBlock(D_MODEL, D_FFN, SEQ_LEN)), random(B, 4, D_MODEL)
    mask, kept = random_mask("a mask each", B, 4), kept_tokens([2, 4], 4)
    assert block.size == D_MODEL
    assert torch.equal(block(x=x, mask=mask, key_padding_mask=kept), block(x, mask, kept))


def test_the_repr_shows_the_arguments():
    assert repr(SpatialProjection(6, causal=True)) == "SpatialProjection(seq_len=6, causal=True)"


# Another projection


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, z, mask):
        self.calls.append((z, mask))
        return z.flip(1)


def test_a_given_projection_gets_the_normalised_half_and_the_mask():
    torch.manual_seed(0)
    recorder = Recorder()
    unit = randomised(SpatialGatingUnit(D_FFN, projection=recorder))
    assert set(unit.state_dict()) == {"norm.weight", "norm.bias"}
    z, mask = random(B, 9, D_FFN), true(9, 9).tril()
    want = unit.norm(z[..., 5:])
    assert torch.equal(unit(z, mask), z[..., :5] * want.flip(1))
    [(seen, seen_mask)] = recorder.calls
    assert torch.equal(seen, want)
    assert seen_mask is mask
