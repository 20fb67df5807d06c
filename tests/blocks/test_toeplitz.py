import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    DecayedToeplitzProjection,
    GMLPBlock,
    SpatialGatingUnit,
    SpatialProjection,
    ToeplitzProjection,
)
from labml_gmlp.blocks import toeplitz
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_the_past_cannot_see_the_future,
    dtypes,
    masks,
    properties,
    random,
    random_mask,
    randomised,
    seeds,
    with_another_future,
)

# All sizes differ, so swapping two of them fails.
B, C, SEQ_LEN = 2, 4, 6

# Name: how to build it for the longest sequence, and its equation.
LAYERS = {
    "two-sided": (
        lambda n, **options: ToeplitzProjection(n, **options),
        oracles.toeplitz_projection,
        {},
    ),
    "causal": (
        lambda n, **options: ToeplitzProjection(n, causal=True, **options),
        oracles.toeplitz_projection,
        {"causal": True},
    ),
    "decayed": (
        lambda n, **options: DecayedToeplitzProjection(n, **options),
        oracles.decayed_toeplitz_projection,
        {},
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_causal_layer = pytest.mark.parametrize("name", ["causal", "decayed"])
both_ways = pytest.mark.parametrize("fft_from", [None, 1])
one_head_or_two = pytest.mark.parametrize("n_heads", [1, 2])
every_mask = pytest.mark.parametrize("mask", MASKS)


def true(*shape):
    return torch.ones(*shape, dtype=torch.bool)


def build(name, n=SEQ_LEN, **options):
    return randomised(LAYERS[name][0](n, **options))


def matrix(layer, n):
    """Returns the W of a layer with one head, `[n, n]`, computed from unit vectors."""
    f = layer(torch.eye(n, dtype=layer.bias.dtype)[None])[0]
    return f - layer.bias[:n, None]


# The equations


# With a mask, the product is always dense.
@every_layer
@pytest.mark.parametrize("n", [SEQ_LEN, 4, 1])
@one_head_or_two
@pytest.mark.parametrize(("fft_from", "mask"), [(1, "no mask"), *((None, mask) for mask in MASKS)])
def test_a_projection_equals_its_equation_written_with_loops(name, n, n_heads, fft_from, mask):
    torch.manual_seed(0)
    layer = build(name, n_heads=n_heads, fft_from=fft_from)
    z, mask = random(B, n, C), random_mask(mask, B, n)
    _, oracle, options = LAYERS[name]
    want = oracle(z.numpy(), arrays(layer), n_heads=n_heads, mask=as_array(mask), **options)
    assert_equals_oracle(layer(z, mask), want)


@every_layer
@properties
@given(
    fft_from=st.sampled_from([None, 1]),
    n=st.integers(1, 40),
    longest=st.integers(40, 43),
    seed=seeds,
)
def test_any_length_equals_its_equation_written_with_loops(name, fft_from, n, longest, seed):
    torch.manual_seed(seed)
    layer, z = build(name, longest, fft_from=fft_from), random(1, n, 1)
    _, oracle, options = LAYERS[name]
    assert_equals_oracle(layer(z), oracle(z.numpy(), arrays(layer), **options))


@properties
@given(fft_from=st.sampled_from([None, 1]), causal=st.booleans(), n=st.integers(2, 12), seed=seeds)
def test_a_weight_depends_on_the_offset_alone(causal, fft_from, n, seed):
    torch.manual_seed(seed)
    layer = build("causal" if causal else "two-sided", 12, fft_from=fft_from)
    w = matrix(layer, n)
    torch.testing.assert_close(w[1:, 1:], w[:-1, :-1], rtol=0, atol=1e-12)
    # The diagonals are in the documented order.
    if causal:
        torch.testing.assert_close(w[:, 0], layer.weight[:n], rtol=0, atol=1e-12)
    else:
        offsets = torch.cat([w[0, :].flip(0), w[1:, 0]])
        want = layer.weight[12 - n : 11 + n]
        torch.testing.assert_close(offsets, want, rtol=0, atol=1e-12)


@properties
@given(fft_from=st.sampled_from([None, 1]), n=st.integers(2, 12), seed=seeds)
def test_a_decayed_weight_is_the_product_of_its_three_factors(fft_from, n, seed):
    torch.manual_seed(seed)
    layer = build("decayed", 12, fft_from=fft_from)
    w = matrix(layer, n)
    for i in range(n):
        for j in range(n):
            want = layer.row[i] * layer.weight[i - j] * layer.column[j] if j <= i else 0.0
            assert abs(w[i, j] - want) < 1e-12


@properties
@given(
    fft_from=st.sampled_from([None, 1]),
    margin=st.integers(1, 4),
    shift=st.integers(1, 5),
    seed=seeds,
)
def test_a_shift_of_the_input_shifts_the_output_away_from_the_ends(fft_from, margin, shift, seed):
    torch.manual_seed(seed)
    n = 2 * margin + shift + 6
    layer = build("two-sided", n, fft_from=fft_from)
    nn.init.zeros_(layer.bias)
    # The kernel is not longer than the margin, and the tokens keep that margin at both ends.
    with torch.no_grad():
        layer.weight[: n - 1 - margin] = 0
        layer.weight[n + margin :] = 0
    z = torch.zeros(1, n, C, dtype=FLOAT64)
    last = n - margin - shift - 1
    z[:, margin : last + 1] = random(1, n - 2 * margin - shift, C)
    # The last output that is not zero reads only the last token, by the weight of the largest
    # offset. With 1 for both it is 1 for every seed, so the outputs below are not all zero.
    with torch.no_grad():
        layer.weight[n - 1 + margin] = 1
    z[:, last] = 1
    before, after = layer(z), layer(z.roll(shift, 1))
    torch.testing.assert_close(before.roll(shift, 1), after, rtol=0, atol=1e-12)
    torch.testing.assert_close(before[:, last + margin], z[:, last], rtol=0, atol=1e-12)


def test_a_toeplitz_projection_equals_a_spatial_projection_with_constant_diagonals():
    torch.manual_seed(0)
    layer, free = build("two-sided"), SpatialProjection(SEQ_LEN, dtype=FLOAT64)
    with torch.no_grad():
        for i in range(SEQ_LEN):
            for j in range(SEQ_LEN):
                free.weight[i, j] = layer.weight[i - j + SEQ_LEN - 1]
        free.bias.copy_(layer.bias)
    z, mask = random(B, 5, C), random_mask("a mask each", B, 5)
    torch.testing.assert_close(layer(z), free(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(z, mask), free(z, mask), rtol=0, atol=1e-12)


@every_layer
@both_ways
def test_heads_equal_separate_projections(name, fft_from):
    torch.manual_seed(0)
    layer, z = build(name, n_heads=3, fft_from=fft_from), random(B, 5, 6)
    for h in range(3):
        alone = build(name, fft_from=fft_from)
        alone.load_state_dict({key: value[h] for key, value in layer.state_dict().items()})
        channels = slice(2 * h, 2 * h + 2)
        torch.testing.assert_close(
            layer(z)[..., channels], alone(z[..., channels]), rtol=0, atol=1e-12
        )


# Gradients


@every_layer
@properties
@given(
    fft_from=st.sampled_from([None, 1]),
    n_heads=st.integers(1, 2),
    n=st.integers(1, SEQ_LEN),
    seed=seeds,
)
def test_exactly_the_used_offsets_have_a_gradient(name, n_heads, fft_from, n, seed):
    torch.manual_seed(seed)
    layer = build(name, n_heads=n_heads, fft_from=fft_from)
    layer(random(B, n, C)).square().sum().backward()
    occurs = true(layer.weight.shape[-1])
    if name == "two-sided":
        occurs = (torch.arange(2 * SEQ_LEN - 1) - (SEQ_LEN - 1)).abs() < n
    else:
        occurs[n:] = False
    assert (layer.weight.grad[..., occurs] != 0).all()
    assert (layer.weight.grad[..., ~occurs] == 0).all()
    for key, parameter in layer.named_parameters():
        if key != "weight":
            assert (parameter.grad[..., :n] != 0).all()
            assert (parameter.grad[..., n:] == 0).all()


@every_layer
@properties
@given(n_heads=st.integers(1, 2), n=st.integers(1, 40), seed=seeds)
def test_dense_and_fft_give_the_same_values_and_gradients(name, n_heads, n, seed):
    torch.manual_seed(seed)
    layer = build(name, 40, n_heads=n_heads, fft_from=1)
    dense = copy.deepcopy(layer)
    dense.fft_from = None
    z, towards = random(B, n, C), random(B, n, C)
    inputs = z.clone().requires_grad_(), z.clone().requires_grad_()
    results = layer(inputs[0]), dense(inputs[1])
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)
    for f in results:
        (f * towards).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=0, atol=1e-12)
    for one, other in zip(layer.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


@every_layer
@both_ways
def test_the_gradient_equals_finite_differences(name, fft_from):
    torch.manual_seed(0)
    layer, z = build(name, 5, n_heads=2, fft_from=fft_from), random(1, 4, 2).requires_grad_()
    names = [key for key, _ in layer.named_parameters()]

    def run(z, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (z,))

    assert torch.autograd.gradcheck(run, (z, *layer.parameters()))


# Dense or FFT


@pytest.fixture
def transforms(monkeypatch):
    """The lengths of the sequences for which the FFT was used."""
    seen = []
    real = toeplitz.fft_product

    def recorded(w, z):
        seen.append(z.shape[-2])
        return real(w, z)

    monkeypatch.setattr(toeplitz, "fft_product", recorded)
    return seen


@every_layer
def test_the_fft_is_used_from_fft_from_on(name, transforms):
    layer = build(name, fft_from=4)
    for n in (3, 4, 5):
        layer(random(1, n, C))
    layer.fft_from = None
    layer(random(1, 5, C))
    assert transforms == [4, 5]


@every_causal_layer
def test_masks_use_the_dense_product(name, transforms):
    layer = build(name, fft_from=1)
    layer(random(1, 5, C), true(5, 5))
    assert transforms == []


def test_the_fft_length_is_fast_and_at_most_a_quarter_too_long():
    for least in range(1, 5000):
        length = toeplitz._fast_length(least)
        assert least <= length <= 1.25 * least
        for factor in (2, 3, 5):
            while length % factor == 0:
                length //= factor
        assert length == 1


@every_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_fft_of_half_precision_runs_in_single_precision(name, dtype, monkeypatch):
    torch.manual_seed(0)
    seen, rfft = set(), torch.fft.rfft
    monkeypatch.setattr(torch.fft, "rfft", lambda x, m: seen.add(x.dtype) or rfft(x, m))
    layer = build(name, 64, fft_from=1).to(dtype)
    z = torch.randn(B, 50, C, dtype=dtype)
    f = layer(z)
    assert f.dtype == dtype
    assert seen == {torch.float32}
    # One rounding for each product, each factor and each sum; all values are below 64.
    want = copy.deepcopy(layer).double()(z.double())
    assert want.abs().max() < 64
    assert (f - want).abs().max() < 4 * 64 * torch.finfo(dtype).eps
    f.float().square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in layer.parameters())


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dense_and_fft_have_the_same_dtype_under_autocast(name, dtype):
    torch.manual_seed(0)
    layer = build(name, 16, fft_from=1).float()
    dense = copy.deepcopy(layer)
    dense.fft_from = None
    z = torch.randn(B, 16, C)
    with torch.autocast("cpu", torch.bfloat16):
        f, want = layer(z.to(dtype)), dense(z.to(dtype))
    assert f.dtype == want.dtype
    assert (f - want).abs().max() < 16 * torch.finfo(torch.bfloat16).eps
    f.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


# Causality


@every_causal_layer
@properties
@given(mask=masks, n=st.integers(2, 8), data=st.data(), seed=seeds)
def test_in_the_dense_product_the_past_cannot_see_the_future(name, mask, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    layer, mask = build(name, 8, fft_from=None), random_mask(mask, B, n)
    z = random(B, n, C)
    assert_the_past_cannot_see_the_future(lambda z: layer(z, mask), z, with_another_future(z, t), t)


@every_causal_layer
@properties
@given(
    dtype=dtypes,
    n=st.integers(2, 300),
    data=st.data(),
    scale=st.sampled_from([1.0, 1e4]),
    seed=seeds,
)
def test_in_the_fft_product_only_rounding_errors_come_from_the_future(
    name, dtype, n, data, scale, seed
):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    layer = build(name, 300, fft_from=1).to(dtype)
    z = torch.randn(1, n, C, dtype=dtype)
    other = torch.cat([z[:, :t], scale * torch.randn(1, n - t, C, dtype=dtype)], dim=1)
    # Token t changes by `scale` and reads itself with weight 1, so its output changes by `scale`.
    other[:, t] = z[:, t] + scale
    with torch.no_grad():
        layer.weight[0] = 1
        if name == "decayed":
            layer.row[t] = layer.column[t] = 1
    change = (layer(other) - layer(z))[:, : t + 1]
    leak = change[:, :t].abs().max()
    # Each of the log2(m) stages of an FFT rounds once, so its error is about eps log2(m) times the
    # 2-norm of its input. The norm of w times that of Z bounds each entry of WZ. A call has three
    # FFTs, and there are two calls.
    factors = {"row": torch.ones(n, dtype=dtype), "column": torch.ones(n, dtype=dtype)}
    factors |= {key: p.detach()[:n] for key, p in layer.named_parameters() if key in factors}
    size = max((x * factors["column"][:, None]).norm(dim=1).max() for x in (z, other))
    size = layer.weight[:n].norm() * size * factors["row"].abs().max()
    bound = 6 * math.log2(2.5 * n) * torch.finfo(dtype).eps * size
    # Adding the bias rounds once more.
    bound += 2 * torch.finfo(dtype).eps * max(layer(x)[:, : t + 1].abs().max() for x in (z, other))
    assert leak <= bound
    assert (change[:, t] - (other - z)[:, t]).abs().max() <= bound


def test_a_two_sided_projection_sees_the_future():
    torch.manual_seed(0)
    layer, z = build("two-sided"), random(B, SEQ_LEN, C)
    assert layer.causal is False
    before, after = layer(z), layer(with_another_future(z, 5))
    assert not torch.isclose(before[:, :5], after[:, :5]).any()


@every_causal_layer
def test_a_causal_block_accepts_a_causal_projection(name):
    torch.manual_seed(0)
    block = randomised(
        GMLPBlock(C, 10, causal=True, sgu=SpatialGatingUnit(10, projection=build(name)))
    )
    x = random(B, SEQ_LEN, C)
    assert block.sgu.projection.causal is True
    assert_the_past_cannot_see_the_future(block, x, with_another_future(x, 3), 3)


# Shorter sequences and masks


@every_layer
@properties
@given(
    fft_from=st.sampled_from([None, 1]), n=st.integers(1, 6), seq_len=st.integers(6, 9), seed=seeds
)
def test_a_shorter_sequence_uses_the_offsets_that_occur(name, fft_from, n, seq_len, seed):
    torch.manual_seed(seed)
    long, short = build(name, seq_len, fft_from=fft_from), build(name, n, fft_from=fft_from)
    with torch.no_grad():
        for key, value in long.state_dict().items():
            two_sided = name == "two-sided" and key == "weight"
            part = value[seq_len - n : seq_len + n - 1] if two_sided else value[:n]
            short.get_parameter(key).copy_(part)
    z = random(B, n, 3)
    assert torch.equal(long(z), short(z))


@every_layer
@properties
@given(fft_from=st.sampled_from([None, 1]), n=st.integers(1, 5), seed=seeds)
def test_tokens_of_zeros_equal_no_tokens(name, fft_from, n, seed):
    torch.manual_seed(seed)
    layer, z = build(name, fft_from=fft_from), random(B, SEQ_LEN, C)
    padded = z.clone()
    padded[:, n:] = 0
    torch.testing.assert_close(layer(padded)[:, :n], layer(z[:, :n]), rtol=0, atol=1e-12)


@every_layer
@properties
@given(n=st.integers(1, SEQ_LEN), seed=seeds)
def test_a_mask_hides_exactly_the_pairs_that_are_false(name, n, seed):
    torch.manual_seed(seed)
    layer, mask = build(name, n_heads=2), torch.rand(B, n, n) < 0.5
    z = random(B, n, C)
    f = layer(z, mask)
    for b in range(B):
        alone = layer(z[b : b + 1], mask[b])
        torch.testing.assert_close(f[b : b + 1], alone, rtol=0, atol=1e-12)
    for j in range(n):
        other = z.clone()
        other[:, j] += 1e6
        unread = ~mask[:, :, j]
        assert torch.equal(layer(other, mask)[unread], f[unread])


@every_layer
def test_a_mask_that_allows_all_changes_nothing(name):
    torch.manual_seed(0)
    layer, z = build(name), random(B, 5, C)
    torch.testing.assert_close(layer(z, true(5, 5)), layer(z), rtol=0, atol=1e-12)


# A freshly built layer


@every_layer
@both_ways
def test_a_fresh_block_starts_with_the_gate_at_one(name, fft_from):
    torch.manual_seed(0)
    layer, z = LAYERS[name][0](64, fft_from=fft_from), torch.randn(4, 64, 16)
    assert torch.equal(layer.bias, torch.ones(64))
    assert 0 < layer.weight.abs().max() < 1e-5
    assert (layer(z) - 1).abs().max() < 1e-3
    for key in {"row", "column"} & set(layer.state_dict()):
        assert torch.equal(layer.get_parameter(key), torch.ones(64))


@every_layer
def test_fresh_weights_are_normal_with_a_standard_deviation_of_1e_6(name):
    torch.manual_seed(0)
    weight = LAYERS[name][0](10_000).weight.detach() / 1e-6
    # Five times the standard error of these estimates for N = 10,000 numbers.
    assert abs(weight.std() - 1) < 5 / math.sqrt(2 * 10_000)
    assert abs(weight.mean()) < 5 / math.sqrt(10_000)


@every_layer
def test_reset_parameters_initialises_a_layer_from_the_meta_device(name):
    layer = LAYERS[name][0](SEQ_LEN, n_heads=2, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}
    layer = layer.to_empty(device="cpu").double()
    for parameter in layer.parameters():
        nn.init.constant_(parameter, torch.nan)
    layer.reset_parameters()
    assert (layer(random(B, 5, C)) - 1).abs().max() < 1e-3


@every_layer
@both_ways
def test_shapes_are_known_on_the_meta_device(name, fft_from):
    layer = LAYERS[name][0](SEQ_LEN, fft_from=fft_from, device="meta")
    assert layer(torch.empty(B, 5, C, device="meta")).shape == (B, 5, C)


@pytest.mark.parametrize(("n_heads", "axis"), [(1, []), (2, [2])])
def test_the_parameters_have_the_documented_shapes(n_heads, axis):
    def shapes(name):
        state = LAYERS[name][0](SEQ_LEN, n_heads=n_heads).state_dict()
        return {key: list(value.shape) for key, value in state.items()}

    assert shapes("two-sided") == {"weight": [*axis, 11], "bias": [*axis, 6]}
    assert shapes("causal") == {"weight": [*axis, 6], "bias": [*axis, 6]}
    keys = ("weight", "row", "column", "bias")
    assert shapes("decayed") == {key: [*axis, 6] for key in keys}


def test_the_repr_shows_the_arguments():
    want = "ToeplitzProjection(seq_len=6, causal=True, n_heads=2, fft_from=None)"
    assert repr(ToeplitzProjection(6, causal=True, n_heads=2, fft_from=None)) == want
    want = "DecayedToeplitzProjection(seq_len=6, causal=True, n_heads=2, fft_from=3)"
    assert repr(DecayedToeplitzProjection(6, n_heads=2, fft_from=3)) == want


# Comparison with g-mlp-pytorch


def theirs(layer, n_heads, causal=True):
    """Returns the unit of g-mlp-pytorch with the weights of `layer` and without its norm."""
    package = pytest.importorskip("g_mlp_pytorch", reason="the package that is compared with")
    unit = package.SpatialGatingUnit(
        2 * C, SEQ_LEN, causal=causal, heads=n_heads, circulant_matrix=True
    ).to(layer.weight.dtype)
    unit.norm = nn.Identity()
    with torch.no_grad():
        # g-mlp-pytorch stores the largest offset first.
        unit.weight.copy_(layer.weight.flip(-1))
        unit.circulant_pos_x.copy_(layer.row)
        unit.circulant_pos_y.copy_(layer.column)
        unit.bias.copy_(layer.bias)
    return unit


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (FLOAT64, 1e-12)])
@one_head_or_two
@both_ways
@pytest.mark.parametrize("n", [SEQ_LEN, 4])
def test_the_decayed_projection_equals_that_of_g_mlp_pytorch(dtype, atol, n_heads, fft_from, n):
    torch.manual_seed(0)
    layer = build("decayed", n_heads=n_heads, fft_from=fft_from).to(dtype)
    z1, z2 = torch.randn(2, B, n, C, dtype=dtype)
    want = theirs(layer, n_heads)(torch.cat([z1, z2], -1))
    torch.testing.assert_close(z1 * layer(z2), want, rtol=0, atol=atol)


@pytest.mark.parametrize("causal", [False, True])
def test_the_circulant_matrix_of_g_mlp_pytorch_is_always_this_lower_triangular_one(causal):
    torch.manual_seed(0)
    layer = build("decayed")
    unit = theirs(layer, 1, causal)
    unit_vectors = torch.eye(SEQ_LEN, dtype=FLOAT64)[:, :, None].expand(-1, -1, C)
    f = unit(torch.cat([torch.ones_like(unit_vectors), unit_vectors], -1)) - layer.bias[:, None]
    w = f[:, :, 0].T
    torch.testing.assert_close(w, matrix(layer, SEQ_LEN), rtol=0, atol=1e-12)
    assert not w.triu(1).any()
