import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp import AMLPBlock, TinyAttention
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
B, N, D_MODEL, D_FFN, D_ATTN, SEQ_LEN = 2, 5, 3, 14, 4, 6


def tiny(causal=False, **options):
    return TinyAttention(D_MODEL, D_FFN // 2, D_ATTN, causal=causal, **options)


def amlp(causal=False, **options):
    return AMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=causal, attention=tiny(causal), **options)


# Name: how to build it, and its equation.
LAYERS = {
    "TinyAttention": (tiny, oracles.tiny_attention),
    "aMLP": (amlp, oracles.amlp_block),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
causal_or_not = pytest.mark.parametrize("causal", [False, True])
every_mask_and_padding = pytest.mark.parametrize(("mask", "padded"), MASKS_AND_PADDING)


# The equations


@every_layer
@causal_or_not
@every_mask_and_padding
def test_it_equals_its_equation_written_with_loops(name, causal, mask, padded):
    torch.manual_seed(0)
    build, oracle = LAYERS[name]
    layer, x, mask = randomised(build(causal)), random(B, N, D_MODEL), random_mask(mask, B, N)
    kept = kept_tokens([3, 5] if padded else [5, 5], N)
    want = oracles.cut(
        oracle, x.numpy(), kept.numpy(), as_array(mask), p=arrays(layer), causal=causal
    )
    assert_equals_oracle(layer(x, mask, kept if padded else None), want, kept)


@pytest.mark.parametrize("in_bias", [False, True])
@pytest.mark.parametrize("out_bias", [False, True])
def test_each_bias_can_be_left_out(in_bias, out_bias):
    torch.manual_seed(0)
    layer, x = randomised(tiny(in_bias=in_bias, out_bias=out_bias)), random(B, N, D_MODEL)
    assert ("attention_in.bias" in layer.state_dict()) == in_bias
    assert ("attention_out.bias" in layer.state_dict()) == out_bias
    assert_equals_oracle(layer(x), oracles.tiny_attention(x.numpy(), arrays(layer)))


@causal_or_not
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_a_position_that_may_read_nothing_gets_the_bias_alone_and_zeros_without(causal, dtype):
    torch.manual_seed(0)
    mask, kept = torch.ones(3, 3, dtype=torch.bool), torch.tensor([[True] * 3, [False] * 3])
    mask[1] = False
    for out_bias in (True, False):
        layer = randomised(tiny(causal, out_bias=out_bias)).to(dtype)
        y = layer(torch.randn(B, 3, D_MODEL, dtype=dtype), mask, kept)
        want = layer.attention_out.bias if out_bias else torch.zeros(7, dtype=dtype)
        assert torch.equal(y[0, 1], want)
        assert torch.equal(y[1], want.expand(3, 7))
        assert not torch.isclose(y[0, 0], want).any()


@every_layer
@causal_or_not
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_gradients_are_finite_if_a_position_may_read_nothing(name, causal, dtype):
    torch.manual_seed(0)
    build, _ = LAYERS[name]
    layer, x = randomised(build(causal)).to(dtype), torch.randn(B, 3, D_MODEL, dtype=dtype)
    y = layer(x.requires_grad_(), None, torch.tensor([[False, True, True], [False] * 3]))
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_tiny_attention_reads_the_normalised_input_of_the_block():
    torch.manual_seed(0)
    block, x, seen = randomised(amlp()), random(B, N, D_MODEL), []
    block.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(x)
    [normalised] = seen
    assert torch.equal(normalised, block.norm(x))


# Causality, order, padding


@every_layer
@properties
@given(mask=masks, n=st.integers(2, 6), data=st.data(), seed=seeds)
def test_in_a_causal_layer_the_past_cannot_see_the_future(name, mask, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    layer, x = randomised(LAYERS[name][0](True)), random(B, n, D_MODEL)
    mask = random_mask(mask, B, n)
    assert_the_past_cannot_see_the_future(lambda x: layer(x, mask), x, with_another_future(x, t), t)


@every_layer
def test_in_a_layer_that_is_not_causal_the_past_sees_the_future(name):
    torch.manual_seed(0)
    layer, x = randomised(LAYERS[name][0]()), random(B, N, D_MODEL)
    before, after = layer(x), layer(with_another_future(x, 4))
    assert not torch.isclose(before[:, :4], after[:, :4]).any()


@every_layer
@properties
@given(n=st.integers(1, 6), seed=seeds)
def test_causal_equals_a_triangular_mask(name, n, seed):
    torch.manual_seed(seed)
    build, _ = LAYERS[name]
    layer, free, x = randomised(build(True)), build().double(), random(B, n, D_MODEL)
    free.load_state_dict(layer.state_dict())
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    torch.testing.assert_close(layer(x), free(x, mask), rtol=0, atol=1e-12)


@properties
@given(n=st.integers(1, 6), seed=seeds)
def test_without_a_mask_it_is_permutation_equivariant(n, seed):
    torch.manual_seed(seed)
    layer, x, order = randomised(tiny()), random(B, n, D_MODEL), torch.randperm(n)
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]), rtol=0, atol=1e-12)


