"""Reading a text in chunks with a cache equals the full forward pass."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    Encoder,
    GMLPBlock,
    LanguageModel,
    SpatialGatingUnit,
    SpatialProjection,
    TransformerLayer,
)
from labml_gmlp.cache import Cache
from tests.support.helpers import TOLERANCES, assert_raises, dtypes, properties, randomised, seeds

B, D_MODEL, D_FFN, SEQ_LEN, N_TOKENS = 2, 6, 8, 9, 11


def heads(causal=True):
    return SpatialProjection(SEQ_LEN, causal=causal, n_heads=2)


def gmlp(**options):
    return GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=True, **options)


def transformer():
    return TransformerLayer(D_MODEL, 2, 7, causal=True)


def mixed(i):
    return transformer() if i % 2 else gmlp()


def vectors(width):
    return lambda n: torch.randn(B, n, width)


def tokens(n):
    return torch.randint(N_TOKENS, (B, n))


# Name: how to build it and its input. Each larger layer contains smaller ones.
LAYERS = {
    "SpatialProjection": (lambda: SpatialProjection(SEQ_LEN, causal=True), vectors(4)),
    "SpatialGatingUnit with heads": (
        lambda: SpatialGatingUnit(D_FFN, projection=heads(), activation=torch.tanh),
        vectors(D_FFN),
    ),
    "GMLPBlock": (gmlp, vectors(D_MODEL)),
    "TransformerLayer": (transformer, vectors(D_MODEL)),
    "LanguageModel": (lambda: LanguageModel(N_TOKENS, Encoder(mixed, 2)), tokens),
    "LanguageModel with positions and a head": (
        lambda: LanguageModel(N_TOKENS, Encoder(mixed, 2), n_positions=SEQ_LEN, tied=False),
        tokens,
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)

# An encoder advances the cache itself, once all its layers have read.
ADVANCE_THEMSELVES = (Encoder, LanguageModel)


def read_in_chunks(layer, x, sizes, cache):
    read = []
    for chunk in x.split(sizes, dim=1):
        before = cache.position
        read.append(layer(chunk, cache=cache))
        if not isinstance(layer, ADVANCE_THEMSELVES):
            assert cache.position == before
            cache.advance(chunk.shape[1])
        assert cache.position == before + chunk.shape[1]
    return torch.cat(read, dim=1)


@every_layer
@properties
@given(
    dtype=dtypes,
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=9),
    room=st.integers(0, 3),
    seed=seeds,
)
@torch.no_grad()
def test_chunks_with_a_cache_equal_the_whole_text(name, dtype, sizes, room, seed):
    while sum(sizes) > SEQ_LEN:
        sizes = sizes[:-1]
    torch.manual_seed(seed)
    build, make_input = LAYERS[name]
    layer, n = randomised(build()).to(dtype), sum(sizes)
    x = make_input(n)
    x = x.to(dtype) if x.is_floating_point() else x
    want, cache = layer(x), Cache(n + room)
    atol = TOLERANCES[dtype]
    got = read_in_chunks(layer, x, sizes, cache)
    torch.testing.assert_close(got, want, rtol=atol, atol=atol)
    # A second text with the same cache.
    cache.clear()
    again = read_in_chunks(layer, x, sizes[::-1], cache)
    torch.testing.assert_close(again, want, rtol=atol, atol=atol)


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"TransformerLayer"}))
@torch.no_grad()
def test_chunks_longer_than_seq_len_in_total_are_rejected(name):
    build, make_input = LAYERS[name]
    layer, cache = build(), Cache(20)
    read_in_chunks(layer, make_input(7), [4, 3], cache)
    x = make_input(3)
    assert_raises(lambda: layer(x, cache=cache), ValueError, "at most", 9, 10)


@torch.no_grad()
def test_the_attention_and_the_token_shift_of_a_block_get_the_cache():
    class Spy(nn.Module):
        causal = True

        def __init__(self, answer):
            super().__init__()
            self.answer = answer
            self.caches = []

        def forward(self, x, *arguments):
            self.caches.append(arguments[-1])
            return self.answer(x)

    shift, attention = Spy(lambda x: x), Spy(lambda x: x[..., :4])
    block, cache = gmlp(token_shift=shift, attention=attention), Cache(5)
    block(torch.randn(B, 3, D_MODEL), cache=cache)
    assert [*shift.caches, *attention.caches] == [cache, cache]


@torch.no_grad()
def test_layers_without_a_cache_argument_work():
    class Projection(nn.Module):
        def forward(self, z, mask):
            return z

    class Body(nn.Module):
        size = D_MODEL

        def forward(self, x, mask, key_padding_mask):
            return x

    SpatialGatingUnit(D_FFN, projection=Projection())(torch.randn(B, 3, D_FFN))
    LanguageModel(N_TOKENS, Body())(tokens(3))
