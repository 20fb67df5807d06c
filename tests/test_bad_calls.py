"""Everything that a caller can get wrong, and the one sentence that says so."""

from collections.abc import Callable

import pytest
import torch
from helpers import assert_raises

from labml_gmlp import (
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    LanguageModel,
    SpatialGatingUnit,
    SpatialProjection,
    ToeplitzProjection,
    TransformerLayer,
)
from labml_gmlp.cache import Cache


def x(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape)


def true(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def call_twice(layer: torch.nn.Module, tensor: torch.Tensor, n: int) -> None:
    """As a layer that stands at two places of a model would be called."""
    cache = Cache(n)
    layer(tensor, cache=cache)
    layer(tensor, cache=cache)


# The call, the kind of error, the whole message.
BAD_CALLS: list[tuple[Callable[[], object], type[Exception], str]] = [
    # SpatialProjection
    (
        lambda: SpatialProjection(0),
        ValueError,
        "seq_len must be a positive whole number, got 0",
    ),
    (
        lambda: SpatialProjection(4, n_heads=0),
        ValueError,
        "n_heads must be a positive whole number, got 0",
    ),
    (
        lambda: SpatialProjection(4, n_heads=2)(x(1, 4, 3)),
        ValueError,
        "z must be [B, n, c] with c a multiple of 2, got [1, 4, 3]",
    ),
    (
        lambda: SpatialProjection(4)(x(4, 3)),
        ValueError,
        "z must be [B, n, c], got [4, 3]",
    ),
    (
        lambda: SpatialProjection(4)(x(1, 5, 3)),
        ValueError,
        "z must have at most seq_len=4 tokens, got 5; W has no weights for later positions",
    ),
    (
        lambda: SpatialProjection(4)(x(1, 3, 3), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: SpatialProjection(4, causal=True)(x(1, 3, 3), true(3, 3), Cache(4)),
        ValueError,
        "mask must be None beside a cache",
    ),
    # SpatialGatingUnit and GMLPBlock
    (
        lambda: SpatialGatingUnit(6),
        ValueError,
        "seq_len must be a positive whole number, got None",
    ),
    (
        lambda: GMLPBlock(4, 6, 5, causal=True, attention=torch.nn.Identity()),
        ValueError,
        "attention must be built with causal=True inside a causal layer",
    ),
    (
        lambda: GMLPBlock(4, 6, 5, causal=True, sgu=SpatialGatingUnit(6, 5)),
        ValueError,
        "sgu must be built with causal=True inside a causal layer",
    ),
    (
        lambda: GMLPBlock(4, 6, sgu=SpatialGatingUnit(6, 5), projection=SpatialProjection(5)),
        ValueError,
        "projection must be None beside a given sgu; give it to the sgu",
    ),
    # TransformerLayer
    (
        lambda: TransformerLayer(4, 2, 8)(x(1, 3, 4), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: TransformerLayer(4, 2, 8, causal=True)(x(1, 3, 4), true(3, 3), cache=Cache(4)),
        ValueError,
        "mask and key_padding_mask must be None beside a cache",
    ),
    (
        lambda: TransformerLayer(4, 2, 8, causal=True)(x(1, 3, 4), None, true(1, 3), Cache(4)),
        ValueError,
        "mask and key_padding_mask must be None beside a cache",
    ),
    # LanguageModel
    (
        lambda: LanguageModel(5, Encoder(lambda: TransformerLayer(4, 2, 8, causal=True), 1))(
            x(3).long()
        ),
        ValueError,
        "tokens must be [B, n], got [3]",
    ),
    # Cache
    (
        lambda: Cache(0),
        ValueError,
        "n must be a positive whole number, got 0",
    ),
    (
        lambda: Cache(2).extend(torch.nn.Identity(), x(1, 3, 4)),
        ValueError,
        "the cache has room for n=2 positions, got 3",
    ),
    (
        lambda: call_twice(SpatialProjection(4, causal=True), x(1, 2, 3), 4),
        ValueError,
        "each layer must extend the cache once for each position, SpatialProjection did it 2 times "
        "before position 0",
    ),
    # ToeplitzProjection and DecayedToeplitzProjection
    *[
        row
        for build in (
            lambda *a, **o: ToeplitzProjection(*a, causal=True, **o),
            DecayedToeplitzProjection,
        )
        for row in [
            (
                lambda build=build: build(0),
                ValueError,
                "seq_len must be a positive whole number, got 0",
            ),
            (
                lambda build=build: build(4, n_heads=2.0),
                ValueError,
                "n_heads must be a positive whole number, got 2.0",
            ),
            (
                lambda build=build: build(4, fft_from=0),
                ValueError,
                "fft_from must be a positive whole number, got 0",
            ),
            (
                lambda build=build: build(4, n_heads=2)(x(1, 4, 3)),
                ValueError,
                "z must be [B, n, c] with c a multiple of 2, got [1, 4, 3]",
            ),
            (
                lambda build=build: build(4)(x(4, 3)),
                ValueError,
                "z must be [B, n, c], got [4, 3]",
            ),
            (
                lambda build=build: build(4, fft_from=1)(x(1, 5, 3)),
                ValueError,
                "z must have at most seq_len=4 tokens, got 5; W has no weights for later positions",
            ),
            (
                lambda build=build: build(4)(x(1, 3, 3), true(3, 3), Cache(4)),
                ValueError,
                "mask must be None beside a cache",
            ),
            (
                lambda build=build: build(4)(x(2, 3, 3), true(4, 4)),
                ValueError,
                "mask must be [3, 3] or [2, 3, 3], got [4, 4]",
            ),
            (
                lambda build=build: build(4)(x(2, 3, 3), x(3, 3)),
                TypeError,
                "mask must be a boolean tensor, true for what may be read, got torch.float32",
            ),
        ]
    ],
    (
        lambda: ToeplitzProjection(4)(x(1, 3, 3), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: GMLPBlock(4, 6, causal=True, projection=ToeplitzProjection(5)),
        ValueError,
        "projection must be built with causal=True inside a causal layer",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), BAD_CALLS, ids=[message[:60] for _, _, message in BAD_CALLS]
)
def test_a_bad_call_gets_one_sentence(call, error, message):
    assert_raises(call, error, message)
