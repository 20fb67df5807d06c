r"""
# Policies of changes

RandAugment (Cubuk, Zoph, Shlens and Le, 2019, [arXiv 1909.13719](https://arxiv.org/abs/1909.13719))
and AutoAugment (Cubuk, Zoph, Mane, Vasudevan and Le, 2018, [arXiv
1805.09501](https://arxiv.org/abs/1805.09501)) change an image by a few operations drawn from a
table. The paper uses AutoAugment (appendix A.1, as reported).

The operations are Kornia's, on the device. Its own two policies are not used: they draw once for a
whole batch, so that all images of a step are, say, inverted together. Here each image draws its
own, and the images of one operation are changed at once.

What a level means differs between implementations. Here it is what timm calls "original" and "inc",
which most recipes of this family used; for Pillow's operations on single images, timm's file is the
parallel.
"""

from collections.abc import Callable

import torch
from kornia import enhance
from kornia.geometry import transform
from torch import Tensor

# What comes in over the edge is grey.
GREY = 128 / 255

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


# ## Operations
#
# Each takes images from 0 to 1, `[B, 3, height, width]`, a `level` from 0 to 1 and a `sign`, `[B]`
# each.
def auto_contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Each channel from its darkest to its brightest; one without contrast stays."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.equalize(x)


def invert(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return 1 - x


def rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Up to 30 degrees, to either side."""
    return transform.rotate(x - GREY, sign * level * 30) + GREY


def shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Each row moved by up to 0.3 of its distance from the first."""
    amount = sign * level * 0.3
    return _shear(x, torch.stack([amount, torch.zeros_like(amount)], dim=-1))


def shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    amount = sign * level * 0.3
    return _shear(x, torch.stack([torch.zeros_like(amount), amount], dim=-1))


def _shear(x: Tensor, amount: Tensor) -> Tensor:
    return transform.shear(x - GREY, amount, align_corners=True) + GREY


def translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """By up to 0.45 of the width."""
    amount = sign * level * 0.45 * x.shape[3]
    return _translate(x, torch.stack([amount, torch.zeros_like(amount)], dim=-1))


def translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    amount = sign * level * 0.45 * x.shape[2]
    return _translate(x, torch.stack([torch.zeros_like(amount), amount], dim=-1))


def _translate(x: Tensor, amount: Tensor) -> Tensor:
    return transform.translate(x - GREY, amount) + GREY


def _keep_bits(x: Tensor, bits: Tensor) -> Tensor:
    # Whole numbers come as fractions of 255, and some of them a little too low.
    step = (2.0 ** (8 - bits))[:, None, None, None]
    return (255 * x + 1e-3).div(step, rounding_mode="floor") * step / 255


def posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """4 bits of each number are kept at level 0, none at 1."""
    return _keep_bits(x, 4 - (4 * level).floor())


def posterize_softly(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """As AutoAugment is written: 4 bits at level 0, and all 8 at level 1."""
    return _keep_bits(x, 4 + (4 * level).floor())


def solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Inverts what is bright: nothing at level 0, all at 1."""
    return _solarize(x, 1 - level)


def solarize_softly(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """As AutoAugment is written: all at level 0, nothing at 1."""
    return _solarize(x, level)


def _solarize(x: Tensor, threshold: Tensor) -> Tensor:
    # Thresholds count to 256, which no number reaches.
    return torch.where(255 * x < (256 * threshold).floor()[:, None, None, None], x, 1 - x)


def solarize_add(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Makes what is dark brighter, by up to 110 of 255."""
    amount = ((110 * level).floor() / 255)[:, None, None, None]
    return torch.where(255 * x < 128, (x + amount).clamp(max=1), x)


# Factors move away from 1, which changes nothing, to either side; AutoAugment is written from 0.1
# at level 0 to 1.9.
def color(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.adjust_saturation_with_gray_subtraction(x, _factor(level, sign))


def contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.adjust_contrast_with_mean_subtraction(x, _factor(level, sign))


def brightness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.adjust_brightness_accumulative(x, _factor(level, sign))


def sharpness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    # Only here does Kornia need a place for its filter.
    return enhance.sharpness(x, _factor(level, sign)) if min(x.shape[2:]) > 2 else x


def _factor(level: Tensor, sign: Tensor) -> Tensor:
    return 1 + sign * 0.9 * level


def _from_a_tenth(operation: Operation) -> Operation:
    return lambda x, level, sign: operation(x, 2 * level - 1, torch.ones_like(sign))


# ## RandAugment
RAND: tuple[Operation, ...] = (
    *(auto_contrast, equalize, invert, rotate, posterize, solarize, solarize_add),
    *(color, contrast, brightness, sharpness, shear_x, shear_y, translate_x, translate_y),
)


def rand_augment(images: Tensor, layers: int, magnitude: float) -> Tensor:
    r"""
    Each image is changed `layers` times by one of fifteen operations. Each time it is spared with
    probability 1/2, and the level is drawn around `magnitude` with a deviation of 0.5: both are
    timm's, whose recipes this serves.

    * `images` are from 0 to 1, `[B, 3, height, width]`
    * `magnitude` is from 0 to 10

    Returns images of the same kind.
    """
    n = len(images)
    for _ in range(layers):
        drawn = torch.randint(len(RAND), (n,))
        drawn = torch.where(torch.rand(n) < 0.5, drawn, -1)
        level = (magnitude + 0.5 * torch.randn(n)).clamp(0, 10) / 10
        images = _change(images, RAND, drawn, level)
    return images


# ## AutoAugment
#
# The 25 pairs of table 9 for ImageNet: an operation, its probability, and its level in tenths.
_SOFT: dict[str, Operation] = {
    "auto_contrast": auto_contrast,
    "color": _from_a_tenth(color),
    "contrast": _from_a_tenth(contrast),
    "equalize": equalize,
    "invert": invert,
    "posterize": posterize_softly,
    "rotate": rotate,
    "sharpness": _from_a_tenth(sharpness),
    "shear_x": shear_x,
    "solarize": solarize_softly,
}
AUTO = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def auto_augment(images: Tensor) -> Tensor:
    """Each image draws one of the pairs; `images` are as in `rand_augment`."""
    operations, names = tuple(_SOFT.values()), list(_SOFT)
    n = len(images)
    pairs = torch.randint(len(AUTO), (n,)).tolist()
    for position in range(2):
        entries = [AUTO[pair][position] for pair in pairs]
        drawn = torch.tensor([names.index(name) for name, _, _ in entries])
        happens = torch.rand(n) < torch.tensor([probability for _, probability, _ in entries])
        level = torch.tensor([tenths / 10 for _, _, tenths in entries])
        images = _change(images, operations, torch.where(happens, drawn, -1), level)
    return images


def _change(
    images: Tensor, operations: tuple[Operation, ...], drawn: Tensor, level: Tensor
) -> Tensor:
    """* `drawn` says which operation changes an image, below 0 none; on the CPU, `[B]`"""
    sign = 2.0 * torch.randint(2, (len(images),)) - 1
    changed = images.clone()
    for k in sorted(set(drawn.tolist()) - {-1}):
        rows = (drawn == k).nonzero()[:, 0]
        there = rows.to(images.device)
        amounts = (level[rows].to(images.device), sign[rows].to(images.device))
        changed[there] = operations[k](images[there], *amounts)
    return changed
