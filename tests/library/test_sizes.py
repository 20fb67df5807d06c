import dataclasses

import pytest
import torch
from torch import nn

from labml_gmlp import AMLPBlock, MixerBlock, sizes
from labml_gmlp.blocks.stochastic_depth import StochasticDepth
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import ToeplitzProjection
from labml_gmlp.models.sizes import LanguageSize, MixerSize, VisionSize, multiply_adds
from tests.support.helpers import FLOAT64, assert_raises

GMLP = {"Ti": sizes.GMLP_TI, "S": sizes.GMLP_S, "B": sizes.GMLP_B}
LANGUAGE = {
    "gMLP-base": sizes.GMLP_BASE,
    "aMLP-base": sizes.AMLP_BASE,
    "gMLP-large": sizes.GMLP_LARGE,
    "aMLP-large": sizes.AMLP_LARGE,
    "gMLP-xlarge": sizes.GMLP_XLARGE,
}
MIXER = {
    "S/32": sizes.MIXER_S_32,
    "S/16": sizes.MIXER_S_16,
    "B/32": sizes.MIXER_B_32,
    "B/16": sizes.MIXER_B_16,
    "L/32": sizes.MIXER_L_32,
    "L/16": sizes.MIXER_L_16,
    "H/14": sizes.MIXER_H_14,
}
EVERY = GMLP | LANGUAGE | MIXER

every_gmlp = pytest.mark.parametrize("size", GMLP.values(), ids=GMLP)
every_language = pytest.mark.parametrize("size", LANGUAGE.values(), ids=LANGUAGE)
every_mixer = pytest.mark.parametrize("size", MIXER.values(), ids=MIXER)


def counted(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_size_of_the_module_is_in_a_table_here():
    kinds = VisionSize | LanguageSize | MixerSize
    there = [value for value in vars(sizes).values() if isinstance(value, kinds)]
    assert len(there) == len(EVERY)
    assert all(size in EVERY.values() for size in there)


# Parameters


@pytest.mark.parametrize("size", EVERY.values(), ids=EVERY)
def test_every_model_has_the_parameters_that_its_size_states(size):
    model = size.build(device="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert counted(model) == size.n_parameters


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # timm 1.0.31 and g-mlp-pytorch 0.1.5 count the same.
        ("Ti", 5_867_328),
        ("S", 19_422_656),
        ("B", 73_075_392),
        ("S/16", 18_528_264),
        ("B/16", 59_880_472),
        ("L/16", 208_196_168),
    ],
)
def test_the_parameters_are_those_of_public_implementations(name, wanted):
    assert EVERY[name].n_parameters == wanted


@every_language
def test_a_language_model_has_as_many_million_parameters_as_printed(size):
    assert round(size.n_parameters / 1e6) == size.printed_parameters


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("gMLP-base", 130.1),
        ("aMLP-base", 108.8),
        ("gMLP-large", 365.3),
        ("aMLP-large", 315.6),
        ("gMLP-xlarge", 940.6),
    ],
)
def test_the_parameters_of_language_models_to_a_tenth_of_a_million(name, millions):
    assert round(EVERY[name].n_parameters / 1e6, 1) == millions


def test_with_a_full_w_gmlp_base_would_have_142_6_million_parameters():
    layers, n = sizes.GMLP_BASE.n_layers, 512
    full = sizes.GMLP_BASE.n_parameters + layers * (n * n - (2 * n - 1))
    assert round(full / 1e6, 1) == 142.6


@every_gmlp
def test_a_gmlp_for_images_has_at_most_half_a_percent_less_than_printed(size):
    # The paper rounds to a tenth of a million.
    least, most = size.printed_parameters - 0.05, size.printed_parameters + 0.05
    assert 0.995 * least <= size.n_parameters / 1e6 <= most


@every_mixer
def test_a_mixer_has_as_many_million_parameters_as_printed_but_for_its_head(size):
    head = nn.Linear(size.d_model, 1000, device="meta")
    assert abs((size.n_parameters - counted(head)) / 1e6 - size.printed_parameters) < 0.6


# Multiply-adds


