import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import MixerBlock
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    arrays,
    assert_equals_oracle,
    properties,
    random,
    randomised,
    seeds,
)

# All sizes differ, so swapping two of them fails.
B, D_MODEL, SEQ_LEN, D_TOKENS, D_CHANNELS = 2, 4, 6, 3, 7


def block_of(**options):
    return randomised(MixerBlock(D_MODEL, SEQ_LEN, D_TOKENS, D_CHANNELS, **options))


def test_the_block_equals_equation_1_of_mlp_mixer_written_with_loops():
    torch.manual_seed(0)
    block, x = block_of(), random(B, SEQ_LEN, D_MODEL)
    assert_equals_oracle(block(x), oracles.mixer_block(x.numpy(), arrays(block)))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("eps", [1e-12, 0.3])
def test_the_block_equals_equation_1_for_both_gelus_and_any_norm_eps(approximate, eps):
    torch.manual_seed(0)
    block = block_of(activation=nn.GELU(approximate), norm_eps=eps)
    x = random(B, SEQ_LEN, D_MODEL)
    want = oracles.mixer_block(x.numpy(), arrays(block), eps=eps, approximate=approximate)
    assert_equals_oracle(block(x), want)


@properties
@given(t=st.integers(0, SEQ_LEN - 1), seed=seeds)
def test_every_token_reads_every_other(t, seed):
    torch.manual_seed(seed)
    block, x = block_of(), random(B, SEQ_LEN, D_MODEL)
    changed = x.clone()
    changed[:, t] = random(B, D_MODEL)
    assert (block(x) != block(changed)).any(dim=-1).all()


@properties
@given(seed=seeds)
def test_token_mixing_treats_all_channels_alike_without_the_norms(seed):
    torch.manual_seed(seed)
    block, x, order = block_of(), random(B, SEQ_LEN, D_MODEL), torch.randperm(D_MODEL)
    with torch.no_grad():
        # Without scales, shifts and channel mixing, permuting channels permutes the output.
        for norm in (block.token_norm, block.norm):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
        nn.init.zeros_(block.proj_out.weight)
        nn.init.zeros_(block.proj_out.bias)
    torch.testing.assert_close(block(x)[..., order], block(x[..., order]), rtol=0, atol=1e-12)


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, y):
        self.calls.append(y)
        return 0 * y


def test_dropout_is_applied_to_both_branches_and_not_to_the_residual():
    torch.manual_seed(0)
    recorder = Recorder()
    block, x = block_of(dropout=recorder), random(B, SEQ_LEN, D_MODEL)
    assert torch.equal(block(x), x)
    assert [list(y.shape) for y in recorder.calls] == [[B, SEQ_LEN, D_MODEL]] * 2
    assert all(y.any() for y in recorder.calls)


# As a torch module


def test_the_parameters_have_the_documented_names():
    block = MixerBlock(D_MODEL, SEQ_LEN, D_TOKENS, D_CHANNELS)
    assert {key: list(value.shape) for key, value in block.state_dict().items()} == {
        "token_norm.weight": [4],
        "token_norm.bias": [4],
        "token_in.weight": [3, 6],
        "token_in.bias": [3],
        "token_out.weight": [6, 3],
        "token_out.bias": [6],
        "norm.weight": [4],
        "norm.bias": [4],
        "proj_in.weight": [7, 4],
        "proj_in.bias": [7],
        "proj_out.weight": [4, 7],
        "proj_out.bias": [4],
    }


def test_device_and_dtype_reach_every_parameter():
    block = MixerBlock(D_MODEL, SEQ_LEN, D_TOKENS, D_CHANNELS, device="meta", dtype=FLOAT64)
    assert {(p.device.type, p.dtype) for p in block.parameters()} == {("meta", FLOAT64)}
    block = MixerBlock(D_MODEL, SEQ_LEN, D_TOKENS, D_CHANNELS, dtype=torch.bfloat16)
    y = block(torch.randn(B, SEQ_LEN, D_MODEL, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16


def test_every_parameter_has_a_gradient_and_nothing_changes_in_place():
    torch.manual_seed(0)
    block, x = block_of(), random(B, SEQ_LEN, D_MODEL)
    before, x_before = copy.deepcopy(block.state_dict()), x.clone()
    block(x).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-6 for p in block.parameters())
    assert torch.equal(x, x_before)
    assert all(torch.equal(value, before[key]) for key, value in block.state_dict().items())


def test_the_block_has_a_size_and_accepts_keywords():
    torch.manual_seed(0)
    block, x = block_of(), random(B, SEQ_LEN, D_MODEL)
    assert block.size == D_MODEL
    assert torch.equal(block(x=x, mask=None, key_padding_mask=None), block(x))
