"""Each bad call raises an error that names the argument and the value.

Sizes and shapes of `LanguageModel`, `ImageClassifier` and `Cache` are tested in their own files.
"""

from typing import Any

import pytest
import torch

from labml_gmlp import (
    AdditiveGate,
    AMLPBlock,
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    ForLabml,
    ForTorch,
    FromLabml,
    FromTorch,
    GMLPBlock,
    LinearGate,
    MixerBlock,
    MultiHeadSpatialProjection,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    StochasticDepth,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    WindowedProjection,
    survival_at,
)
from tests.support.helpers import assert_raises

NOT_BOOLEAN = ("boolean", "torch.float32")


def x(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape)


def true(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def causal_toeplitz(*arguments, **options):
    return ToeplitzProjection(*arguments, causal=True, **options)


def torch_layer():
    return FromTorch(torch.nn.TransformerEncoderLayer(4, 2, 6))


def mixer():
    return Encoder(lambda: MixerBlock(4, 6, 3, 7), 1)


def block(**options):
    """A causal block of 4 channels, 6 in the gate, with one part that is not causal."""
    return AMLPBlock(4, 6, None if "sgu" in options else 5, causal=True, **options)


# The call, the error, and what its message must name: the argument, its bound, the value.
BAD_CALLS: list[tuple[Any, ...]] = [
    # SpatialProjection
    (lambda: SpatialProjection(0), ValueError, "seq_len", 0),
    (lambda: MultiHeadSpatialProjection(4, 0), ValueError, "n_heads", 0),
    (lambda: MultiHeadSpatialProjection(4, 2)(x(1, 4, 3)), ValueError, "z", "n_heads=2", [1, 4, 3]),
    (lambda: SpatialProjection(4)(x(4, 3)), ValueError, "z", "[B, n, c]", [4, 3]),
    (lambda: SpatialProjection(4)(x(1, 5, 3)), ValueError, "z", "seq_len=4", 5),
    # SpatialGatingUnit and GMLPBlock
    (lambda: SpatialGatingUnit(6), ValueError, "seq_len", None),
    (lambda: block(attention=torch.nn.Identity()), ValueError, "attention", "causal"),
    (lambda: block(attention=TinyAttention(4, 3)), ValueError, "attention", "causal"),
    (lambda: block(token_shift=TokenShift((-1, 0))), ValueError, "token_shift", "causal"),
    (lambda: block(sgu=SpatialGatingUnit(6, 5)), ValueError, "sgu", "causal"),
    (
        lambda: block(sgu=MultiplicativeGate(6, SpatialProjection(5))),
        ValueError,
        *("sgu", "causal"),
    ),
    *(
        (
            lambda projection=projection: SpatialGatingUnit(6, causal=True, projection=projection),
            ValueError,
            "projection",
            "causal",
        )
        for projection in (
            SpatialProjection(5),
            ToeplitzProjection(5),
            ConvolutionProjection(3, 3),
            WindowedProjection(3),
        )
    ),
    # TransformerLayer
    # TinyAttention
    (lambda: TinyAttention(4, 0), ValueError, "d_out", 0),
    (lambda: TinyAttention(4, 3)(x(2, 5, 3)), ValueError, "x", "d_model=4", [2, 5, 3]),
    (lambda: TinyAttention(4, 3)(x(5, 4)), ValueError, "x", "[B, n, d_model=4]", [5, 4]),
    (
        lambda: TinyAttention(4, 3)(x(2, 5, 4), true(5, 4)),
        ValueError,
        *("mask", [5, 5], [2, 5, 5], [5, 4]),
    ),
    (
        lambda: TinyAttention(4, 3)(x(2, 5, 4), None, true(5, 2)),
        ValueError,
        *("key_padding_mask", [2, 5], [5, 2]),
    ),
    (lambda: TinyAttention(4, 3)(x(2, 5, 4), x(5, 5)), TypeError, "mask", *NOT_BOOLEAN),
    # LinearGate, AdditiveGate, MultiplicativeGate
    (lambda: LinearGate(0, SpatialProjection(5)), ValueError, "d_ffn", 0),
    (
        lambda: LinearGate(6, SpatialProjection(5))(x(2, 5, 3)),
        ValueError,
        *("z", "d_ffn=6", [2, 5, 3]),
    ),
    (
        lambda: AdditiveGate(6, SpatialProjection(5))(x(5, 6)),
        ValueError,
        *("z", "[B, n, d_ffn=6]", [5, 6]),
    ),
    (
        lambda: MultiplicativeGate(6, SpatialProjection(5))(x(2, 5, 6), None, true(5, 2)),
        ValueError,
        *("key_padding_mask", [2, 5], [5, 2]),
    ),
    (
        lambda: MultiplicativeGate(6, SpatialProjection(5))(x(2, 5, 6), None, x(2, 5)),
        TypeError,
        *("key_padding_mask", *NOT_BOOLEAN),
    ),
    # StochasticDepth
    (lambda: StochasticDepth(0), ValueError, "survival", "(0, 1]", 0),
    (lambda: StochasticDepth(1.1), ValueError, "survival", "(0, 1]", 1.1),
    (lambda: StochasticDepth(float("nan")), ValueError, "survival", "(0, 1]", "nan"),
    (lambda: StochasticDepth(True), TypeError, "survival", "bool"),
    (lambda: StochasticDepth("0.8"), TypeError, "survival", "str"),
    (lambda: StochasticDepth(0.8)(x(5, 4)), ValueError, "y", "[B, n, d]", [5, 4]),
    (lambda: survival_at(0, 0, 0.8), ValueError, "n_layers", 0),
    (lambda: survival_at(4, 4, 0.8), ValueError, "index", "[0, 4)", 4),
    (lambda: survival_at(-1, 4, 0.8), ValueError, "index", "[0, 4)", "-1"),
    (lambda: survival_at(1, 4, -0.2), ValueError, "last", "(0, 1]", "-0.2"),
    (lambda: survival_at(1, 4, None), TypeError, "last", "NoneType"),
    # TokenShift
    (lambda: TokenShift(()), ValueError, "shifts"),
    (lambda: TokenShift(1), TypeError, "shifts", 1),
    (lambda: TokenShift((0, 1.0)), TypeError, "shifts", (0, 1.0)),
    (lambda: TokenShift((0, 1, 2))(x(2, 5, 2)), ValueError, "x", "[B, n, d]", 3, [2, 5, 2]),
    (lambda: TokenShift((0, 1))(x(5, 4)), ValueError, "x", "[B, n, d]", [5, 4]),
    (
        lambda: TokenShift((0, 1))(x(2, 5, 4), true(5, 2)),
        ValueError,
        *("key_padding_mask", [2, 5], [5, 2]),
    ),
    (
        lambda: TokenShift((0, 1))(x(2, 5, 4), x(2, 5)),
        TypeError,
        *("key_padding_mask", *NOT_BOOLEAN),
    ),
    # ConvolutionProjection
    (lambda: ConvolutionProjection(0), ValueError, "n_channels", 0),
    (lambda: ConvolutionProjection(4, 3.0), ValueError, "kernel_size", 3.0),
    (lambda: ConvolutionProjection(4, 6), ValueError, "kernel_size", "odd", 6, "causal=True"),
    (lambda: ConvolutionProjection(4, 3)(x(2, 7, 5)), ValueError, "z", "c=4", [2, 7, 5]),
    (lambda: ConvolutionProjection(4, 3)(x(7, 4)), ValueError, "z", "[B, n, c=4]", [7, 4]),
    (
        lambda: ConvolutionProjection(4, 3)(x(2, 7, 4), true(7, 3)),
        ValueError,
        *("mask", [7, 7], [2, 7, 7], [7, 3]),
    ),
    (lambda: ConvolutionProjection(4, 3)(x(2, 7, 4), x(7, 7)), TypeError, "mask", *NOT_BOOLEAN),
    # WindowedProjection
    (lambda: WindowedProjection(0), ValueError, "window", 0),
    (lambda: WindowedProjection(3, n_heads=0), ValueError, "n_heads", 0),
    (lambda: WindowedProjection(3, n_heads=2)(x(2, 7, 5)), ValueError, "z", "of 2", [2, 7, 5]),
    (lambda: WindowedProjection(3)(x(7, 4)), ValueError, "z", "[B, n, c]", [7, 4]),
    (
        lambda: WindowedProjection(3)(x(2, 7, 4), true(3, 9)),
        ValueError,
        *("mask", [7, 7], [2, 7, 7], [3, 9]),
    ),
    (lambda: WindowedProjection(3)(x(2, 7, 4), x(7, 7)), TypeError, "mask", *NOT_BOOLEAN),
    # ToeplitzProjection and DecayedToeplitzProjection
    *(
        row
        for build in (causal_toeplitz, DecayedToeplitzProjection)
        for row in [
            (lambda build=build: build(0), ValueError, "seq_len", 0),
            (lambda build=build: build(4, n_heads=2.0), ValueError, "n_heads", 2.0),
            (lambda build=build: build(4, fft_from=0), ValueError, "fft_from", 0),
            (
                lambda build=build: build(4, n_heads=2)(x(1, 4, 3)),
                ValueError,
                *("z", "n_heads=2", [1, 4, 3]),
            ),
            (lambda build=build: build(4)(x(4, 3)), ValueError, "z", "[B, n, c]", [4, 3]),
            (lambda build=build: build(4, fft_from=1)(x(1, 5, 3)), ValueError, "z", "seq_len=4", 5),
            (
                lambda build=build: build(4)(x(2, 3, 3), true(4, 4)),
                ValueError,
                *("mask", [3, 3], [2, 3, 3], [4, 4]),
            ),
            (lambda build=build: build(4)(x(2, 3, 3), x(3, 3)), TypeError, "mask", *NOT_BOOLEAN),
        ]
    ),
    # MixerBlock
    (lambda: MixerBlock(4, 6, 0, 7), ValueError, "d_tokens", 0),
    (lambda: mixer()(x(2, 5, 4)), ValueError, "x", "seq_len=6", "d_model=4", [2, 5, 4]),
    (lambda: mixer()(x(2, 6, 4), true(6, 6)), ValueError, "mask", None, "Tensor"),
    (
        lambda: mixer()(x(2, 6, 4), None, true(2, 6)),
        ValueError,
        *("key_padding_mask", None, "Tensor"),
    ),
    # Adapters
    (lambda: ForLabml(torch.nn.Linear(4, 4)), TypeError, "layer", "size", "Linear"),
    (lambda: ForTorch(lambda x: x), TypeError, "layer", "size", "function"),
    (lambda: FromLabml(torch.nn.Linear(4, 4), size=4.0), TypeError, "layer", "size", "Linear"),
    (
        lambda: FromTorch(torch.nn.Linear(4, 4)),
        TypeError,
        *("layer", "torch.nn.TransformerEncoderLayer", "Linear"),
    ),
    (lambda: ForLabml(GMLPBlock(4, 6, 5))(x=x(5, 4)), ValueError, "x", "[n, B, d=4]", [5, 4]),
    (
        lambda: ForLabml(GMLPBlock(4, 6, 5))(x=x(5, 3, 4), mask=true(5, 5)),
        ValueError,
        *("mask", [5, 5, 1], [5, 5, 3], [1, 5, 1], [1, 5, 3], [5, 5]),
    ),
    (
        lambda: ForLabml(GMLPBlock(4, 6, 5))(x=x(5, 3, 4), mask=x(5, 5, 1)),
        TypeError,
        *("mask", *NOT_BOOLEAN),
    ),
    (lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 7)), ValueError, "src", "d=4", [5, 3, 7]),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5), batch_first=True)(x(5, 4)),
        ValueError,
        *("src", "[B, n, d=4]", [5, 4]),
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), is_causal=True),
        ValueError,
        *("src_mask", "is_causal=True"),
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), x(5, 5) - 1e9),
        ValueError,
        *("src_mask", 0, "-inf", "-1e+09"),
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), x(5, 5).long()),
        TypeError,
        *("src_mask", "boolean", "-inf", "torch.int64"),
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), true(6, 5, 5)),
        ValueError,
        *("src_mask", [5, 5], [3, 5, 5], [6, 5, 5]),
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), None, true(5, 3)),
        ValueError,
        *("src_key_padding_mask", [3, 5], [5, 3]),
    ),
    (lambda: torch_layer()(x(3, 5, 7)), ValueError, "x", "[B, n, d=4]", [3, 5, 7]),
    (lambda: torch_layer()(x(3, 5, 4), x(5, 5)), TypeError, "mask", *NOT_BOOLEAN),
    (
        lambda: torch_layer()(x(3, 5, 4), true(5, 3)),
        ValueError,
        *("mask", [5, 5], [3, 5, 5], [5, 3]),
    ),
    (
        lambda: torch_layer()(x(3, 5, 4), key_padding_mask=true(5, 3)),
        ValueError,
        *("key_padding_mask", [3, 5], [5, 3]),
    ),
]


@pytest.mark.parametrize("row", BAD_CALLS, ids=lambda row: " ".join(map(str, row[2:])))
def test_a_bad_call_names_the_argument_and_the_value(row):
    call, error, *parts = row
    assert_raises(call, error, *parts)
