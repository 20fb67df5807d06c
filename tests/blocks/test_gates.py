import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    AdditiveGate,
    AMLPBlock,
    GMLPBlock,
    LinearGate,
    MultiplicativeGate,
    SpatialProjection,
    TinyAttention,
)
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS_AND_PADDING,
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

# All sizes differ, so swapping two of them fails. d_ffn is odd: these gates have no split.
B, N, D_MODEL, D_FFN, SEQ_LEN = 2, 5, 3, 7, 6

GATES = {"linear": LinearGate, "additive": AdditiveGate, "multiplicative": MultiplicativeGate}
every_gate = pytest.mark.parametrize("kind", GATES)
causal_or_not = pytest.mark.parametrize("causal", [False, True])
every_mask_and_padding = pytest.mark.parametrize(("mask", "padded"), MASKS_AND_PADDING)


def gate_of(kind, causal=False, n=SEQ_LEN, d_ffn=D_FFN, **options):
    return GATES[kind](d_ffn, SpatialProjection(n, causal=causal, **options), **options)


def block_of(kind, causal=False):
    return GMLPBlock(D_MODEL, D_FFN, causal=causal, sgu=gate_of(kind, causal))


# The formulas


@every_gate
@pytest.mark.parametrize("n", [SEQ_LEN, 4])
@causal_or_not
@every_mask_and_padding
def test_each_gate_equals_its_formula_written_with_loops(kind, n, causal, mask, padded):
    torch.manual_seed(0)
    gate, z, mask = randomised(gate_of(kind, causal)), random(B, n, D_FFN), random_mask(mask, B, n)
    kept = kept_tokens([n - 2, n] if padded else [n, n], n)
    want = oracles.cut(
        oracles.gate_of_the_ablation,
        z.numpy(),
        kept.numpy(),
        as_array(mask),
        p=arrays(gate),
        kind=kind,
        causal=causal,
    )
    assert_equals_oracle(gate(z, mask, kept if padded else None), want, kept)


@every_gate
@causal_or_not
def test_a_block_with_the_gate_equals_equation_1_with_its_formula(kind, causal):
    torch.manual_seed(0)
    block, x = randomised(block_of(kind, causal)), random(B, N, D_MODEL)
    p = arrays(block)
    z = oracles.layer_norm(x.numpy(), oracles.part(p, "norm"))
    z = oracles.gelu_exact(oracles.linear(z, oracles.part(p, "proj_in")))
    z = oracles.gate_of_the_ablation(z, oracles.part(p, "sgu"), kind=kind, causal=causal)
    want = x.numpy() + oracles.linear(z, oracles.part(p, "proj_out"))
    assert_equals_oracle(block(x), want)


@pytest.mark.parametrize("eps", [1e-12, 0.3])
def test_norm_eps_reaches_the_norm(eps):
    torch.manual_seed(0)
    gate = randomised(AdditiveGate(D_FFN, nn.Identity(), norm_eps=eps))
    gate.projection.forward = lambda z, mask: z
    z = random(B, N, D_FFN)
    norm = {"weight": arrays(gate)["norm.weight"], "bias": arrays(gate)["norm.bias"]}
    assert_equals_oracle(gate(z), z.numpy() + oracles.layer_norm(z.numpy(), norm, eps))


@every_gate
def test_attention_is_added_to_the_projection(kind):
    torch.manual_seed(0)
    gate, z, attended = randomised(gate_of(kind)), random(B, N, D_FFN), random(B, N, D_FFN)
    added = attended * z if kind == "multiplicative" else attended
    want = gate(z) + added
    torch.testing.assert_close(gate(z, attended=attended), want, rtol=0, atol=1e-12)
    attention = TinyAttention(D_MODEL, D_FFN, 4)
    block = randomised(AMLPBlock(D_MODEL, D_FFN, sgu=gate, attention=attention))
    assert block(random(B, N, D_MODEL)).shape == (B, N, D_MODEL)


# A fresh gate


@every_gate
def test_a_fresh_gate_passes_z_unchanged(kind):
    torch.manual_seed(0)
    gate, z = gate_of(kind, n=64, d_ffn=32), torch.randn(4, 64, 32)
    want = gate.norm(z) if kind == "linear" else z
    assert (gate(z) - want).abs().max() < 1e-3


