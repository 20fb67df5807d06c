"""A model of timm as the hub has it, with the pixels that belong to it."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats import files
from labml_gmlp.weights.preprocessing import Preprocessing, preprocessing_of
from labml_gmlp.weights.pretrained import from_pretrained, preprocessing_from
from tests.support.helpers import assert_raises, properties, timm_mixer

# As timm writes it.
CONFIG = {
    "architecture": "gmlp_s16_224",
    "num_classes": 7,
    "num_features": 12,
    "pretrained_cfg": {
        "tag": "ra3_in1k",
        "custom_load": False,
        "input_size": [3, 48, 48],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "num_classes": 7,
        "first_conv": "stem.proj",
        "classifier": "head",
    },
}


def there():
    timm = timm_mixer()
    model = timm.MlpMixer(
        num_classes=7,
        img_size=48,
        patch_size=16,
        num_blocks=2,
        embed_dim=12,
        mlp_ratio=6,
        block_layer=timm.SpatialGatingBlock,
        mlp_layer=timm.GatedMlp,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def hub(tmp_path):
    """The cache of the hub with one model in it, and that model."""
    torch.manual_seed(0)
    model, root = there(), tmp_path / "models--timm--gmlp"
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    files.write(snapshot / "model.safetensors", model.state_dict())
    return tmp_path, model


def test_a_model_of_timm_comes_from_the_cache_of_the_hub_with_its_preprocessing(hub):
    pytest.importorskip("huggingface_hub", reason="the hub's own package")
    cache, model = hub
    here = from_pretrained("timm/gmlp", cache_dir=cache, local_files_only=True)
    prepare = preprocessing_from("timm/gmlp", cache_dir=cache, local_files_only=True)
    x = prepare(torch.randint(0, 256, (2, 3, 60, 90), dtype=torch.uint8))
    assert x.shape == (2, 3, 48, 48)
    assert not here.training
    with torch.no_grad():
        want = model(x)
        torch.testing.assert_close(here(x), want, rtol=0, atol=1e-6 * want.abs().max().item())


def test_a_folder_of_timm_is_read_too(hub):
    cache, model = hub
    folder = next((cache / "models--timm--gmlp" / "snapshots").iterdir())
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(from_pretrained(folder)(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (300, 200), (48, 48), (31, 47)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_pixels_are_those_of_pillow_but_for_its_rounding(size, mode):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    generator = np.random.default_rng(0)
    # Smooth and rough parts, no noise alone.
    pixels = generator.integers(0, 256, (size[0] // 4 + 1, size[1] // 4 + 1, 3), dtype=np.uint8)
    picture = image.fromarray(pixels).resize(size[::-1], image.Resampling.BILINEAR)
    # timm: the shorter side becomes 48 / 0.875 = 54, then the middle is cut out.
    shorter = min(size)
    scaled = tuple(int(54 * side / shorter) for side in size)
    kind = getattr(image.Resampling, mode.upper())
    resized = np.asarray(picture.resize(scaled[::-1], kind), dtype=np.float64) / 255
    top, left = (round((side - 48) / 2) for side in scaled)
    want = (resized[top : top + 48, left : left + 48] - 0.5) / 0.25
    prepare = Preprocessing((48, 48), 0.875, mode, (0.5,) * 3, (0.25,) * 3)
    given = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    got = prepare(given)[0].permute(1, 2, 0).double().numpy()
    # Pillow rounds to whole numbers twice, once along each side: a step and a half of 1 / 255.
    assert np.abs(got - want).max() <= 1.6 / 255 / 0.25


side = st.integers(1, 500)


@properties
@given(sides=st.tuples(side, side), cut=st.tuples(side, side), crop=st.sampled_from([0.5, 0.875]))
@example(sides=(103, 206), cut=(224, 224), crop=0.875)
@example(sides=(206, 103), cut=(224, 224), crop=0.875)
def test_the_whole_image_has_the_sides_of_exact_arithmetic(sides, cut, crop):
    sizes = []

    def interpolate(images: torch.Tensor, size: list[int], **_: object) -> torch.Tensor:
        sizes.append(size)
        return torch.zeros(1, 1, *size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "interpolate", interpolate)
        got = Preprocessing(cut, crop, "bilinear", (0.0,), (1.0,))(torch.zeros(1, 1, *sides))
    assert got.shape == (1, 1, *cut)
    wanted = [math.floor(Fraction(side) / Fraction(crop)) for side in cut]
    factor = max(Fraction(w, side) for w, side in zip(wanted, sides, strict=True))
    assert sizes == [[math.floor(factor * side) for side in sides]]
    if sides == (103, 206):
        assert sizes == [[256, 512]]


def test_bicubic_weights_overshoot_no_pixel():
    edge = torch.zeros(1, 1, 60, 60)
    edge[..., 30:] = 1
    got = Preprocessing((96, 96), 1.0, "bicubic", (0.0,), (1.0,))(edge)
    assert got.min() == 0
    assert got.max() == 1
    assert ((got > 0) & (got < 1)).any()


def test_a_rectangle_is_filled():
    prepare = Preprocessing((32, 64), 0.5, "bilinear", (0.0,), (1.0,))
    ones = prepare(torch.ones(1, 1, 20, 20))
    assert ones.shape == (1, 1, 32, 64)
    torch.testing.assert_close(ones, torch.ones_like(ones))


def changed(**values):
    return {"pretrained_cfg": {**CONFIG["pretrained_cfg"], **values}}


REFUSED = [
    ({}, "config must have pretrained_cfg, which says how images are prepared"),
    (None, "config must have pretrained_cfg, which says how images are prepared"),
    (
        changed(input_size=[3, 48]),
        "input_size must be [channels, height, width], at most 16384 each, got [3, 48]",
    ),
    (
        changed(input_size=[3, 10**9, 1]),
        "input_size must be [channels, height, width], at most 16384 each, got [3, 1000000000, 1]",
    ),
    (changed(crop_pct=0), "crop_pct must lie in [0.01, 1], got 0"),
    (changed(crop_pct="all"), "crop_pct must lie in [0.01, 1], got 'all'"),
    (
        changed(interpolation="random"),
        "interpolation must be one of ['bicubic', 'bilinear'], got 'random'",
    ),
    (changed(mean=[0.5]), "mean must be 3 numbers, got [0.5]"),
    (changed(std=[1, 1, "1"]), "std must be 3 numbers, got [1, 1, '1']"),
    (changed(std=[1, 0, 1]), "std must be above 0, got [1, 0, 1]"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_a_config_that_makes_no_sense_is_refused(config, message):
    assert_raises(lambda: preprocessing_of(config), WeightsError, message)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 60, 60), "images must be [B, 3, height, width], got [3, 60, 60]"),
        (torch.zeros(1, 1, 60, 60), "images must be [B, 3, height, width], got [1, 1, 60, 60]"),
        (
            torch.zeros(1, 3, 60, 60, dtype=torch.int64),
            "images must be uint8 or floating, got torch.int64",
        ),
    ],
    ids=str,
)
def test_images_of_another_kind_are_refused(images, message):
    assert_raises(lambda: preprocessing_of(CONFIG)(images), WeightsError, message)
