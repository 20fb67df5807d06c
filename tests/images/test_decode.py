"""Decoding image files and cropping them."""

import math
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from experiments.images.decode import (
    CropRange,
    centre_crop,
    crop_box,
    decode_image,
    open_image,
    random_resized_crop,
    to_tensor,
)
from tests.support.helpers import properties, seeds
from tests.support.image_trees import decompression_bomb, smooth_image


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def open_rgb(path: Path, min_size: tuple[int, int] | None = None) -> Image.Image:
    with open_image(path) as image:
        return decode_image(image, min_size)


# ## Decoding


def test_grey_palette_cmyk_and_16_bit_images_become_rgb(tmp_path):
    original = smooth_image()
    grey = original.convert("L")
    want = np.array(original).astype(int)
    palette = original.quantize()
    for image, name in [
        (palette, "a.png"),
        (palette, "a.gif"),
        (original.convert("CMYK"), "a.tif"),
        (original.convert("RGBA"), "a.webp"),
    ]:
        got = np.array(open_rgb(saved(tmp_path, image, name)))
        assert got.shape == (32, 40, 3)
        # A palette has 256 colours, and WebP loses a little.
        assert abs(got - want).mean() < 6
    for name, image in [
        ("grey.png", grey),
        ("grey.JPEG", grey),
        ("deep.png", Image.fromarray(np.array(grey).astype(np.uint16) * 257)),
    ]:
        got = np.array(open_rgb(saved(tmp_path, image, name, quality=100))).astype(int)
        assert abs(got - np.array(grey)[..., None]).max() <= 1


def test_a_cmyk_jpeg_is_decoded_and_cropped(tmp_path):
    path = saved(tmp_path, smooth_image(200, 160).convert("CMYK"), "a.JPEG", quality=95)
    crop = random_resized_crop(path, 16, CropRange(), np.random.default_rng(0))
    assert crop.shape == (3, 16, 16)


def test_an_alpha_channel_is_dropped_without_a_warning(tmp_path):
    palette = smooth_image().convert("P")
    path = saved(tmp_path, palette, "a.png", transparency=bytes(range(256)))
    assert open_rgb(path).mode == "RGB"
    grey = saved(tmp_path, smooth_image().convert("L"), "b.png", transparency=0)
    assert open_rgb(grey).mode == "RGB"


def test_the_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    path = saved(tmp_path, smooth_image(), "a.JPEG", exif=exif)
    assert open_rgb(path).size == (40, 32)


def test_a_decompression_bomb_is_rejected_before_it_is_decoded(tmp_path):
    with pytest.raises(Image.DecompressionBombError):
        open_rgb(decompression_bomb(tmp_path / "a.png"))
    # Between one and two times its limit, Pillow only warns.
    with pytest.raises(Image.DecompressionBombWarning):
        open_rgb(decompression_bomb(tmp_path / "b.png", 10_000))


# ## Crops


@properties
@given(seed=seeds, width=st.integers(1, 60), height=st.integers(1, 60))
def test_a_crop_is_inside_its_image(seed, width, height):
    left, top, right, bottom = crop_box((width, height), CropRange(), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_area_and_aspect_ratio_of_crops_are_uniform_in_their_ranges():
    generator = np.random.default_rng(0)
    crop = CropRange(scale=(0.1, 0.3))
    found = [crop_box((1000, 1000), crop, generator) for _ in range(4_000)]
    sides = np.array([(right - left, bottom - top) for left, top, right, bottom in found])
    area, ratio = sides.prod(axis=1) / 1e6, np.log(sides[:, 0] / sides[:, 1])
    assert abs(area.mean() - 0.2) < 0.005
    assert 0.099 < area.min() < 0.103
    assert 0.297 < area.max() < 0.301
    assert abs(ratio.mean()) < 0.01
    # The variance of a uniform distribution is its width squared over 12.
    assert ratio.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), rel=0.03)
    for axis in range(2):
        positions = np.array([box[axis] for box in found]) / (1000 - sides[:, axis])
        assert abs(positions.mean() - 0.5) < 0.02


