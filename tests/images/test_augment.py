"""Augmentation of a batch, compared with Pillow's operations on single images."""

import math
import typing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from experiments.images import policies
from experiments.images.augment import (
    Augmentation,
    Normalisation,
    Policy,
    augment,
    color_jitter,
    horizontal_flip,
    random_erasing,
)
from experiments.images.policies import (
    AUTO_OPERATIONS,
    AUTO_POLICY,
    RAND_OPERATIONS,
    auto_augment,
    rand_augment,
)
from tests.support.helpers import properties, seeds
from tests.support.image_trees import smooth_image

GREY = (128, 128, 128)
NOISE = Image.fromarray(np.random.default_rng(0).integers(20, 200, (32, 40, 3), dtype=np.uint8))
IMAGES = {"smooth": smooth_image(seed=3), "noise": NOISE}


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def apply(name: str, image: Image.Image, level: float, sign: int = 1) -> torch.Tensor:
    return getattr(policies, name)(
        tensor(image), torch.tensor([level]), torch.tensor([float(sign)])
    )


def random_images(n: int, size: int = 16) -> torch.Tensor:
    return torch.randint(256, (n, 3, size, size), dtype=torch.uint8)


# ## Operations


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize(
    ("name", "level", "sign", "pillow"),
    [
        ("auto_contrast", 0.3, 1, ImageOps.autocontrast),
        ("equalize", 0.3, 1, ImageOps.equalize),
        ("invert", 0.3, 1, ImageOps.invert),
        ("posterize_increasing", 0.0, 1, lambda image: ImageOps.posterize(image, 4)),
        ("posterize_increasing", 0.5, 1, lambda image: ImageOps.posterize(image, 2)),
        ("posterize_increasing", 0.9, 1, lambda image: ImageOps.posterize(image, 1)),
        ("posterize_original", 0.0, 1, lambda image: ImageOps.posterize(image, 4)),
        ("posterize_original", 0.8, 1, lambda image: ImageOps.posterize(image, 7)),
        ("posterize_original", 1.0, 1, lambda image: image),
        ("solarize_increasing", 0.3, 1, lambda image: ImageOps.solarize(image, 179)),
        ("solarize_increasing", 0.0, 1, lambda image: image),
        ("solarize_increasing", 1.0, 1, ImageOps.invert),
        ("solarize_original", 0.5, 1, lambda image: ImageOps.solarize(image, 128)),
        ("color", 0.5, 1, lambda image: ImageEnhance.Color(image).enhance(1.45)),
        ("color", 0.5, -1, lambda image: ImageEnhance.Color(image).enhance(0.55)),
        ("contrast", 0.5, 1, lambda image: ImageEnhance.Contrast(image).enhance(1.45)),
        ("brightness", 0.5, -1, lambda image: ImageEnhance.Brightness(image).enhance(0.55)),
        ("sharpness", 0.5, 1, lambda image: ImageEnhance.Sharpness(image).enhance(1.45)),
        ("sharpness", 1.0, -1, lambda image: ImageEnhance.Sharpness(image).enhance(0.1)),
    ],
)
def test_a_pixel_operation_equals_that_of_pillow_up_to_rounding(kind, name, level, sign, pillow):
    image = IMAGES[kind]
    difference = 255 * (apply(name, image, level, sign) - tensor(pillow(image))).abs()
    # Pillow truncates the result, at most 1, and rounds the grey or the blurred image, at most 0.5
    # times a factor of at most 0.9.
    assert difference.max() < 1.45


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("translate_x", (1, 0, -0.225 * 40, 0, 1, 0)),
        ("translate_y", (1, 0, 0, 0, 1, -0.225 * 32)),
        ("shear_x", (1, -0.15, 0, 0, 1, 0)),
        ("shear_y", (1, 0, 0, -0.15, 1, 0)),
    ],
)
def test_a_translation_or_shear_equals_that_of_pillow_except_at_edges(name, matrix):
    image, inverse = IMAGES["smooth"], tuple(v if v in (0, 1) else -v for v in matrix)
    for sign, affine in ((1, matrix), (-1, inverse)):
        transformed = image.transform(
            image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=GREY
        )
        difference = 255 * (apply(name, image, 0.5, sign) - tensor(transformed)).abs()
        assert difference.mean() < 1.5


