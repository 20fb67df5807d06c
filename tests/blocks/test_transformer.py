import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import TransformerLayer
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
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
B, N, D_MODEL, D_FFN = 2, 5, 12, 7

causal_or_not = pytest.mark.parametrize("causal", [False, True])
every_mask_and_padding = pytest.mark.parametrize(("mask", "padded"), MASKS_AND_PADDING)


def true(*shape, dtype=torch.bool):
    return torch.ones(*shape, dtype=dtype)


def layer_of(n_heads=3, **options):
    return randomised(TransformerLayer(D_MODEL, n_heads, D_FFN, **options))


@causal_or_not
@every_mask_and_padding
def test_the_layer_equals_its_equation_written_with_loops(causal, mask, padded):
    torch.manual_seed(0)
    layer, x, mask = layer_of(causal=causal), random(B, N, D_MODEL), random_mask(mask, B, N)
    kept = kept_tokens([3, 5] if padded else [5, 5], N)
    want = oracles.cut(
        oracles.transformer_layer,
        x.numpy(),
        kept.numpy(),
        as_array(mask),
        p=arrays(layer),
        n_heads=3,
        causal=causal,
    )
    assert_equals_oracle(layer(x, mask, kept if padded else None), want, kept)


@pytest.mark.parametrize("n_heads", [1, 2, 6, 12])
def test_the_layer_equals_its_equation_for_any_number_of_heads(n_heads):
    torch.manual_seed(0)
    layer, x = layer_of(n_heads), random(B, N, D_MODEL)
    want = oracles.transformer_layer(x.numpy(), arrays(layer), n_heads=n_heads)
    assert_equals_oracle(layer(x), want)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("eps", [1e-12, 0.3])
def test_the_layer_equals_its_equation_for_both_gelus_and_any_norm_eps(approximate, eps):
    torch.manual_seed(0)
    layer, x = layer_of(activation=nn.GELU(approximate), norm_eps=eps), random(B, N, D_MODEL)
    want = oracles.transformer_layer(
        x.numpy(), arrays(layer), n_heads=3, eps=eps, approximate=approximate
    )
    assert_equals_oracle(layer(x), want)


def test_the_layer_equals_that_of_torch_2_13_with_the_same_weights():
    torch.manual_seed(0)
    layer, x, mask = layer_of(), random(B, N, D_MODEL), random_mask("one mask", B, N)
    other = nn.TransformerEncoderLayer(
        D_MODEL, 3, D_FFN, 0.0, "gelu", batch_first=True, norm_first=True, dtype=FLOAT64
    )
    names = {
        "self_attn.in_proj_": "attention_in.",
        "self_attn.out_proj.": "attention_out.",
        "linear1.": "proj_in.",
        "linear2.": "proj_out.",
        "norm1.": "attention_norm.",
        "norm2.": "norm.",
    }
    ours = layer.state_dict()
    other.load_state_dict(
        {
            theirs + end: ours[own + end]
            for theirs, own in names.items()
            for end in ("weight", "bias")
        }
    )
    # In torch, true means that a position may not be read.
    torch.testing.assert_close(layer(x, mask), other(x, ~mask), rtol=0, atol=1e-12)


@properties
@given(mask=masks, n=st.integers(2, 8), data=st.data(), seed=seeds)
def test_in_a_causal_layer_the_past_cannot_see_the_future(mask, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    layer, x, mask = layer_of(causal=True), random(B, n, D_MODEL), random_mask(mask, B, n)
    assert_the_past_cannot_see_the_future(lambda x: layer(x, mask), x, with_another_future(x, t), t)


def test_in_a_layer_that_is_not_causal_the_past_sees_the_future():
    torch.manual_seed(0)
    layer, x = layer_of(), random(B, N, D_MODEL)
    before, after = layer(x), layer(with_another_future(x, 4))
    assert not torch.isclose(before[:, :4], after[:, :4]).any()


@properties
@given(n=st.integers(1, 8), seed=seeds)
def test_causal_equals_a_triangular_mask(n, seed):
    torch.manual_seed(seed)
    layer, free, x = layer_of(causal=True), layer_of(), random(B, n, D_MODEL)
    free.load_state_dict(layer.state_dict())
    # The mask is transposed, so its memory is not contiguous.
    mask = true(n, n).triu().T
    torch.testing.assert_close(layer(x), free(x, mask), rtol=0, atol=1e-12)


@properties
@given(n=st.integers(1, 8), seed=seeds)
def test_without_a_mask_the_layer_is_permutation_equivariant(n, seed):
    torch.manual_seed(seed)
    layer, x, order = layer_of(), random(B, n, D_MODEL), torch.randperm(n)
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]), rtol=0, atol=1e-12)


