import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, SpatialGatingUnit, SpatialProjection, WindowedProjection
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_padding_equals_truncation,
    assert_the_past_cannot_see_the_future,
    masks,
    properties,
    random,
    random_mask,
    randomised,
    seeds,
    with_another_future,
)

B, D_MODEL, D_FFN, C = 2, 4, 12, 6

causal_or_not = pytest.mark.parametrize("causal", [False, True])
every_mask = pytest.mark.parametrize("mask", MASKS)
heads = st.sampled_from([1, 2, 3])

# Name: how to build it around a windowed projection, and the number of channels it takes.
LAYERS = {
    "WindowedProjection": (lambda w, **options: WindowedProjection(w, **options), C),
    "SpatialGatingUnit": (
        lambda w, causal=False, **options: SpatialGatingUnit(
            D_FFN, causal=causal, projection=WindowedProjection(w, causal=causal, **options)
        ),
        D_FFN,
    ),
    "GMLPBlock": (
        lambda w, causal=False, **options: GMLPBlock(
            D_MODEL,
            D_FFN,
            causal=causal,
            sgu=SpatialGatingUnit(
                D_FFN, projection=WindowedProjection(w, causal=causal, **options)
            ),
        ),
        D_MODEL,
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_layer_with_padding = pytest.mark.parametrize("name", ["SpatialGatingUnit", "GMLPBlock"])


def true(*shape):
    return torch.ones(*shape, dtype=torch.bool)


# The equation


# Windows of one token and of several, only full ones, a partial last one, and a single window.
@pytest.mark.parametrize(("w", "n"), [(1, 4), (2, 7), (3, 9), (3, 10), (4, 4), (5, 3)])
@causal_or_not
@pytest.mark.parametrize("n_heads", [1, 2])
@every_mask
def test_the_projection_equals_the_equation_written_with_loops(w, n, causal, n_heads, mask):
    torch.manual_seed(0)
    projection = randomised(WindowedProjection(w, causal=causal, n_heads=n_heads))
    z, mask = random(B, n, 4), random_mask(mask, B, n)
    want = oracles.windowed_projection(
        z.numpy(), arrays(projection), causal=causal, mask=as_array(mask)
    )
    assert_equals_oracle(projection(z, mask), want)


@properties
@given(mask=masks, w=st.integers(1, 8), n=st.integers(1, 8), causal=st.booleans(), seed=seeds)
def test_a_sequence_of_one_window_equals_the_spatial_projection(w, n, causal, mask, seed):
    n = min(n, w)
    torch.manual_seed(seed)
    ours = randomised(WindowedProjection(w, causal=causal))
    eq2 = SpatialProjection(w, causal=causal, dtype=FLOAT64)
    # The middle block of three, or the second of two.
    eq2.load_state_dict({"weight": ours.weight[:, w : 2 * w], "bias": ours.bias})
    z, mask = random(B, n, C), random_mask(mask, B, n)
    torch.testing.assert_close(ours(z, mask), eq2(z, mask), rtol=0, atol=1e-12)


@properties
@given(w=st.integers(1, 4), n=st.integers(1, 12), causal=st.booleans(), seed=seeds)
def test_the_projection_equals_one_large_matrix_of_equal_blocks(w, n, causal, seed):
    torch.manual_seed(seed)
    ours = randomised(WindowedProjection(w, causal=causal))
    eq2 = SpatialProjection(n, causal=causal, dtype=FLOAT64)
    n_windows = -(-n // w)
    large = torch.zeros(n_windows * w, (n_windows + 2) * w, dtype=FLOAT64)
    with torch.no_grad():
        for u in range(n_windows):
            large[u * w : (u + 1) * w, u * w :][:, : ours.weight.shape[1]] = ours.weight
        eq2.weight.copy_(large[:n, w : w + n])
        eq2.bias.copy_(ours.bias.repeat(n_windows)[:n])
    z = random(B, n, C)
    torch.testing.assert_close(ours(z), eq2(z), rtol=0, atol=1e-12)


@properties
@given(
    mask=masks,
    n_heads=heads,
    w=st.integers(1, 4),
    n=st.integers(1, 9),
    causal=st.booleans(),
    seed=seeds,
)
def test_heads_equal_separate_projections_of_their_channels(n_heads, w, n, causal, mask, seed):
    torch.manual_seed(seed)
    layer = randomised(WindowedProjection(w, causal=causal, n_heads=n_heads))
    z, mask = random(B, n, C), random_mask(mask, B, n)
    weights = layer.weight if n_heads > 1 else [layer.weight]
    biases = layer.bias if n_heads > 1 else [layer.bias]
    parts = []
    for weight, bias, part in zip(weights, biases, z.chunk(n_heads, dim=-1), strict=True):
        one = WindowedProjection(w, causal=causal, dtype=FLOAT64)
        one.load_state_dict({"weight": weight, "bias": bias})
        parts.append(one(part, mask))
    torch.testing.assert_close(layer(z, mask), torch.cat(parts, dim=-1), rtol=0, atol=1e-12)


def test_a_position_that_may_read_nothing_gets_the_bias_alone():
    torch.manual_seed(0)
    projection, mask = randomised(WindowedProjection(3)), true(8, 8)
    mask[5] = False
    assert torch.equal(projection(random(B, 8, C), mask)[:, 5], projection.bias[2].expand(B, C))


# Causality and reach


@every_layer
@properties
@given(
    mask=masks, w=st.integers(1, 5), n=st.integers(2, 12), n_heads=heads, data=st.data(), seed=seeds
)
def test_in_a_causal_layer_the_past_cannot_see_the_future(name, mask, w, n, n_heads, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer = randomised(build(w, causal=True, n_heads=n_heads))
    x, mask = random(B, n, width), random_mask(mask, B, n)
    assert_the_past_cannot_see_the_future(lambda x: layer(x, mask), x, with_another_future(x, t), t)


@properties
@given(w=st.integers(1, 5), n=st.integers(1, 15), causal=st.booleans(), seed=seeds)
def test_exactly_the_weights_of_readable_positions_have_a_gradient(w, n, causal, seed):
    torch.manual_seed(seed)
    projection = randomised(WindowedProjection(w, causal=causal))
    projection(random(B, n, C)).square().sum().backward()
    read = torch.zeros_like(projection.weight, dtype=torch.bool)
    for i in range(n):
        for q in range(read.shape[1]):
            j = (i // w - 1) * w + q
            read[i % w, q] |= 0 <= j < n and not (causal and j > i)
    assert torch.equal(projection.weight.grad != 0, read)


@properties
@given(
    w=st.integers(1, 4),
    n=st.integers(1, 20),
    n_layers=st.integers(1, 3),
    causal=st.booleans(),
    data=st.data(),
    seed=seeds,
)
def test_each_layer_of_a_stack_reads_one_window_further(w, n, n_layers, causal, data, seed):
    i = data.draw(st.integers(0, n - 1), label="i")
    torch.manual_seed(seed)
    build, width = LAYERS["GMLPBlock"]
    stack = randomised(Encoder(lambda: build(w, causal=causal), n_layers))
    x = random(1, n, width).requires_grad_()
    stack(x)[0, i].square().sum().backward()
    j = torch.arange(n)
    further = j // w - i // w
    want = (further >= -n_layers) & ((j <= i) if causal else (further <= n_layers))
    assert torch.equal((x.grad[0] != 0).any(-1), want)


@properties
@given(
    w=st.integers(1, 4), n=st.integers(1, 9), windows=st.integers(1, 3), causal=st.booleans(),
    n_heads=heads, seed=seeds,
)  # fmt: skip
def test_a_shift_by_whole_windows_shifts_the_output(w, n, windows, causal, n_heads, seed):
    torch.manual_seed(seed)
    projection = randomised(WindowedProjection(w, causal=causal, n_heads=n_heads))
    z, shift = random(B, n, C), windows * w
    # Earlier tokens come first, then one window of zeros, which is the start of a sequence.
    earlier = random(B, shift, C)
    earlier[:, -w:] = 0
    got = projection(torch.cat([earlier, z], dim=1))[:, shift:]
    torch.testing.assert_close(got, projection(z), rtol=0, atol=1e-12)


def test_a_shift_by_less_than_a_window_changes_the_output():
    torch.manual_seed(0)
    projection, z = randomised(WindowedProjection(3)), random(B, 9, C)
    got = projection(torch.cat([torch.zeros(B, 1, C, dtype=FLOAT64), z], dim=1))[:, 1:]
    assert not torch.isclose(got, projection(z)).any()


# Shorter sequences and padding


@properties
@given(w=st.integers(1, 4), n=st.integers(1, 9), extra=st.integers(1, 9), seed=seeds)
def test_a_causal_projection_of_a_prefix_is_the_prefix_of_the_projection(w, n, extra, seed):
    torch.manual_seed(seed)
    projection, z = randomised(WindowedProjection(w, causal=True)), random(B, n + extra, C)
    torch.testing.assert_close(projection(z[:, :n]), projection(z)[:, :n], rtol=0, atol=1e-12)


@every_layer_with_padding
@properties
@given(
    mask=masks,
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    w=st.integers(1, 4),
    causal=st.booleans(),
    n_heads=heads,
    seed=seeds,
)
def test_padding_equals_cutting_it_off(name, mask, lengths, w, causal, n_heads, seed):
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer = randomised(build(w, causal=causal, n_heads=n_heads))
    x, mask = random(len(lengths), 7, width), random_mask(mask, len(lengths), 7)
    assert_padding_equals_truncation(layer, x, mask, lengths)


# A freshly built layer


def test_a_fresh_unit_passes_the_first_half_unchanged_with_weights_that_are_not_zero():
    torch.manual_seed(0)
    z = torch.randn(4, 64, 32)
    unit = SpatialGatingUnit(32, projection=WindowedProjection(16))
    assert (unit(z) - z[..., :16]).abs().max() < 1e-3
    assert torch.equal(unit.projection.bias, torch.ones(16))
    # With weights of exactly zero, no gradient would pass through.
    assert 1e-7 < unit.projection.weight.std() < 1e-5


@every_layer
@causal_or_not
def test_every_parameter_has_a_gradient(name, causal):
    torch.manual_seed(0)
    build, width = LAYERS[name]
    layer, x = randomised(build(3, causal=causal)), random(B, 11, width)
    layer(x).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in layer.parameters())


def test_the_number_of_weights_depends_only_on_the_window():
    shapes = {
        (False, 1): ([5, 15], [5]),
        (True, 1): ([5, 10], [5]),
        (False, 2): ([2, 5, 15], [2, 5]),
        (True, 2): ([2, 5, 10], [2, 5]),
    }
    for (causal, n_heads), (weight, bias) in shapes.items():
        projection = WindowedProjection(5, causal=causal, n_heads=n_heads)
        assert [list(p.shape) for p in projection.parameters()] == [weight, bias]
        assert projection(torch.randn(1, 1000, 4)).shape == (1, 1000, 4)


def test_reset_parameters_initialises_a_layer_from_the_meta_device():
    torch.manual_seed(0)
    projection = WindowedProjection(3, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in projection.parameters()} == {("meta", FLOAT64)}
    assert projection(torch.empty(B, 7, C, device="meta", dtype=FLOAT64)).shape == (B, 7, C)
    projection = projection.to_empty(device="cpu")
    nn.init.constant_(projection.weight, torch.nan)
    nn.init.constant_(projection.bias, torch.nan)
    projection.reset_parameters()
    assert torch.equal(projection.bias, torch.ones(3, dtype=FLOAT64))
    assert 0 < projection.weight.abs().max() < 1e-5


def test_the_projection_runs_in_bfloat16_with_and_without_a_mask():
    projection = WindowedProjection(3, dtype=torch.bfloat16)
    z = torch.randn(B, 7, C, dtype=torch.bfloat16)
    assert projection(z).dtype == torch.bfloat16
    assert projection(z, true(7, 7)).dtype == torch.bfloat16


def test_the_repr_shows_the_arguments():
    want = "WindowedProjection(window=6, causal=True, n_heads=2)"
    assert repr(WindowedProjection(6, causal=True, n_heads=2)) == want