@pytest.mark.parametrize("sign", [1, -1])
def test_a_rotation_equals_that_of_pillow_except_at_edges(sign):
    image = IMAGES["smooth"]
    rotated = image.rotate(sign * 15, Image.Resampling.BILINEAR, fillcolor=GREY)
    difference = 255 * (apply("rotate", image, 0.5, sign) - tensor(rotated)).abs()
    assert difference.mean() < 1.5


def test_solarize_add_brightens_dark_values_by_the_level():
    image = torch.tensor([10.0, 127.0, 128.0, 250.0]).expand(1, 3, 1, 4) / 255
    got = policies.solarize_add(image, torch.tensor([0.5]), torch.ones(1))
    want = torch.tensor([65.0, 182.0, 128.0, 250.0]).expand(1, 3, 1, 4) / 255
    torch.testing.assert_close(got, want)


def test_posterize_keeps_bits_of_values_that_earlier_operations_rounded():
    whole = torch.arange(256)
    x = (whole / 255).expand(1, 3, 1, 256)
    # Inverted twice, some values end a little lower.
    got = policies.posterize_original(1 - (1 - x), torch.tensor([0.9]), torch.ones(1))
    torch.testing.assert_close(255 * got[0, 0, 0], (whole // 2 * 2).float(), rtol=0, atol=1e-3)


def test_auto_contrast_leaves_a_constant_channel_unchanged():
    x = torch.full((1, 3, 4, 4), 0.25)
    assert torch.equal(policies.auto_contrast(x, torch.zeros(1), torch.ones(1)), x)


@properties
@given(seed=seeds, name=st.sampled_from([f.__name__ for f in RAND_OPERATIONS]), n=st.integers(1, 4))
def test_an_operation_on_a_batch_equals_that_on_each_image(seed, name, n):
    torch.manual_seed(seed)
    x, level = torch.rand(n, 3, 12, 10), torch.rand(n)
    sign = 2.0 * torch.randint(2, (n,)) - 1
    operation = getattr(policies, name)
    got = operation(x, level, sign)
    alone = [operation(x[k : k + 1], level[k : k + 1], sign[k : k + 1]) for k in range(n)]
    # Sums over a batch may round in another order.
    torch.testing.assert_close(got, torch.cat(alone), rtol=0, atol=1e-5)
    assert -1e-4 <= got.min() <= got.max() <= 1 + 1e-4


# ## Policies


def test_auto_augment_has_25_pairs_of_known_operations_and_rand_augment_15_operations():
    assert len(AUTO_POLICY) == 25
    assert {name for pair in AUTO_POLICY for name, _, _ in pair} == set(AUTO_OPERATIONS)
    assert len(RAND_OPERATIONS) == len(set(RAND_OPERATIONS)) == 15


def test_factors_of_auto_augment_go_from_0_1_to_1_9():
    image = IMAGES["smooth"]
    for tenths, factor in ((0, 0.1), (5, 1.0), (8, 1.54)):
        x = tensor(image)
        got = AUTO_OPERATIONS["contrast"](x, torch.tensor([tenths / 10]), torch.ones(1))
        want = tensor(ImageEnhance.Contrast(image).enhance(factor))
        assert 255 * (got - want).abs().max() < 1.3


@pytest.mark.parametrize("policy", ["rand", "auto"])
def test_each_image_draws_its_own_operations(policy):
    torch.manual_seed(0)
    x = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1)
    got = rand_augment(x, 2, 9.0) if policy == "rand" else auto_augment(x)
    distinct = {image.numpy().tobytes() for image in got}
    assert len(distinct) > 12
    # RandAugment leaves a quarter unchanged, AutoAugment fewer.
    unchanged = sum(torch.equal(image, x[0]) for image in got)
    assert 1 <= unchanged < 32


def test_levels_of_rand_augment_are_normal_around_the_magnitude(monkeypatch):
    seen = []

    def spy(x, level, sign):
        seen.append(level)
        return x

    monkeypatch.setattr(policies, "RAND_OPERATIONS", (spy, spy))
    torch.manual_seed(0)
    rand_augment(torch.rand(4_000, 3, 1, 1), 1, 5.0)
    level = torch.cat(seen)
    assert abs(len(level) - 2_000) < 120
    assert abs(level.mean() - 0.5) < 0.01
    assert abs(level.std() - 0.05) < 0.005


# ## Augmentation


@pytest.mark.parametrize("policy", typing.get_args(Policy))
def test_the_same_seed_augments_images_in_the_same_way(policy):
    images = random_images(8)
    augmentation = Augmentation(policy=policy, jitter=0.4, erasing=0.5)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augment(images, augmentation, Normalisation()))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[0].shape == (8, 3, 16, 16)
    assert found[0].dtype == torch.float32
    assert found[0].isfinite().all()


