import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp import (
    AMLPBlock,
    MultiHeadSpatialProjection,
    SpatialGatingUnit,
    TokenShift,
)
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    assert_equals_oracle,
    assert_the_past_cannot_see_the_future,
    kept_tokens,
    properties,
    random,
    randomised,
    seeds,
    with_another_future,
)

# All sizes differ, so swapping two of them fails.
B, N, D, D_FFN, SEQ_LEN = 2, 5, 7, 10, 6

SHIFTS = [
    (0,),
    (1,),
    (-1,),
    (0, 1),
    (1, 0),
    (-1, 0, 1),
    (0, 1, 2),
    (-2, -1, 0, 1, 2),
    (9, 0),
    (-9,),
]
every_shift = pytest.mark.parametrize("shifts", SHIFTS, ids=str)
causal_shifts = st.lists(st.integers(0, 8), min_size=1, max_size=D).map(tuple)
any_shifts = st.lists(st.integers(-8, 8), min_size=1, max_size=D).map(tuple)


def block_of(shifts, causal=True):
    return randomised(AMLPBlock(D, D_FFN, SEQ_LEN, causal=causal, token_shift=TokenShift(shifts)))


@every_shift
@pytest.mark.parametrize("padded", [False, True])
def test_it_equals_its_equation_written_with_loops(shifts, padded):
    torch.manual_seed(0)
    x, kept = random(B, N, D), kept_tokens([3, 5] if padded else [5, 5], N)
    want = oracles.cut(oracles.token_shift, x.numpy(), kept.numpy(), shifts=shifts)
    assert_equals_oracle(TokenShift(shifts)(x, kept if padded else None), want, kept)


@properties
@given(shifts=any_shifts, n=st.integers(1, 6), seed=seeds)
def test_it_moves_values_without_changing_them(shifts, n, seed):
    torch.manual_seed(seed)
    x = random(B, n, D)
    shift, before = TokenShift(shifts), x.clone()
    assert torch.equal(shift(x), torch.from_numpy(oracles.token_shift(x.numpy(), shifts)))
    assert torch.equal(x, before)
    assert not shift.state_dict()


def test_a_shift_reads_from_earlier_positions_and_zeros_come_in():
    x = torch.arange(1.0, 13.0).reshape(1, 3, 4)
    want = [[1, 2, 0, 0], [5, 6, 3, 4], [9, 10, 7, 8]]
    assert TokenShift((0, 1))(x).tolist() == [want]


@every_shift
def test_it_is_causal_exactly_if_no_shift_is_negative(shifts):
    torch.manual_seed(0)
    shift, x = TokenShift(shifts), random(B, N, D)
    assert shift.causal is all(each >= 0 for each in shifts)
    before, after = shift(x), shift(with_another_future(x, 2))
    assert torch.equal(before[:, :2], after[:, :2]) == (shift.causal or min(shifts) <= -N)


@properties
@given(shifts=causal_shifts, n=st.integers(2, 6), data=st.data(), seed=seeds)
def test_in_a_causal_block_the_past_cannot_see_the_future(shifts, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    x = random(B, n, D)
    assert_the_past_cannot_see_the_future(block_of(shifts), x, with_another_future(x, t), t)


@properties
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3), shifts=any_shifts, seed=seeds)
def test_padding_equals_cutting_it_off(lengths, shifts, seed):
    torch.manual_seed(seed)
    x, kept = random(len(lengths), SEQ_LEN, D), kept_tokens(lengths, SEQ_LEN)
    for layer in (TokenShift(shifts), block_of(shifts, causal=False)):
        y = layer(x, key_padding_mask=kept)
        for b, n in enumerate(lengths):
            alone = layer(x[b : b + 1, :n])
            torch.testing.assert_close(y[b : b + 1, :n], alone, rtol=0, atol=1e-12)


@properties
@given(shifts=any_shifts, n=st.integers(1, 6), seed=seeds)
def test_padding_anywhere_is_never_read(shifts, n, seed):
    torch.manual_seed(seed)
    shift, x, kept = TokenShift(shifts), random(B, n, D), torch.rand(B, n) < 0.5
    garbage = torch.where(kept[..., None], x, torch.nan)
    assert torch.equal(shift(x, kept), shift(garbage, kept))


# Comparison with g-mlp-pytorch


@pytest.mark.parametrize(
    "shifts", [(0,), (0, 1), (0, 1, 2), (-1, 0, 1), (-2, -1, 0, 1, 2)], ids=str
)
@pytest.mark.parametrize("d", [5, 6, 7, 15])
def test_it_moves_the_same_channels_as_g_mlp_pytorch_0_1_5(shifts, d):
    peer = pytest.importorskip("g_mlp_pytorch.g_mlp_pytorch", reason="an extra of the tests")
    torch.manual_seed(0)
    x = random(B, N, d)
    assert torch.equal(TokenShift(shifts)(x), peer.PreShiftTokens(shifts, torch.nn.Identity())(x))


# As a torch module


def test_the_repr_shows_the_arguments_and_survives_a_copy():
    shift = TokenShift([0, 1])
    assert repr(shift) == repr(copy.deepcopy(shift)) == "TokenShift(shifts=(0, 1))"


def test_every_input_that_is_read_has_a_gradient():
    x = random(B, N, D).requires_grad_()
    TokenShift((0, 2))(x).sum().backward()
    want = torch.ones(B, N, D, dtype=FLOAT64)
    want[:, -2:, 3:6] = 0
    assert torch.equal(x.grad, want)


def test_a_token_shift_works_with_another_projection():
    projection = MultiHeadSpatialProjection(SEQ_LEN, 5, causal=True)
    block = AMLPBlock(
        D,
        D_FFN,
        causal=True,
        sgu=SpatialGatingUnit(D_FFN, projection=projection),
        token_shift=TokenShift((0, 1)),
    )
    assert block(torch.randn(B, N, D)).shape == (B, N, D)
