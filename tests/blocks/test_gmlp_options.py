"""Heads, the aMLP block, and the parts that can be passed to a block."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    AMLPBlock,
    AMLPGatingUnit,
    GMLPBlock,
    LinearGate,
    MultiHeadSpatialProjection,
    SpatialGatingUnit,
    SpatialProjection,
    TransformerLayer,
)
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    MASKS_AND_PADDING,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_raises,
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
B, D_MODEL, D_FFN, SEQ_LEN = 2, 3, 12, 5

causal_or_not = pytest.mark.parametrize("causal", [False, True])
every_mask = pytest.mark.parametrize("mask", MASKS)
any_number_of_heads = pytest.mark.parametrize("n_heads", [2, 3, 6])


def projection_of(n_heads, seq_len=SEQ_LEN, causal=False):
    return randomised(MultiHeadSpatialProjection(seq_len, n_heads, causal=causal))


def unit_of(**options):
    seq_len = None if "projection" in options else SEQ_LEN
    return randomised(AMLPGatingUnit(D_FFN, seq_len, **options))


def block_of(**options):
    seq_len = None if "sgu" in options else SEQ_LEN
    kind = AMLPBlock if {"attention", "token_shift"} & options.keys() else GMLPBlock
    return randomised(kind(D_MODEL, D_FFN, seq_len, **options))


# Heads


@any_number_of_heads
@pytest.mark.parametrize("n", [SEQ_LEN, 4])
@causal_or_not
@every_mask
def test_heads_equal_equation_2_written_with_loops(n_heads, n, causal, mask):
    torch.manual_seed(0)
    projection = projection_of(n_heads, causal=causal)
    z, mask = random(B, n, 6), random_mask(mask, B, n)
    want = oracles.spatial_projection(
        z.numpy(), arrays(projection), causal=causal, mask=as_array(mask)
    )
    assert_equals_oracle(projection(z, mask), want)


@properties
@given(
    mask=masks,
    n_heads=st.integers(2, 4),
    per_head=st.integers(1, 3),
    n=st.integers(1, 6),
    causal=st.booleans(),
    seed=seeds,
)
def test_heads_equal_separate_projections_of_channel_groups(
    mask, n_heads, per_head, n, causal, seed
):
    torch.manual_seed(seed)
    projection = projection_of(n_heads, seq_len=6, causal=causal)
    z, mask = random(B, n, n_heads * per_head), random_mask(mask, B, n)
    alone = []
    for h, group in enumerate(z.split(per_head, dim=-1)):
        one = SpatialProjection(6, causal=causal, dtype=FLOAT64)
        one.load_state_dict({name: p[h] for name, p in projection.state_dict().items()})
        alone.append(one(group, mask))
    assert torch.equal(projection(z, mask), torch.cat(alone, dim=-1))


def test_one_matrix_has_the_shape_of_the_paper_and_several_have_an_axis_of_heads():
    for projection, heads in ((SpatialProjection(5), []), (MultiHeadSpatialProjection(5, 3), [3])):
        shapes = {name: list(p.shape) for name, p in projection.state_dict().items()}
        assert shapes == {"weight": [*heads, 5, 5], "bias": [*heads, 5]}


def test_fresh_heads_start_with_different_weights_near_zero_and_a_bias_of_one():
    torch.manual_seed(0)
    projection = MultiHeadSpatialProjection(8, 2)
    first, second = projection.weight
    assert not torch.equal(first, second)
    assert projection.weight.abs().max() < 1e-5
    assert torch.equal(projection.bias, torch.ones(2, 8))


@properties
@given(n=st.integers(2, 6), data=st.data(), seed=seeds)
def test_in_causal_heads_the_past_cannot_see_the_future(n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    projection, z = projection_of(3, seq_len=6, causal=True), random(B, n, 6)
    assert_the_past_cannot_see_the_future(projection, z, with_another_future(z, t), t)


def test_the_future_has_no_gradient_in_any_causal_head():
    torch.manual_seed(0)
    projection = projection_of(3, causal=True)
    projection(random(B, 4, 6)).square().sum().backward()
    learned = torch.zeros(3, SEQ_LEN, SEQ_LEN, dtype=torch.bool)
    learned[:, :4, :4] = torch.ones(4, 4).tril().bool()
    assert torch.equal(projection.weight.grad != 0, learned)


# The gate


@causal_or_not
@pytest.mark.parametrize(("mask", "padded"), MASKS_AND_PADDING)
@pytest.mark.parametrize("n_heads", [1, 3])
@pytest.mark.parametrize("activated", [False, True])
def test_the_unit_adds_attended_before_the_activation(causal, mask, n_heads, activated, padded):
    torch.manual_seed(0)
    unit = unit_of(
        causal=causal,
        projection=projection_of(n_heads, causal=causal),
        activation=nn.functional.gelu if activated else None,
    )
    z, attended = random(B, SEQ_LEN, D_FFN), random(B, SEQ_LEN, D_FFN // 2)
    kept, mask = kept_tokens([3, 5] if padded else [5, 5], SEQ_LEN), random_mask(mask, B, SEQ_LEN)
    for b in range(B):
        n = int(kept[b].sum())
        own = None if mask is None else mask.expand(B, -1, -1)[b, :n, :n]
        want = oracles.spatial_gating_unit(
            z[b : b + 1, :n].numpy(),
            arrays(unit),
            causal=causal,
            mask=as_array(own),
            attended=attended[b : b + 1, :n].numpy(),
            activation=oracles.gelu_exact if activated else None,
        )
        got = unit(z, mask, kept if padded else None, attended)
        assert_equals_oracle(got[b : b + 1, :n], want)


def test_without_attended_the_activation_is_applied_to_the_projection():
    torch.manual_seed(0)
    unit, z = unit_of(activation=torch.tanh), random(B, SEQ_LEN, D_FFN)
    z1, z2 = z.chunk(2, dim=-1)
    assert torch.equal(unit(z), z1 * torch.tanh(unit.projection(unit.norm(z2))))


def test_a_unit_with_a_given_projection_needs_no_seq_len():
    torch.manual_seed(0)
    projection = randomised(SpatialProjection(SEQ_LEN))
    given, named = SpatialGatingUnit(D_FFN, projection=projection), unit_of()
    named.load_state_dict(given.double().state_dict())
    z = random(B, 4, D_FFN)
    assert torch.equal(given(z), named(z))
    assert given.projection is projection


@pytest.mark.parametrize("causal", [False, True])
def test_the_unit_is_causal_exactly_if_its_projection_is(causal):
    assert SpatialGatingUnit(D_FFN, SEQ_LEN, causal=causal).causal is causal
    projection = SpatialProjection(SEQ_LEN, causal=causal)
    assert SpatialGatingUnit(D_FFN, projection=projection).causal is causal
    assert SpatialGatingUnit(D_FFN, projection=nn.Identity()).causal is False


# The calls of given layers


class Spy(nn.Module):
    """Records its calls and returns `answer(*arguments)`."""

    def __init__(self, answer, causal=False, d_out=4):
        super().__init__()
        self.answer = answer
        self.causal = causal
        self.d_out = d_out
        self.calls = []

    def forward(self, *arguments):
        self.calls.append(arguments)
        return self.answer(*arguments)


def assert_called_with(spy, *wanted):
    [got] = spy.calls
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert torch.equal(a, b) if isinstance(b, torch.Tensor) else a is b


def test_the_gate_adds_the_output_of_attention():
    torch.manual_seed(0)
    attended = random(B, 4, D_FFN // 2)
    spy = Spy(lambda *_: attended)
    block, x = block_of(attention=spy), random(B, 4, D_MODEL)
    mask, kept = random_mask("a mask each", B, 4), kept_tokens([2, 4], 4)
    y = block(x, mask, kept)
    normalised = block.norm(x)
    assert_called_with(spy, normalised, mask, kept)
    z = block.activation(block.proj_in(normalised))
    assert torch.equal(y, x + block.proj_out(block.sgu(z, mask, kept, attended)))


def test_a_token_shift_is_applied_right_after_the_norm():
    torch.manual_seed(0)
    spy, attention = Spy(lambda x, *_: x.roll(1, dims=1)), Spy(lambda x, *_: x[..., :1])
    block, x = block_of(token_shift=spy, attention=attention), random(B, 4, D_MODEL)
    kept = kept_tokens([2, 4], 4)
    y = block(x, None, kept)
    shifted = block.norm(x).roll(1, dims=1)
    assert_called_with(spy, block.norm(x), kept)
    assert_called_with(attention, shifted, None, kept)
    z = block.activation(block.proj_in(shifted))
    assert torch.equal(y, x + block.proj_out(block.sgu(z, None, kept, shifted[..., :1])))


def test_proj_out_has_the_width_of_the_given_gate():
    torch.manual_seed(0)
    spy = Spy(lambda z, *_: z[..., :4])
    block, x = block_of(sgu=spy), random(B, 4, D_MODEL)
    assert list(block.proj_out.weight.shape) == [D_MODEL, 4]
    assert set(block.state_dict()) == {
        f"{name}.{kind}" for name in ("norm", "proj_in", "proj_out") for kind in ("weight", "bias")
    }
    mask, kept = random_mask("one mask", B, 4), kept_tokens([2, 4], 4)
    y = block(x, mask, kept)
    z = block.activation(block.proj_in(block.norm(x)))
    assert_called_with(spy, z, mask, kept)
    assert torch.equal(y, x + block.proj_out(z[..., :4]))


def test_dropout_is_applied_to_the_branch_and_not_to_the_residual():
    torch.manual_seed(0)
    spy = Spy(lambda y: 0 * y)
    block, x = block_of(dropout=spy), random(B, 4, D_MODEL)
    assert torch.equal(block(x), x)
    free = block_of()
    free.load_state_dict(block.state_dict())
    [(y,)] = spy.calls
    assert torch.equal(x + y, free(x))


def test_dropout_is_off_in_evaluation():
    torch.manual_seed(0)
    block, x = block_of(dropout=nn.Dropout(0.5)), random(B, 4, D_MODEL)
    free = block_of()
    free.load_state_dict(block.state_dict())
    # Some of the 24 values are dropped and some are kept.
    dropped = (block(x) - x == 0).sum()
    assert 0 < dropped < x.numel()
    assert torch.equal(block.eval()(x), free(x))


# How to pass each part, to a causal layer by default.
TAKES_A_PART = {
    "sgu": lambda part, n=None, causal=True: GMLPBlock(D_MODEL, D_FFN, n, causal=causal, sgu=part),
    "projection": lambda part, n=None, causal=True: SpatialGatingUnit(
        D_FFN, n, causal=causal, projection=part
    ),
    "attention": lambda part, causal=True: AMLPBlock(
        D_MODEL, D_FFN, SEQ_LEN, causal=causal, attention=part
    ),
    "token_shift": lambda part, causal=True: AMLPBlock(
        D_MODEL, D_FFN, SEQ_LEN, causal=causal, token_shift=part
    ),
}


def test_a_causal_block_accepts_causal_parts():
    for make in TAKES_A_PART.values():
        make(Spy(lambda *_: None, causal=True))


# 1 equals True, but our layers say True.
@pytest.mark.parametrize("causal", [False, None, 1, "no"])
@pytest.mark.parametrize("name", TAKES_A_PART)
def test_a_causal_layer_rejects_parts_that_are_not_causal(name, causal):
    make, part = TAKES_A_PART[name], Spy(lambda *_: None, causal=causal)
    assert_raises(lambda: make(part), ValueError, name, "causal", "Spy")
    make(part, causal=False)


@pytest.mark.parametrize("name", ["sgu", "projection"])
def test_seq_len_is_refused_beside_a_layer_that_has_its_own(name):
    part = Spy(lambda *_: None)
    assert_raises(lambda: TAKES_A_PART[name](part, 7), ValueError, "seq_len", name, 7)


# Name: how to build a layer that takes both kinds of masks, and its number of channels.
MASKED = {
    "GMLPBlock": (lambda: GMLPBlock(D_MODEL, D_FFN, SEQ_LEN), D_MODEL),
    "linear gate": (lambda: LinearGate(D_FFN, SpatialProjection(SEQ_LEN)), D_FFN),
    "Transformer": (lambda: TransformerLayer(6, 2, 5), 6),
}


# A check that asks `mask.shape in shapes` fails in a graph once masks of several kinds were seen.
@pytest.mark.parametrize(
    ("name", "dynamic"), [*((name, None) for name in MASKED), ("GMLPBlock", False)]
)
def test_masks_of_all_kinds_one_after_the_other_compile_without_a_break(name, dynamic):
    torch._dynamo.reset()
    torch.manual_seed(0)
    build, width = MASKED[name]
    layer = build()
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="eager")
    for mask in ("one mask", None, "a mask each"):
        for n in (5,) if dynamic is False else (5, 4):
            x = torch.randn(2, n, width)
            masks = (random_mask(mask, 2, n),) if mask else (None, kept_tokens([n, n - 2], n))
            torch.testing.assert_close(compiled(x, *masks), layer(x, *masks))