def test_without_augmentation_images_are_only_normalised():
    images = random_images(4)
    state = torch.get_rng_state()
    got = augment(images, Augmentation(flip=0, policy="none"), Normalisation())
    torch.testing.assert_close(got, images.float() / 127.5 - 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_channel_has_its_own_mean_and_standard_deviation():
    normalise = Normalisation((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    got = normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    torch.testing.assert_close(got, torch.tensor([0.9, 0.4, 0.175]))


def test_images_are_flipped_with_the_probability():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 2, 5).expand(2_000, -1, -1, -1)
    got = horizontal_flip(x, 0.3)
    flipped, kept = ((got == other).flatten(1).all(dim=1) for other in (x.flip(3), x))
    assert (flipped ^ kept).all()
    assert abs(flipped.float().mean() - 0.3) < 0.03


def test_color_jitter_draws_a_factor_around_one_for_each_image():
    torch.manual_seed(0)
    x = torch.full((2_000, 3, 2, 2), 0.3)
    # A constant grey image has no contrast and no saturation, so only its brightness changes.
    factor = color_jitter(x, 0.4)[:, 0, 0, 0] / 0.3
    assert 0.6 <= factor.min() < 0.61
    assert 1.39 < factor.max() <= 1.4001
    assert abs(factor.mean() - 1) < 0.01


@properties
@given(seed=seeds, height=st.integers(1, 30), width=st.integers(1, 30))
def test_erasing_replaces_one_box_and_leaves_the_rest(seed, height, width):
    torch.manual_seed(seed)
    x = torch.rand(4, 3, height, width) + 1
    for image, before in zip(random_erasing(x, 1.0, "mean"), x, strict=True):
        rows, columns = np.nonzero((image == 0).all(dim=0).numpy())
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        kept = image != 0
        assert torch.equal(image[kept], before[kept])


def test_probability_and_area_of_erased_boxes_are_as_specified():
    torch.manual_seed(0)
    x = torch.ones(2_000, 1, 100, 100)
    area = (random_erasing(x, 0.25, "mean")[:, 0] == 0).float().mean(dim=(1, 2))
    assert abs((area > 0).float().mean() - 0.25) < 0.03
    area = area[area > 0]
    assert 0.015 < area.min() < 0.03
    assert area.max() < 0.345
    # Clipping long boxes makes the mean a little smaller than 0.177.
    assert abs(area.mean() - (0.02 + 1 / 3) / 2) < 0.015


def test_erased_pixels_are_standard_normal_noise():
    torch.manual_seed(0)
    x = torch.full((400, 3, 30, 30), math.inf)
    noise = random_erasing(x, 1.0, "noise")
    noise = noise[noise.isfinite()]
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
