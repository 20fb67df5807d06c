"""Models built by the packages that are installed for comparison, with random parameters.

labml_nn 0.5.1, g_mlp_pytorch 0.1.5 and timm 1.0.31.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.helpers import FLOAT64, timm_mixer
from tests.support.labml_layers import labml_nn

# No two sizes are equal, except where a package makes d_ffn a multiple of d_model.
B, N, D, D_FFN, N_LAYERS, V = 3, 7, 6, 24, 2, 11
TOLERANCE = {torch.float32: 1e-6, FLOAT64: 1e-12}
both_precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def labml_block() -> nn.Module:
    return labml_nn("transformers.gmlp").GMLPBlock(D, D_FFN, N)


def labml_encoder() -> nn.Module:
    return labml_nn("transformers").Encoder(labml_block(), N_LAYERS)


def labml_language(d_model: int = D, learned: bool = False) -> nn.Module:
    """The language model of its experiment, whose own file needs torchvision."""
    models = labml_nn("transformers.models")
    block = labml_nn("transformers.gmlp").GMLPBlock(d_model, D_FFN, N)
    kind = "Learned" if learned else ""
    whole = nn.Module()
    embed = getattr(models, f"EmbeddingsWith{kind}PositionalEncoding")
    whole.src_embed = embed(d_model, V, max_len=13)
    whole.encoder = models.Encoder(block, N_LAYERS)
    whole.generator = models.Generator(V, d_model)
    return whole


def g_mlp(**options: Any) -> nn.Module:
    package = pytest.importorskip("g_mlp_pytorch", reason="g_mlp_pytorch is not installed")
    return package.gMLP(**{"num_tokens": V, "dim": D, "depth": N_LAYERS, "seq_len": N, **options})


def g_mlp_vision(**options: Any) -> nn.Module:
    package = pytest.importorskip("g_mlp_pytorch", reason="g_mlp_pytorch is not installed")
    sizes = {"image_size": 12, "patch_size": 4, "num_classes": 5, "dim": D, "depth": N_LAYERS}
    return package.gMLPVision(**{**sizes, **options})


def timm_gmlp(**options: Any) -> nn.Module:
    module = timm_mixer()
    return module.MlpMixer(
        **{
            "num_classes": 5,
            "img_size": 12,
            "patch_size": 4,
            "num_blocks": N_LAYERS,
            "embed_dim": D,
            "mlp_ratio": 4,
            "block_layer": module.SpatialGatingBlock,
            "mlp_layer": module.GatedMlp,
            **options,
        }
    )


def timm_mlp_mixer(**options: Any) -> nn.Module:
    module = timm_mixer()
    return timm_gmlp(
        block_layer=module.MixerBlock, mlp_layer=module.Mlp, mlp_ratio=(0.5, 4.0), **options
    )


def sequence_first(model: Callable[..., Tensor], causal: bool) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        n = x.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).tril()[:, :, None] if causal else None
        return model(x=x.transpose(0, 1), mask=mask).transpose(0, 1)

    return call


def labml_language_call(model: Any) -> Callable[[Tensor], Tensor]:
    def call(tokens: Tensor) -> Tensor:
        n = tokens.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).tril()[:, :, None]
        y = model.encoder(model.src_embed(tokens.T), mask)
        return model.generator(y).transpose(0, 1)

    return call


def unchanged(model: Any) -> Callable[[Tensor], Tensor]:
    return model


def tokens(n: int = N) -> Tensor:
    return torch.randint(V, (B, n))


def vectors(n: int = N) -> Tensor:
    return torch.randn(B, n, D)


def images(height: int = 12, width: int = 12, n_channels: int = 3) -> Tensor:
    return torch.randn(B, n_channels, height, width)


# For each case: the system, the model of the package, how it is called, its input, our options.
CASES: dict[str, tuple[str, Callable[[], nn.Module], Any, Callable[[], Tensor], dict[str, Any]]] = {
    "labml block": (
        "labml-nn block", labml_block, lambda m: sequence_first(m, False), vectors, {},
    ),
    "labml block, causal": (
        "labml-nn block", labml_block, lambda m: sequence_first(m, True), vectors, {"causal": True},
    ),
    "labml encoder": (
        "labml-nn encoder", labml_encoder, lambda m: sequence_first(m, False), vectors, {},
    ),
    "labml encoder, causal and short": (
        "labml-nn encoder",
        labml_encoder,
        lambda m: sequence_first(m, True),
        lambda: vectors(4),
        {"causal": True},
    ),
    "labml language model": (
        "labml-nn language model", labml_language, labml_language_call, tokens, {},
    ),
    "labml language model, short": (
        "labml-nn language model", labml_language, labml_language_call, lambda: tokens(4), {},
    ),
    "labml language model, learned positions": (
        "labml-nn language model",
        lambda: labml_language(learned=True),
        labml_language_call,
        tokens,
        {},
    ),
    "gMLP": ("g-mlp-pytorch gMLP", g_mlp, unchanged, tokens, {}),
    "gMLP, causal": (
        "g-mlp-pytorch gMLP", lambda: g_mlp(causal=True), unchanged, tokens, {"causal": True},
    ),
    "gMLP, causal and short": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(causal=True, heads=2),
        unchanged,
        lambda: tokens(4),
        {"causal": True},
    ),
    "gMLP, heads": ("g-mlp-pytorch gMLP", lambda: g_mlp(heads=3), unchanged, tokens, {}),
    "gMLP, attention": ("g-mlp-pytorch gMLP", lambda: g_mlp(attn_dim=5), unchanged, tokens, {}),
    "gMLP, causal attention": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(attn_dim=5, causal=True),
        unchanged,
        tokens,
        {"causal": True},
    ),
    "gMLP, circulant": (
        "g-mlp-pytorch gMLP", lambda: g_mlp(circulant_matrix=True), unchanged, tokens, {},
    ),
    "gMLP, circulant, heads, causal, short": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(circulant_matrix=True, heads=2, causal=True),
        unchanged,
        lambda: tokens(5),
        {"causal": True},
    ),
    "gMLP, circulant beside attention on both sides": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(circulant_matrix=True, attn_dim=5),
        unchanged,
        tokens,
        {},
    ),
    "gMLP, shift": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(shift_tokens=1),
        unchanged,
        tokens,
        {"shift_tokens": 1},
    ),
    "gMLP, causal shift by two": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(shift_tokens=2, causal=True),
        unchanged,
        tokens,
        {"shift_tokens": 2, "causal": True},
    ),
    "gMLP, function on the gate": (
        "g-mlp-pytorch gMLP",
        lambda: g_mlp(act=nn.Tanh(), attn_dim=5),
        unchanged,
        tokens,
        {"gate_activation": "tanh"},
    ),
    "gMLP, wider": ("g-mlp-pytorch gMLP", lambda: g_mlp(ff_mult=5), unchanged, tokens, {}),
    "gMLP without tokens": (
        "g-mlp-pytorch stack", lambda: g_mlp(num_tokens=None), unchanged, vectors, {},
    ),
    "gMLPVision": ("g-mlp-pytorch gMLPVision", g_mlp_vision, unchanged, images, {}),
    "gMLPVision, heads and attention": (
        "g-mlp-pytorch gMLPVision",
        lambda: g_mlp_vision(heads=2, attn_dim=5),
        unchanged,
        images,
        {},
    ),
    "gMLPVision, no squares": (
        "g-mlp-pytorch gMLPVision",
        lambda: g_mlp_vision(image_size=(8, 15), patch_size=(4, 3), channels=2),
        unchanged,
        lambda: images(8, 15, 2),
        {"image_size": (8, 15), "patch_size": (4, 3), "n_channels": 2},
    ),
    "timm gMLP": ("timm gmlp", timm_gmlp, unchanged, images, {}),
    "timm gMLP, no squares": (
        "timm gmlp",
        lambda: timm_gmlp(img_size=(8, 15), patch_size=(4, 3), in_chans=2),
        unchanged,
        lambda: images(8, 15, 2),
        {"image_size": (8, 15)},
    ),
    "timm Mixer": ("timm mixer", timm_mlp_mixer, unchanged, images, {}),
    "timm Mixer, no squares": (
        "timm mixer",
        lambda: timm_mlp_mixer(img_size=(8, 15), patch_size=(4, 3), in_chans=1),
        unchanged,
        lambda: images(8, 15, 1),
        {"image_size": (8, 15)},
    ),
}  # fmt: skip
all_cases = pytest.mark.parametrize("case", CASES)


def make_random(case: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = CASES[case][1]().to(dtype).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Small activations make the difference between an epsilon of 1e-6 and 1e-5 visible.
            nn.init.normal_(p, mean=1.0 if p.dim() == 1 and "norm" in name else 0.0, std=0.3)
    return model


def assert_close(got: Tensor, want: Tensor, tolerance: float, at_least: float = 1e-3) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    scale = max(float(want.detach().abs().max()), at_least)
    assert (got - want).abs().max() <= tolerance * scale


def assert_same(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value), name