@properties
@given(
    mask=masks,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    causal=st.booleans(),
    seed=seeds,
)
def test_padding_equals_cutting_it_off(mask, lengths, causal, seed):
    torch.manual_seed(seed)
    layer, x = layer_of(causal=causal), random(len(lengths), 6, D_MODEL)
    mask = random_mask(mask, len(lengths), 6)
    assert_padding_equals_truncation(layer, x, mask, lengths)


@properties
@given(n=st.integers(1, 6), causal=st.booleans(), seed=seeds)
def test_padding_anywhere_is_never_read(n, causal, seed):
    torch.manual_seed(seed)
    layer, x, kept = layer_of(causal=causal), random(B, n, D_MODEL), torch.rand(B, n) < 0.5
    assert_padding_is_never_read(layer, x, kept)


@causal_or_not
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_gradients_are_finite_if_a_position_may_read_nothing(causal, dtype):
    torch.manual_seed(0)
    layer, x = layer_of(causal=causal).to(dtype), torch.randn(B, 3, D_MODEL, dtype=dtype)
    y = layer(x.requires_grad_(), None, torch.tensor([[False, True, True], [False] * 3]))
    assert y.isfinite().all()
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


# Dropout


class Times(nn.Module):
    """Scales its input and records it, in place of dropout."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.given = []

    def forward(self, y):
        self.given.append(y)
        return self.factor * y


def test_dropout_is_applied_to_both_branches_and_not_to_the_residual():
    torch.manual_seed(0)
    layer, x = layer_of(dropout=Times(0)), random(B, N, D_MODEL)
    assert torch.equal(layer(x), x)
    # Halving each branch equals halving O and V, which are linear.
    halved, scaled = layer_of(dropout=Times(0.5)), layer_of()
    scaled.load_state_dict(halved.state_dict())
    with torch.no_grad():
        for linear in (scaled.attention_out, scaled.proj_out):
            linear.weight *= 0.5
            linear.bias *= 0.5
    want = oracles.transformer_layer(x.numpy(), arrays(scaled), n_heads=3)
    assert_equals_oracle(halved(x), want)
    assert len(halved.dropout.given) == 2


def test_dropout_is_off_in_evaluation_and_by_default():
    torch.manual_seed(0)
    layer, free, x = layer_of(dropout=nn.Dropout(0.5)), layer_of(), random(B, N, D_MODEL)
    free.load_state_dict(layer.state_dict())
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), free(x))


# As a torch module


def test_the_parameters_have_the_documented_names():
    layer = TransformerLayer(D_MODEL, 3, D_FFN)
    assert {key: list(value.shape) for key, value in layer.state_dict().items()} == {
        "attention_norm.weight": [12],
        "attention_norm.bias": [12],
        "attention_in.weight": [36, 12],
        "attention_in.bias": [36],
        "attention_out.weight": [12, 12],
        "attention_out.bias": [12],
        "norm.weight": [12],
        "norm.bias": [12],
        "proj_in.weight": [7, 12],
        "proj_in.bias": [7],
        "proj_out.weight": [12, 7],
        "proj_out.bias": [12],
    }


def test_device_and_dtype_reach_every_parameter():
    layer = TransformerLayer(D_MODEL, 3, D_FFN, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", FLOAT64)}
    layer = TransformerLayer(D_MODEL, 3, D_FFN, causal=True, dtype=torch.bfloat16)
    y = layer(torch.randn(B, N, D_MODEL, dtype=torch.bfloat16), true(N, N))
    assert y.dtype == torch.bfloat16


def test_every_parameter_has_a_gradient_and_nothing_changes_in_place():
    torch.manual_seed(0)
    layer, x = layer_of(), random(B, N, D_MODEL)
    before, x_before = copy.deepcopy(layer.state_dict()), x.clone()
    layer(x, true(N, N).tril()).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in layer.parameters())
    assert torch.equal(x, x_before)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_the_layer_has_a_size_and_accepts_keywords():
    torch.manual_seed(0)
    layer, x = layer_of(), random(B, N, D_MODEL)
    mask, kept = random_mask("a mask each", B, N), kept_tokens([3, 5], N)
    assert layer.size == D_MODEL
    assert torch.equal(layer(x=x, mask=mask, key_padding_mask=kept), layer(x, mask, kept))