@every_gate
def test_a_fresh_gate_sets_the_bias_of_its_projection_and_keeps_its_weights(kind):
    torch.manual_seed(0)
    projection = SpatialProjection(SEQ_LEN)
    weight = projection.weight.detach().clone()
    gate = GATES[kind](D_FFN, projection)
    assert gate.projection is projection
    assert torch.equal(projection.weight, weight)
    start = float(kind == "multiplicative")
    assert torch.equal(projection.bias, torch.full((SEQ_LEN,), start))
    # Models built on the meta device are reset in this order, from the inside out.
    for module in reversed(list(gate.modules())):
        module.reset_parameters()
    assert torch.equal(projection.bias, torch.full((SEQ_LEN,), start))


def test_the_linear_gate_starts_as_the_norm_for_a_projection_of_zero():
    class Nothing(nn.Module):
        causal = True

        def forward(self, z, mask):
            return torch.zeros_like(z)

    torch.manual_seed(0)
    gate, z = LinearGate(D_FFN, Nothing()), torch.randn(B, N, D_FFN)
    assert gate.causal is True
    assert torch.equal(gate(z), gate.norm(z))


@properties
@given(n=st.integers(1, 6), causal=st.booleans(), seed=seeds)
def test_the_additive_gate_equals_the_linear_gate_except_for_the_norm_of_the_residual(
    n, causal, seed
):
    torch.manual_seed(seed)
    linear, additive = randomised(gate_of("linear", causal)), gate_of("additive", causal).double()
    additive.load_state_dict(linear.state_dict())
    z = random(B, n, D_FFN)
    want = linear(z) - linear.norm(z) + z
    torch.testing.assert_close(additive(z), want, rtol=0, atol=1e-12)


# Causality, padding


@every_gate
@properties
@given(mask=masks, n=st.integers(2, 6), data=st.data(), seed=seeds)
def test_in_a_causal_gate_the_past_cannot_see_the_future(kind, mask, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    gate, z, mask = randomised(gate_of(kind, True)), random(B, n, D_FFN), random_mask(mask, B, n)
    assert gate.causal is True
    assert_the_past_cannot_see_the_future(lambda z: gate(z, mask), z, with_another_future(z, t), t)


@every_gate
def test_in_a_gate_that_is_not_causal_the_past_sees_the_future(kind):
    torch.manual_seed(0)
    gate, z = randomised(gate_of(kind)), random(B, N, D_FFN)
    assert gate.causal is False
    before, after = gate(z), gate(with_another_future(z, 4))
    assert not torch.isclose(before[:, :4], after[:, :4]).any()


@every_gate
@properties
@given(
    mask=masks,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    causal=st.booleans(),
    seed=seeds,
)
def test_padding_equals_cutting_it_off(kind, mask, lengths, causal, seed):
    torch.manual_seed(seed)
    gate, z = randomised(gate_of(kind, causal)), random(len(lengths), 6, D_FFN)
    mask = random_mask(mask, len(lengths), 6)
    assert_padding_equals_truncation(gate, z, mask, lengths)


# As a torch module


@every_gate
def test_device_and_dtype_reach_every_parameter(kind):
    gate = gate_of(kind, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in gate.parameters()} == {("meta", FLOAT64)}
    gate = gate_of(kind, dtype=torch.bfloat16)
    assert gate(torch.randn(B, N, D_FFN, dtype=torch.bfloat16)).dtype == torch.bfloat16


@every_gate
def test_the_parameters_have_the_documented_names(kind):
    assert {key: list(value.shape) for key, value in gate_of(kind).state_dict().items()} == {
        "norm.weight": [7],
        "norm.bias": [7],
        "projection.weight": [6, 6],
        "projection.bias": [6],
    }


@every_gate
def test_every_parameter_has_a_gradient_and_a_copy_is_independent(kind):
    torch.manual_seed(0)
    gate, z = randomised(gate_of(kind)), random(B, SEQ_LEN, D_FFN)
    s, before = gate(z), z.clone()
    s.square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in gate.parameters())
    duplicate = copy.deepcopy(gate)
    assert torch.equal(duplicate(z), s)
    randomised(duplicate)
    assert torch.equal(gate(z), s)
    assert not torch.equal(duplicate(z), s)
    assert torch.equal(z, before)
