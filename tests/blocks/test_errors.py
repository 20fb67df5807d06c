"""Bad sizes, shapes and masks of every kind; tests/library/test_bad_calls.py has one of each."""

import pytest
import torch
from torch import nn

from labml_gmlp import (
    AdditiveGate,
    Encoder,
    GMLPBlock,
    LinearGate,
    MixerBlock,
    MultiHeadSpatialProjection,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    TinyAttention,
    TransformerLayer,
)
from tests.support.helpers import assert_raises

B, N, D_MODEL, D_FFN, SEQ_LEN = 2, 4, 3, 10, 6


def true(*shape, dtype=torch.bool):
    return torch.ones(*shape, dtype=dtype)


def gate(kind):
    return lambda **sizes: kind(**sizes, projection=nn.Identity())


# Name: how to build a layer, and good values of its sizes.
SIZES = {
    "SpatialProjection": (SpatialProjection, {"seq_len": SEQ_LEN}),
    "MultiHeadSpatialProjection": (MultiHeadSpatialProjection, {"seq_len": SEQ_LEN, "n_heads": 2}),
    "SpatialGatingUnit": (SpatialGatingUnit, {"d_ffn": D_FFN, "seq_len": SEQ_LEN}),
    "GMLPBlock": (GMLPBlock, {"d_model": D_MODEL, "d_ffn": D_FFN, "seq_len": SEQ_LEN}),
    "LinearGate": (gate(LinearGate), {"d_ffn": D_FFN}),
    "AdditiveGate": (gate(AdditiveGate), {"d_ffn": D_FFN}),
    "MultiplicativeGate": (gate(MultiplicativeGate), {"d_ffn": D_FFN}),
    "TinyAttention": (TinyAttention, {"d_model": D_MODEL, "d_out": 7, "d_attn": 5}),
    "TransformerLayer": (TransformerLayer, {"d_model": D_MODEL, "n_heads": 1, "d_ffn": D_FFN}),
    "MixerBlock": (MixerBlock, {"d_model": 4, "seq_len": SEQ_LEN, "d_tokens": 3, "d_channels": 7}),
    "Encoder": (lambda **sizes: Encoder(nn.Identity, **sizes), {"n_layers": 2}),
}


@pytest.mark.parametrize("layer", SIZES)
def test_a_size_must_be_a_positive_integer(layer):
    build, sizes = SIZES[layer]
    for name in sizes:
        for value in (0, -2, 4.0, "4", None, True):
            assert_raises(
                lambda name=name, value=value: build(**sizes | {name: value}),
                ValueError,
                *(name, "positive integer", repr(value)),
            )


@pytest.mark.parametrize("build", [SpatialGatingUnit, lambda *a: GMLPBlock(D_MODEL, *a)])
@pytest.mark.parametrize("d_ffn", [1, 7])
def test_d_ffn_must_be_even(build, d_ffn):
    assert_raises(lambda: build(d_ffn, SEQ_LEN), ValueError, "d_ffn", "even", d_ffn)


@pytest.mark.parametrize("n_heads", [5, 24])
def test_n_heads_must_divide_d_model(n_heads):
    assert_raises(
        lambda: TransformerLayer(12, n_heads, D_FFN), ValueError, "n_heads", "d_model=12", n_heads
    )


# Name: a layer, its number of channels, and the bound that it names for its input.
LAYERS = {
    "MultiHeadSpatialProjection": (MultiHeadSpatialProjection(SEQ_LEN, 3), 3, "n_heads=3"),
    "SpatialGatingUnit": (SpatialGatingUnit(D_FFN, SEQ_LEN), D_FFN, "[B, n, d_ffn=10]"),
    "GMLPBlock": (GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=True), D_MODEL, "[B, n, d_model=3]"),
    "TransformerLayer": (TransformerLayer(12, 3, 7), 12, "[B, n, d_model=12]"),
    "causal TransformerLayer": (TransformerLayer(12, 3, 7, causal=True), 12, "[B, n, d_model=12]"),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_layer_with_padding = pytest.mark.parametrize("name", list(LAYERS)[1:])


@every_layer
def test_an_input_has_three_axes_and_the_width_of_the_layer(name):
    layer, width, wanted = LAYERS[name]
    for shape in [(width,), (N, width), (B, N, 1), (B, width, N), (1, B, N, width)]:
        x = torch.randn(shape)
        assert_raises(lambda x=x: layer(x), ValueError, wanted, list(shape))


def test_the_input_of_a_mixer_has_the_shape_that_it_was_built_for():
    block = MixerBlock(4, 6, 3, 7)
    for shape in [(6, 4), (2, 5, 4), (2, 7, 4), (2, 6, 1), (2, 4, 6), (1, 2, 6, 4)]:
        x = torch.randn(shape)
        assert_raises(lambda x=x: block(x), ValueError, "[B, seq_len=6, d_model=4]", list(shape))


@pytest.mark.parametrize("name", ["MultiHeadSpatialProjection", "SpatialGatingUnit", "GMLPBlock"])
@pytest.mark.parametrize("n", [SEQ_LEN + 1, 50])
def test_a_sequence_must_not_be_longer_than_seq_len(name, n):
    layer, width, _ = LAYERS[name]
    assert_raises(lambda: layer(torch.randn(B, n, width)), ValueError, "z", "seq_len=6", n)


@every_layer
def test_a_mask_must_be_boolean(name):
    layer, width, _ = LAYERS[name]
    x = torch.randn(B, N, width)
    for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8):
        for shape in [(N, N), (B, N, N)]:
            mask = true(*shape, dtype=dtype)
            assert_raises(
                lambda mask=mask: layer(x, mask), TypeError, "mask must", "boolean", dtype
            )
    assert_raises(lambda: layer(x, [[True]]), TypeError, "mask must", "boolean", "list")


@every_layer
def test_a_mask_has_a_row_and_a_column_for_each_token(name):
    layer, width, _ = LAYERS[name]
    x = torch.randn(B, N, width)
    of_one = [(N,), (1, N), (N, 1), (B, N), (3, N), (6, 6)]
    of_a_batch = [(1, N, N), (3, N, N), (N, N, B), (B, N, 1), (B, 1, N), (B, 1, N, N)]
    for shape in of_one + of_a_batch:
        mask = true(*shape)
        assert_raises(
            lambda mask=mask: layer(x, mask),
            ValueError,
            *("mask must", [4, 4], [2, 4, 4], list(shape)),
        )


@every_layer_with_padding
def test_a_key_padding_mask_is_boolean_with_one_value_for_each_token(name):
    layer, width, _ = LAYERS[name]
    x = torch.randn(B, N, width)
    for dtype in (torch.float32, torch.int64, torch.uint8):
        mask = true(B, N, dtype=dtype)
        parts = ("key_padding_mask must", "boolean", dtype)
        assert_raises(lambda mask=mask: layer(x, None, mask), TypeError, *parts)
    for shape in [(N,), (N, B), (1, N), (3, N), (B, 6), (B, N, N), (B, N, 1)]:
        mask = true(*shape)
        parts = ("key_padding_mask must", [2, 4], list(shape))
        assert_raises(lambda mask=mask: layer(x, None, mask), ValueError, *parts)
