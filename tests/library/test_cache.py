"""The generation cache: chunks of any sizes, several texts, memory and errors."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp import (
    Cache,
    Encoder,
    GMLPBlock,
    LanguageModel,
    SpatialProjection,
    TransformerLayer,
)
from tests.support.helpers import FLOAT64, assert_raises, properties, random, randomised, seeds

N, N_TOKENS = 9, 11


def gmlp():
    return GMLPBlock(4, 12, N, causal=True)


def gmlp_with_heads():
    projection = SpatialProjection(N, causal=True, n_heads=3)
    return GMLPBlock(4, 12, causal=True, projection=projection)


def transformer():
    return TransformerLayer(4, 2, 6, causal=True)


KINDS = {
    "gMLP": [gmlp, gmlp],
    "heads": [gmlp_with_heads, gmlp],
    "Transformer": [transformer, transformer],
    "both": [transformer, gmlp_with_heads],
}


def model_of(kind, dtype=FLOAT64):
    model = LanguageModel(N_TOKENS, Encoder(lambda i: KINDS[kind][i](), 2), n_positions=N)
    return randomised(model).to(dtype)


def in_chunks(model, tokens, sizes, cache):
    ends = list(itertools.accumulate(sizes))
    return torch.cat(
        [
            model(tokens[:, end - size : end], cache=cache)
            for end, size in zip(ends, sizes, strict=True)
        ],
        dim=1,
    )


def partitions(n):
    """Chunk sizes that sum to n."""
    cuts = st.sets(st.integers(1, n - 1)) if n > 1 else st.just(set())
    return cuts.map(lambda inner: [b - a for a, b in itertools.pairwise([0, *sorted(inner), n])])


@pytest.mark.parametrize(("dtype", "atol"), [(FLOAT64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@properties
@given(n=st.integers(1, N), data=st.data(), batch=st.integers(1, 3), seed=seeds)
def test_chunks_of_any_sizes_equal_one_pass(kind, dtype, atol, n, data, batch, seed):
    sizes = data.draw(partitions(n), label="sizes")
    torch.manual_seed(seed)
    model, tokens = model_of(kind, dtype), torch.randint(N_TOKENS, (batch, n))
    cache = Cache(N)
    got = in_chunks(model, tokens, sizes, cache)
    assert cache.position == n
    # Logits are of the order of 10, where float32 has a resolution of 1e-6.
    torch.testing.assert_close(got, model(tokens), rtol=atol, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@properties
@given(first=st.integers(1, N), second=st.integers(1, N), batch=st.integers(1, 3), seed=seeds)
def test_a_cleared_cache_forgets_the_text_before(kind, first, second, batch, seed):
    torch.manual_seed(seed)
    model, cache = model_of(kind), Cache(N)
    in_chunks(model, torch.randint(N_TOKENS, (2, first)), [first], cache)
    cache.clear()
    assert cache.position == 0
    tokens = torch.randint(N_TOKENS, (batch, second))
    got = in_chunks(model, tokens, [1] * second, cache)
    torch.testing.assert_close(got, model(tokens), rtol=0, atol=1e-12)


def test_a_cleared_cache_keeps_its_memory_for_a_batch_of_the_same_size():
    cache, layer = Cache(4), torch.nn.Identity()
    before = cache.extend(layer, random(2, 3, 5)).data_ptr()
    cache.clear()
    assert cache.extend(layer, random(2, 4, 5)).data_ptr() == before
    cache.clear()
    assert cache.extend(layer, random(3, 4, 5)).shape == (3, 4, 5)
    cache.clear()
    assert cache.extend(layer, random(3, 4, 5).float()).dtype == torch.float32


@pytest.mark.parametrize("n", [None, 1000])
@properties
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8), seed=seeds)
def test_the_buffer_returns_every_position_bit_for_bit_however_it_grows(n, sizes, seed):
    torch.manual_seed(seed)
    cache, layer, new = Cache(n), torch.nn.Identity(), [random(2, m, 3) for m in sizes]
    for i, part in enumerate(new):
        assert torch.equal(cache.extend(layer, part), torch.cat(new[: i + 1], dim=1))
        cache.advance(part.shape[1])
    assert cache.position == sum(sizes)


def test_memory_grows_with_the_positions_read_and_never_beyond_n():
    cache, layer = Cache(10**12), torch.nn.Identity()
    for i in range(200):
        kept = cache.extend(layer, torch.zeros(1, 1, 1))
        cache.advance(1)
        assert kept.untyped_storage().nbytes() <= 4 * max(64, 2 * i)
    small = Cache(5).extend(layer, torch.zeros(1, 1, 1))
    assert small.untyped_storage().nbytes() == 4 * 5


def test_no_gradient_flows_through_the_cache():
    cache, layer = Cache(4), torch.nn.Identity()
    new = random(1, 2, 3).requires_grad_()
    kept = cache.extend(layer, new)
    assert not kept.requires_grad
    assert kept.data_ptr() != new.data_ptr()
    torch.manual_seed(0)
    model, cache = model_of("gMLP"), Cache(N)
    tokens = torch.randint(N_TOKENS, (1, 4))
    model(tokens[:, :3], cache=cache)
    # The graph of the last step does not reach into earlier ones.
    model(tokens[:, 3:], cache=cache).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_each_layer_has_its_own_buffer():
    cache, a, b = Cache(4), torch.nn.Identity(), torch.nn.Identity()
    first, second = random(1, 2, 3), random(1, 2, 5)
    got = cache.extend(a, first), cache.extend(b, second)
    assert torch.equal(got[0], first)
    assert torch.equal(got[1], second)


# Mistakes in a layer that uses the cache. The others are in test_bad_calls.py.
@pytest.mark.parametrize(
    ("new", "got"),
    [
        (torch.zeros(1, 1, 3), "(1, 3, torch.float32"),
        (torch.zeros(2, 1, 1), "(2, 1, torch.float32"),
        (torch.zeros(2, 1, 3).double(), "(2, 3, torch.float64"),
    ],
    ids=["batch", "width", "dtype"],
)
def test_a_step_of_another_shape_is_refused_and_changes_nothing(new, got):
    cache, layer = Cache(4), torch.nn.Identity()
    first = torch.randn(2, 1, 3)
    cache.extend(layer, first)
    cache.advance(1)
    assert_raises(lambda: cache.extend(layer, new), ValueError, got, "(2, 3, torch.float32")
    assert torch.equal(cache.extend(layer, first), torch.cat([first, first], dim=1))


def test_a_layer_that_missed_a_step_is_refused():
    cache, a, b = Cache(4), torch.nn.Identity(), torch.nn.Identity()
    cache.extend(a, torch.zeros(1, 2, 3))
    cache.advance(2)
    assert_raises(
        lambda: cache.extend(b, torch.zeros(1, 1, 3)),
        ValueError,
        "cache",
        "Identity",
        0,
        "position 2",
    )


@pytest.mark.parametrize("n", [0, -1, 2.0, True])
def test_the_limit_of_a_cache_is_a_positive_integer(n):
    assert_raises(lambda: Cache(n), ValueError, "n", n)