@every_layer
@properties
@given(
    mask=masks,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    causal=st.booleans(),
    seed=seeds,
)
def test_padding_equals_cutting_it_off(name, mask, lengths, causal, seed):
    torch.manual_seed(seed)
    layer, x = randomised(LAYERS[name][0](causal)), random(len(lengths), 6, D_MODEL)
    mask = random_mask(mask, len(lengths), 6)
    assert_padding_equals_truncation(layer, x, mask, lengths)


@every_layer
@properties
@given(n=st.integers(1, 6), causal=st.booleans(), seed=seeds)
def test_padding_anywhere_is_never_read(name, n, causal, seed):
    torch.manual_seed(seed)
    layer, x = randomised(LAYERS[name][0](causal)), random(B, n, D_MODEL)
    kept = torch.rand(B, n) < 0.5
    assert_padding_is_never_read(layer, x, kept)


# A fresh layer


def test_a_fresh_block_is_the_same_feed_forward_layer_as_without_attention():
    torch.manual_seed(0)
    tiny_attention = TinyAttention(32, 48)
    block = AMLPBlock(32, 96, 64, attention=tiny_attention)
    x = torch.randn(4, 64, 32)
    z1, _ = block.activation(block.proj_in(block.norm(x))).chunk(2, dim=-1)
    assert (tiny_attention(block.norm(x)).abs().max()) < 1e-4
    assert (block(x) - (x + block.proj_out(z1))).abs().max() < 1e-3


def test_every_parameter_of_a_fresh_layer_has_a_gradient():
    torch.manual_seed(0)
    layer = tiny().double()
    layer(random(B, N, D_MODEL)).sin().add(1).square().sum().backward()
    weight = layer.attention_out.weight
    # Five times the standard error of the standard deviation, relative to it.
    assert abs(weight.std() / 1e-6 - 1) < 5 / (2 * weight.numel()) ** 0.5
    assert not layer.attention_out.bias.any()
    assert all((p.grad != 0).any() for p in layer.parameters())


def test_reset_parameters_initialises_a_layer_from_the_meta_device():
    torch.manual_seed(0)
    layer = TinyAttention(D_MODEL, 7, D_ATTN, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", FLOAT64)}
    layer = layer.to_empty(device="cpu")
    for p in layer.parameters():
        torch.nn.init.constant_(p, torch.nan)
    layer.reset_parameters()
    assert all(p.isfinite().all() for p in layer.parameters())
    assert 0 < layer.attention_out.weight.abs().max() < 1e-5
    assert layer.attention_in.weight.std() > 0.1


# As a torch module


def test_the_parameters_have_the_documented_names():
    assert {key: list(value.shape) for key, value in TinyAttention(3, 7).state_dict().items()} == {
        "attention_in.weight": [192, 3],
        "attention_in.bias": [192],
        "attention_out.weight": [7, 64],
        "attention_out.bias": [7],
    }


def test_the_repr_shows_the_arguments():
    assert repr(TinyAttention(3, 7, 4, causal=True, in_bias=False)).split("\n")[:2] == [
        "TinyAttention(",
        "  causal=True",
    ]


def test_half_precision_stays_half_precision():
    layer = tiny(True, dtype=torch.bfloat16)
    x = torch.randn(B, N, D_MODEL, dtype=torch.bfloat16)
    assert layer(x, torch.ones(N, N, dtype=torch.bool)).dtype == torch.bfloat16


@every_layer
def test_every_parameter_has_a_gradient_and_a_copy_is_independent(name):
    torch.manual_seed(0)
    layer, x = randomised(LAYERS[name][0](True)), random(B, N, D_MODEL)
    y, x_before = layer(x), x.clone()
    y.square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in layer.parameters())
    duplicate = copy.deepcopy(layer)
    assert torch.equal(duplicate(x), y)
    randomised(duplicate)
    assert torch.equal(layer(x), y)
    assert not torch.equal(duplicate(x), y)
    assert torch.equal(x, x_before)
