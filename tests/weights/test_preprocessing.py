"""Preprocessing of images, and models of timm as the hub stores them."""

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
from labml_gmlp.weights.preprocessing import Preprocessing
from labml_gmlp.weights.pretrained import from_pretrained, preprocessing_from
from tests.support.helpers import assert_raises, properties, timm_mixer

# The content of timm's `config.json`.
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


def timm_model():
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
    """A cache of the hub with one model, and that model."""
    torch.manual_seed(0)
    model, root = timm_model(), tmp_path / "models--timm--gmlp"
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    files.write(snapshot / "model.safetensors", model.state_dict())
    return tmp_path, model


def test_a_model_of_timm_is_loaded_from_the_cache_with_its_preprocessing(hub):
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


def test_a_model_of_timm_is_loaded_from_a_folder(hub):
    cache, model = hub
    folder = next((cache / "models--timm--gmlp" / "snapshots").iterdir())
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(from_pretrained(folder)(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (300, 200), (48, 48), (31, 47)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_pixels_equal_those_of_pillow_up_to_its_rounding(size, mode):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    generator = np.random.default_rng(0)
    # Smooth and rough regions, not pure noise.
    pixels = generator.integers(0, 256, (size[0] // 4 + 1, size[1] // 4 + 1, 3), dtype=np.uint8)
    picture = image.fromarray(pixels).resize(size[::-1], image.Resampling.BILINEAR)
    # timm: the shorter side becomes 48 / 0.875 = 54, then the centre is cropped.
    shorter = min(size)
    scaled = tuple(int(54 * side / shorter) for side in size)
    kind = getattr(image.Resampling, mode.upper())
    resized = np.asarray(picture.resize(scaled[::-1], kind), dtype=np.float64) / 255
    top, left = (round((side - 48) / 2) for side in scaled)
    want = (resized[top : top + 48, left : left + 48] - 0.5) / 0.25
    prepare = Preprocessing((48, 48), 0.875, mode, (0.5,) * 3, (0.25,) * 3)
    given = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    got = prepare(given)[0].permute(1, 2, 0).double().numpy()
    # Pillow rounds twice, once along each axis: at most 1.5 steps of 1 / 255.
    assert np.abs(got - want).max() <= 1.6 / 255 / 0.25


side = st.integers(1, 500)


@properties
@given(sides=st.tuples(side, side), cut=st.tuples(side, side), crop=st.sampled_from([0.5, 0.875]))
@example(sides=(103, 206), cut=(224, 224), crop=0.875)
@example(sides=(206, 103), cut=(224, 224), crop=0.875)
def test_the_resized_image_has_the_size_of_exact_arithmetic(sides, cut, crop):
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


def test_bicubic_pixels_stay_in_range():
    edge = torch.zeros(1, 1, 60, 60)
    edge[..., 30:] = 1
    got = Preprocessing((96, 96), 1.0, "bicubic", (0.0,), (1.0,))(edge)
    assert got.min() == 0
    assert got.max() == 1
    assert ((got > 0) & (got < 1)).any()


def test_a_rectangular_crop_is_covered_by_the_image():
    prepare = Preprocessing((32, 64), 0.5, "bilinear", (0.0,), (1.0,))
    ones = prepare(torch.ones(1, 1, 20, 20))
    assert ones.shape == (1, 1, 32, 64)
    torch.testing.assert_close(ones, torch.ones_like(ones))


def changed(**values):
    return {"pretrained_cfg": {**CONFIG["pretrained_cfg"], **values}}


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({}, ["pretrained_cfg"]),
        (None, ["pretrained_cfg"]),
        (changed(input_size=[3, 48]), ["input_size", 16384, "[3, 48]"]),
        (changed(input_size=[3, 10**9, 1]), ["input_size", 16384, "[3, 1000000000, 1]"]),
        (changed(crop_pct=0), ["crop_pct", "[0.01, 1]", 0]),
        (changed(crop_pct="all"), ["crop_pct", "[0.01, 1]", "'all'"]),
        (changed(interpolation="random"), ["interpolation", "'bicubic'", "'bilinear'", "'random'"]),
        (changed(mean=[0.5]), ["mean", 3, "[0.5]"]),
        (changed(std=[1, 1, "1"]), ["std", 3, "[1, 1, '1']"]),
        (changed(std=[1, 0, 1]), ["std", 0, "[1, 0, 1]"]),
    ],
)
def test_an_invalid_config_is_refused(config, parts):
    assert_raises(lambda: Preprocessing.from_config(config), WeightsError, *parts)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 60, 60),
        torch.zeros(1, 1, 60, 60),
        torch.zeros(1, 3, 60, 60, dtype=torch.int64),
    ],
    ids=["three axes", "one channel", "int64"],
)
def test_images_of_another_shape_or_type_are_refused(images):
    prepare = Preprocessing.from_config(CONFIG)
    got = images.dtype if images.shape == (1, 3, 60, 60) else list(images.shape)
    assert_raises(lambda: prepare(images), WeightsError, "images", got)


def test_a_preprocessing_is_written_as_timm_does():
    kept = ("input_size", "crop_pct", "interpolation", "mean", "std")
    written = Preprocessing.from_config(CONFIG).to_config()
    assert written == {key: CONFIG["pretrained_cfg"][key] for key in kept}
