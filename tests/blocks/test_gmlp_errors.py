import pytest
import torch

from labml_gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from tests.support.helpers import assert_raises

B, D_MODEL, D_FFN, SEQ_LEN = 2, 3, 10, 6


def true(*shape, dtype=torch.bool):
    return torch.ones(*shape, dtype=dtype)


# The argument that must be a positive whole number, and what builds with it.
SIZES = {
    "seq_len of a projection": ("seq_len", lambda n: SpatialProjection(n)),
    "d_ffn of a unit": ("d_ffn", lambda n: SpatialGatingUnit(n, SEQ_LEN)),
    "seq_len of a unit": ("seq_len", lambda n: SpatialGatingUnit(D_FFN, n)),
    "d_model of a block": ("d_model", lambda n: GMLPBlock(n, D_FFN, SEQ_LEN)),
    "d_ffn of a block": ("d_ffn", lambda n: GMLPBlock(D_MODEL, n, SEQ_LEN)),
    "seq_len of a block": ("seq_len", lambda n: GMLPBlock(D_MODEL, D_FFN, n)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0, -2, 4.0, "4", None, True])
def test_a_size_that_is_no_positive_whole_number_is_refused(size, value):
    name, build = SIZES[size]
    message = f"{name} must be a positive whole number, got {value!r}"
    assert_raises(lambda: build(value), ValueError, message)


@pytest.mark.parametrize("build", [SpatialGatingUnit, lambda *a: GMLPBlock(D_MODEL, *a)])
@pytest.mark.parametrize("d_ffn", [1, 7])
def test_an_odd_d_ffn_is_refused(build, d_ffn):
    message = f"d_ffn must be even to split Z into Z1 and Z2, got {d_ffn}"
    assert_raises(lambda: build(d_ffn, SEQ_LEN), ValueError, message)


@pytest.mark.parametrize("build", [SpatialGatingUnit, lambda *a, **k: GMLPBlock(D_MODEL, *a, **k)])
@pytest.mark.parametrize("projection", [SpatialProjection(SEQ_LEN), torch.nn.Identity()])
def test_a_projection_that_reads_the_future_is_refused_in_a_causal_layer(build, projection):
    message = "projection must be causal itself inside a causal layer"
    assert_raises(
        lambda: build(D_FFN, SEQ_LEN, causal=True, projection=projection), ValueError, message
    )
    build(D_FFN, SEQ_LEN, causal=True, projection=SpatialProjection(SEQ_LEN, causal=True))


# Name: a layer, and its number of channels.
LAYERS = {
    "SpatialProjection": (SpatialProjection(SEQ_LEN), 3),
    "SpatialGatingUnit": (SpatialGatingUnit(D_FFN, SEQ_LEN), D_FFN),
    "GMLPBlock": (GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=True), D_MODEL),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@every_layer
@pytest.mark.parametrize("n", [SEQ_LEN + 1, 50])
def test_a_sequence_longer_than_seq_len_is_refused(name, n):
    layer, width = LAYERS[name]
    message = f"z must have at most seq_len=6 tokens, got {n}; W has no weights for later positions"
    assert_raises(lambda: layer(torch.randn(B, n, width)), ValueError, message)


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("shape", [(4, 4), (B, 4, 4)])
def test_a_mask_of_numbers_is_refused(name, dtype, shape):
    layer, width = LAYERS[name]
    message = f"mask must be a boolean tensor, true for what may be read, got {dtype}"
    mask = true(*shape, dtype=dtype)
    assert_raises(lambda: layer(torch.randn(B, 4, width), mask), TypeError, message)


@every_layer
@pytest.mark.parametrize(
    "shape",
    [
        (4,),
        (1, 4),
        (4, 1),
        (B, 4),
        (3, 4),
        (6, 6),
        (1, 4, 4),
        (3, 4, 4),
        (4, 4, B),
        (B, 4, 1),
        (B, 1, 4),
        (B, 1, 4, 4),
    ],
    ids=str,
)
def test_a_mask_of_another_shape_is_refused(name, shape):
    layer, width = LAYERS[name]
    message = f"mask must be [4, 4] or [2, 4, 4], got {list(shape)}"
    assert_raises(lambda: layer(torch.randn(B, 4, width), true(*shape)), ValueError, message)


@pytest.mark.parametrize("name", ["SpatialGatingUnit", "GMLPBlock"])
@pytest.mark.parametrize(
    ("mask", "error", "rest"),
    [
        (
            true(B, 4, dtype=torch.float32),
            TypeError,
            "a boolean tensor, true for what may be read, got torch.float32",
        ),
        (
            true(B, 4, dtype=torch.int64),
            TypeError,
            "a boolean tensor, true for what may be read, got torch.int64",
        ),
        (true(4), ValueError, "[2, 4], got [4]"),
        (true(4, B), ValueError, "[2, 4], got [4, 2]"),
        (true(1, 4), ValueError, "[2, 4], got [1, 4]"),
        (true(3, 4), ValueError, "[2, 4], got [3, 4]"),
        (true(B, 6), ValueError, "[2, 4], got [2, 6]"),
        (true(B, 4, 4), ValueError, "[2, 4], got [2, 4, 4]"),
        (true(B, 4, 1), ValueError, "[2, 4], got [2, 4, 1]"),
    ],
    ids=lambda value: (
        f"{value.dtype}{list(value.shape)}" if isinstance(value, torch.Tensor) else ""
    ),
)
def test_a_key_padding_mask_of_another_kind_or_shape_is_refused(name, mask, error, rest):
    layer, width = LAYERS[name]
    assert_raises(
        lambda: layer(torch.randn(B, 4, width), None, mask),
        error,
        f"key_padding_mask must be {rest}",
    )


@pytest.mark.parametrize("shape", [(4, 10), (2, 4, 5), (2, 10, 4), (1, 2, 4, 10), (10,)], ids=str)
def test_a_unit_refuses_an_input_of_another_shape(shape):
    layer, _ = LAYERS["SpatialGatingUnit"]
    message = f"z must be [B, n, d_ffn=10], got {list(shape)}"
    assert_raises(lambda: layer(torch.randn(shape)), ValueError, message)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 1), (2, 3, 4), (1, 2, 4, 3), (3,)], ids=str)
def test_a_block_refuses_an_input_of_another_shape(shape):
    layer, _ = LAYERS["GMLPBlock"]
    message = f"x must be [B, n, d_model=3], got {list(shape)}"
    assert_raises(lambda: layer(torch.randn(shape)), ValueError, message)


@pytest.mark.parametrize("shape", [(4,), (4, 10), (1, 2, 4, 10)], ids=str)
def test_a_projection_refuses_an_input_without_three_axes(shape):
    projection = SpatialProjection(SEQ_LEN)
    message = f"z must be [B, n, c], got {list(shape)}"
    assert_raises(lambda: projection(torch.zeros(shape)), ValueError, message)


def test_a_mask_that_is_no_tensor_is_refused():
    projection = SpatialProjection(SEQ_LEN)
    message = "mask must be a boolean tensor, true for what may be read, got list"
    assert_raises(lambda: projection(torch.zeros(1, 1, 1), [[True]]), TypeError, message)
