import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import ConvolutionProjection, GMLPBlock, SpatialGatingUnit
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_padding_equals_truncation,
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

B, D_MODEL, D_FFN, C = 2, 4, 10, 5

# Shorter and longer than the sequences, and odd unless causal.
kernels = [(1, False), (3, False), (7, False), (15, False), (1, True), (2, True), (7, True)]
every_kernel = pytest.mark.parametrize(("k", "causal"), kernels)
every_mask = pytest.mark.parametrize("mask", MASKS)
drawn_kernels = st.one_of(
    st.tuples(st.integers(0, 5).map(lambda half: 2 * half + 1), st.just(False)),
    st.tuples(st.integers(1, 9), st.just(True)),
)

# Name: how to build it around a convolution, and the number of channels it takes.
LAYERS = {
    "ConvolutionProjection": (lambda k, causal: ConvolutionProjection(C, k, causal=causal), C),
    "SpatialGatingUnit": (
        lambda k, causal: SpatialGatingUnit(
            D_FFN, causal=causal, projection=ConvolutionProjection(C, k, causal=causal)
        ),
        D_FFN,
    ),
    "GMLPBlock": (
        lambda k, causal: GMLPBlock(
            D_MODEL,
            D_FFN,
            causal=causal,
            sgu=SpatialGatingUnit(D_FFN, projection=ConvolutionProjection(C, k, causal=causal)),
        ),
        D_MODEL,
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_layer_with_padding = pytest.mark.parametrize("name", ["SpatialGatingUnit", "GMLPBlock"])


# The equation


@every_kernel
@every_mask
def test_the_projection_equals_the_equation_written_with_loops(k, causal, mask):
    torch.manual_seed(0)
    projection = randomised(ConvolutionProjection(3, k, causal=causal))
    z, mask = random(B, 6, 3), random_mask(mask, B, 6)
    want = oracles.convolution_projection(
        z.numpy(), arrays(projection), causal=causal, mask=as_array(mask)
    )
    assert_equals_oracle(projection(z, mask), want)


@every_kernel
@every_mask
def test_the_unit_with_a_convolution_equals_its_equation_written_with_loops(k, causal, mask):
    torch.manual_seed(0)
    unit = randomised(LAYERS["SpatialGatingUnit"][0](k, causal))
    z, mask, kept = random(B, 6, D_FFN), random_mask(mask, B, 6), kept_tokens([4, 6], 6)
    want = oracles.cut(
        oracles.convolutional_gating_unit,
        z.numpy(),
        kept.numpy(),
        as_array(mask),
        p=arrays(unit),
        causal=causal,
    )
    assert_equals_oracle(unit(z, mask, kept), want, kept)


@every_kernel
@pytest.mark.parametrize(("dtype", "atol"), [(FLOAT64, 1e-12), (torch.float32, 1e-5)])
def test_the_projection_equals_the_depthwise_convolution_of_torch(k, causal, dtype, atol):
    torch.manual_seed(0)
    ours = randomised(ConvolutionProjection(C, k, causal=causal)).to(dtype)
    theirs = nn.Conv1d(C, C, k, groups=C, padding=k - 1 if causal else k // 2, dtype=dtype)
    theirs.load_state_dict({"weight": ours.weight[:, None], "bias": ours.bias})
    z = random(B, 6, C).to(dtype)
    want = theirs(z.transpose(1, 2))[..., :6].transpose(1, 2)
    torch.testing.assert_close(ours(z), want, rtol=0, atol=atol)


class Then(nn.Module):
    """A projection followed by a linear layer."""

    def __init__(self, projection, linear):
        super().__init__()
        self.projection, self.linear = projection, linear

    def forward(self, z, mask):
        return self.linear(self.projection(z, mask))


@pytest.mark.parametrize("with_linear", [False, True])
def test_the_unit_equals_that_of_espnet(with_linear):
    torch.manual_seed(0)
    projection = ConvolutionProjection(C, 7)
    linear = nn.Linear(C, C) if with_linear else nn.Identity()
    unit = SpatialGatingUnit(D_FFN, projection=Then(projection, linear), norm_eps=1e-12)
    z, p = random(B, 9, D_FFN), arrays(randomised(unit))
    theirs = {
        "norm.weight": p["norm.weight"],
        "norm.bias": p["norm.bias"],
        "conv.weight": p["projection.projection.weight"].reshape(C, 1, 7),
        "conv.bias": p["projection.projection.bias"],
    }
    if with_linear:
        theirs["linear.weight"] = p["projection.linear.weight"]
        theirs["linear.bias"] = p["projection.linear.bias"]
    assert_equals_oracle(unit(z), oracles.espnet_gating_unit(z.numpy(), theirs))


def test_a_position_that_may_read_nothing_gets_the_bias_alone():
    torch.manual_seed(0)
    projection, mask = randomised(ConvolutionProjection(C, 3)), torch.ones(4, 4, dtype=torch.bool)
    mask[2] = False
    assert torch.equal(projection(random(B, 4, C), mask)[:, 2], projection.bias.expand(B, C))


@properties
@given(kernel=drawn_kernels, n=st.integers(1, 8), seed=seeds)
def test_a_mask_that_allows_all_changes_nothing(kernel, n, seed):
    torch.manual_seed(seed)
    projection, z = (
        randomised(ConvolutionProjection(C, kernel[0], causal=kernel[1])),
        random(B, n, C),
    )
    everything = torch.ones(n, n, dtype=torch.bool)
    torch.testing.assert_close(projection(z, everything), projection(z), rtol=0, atol=1e-12)


# Causality and reach


@every_layer
@properties
@given(mask=masks, k=st.integers(1, 9), n=st.integers(2, 8), data=st.data(), seed=seeds)
def test_in_a_causal_layer_the_past_cannot_see_the_future(name, mask, k, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer, mask = randomised(build(k, True)), random_mask(mask, B, n)
    x = random(B, n, width)
    assert_the_past_cannot_see_the_future(lambda x: layer(x, mask), x, with_another_future(x, t), t)


@properties
@given(kernel=drawn_kernels, n=st.integers(1, 12), data=st.data(), seed=seeds)
def test_a_token_reads_those_under_the_kernel_and_no_others(kernel, n, data, seed):
    k, causal = kernel
    i = data.draw(st.integers(0, n - 1), label="i")
    torch.manual_seed(seed)
    projection, z = randomised(ConvolutionProjection(C, k, causal=causal)), random(1, n, C)
    z.requires_grad_()
    projection(z)[0, i].sum().backward()
    distance = i - torch.arange(n)
    half = (k - 1) // 2
    read = (distance >= 0) & (distance < k) if causal else distance.abs() <= half
    assert torch.equal(z.grad[0].abs() > 0, read[:, None].expand(n, C))


@properties
@given(
    kernel=drawn_kernels, before=st.integers(1, 9), after=st.integers(0, 9), n=st.integers(1, 9),
    seed=seeds,
)  # fmt: skip
def test_a_shift_of_the_input_shifts_the_output_away_from_the_ends(kernel, before, after, n, seed):
    k, causal = kernel
    torch.manual_seed(seed)
    projection, z = randomised(ConvolutionProjection(C, k, causal=causal)), random(B, n, C)
    longer = torch.cat([random(B, before, C), z, random(B, after, C)], dim=1)
    left, right = (k - 1, 0) if causal else (k // 2, k // 2)
    left, right = (left if before else 0), (right if after else 0)
    inner = slice(left, max(left, n - right))
    want = projection(z)[:, inner]
    got = projection(longer)[:, before : before + n][:, inner]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


# Padding


@every_layer_with_padding
@properties
@given(
    mask=masks,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    kernel=drawn_kernels,
    seed=seeds,
)
def test_padding_equals_cutting_it_off(name, mask, lengths, kernel, seed):
    torch.manual_seed(seed)
    build, width = LAYERS[name]
    layer = randomised(build(*kernel))
    x, mask = random(len(lengths), 6, width), random_mask(mask, len(lengths), 6)
    assert_padding_equals_truncation(layer, x, mask, lengths)


@every_layer_with_padding
def test_without_a_padding_mask_padding_changes_the_output(name):
    torch.manual_seed(0)
    build, width = LAYERS[name]
    layer, x = randomised(build(3, False)), random(1, 6, width)
    x[:, 4:] = 0
    alone, kept = layer(x[:, :4]), kept_tokens([4], 6)
    # Without a padding mask, zeros at the input become the bias of the norm.
    assert not torch.isclose(layer(x)[:, 3], alone[:, 3]).any()
    torch.testing.assert_close(layer(x, None, kept)[:, :4], alone, rtol=0, atol=1e-12)


# A freshly built layer


def test_a_fresh_unit_passes_the_first_half_unchanged():
    torch.manual_seed(0)
    z = torch.randn(4, 64, 32)
    unit = SpatialGatingUnit(32, projection=ConvolutionProjection(16))
    assert (unit(z) - z[..., :16]).abs().max() < 1e-3
    assert torch.equal(unit.projection.bias, torch.ones(16))
    assert 1e-7 < unit.projection.weight.std() < 1e-5


@every_layer
@every_kernel
def test_every_parameter_has_a_gradient(name, k, causal):
    torch.manual_seed(0)
    build, width = LAYERS[name]
    layer, x = randomised(build(k, causal)), random(B, 20, width)
    layer(x).square().sum().backward()
    assert all((p.grad != 0).all() for p in layer.parameters())


def test_reset_parameters_initialises_a_layer_from_the_meta_device():
    torch.manual_seed(0)
    projection = ConvolutionProjection(C, 3, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in projection.parameters()} == {("meta", FLOAT64)}
    assert projection(torch.empty(B, 6, C, device="meta", dtype=FLOAT64)).shape == (B, 6, C)
    projection = projection.to_empty(device="cpu")
    nn.init.constant_(projection.weight, torch.nan)
    nn.init.constant_(projection.bias, torch.nan)
    projection.reset_parameters()
    assert torch.equal(projection.bias, torch.ones(C, dtype=FLOAT64))
    assert 0 < projection.weight.abs().max() < 1e-5


def test_the_projection_runs_in_bfloat16_with_and_without_a_mask():
    projection = ConvolutionProjection(C, 3, dtype=torch.bfloat16)
    z = torch.randn(B, 6, C, dtype=torch.bfloat16)
    assert projection(z).dtype == torch.bfloat16
    assert projection(z, torch.ones(6, 6, dtype=torch.bool)).dtype == torch.bfloat16


def test_the_repr_shows_the_arguments():
    want = "ConvolutionProjection(5, kernel_size=4, causal=True)"
    assert repr(ConvolutionProjection(5, 4, causal=True)) == want
    assert repr(ConvolutionProjection(5)) == (
        "ConvolutionProjection(5, kernel_size=31, causal=False)"
    )