def by_hand(d, e, n_layers, image, patch, n_channels, n_classes):
    """The products of the shapes, without any model."""
    n = (image[0] // patch) * (image[1] // patch)
    patches = n * n_channels * patch * patch * d
    block = n * d * e + n * n * e // 2 + n * (e // 2) * d
    return patches + n_layers * block + d * n_classes


@pytest.mark.parametrize(("name", "billions"), [("Ti", 1.329), ("S", 4.392), ("B", 15.720)])
def test_the_multiply_adds_equal_the_products_of_the_shapes(name, billions):
    size = GMLP[name]
    want = by_hand(size.d_model, size.d_ffn, 30, (224, 224), 16, 3, 1000)
    assert multiply_adds(size.build(device="meta")) == want == size.n_multiply_adds
    assert round(want / 1e9, 3) == billions


@every_gmlp
def test_the_flops_as_printed_are_twice_the_multiply_adds(size):
    # Norms and activations are not counted; they make up less than two percent.
    assert 2 * size.n_multiply_adds / 1e9 == pytest.approx(size.printed_flops, rel=0.02)


def test_the_multiply_adds_of_images_of_another_size_and_shape_equal_the_products_of_the_shapes():
    size = dataclasses.replace(sizes.GMLP_TI, n_layers=2)
    options = {"image_size": (24, 40), "patch_size": 8, "n_channels": 2, "n_classes": 10}
    want = by_hand(128, 768, 2, (24, 40), 8, 2, 10)
    assert multiply_adds(size.build(device="meta", **options)) == want


def test_the_multiply_adds_of_a_mixer_equal_the_products_of_the_shapes():
    size = sizes.MIXER_S_16
    block = 2 * 196 * 512 * 256 + 2 * 196 * 512 * 2048
    want = 196 * 768 * 512 + 8 * block + 512 * 1000
    assert multiply_adds(size.build(device="meta")) == want


def test_counting_changes_neither_the_model_nor_torchs_random_state():
    torch.manual_seed(0)
    size = dataclasses.replace(sizes.GMLP_S, n_layers=2)
    model = size.build(image_size=32, n_classes=3, dtype=FLOAT64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert multiply_adds(model) == by_hand(256, 1536, 2, (32, 32), 16, 3, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


# Layers


@every_gmlp
def test_the_blocks_of_an_image_model_survive_as_the_paper_says(size):
    layers = size.build(device="meta").encoder.layers
    dropouts = [layer.dropout for layer in layers]
    if size.survival == 1:
        assert {type(dropout) for dropout in dropouts} == {nn.Identity}
        return
    # The first always survives and needs no layer for it; then in equal steps down to the last.
    assert isinstance(dropouts[0], nn.Identity)
    assert all(isinstance(dropout, StochasticDepth) for dropout in dropouts[1:])
    for i, dropout in enumerate(dropouts[1:], 1):
        assert dropout.survival == pytest.approx(1 - (1 - size.survival) * i / 29)


@every_language
@pytest.mark.parametrize("causal", [False, True])
def test_a_language_model_is_made_of_toeplitz_blocks_and_tiny_attention(size, causal):
    model = size.build(device="meta", causal=causal)
    assert model.positions is None
    assert model.head is None
    assert len(model.encoder.layers) == size.n_layers
    for layer in model.encoder.layers:
        assert isinstance(layer.sgu.projection, ToeplitzProjection)
        assert layer.sgu.causal is causal
        assert isinstance(layer, AMLPBlock) == (size.d_attn is not None)
        if size.d_attn is not None:
            assert isinstance(layer.attention, TinyAttention)
            assert layer.attention.causal is causal


def test_a_causal_language_model_cannot_see_the_future():
    torch.manual_seed(0)
    for size in (sizes.GMLP_BASE, sizes.AMLP_BASE):
        small = dataclasses.replace(size, n_layers=2, d_model=8, d_ffn=12)
        model = small.build(n_tokens=11, seq_len=6, causal=True, dtype=FLOAT64)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5)
        tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
        changed = torch.tensor([[1, 2, 3, 9, 8, 7]])
        before, after = model(tokens), model(changed)
        assert before.shape == (1, 6, 11)
        assert torch.equal(before[:, :3], after[:, :3])
        assert not torch.equal(before[:, 3:], after[:, 3:])


@every_mixer
def test_a_mixer_is_made_of_mixer_blocks(size):
    model = size.build(device="meta")
    assert len(model.encoder.layers) == size.n_layers
    assert all(type(layer) is MixerBlock for layer in model.encoder.layers)
    assert model.n_patches == (224 // size.patch_size) ** 2


def test_the_smallest_models_accept_digits():
    digits = torch.randn(2, 1, 28, 28)
    model = sizes.GMLP_TI.build(n_classes=10, image_size=28, patch_size=7, n_channels=1)
    assert model(digits).shape == (2, 10)
    small = dataclasses.replace(sizes.MIXER_S_16, n_layers=1, patch_size=4)
    assert small.build(n_classes=10, image_size=28, n_channels=1)(digits).shape == (2, 10)


@pytest.mark.parametrize("size", [GMLP["S"], LANGUAGE["aMLP-base"], MIXER["S/16"]])
def test_dtype_reaches_every_parameter(size):
    model = size.build(device="meta", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


# Errors


def test_a_size_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sizes.GMLP_S.d_model = 3


def test_an_image_that_patches_do_not_cover_is_refused_before_anything_is_built():
    parts = ("patch_size", "image_size=(225, 225)", (16, 16))
    for size in (sizes.GMLP_B, sizes.MIXER_L_16):
        assert_raises(lambda size=size: size.build(image_size=225), ValueError, *parts)
