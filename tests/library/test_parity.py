r"""Parity with labml_nn 0.5.1 and g_mlp_pytorch 0.1.5 under the same weights.

The oracles in `tests/support/oracles.py` define what is correct; these tests show that the other
packages give the same numbers. They multiply by $W$ with the axes in another order, so the last
digits of the sums differ. timm is compared in `test_vision.py`.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labml_gmlp import Encoder, GMLPBlock, LanguageModel
from tests.support.helpers import FLOAT64, randomised
from tests.support.labml_layers import labml_nn

VERSIONS = {"labml-nn": "0.5.1", "g-mlp-pytorch": "0.1.5"}

# No two sizes are equal. g_mlp_pytorch requires d_ffn to be a multiple of d_model.
B, N, D, D_FFN, N_LAYERS, N_TOKENS = 3, 5, 6, 24, 2, 11

# The largest difference of outputs and gradients that are near one.
TOLERANCE = {torch.float32: 1e-6, FLOAT64: 1e-12}
both_precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)

# The name of each part of our block, and of theirs.
IN_LABML_NN = {
    "norm": "norm",
    "proj_in": "proj1",
    "sgu.norm": "sgu.norm",
    "sgu.projection": "sgu",
    "proj_out": "proj2",
}
IN_G_MLP_PYTORCH = {
    "norm": "fn.norm",
    "proj_in": "fn.fn.fn.proj_in.0",
    "sgu.norm": "fn.fn.fn.sgu.norm",
    "sgu.projection": "fn.fn.fn.sgu",
    "proj_out": "fn.fn.fn.proj_out",
}


def g_mlp_pytorch() -> Any:
    return pytest.importorskip("g_mlp_pytorch", reason="g_mlp_pytorch is not installed")


def copy_weights(ours: nn.Module, theirs: nn.Module, names: dict[str, str]) -> dict[str, str]:
    """Randomises our parameters and copies them. Maps our parameter names to theirs."""
    parameters, found = dict(theirs.named_parameters()), {}
    for name, p in ours.named_parameters():
        part, _, kind = name.rpartition(".")
        found[name] = f"{names[part]}.{kind}"
        # Small enough that values and gradients are near one.
        nn.init.normal_(p, mean=1.0 if "norm.weight" in name else 0.0, std=0.3)
        with torch.no_grad():
            other = parameters.pop(found[name])
            other.copy_(p.view_as(other))
    assert not parameters
    return found


def assert_equal_forwards_and_backwards(
    ours: Callable[[Tensor], Tensor],
    theirs: Callable[[Tensor], Tensor],
    parameters: list[tuple[nn.Parameter, nn.Parameter]],
    x: Tensor,
) -> None:
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for _ in range(2)]
    outputs = [call(each) for call, each in zip((ours, theirs), inputs, strict=True)]
    tolerance = TOLERANCE[outputs[0].dtype]
    direction = torch.randn_like(outputs[0]) / outputs[0].numel() ** 0.5
    for y in outputs:
        (y * direction).sum().backward()
    pairs = [outputs, *((p.grad, q.grad.view_as(p)) for p, q in parameters)]
    if x.is_floating_point():
        pairs.append((inputs[0].grad, inputs[1].grad))
    for mine, other in pairs:
        assert mine.abs().max() > 1e-3
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def matched(
    ours: nn.Module, theirs: nn.Module, names: dict[str, str]
) -> list[tuple[nn.Parameter, nn.Parameter]]:
    found, others = copy_weights(ours, theirs, names), dict(theirs.named_parameters())
    return [(p, others[found[name]]) for name, p in ours.named_parameters()]


def of_layers(names: dict[str, str], ours: str, theirs: str, **rest: str) -> dict[str, str]:
    return {
        f"{ours}{i}.{mine}": f"{theirs}{i}.{other}"
        for i in range(N_LAYERS)
        for mine, other in names.items()
    } | {key.replace("__", "."): value for key, value in rest.items()}


def sequence_first(call: Callable[..., Tensor], mask: Tensor | None) -> Callable[[Tensor], Tensor]:
    theirs = None if mask is None else mask[:, :, None]
    return lambda x: call(x=x.transpose(0, 1), mask=theirs).transpose(0, 1)


def mask_of(kind: str, n: int) -> Tensor | None:
    if kind == "no mask":
        return None
    allowed = torch.ones(n, n, dtype=torch.bool)
    return allowed.tril() if kind == "causal" else torch.rand(n, n) < 0.5


@pytest.mark.parametrize("package", VERSIONS)
def test_these_are_the_versions_compared_with(package):
    try:
        assert importlib.metadata.version(package) == VERSIONS[package]
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


@both_precisions
@pytest.mark.parametrize("n", [N, 3])
@pytest.mark.parametrize("mask", ["no mask", "a mask", "causal"])
def test_our_block_is_labml_nns_block(dtype, n, mask):
    torch.manual_seed(0)
    ours = GMLPBlock(D, D_FFN, N, causal=mask == "causal", dtype=dtype)
    theirs = labml_nn("transformers.gmlp").GMLPBlock(D, D_FFN, N).to(dtype)
    parameters, allowed = matched(ours, theirs, IN_LABML_NN), mask_of(mask, n)
    assert_equal_forwards_and_backwards(
        lambda x: ours(x, None if mask == "causal" else allowed),
        sequence_first(theirs, allowed),
        parameters,
        torch.randn(B, n, D, dtype=dtype),
    )


@both_precisions
@pytest.mark.parametrize("mask", ["no mask", "a mask", "causal"])
def test_our_encoder_is_labml_nns_encoder(dtype, mask):
    torch.manual_seed(0)
    ours = Encoder(lambda: GMLPBlock(D, D_FFN, N, dtype=dtype), N_LAYERS, dtype=dtype)
    block = labml_nn("transformers.gmlp").GMLPBlock(D, D_FFN, N)
    theirs = labml_nn("transformers").Encoder(block, N_LAYERS).to(dtype)
    names = of_layers(IN_LABML_NN, "layers.", "layers.", norm="norm")
    parameters, allowed = matched(ours, theirs, names), mask_of(mask, N)
    assert_equal_forwards_and_backwards(
        lambda x: ours(x, allowed),
        sequence_first(theirs, allowed),
        parameters,
        torch.randn(B, N, D, dtype=dtype),
    )


@both_precisions
def test_our_block_is_g_mlp_pytorchs_block_with_its_norm_and_residual(dtype):
    torch.manual_seed(0)
    whole = g_mlp_pytorch().gMLP(dim=D, depth=1, seq_len=N, ff_mult=4).to(dtype)
    [theirs] = whole.layers
    ours = GMLPBlock(D, D_FFN, N, dtype=dtype)
    parameters = matched(ours, theirs, IN_G_MLP_PYTORCH)
    x = torch.randn(B, N, D, dtype=dtype)
    assert_equal_forwards_and_backwards(ours, theirs, parameters, x)
    # Its `gMLPBlock` has neither norm nor residual.
    block = theirs.fn.fn.fn
    assert isinstance(block, g_mlp_pytorch().gMLPBlock)
    torch.testing.assert_close(x + block(ours.norm(x)), ours(x), rtol=0, atol=10 * TOLERANCE[dtype])


@both_precisions
def test_our_untied_language_model_is_g_mlp_pytorchs(dtype):
    torch.manual_seed(0)
    theirs = g_mlp_pytorch().gMLP(num_tokens=N_TOKENS, dim=D, depth=N_LAYERS, seq_len=N, ff_mult=4)
    theirs = theirs.to(dtype)
    encoder = Encoder(lambda: GMLPBlock(D, D_FFN, N, dtype=dtype), N_LAYERS, dtype=dtype)
    ours = LanguageModel(N_TOKENS, encoder, tied=False, dtype=dtype)
    names = of_layers(
        IN_G_MLP_PYTORCH,
        "encoder.layers.",
        "layers.",
        embedding="to_embed",
        encoder__norm="to_logits.0",
        head="to_logits.1",
    )
    tokens = torch.randint(N_TOKENS, (B, N))
    assert_equal_forwards_and_backwards(ours, theirs, matched(ours, theirs, names), tokens)


def test_the_comparison_detects_a_single_different_weight():
    torch.manual_seed(0)
    ours = randomised(GMLPBlock(D, D_FFN, N))
    theirs = labml_nn("transformers.gmlp").GMLPBlock(D, D_FFN, N).double()
    parameters = matched(ours, theirs, IN_LABML_NN)
    with torch.no_grad():
        theirs.sgu.weight[1, 2] += 1e-9
    with pytest.raises(AssertionError, match="not close"):
        assert_equal_forwards_and_backwards(
            ours, sequence_first(theirs, None), parameters, torch.randn(B, N, D, dtype=FLOAT64)
        )