def test_the_centre_is_taken_if_no_crop_fits():
    generator = np.random.default_rng(0)
    narrow = CropRange(scale=(1.0, 1.0))
    assert crop_box((100, 10), narrow, generator) == (43, 0, 56, 10)
    assert crop_box((10, 100), narrow, generator) == (0, 43, 10, 56)


@pytest.mark.parametrize("width", [40, 300, 1200])
def test_a_scaled_down_decode_gives_nearly_the_same_crop(tmp_path, width):
    path = saved(tmp_path, smooth_image(width, width * 3 // 4, seed=5), "a.JPEG", quality=95)
    for seed in range(5):
        got = random_resized_crop(path, 24, CropRange(), np.random.default_rng(seed))
        image = Image.open(path).convert("RGB")
        box = crop_box(image.size, CropRange(), np.random.default_rng(seed))
        want = to_tensor(image.crop(box).resize((24, 24), Image.Resampling.BICUBIC))
        difference = (got.int() - want.int()).abs().float()
        # A shift by a tenth of a pixel fails here. At the edges, our resize reads beyond the crop,
        # and a resize of the cropped image cannot.
        assert difference.mean() < 0.7
        assert difference.max() <= 6


def test_a_jpeg_is_decoded_at_a_reduced_size_if_that_is_large_enough(tmp_path):
    path = saved(tmp_path, smooth_image(800, 600), "a.JPEG")
    assert open_rgb(path, (100, 75)).size == (100, 75)
    assert open_rgb(path, (101, 75)).size == (200, 150)
    assert open_rgb(path, (801, 601)).size == (800, 600)


@pytest.mark.parametrize("size", [(40, 32), (31, 67), (100, 20), (24, 24)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_centre_crop_equals_that_of_the_whole_image_resized(tmp_path, size, interpolation):
    path = saved(tmp_path, smooth_image(*size), "a.png")
    # The usual implementation: resize the whole image, then crop.
    image, shorter = Image.open(path), math.floor(24 / 0.875)
    whole = tuple(int(shorter * side / min(size)) for side in size)
    resized = image.resize(whole, getattr(Image.Resampling, interpolation.upper()))
    left, top = round((whole[0] - 24) / 2), round((whole[1] - 24) / 2)
    want = to_tensor(resized.crop((left, top, left + 24, top + 24)))
    got = centre_crop(path, 24, 0.875, interpolation)
    # Pillow rounds its filter weights, and the values between the two passes.
    assert (got.int() - want.int()).abs().max() <= 2


@properties
@given(
    sides=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    size=st.integers(1, 384),
    crop=st.sampled_from([0.5, 0.75, 0.875, 1.0]),
)
@example(sides=(103, 206), size=224, crop=0.875)
@example(sides=(206, 103), size=224, crop=0.875)
def test_a_centre_crop_scales_by_exact_arithmetic(sides, size, crop):
    boxes = []

    def resize(
        image: Image.Image, size: object, interpolation: object, box: tuple[float, ...]
    ) -> object:
        boxes.append(box)
        return image

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = saved(Path(folder), Image.new("RGB", sides), "a.png")
        patch.setattr(Image.Image, "resize", resize)
        centre_crop(path, size, crop, "bicubic")
    ((left, top, right, bottom),) = boxes
    # The box is in pixels of the file, so its size gives the scale.
    got = size * sides[0] / (right - left), size * sides[1] / (bottom - top)
    shorter = math.floor(Fraction(size) / Fraction(crop))
    want = tuple(math.floor(shorter * Fraction(side, min(sides))) for side in sides)
    assert got == pytest.approx(want, rel=1e-6)
    if (sides, size) == ((103, 206), 224):
        assert want == (256, 512)


def test_an_image_ten_thousand_times_wider_than_high_needs_little_memory(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (30_000, 3)), "a.png")
    assert centre_crop(path, 224, 0.875, "bicubic").shape == (3, 224, 224)
