r"""Augmentation policies: RandAugment and AutoAugment, with the operations they draw from.

# RandAugment and AutoAugment

RandAugment (Cubuk, Zoph, Shlens and Le, 2019, [arXiv 1909.13719](https://arxiv.org/abs/1909.13719))
and AutoAugment (Cubuk, Zoph, Mane, Vasudevan and Le, 2018, [arXiv
1805.09501](https://arxiv.org/abs/1805.09501)) apply a few random operations to each image. The
paper uses AutoAugment (appendix A.1, [source](../../docs/coverage.yml#hyper-parameters)).

The operations are Kornia's and run on the device. Kornia's own policies draw once per batch, so a
step might invert all of its images. Here each image draws its own operations, and images with the
same operation are processed together.

Implementations differ in how a level sets the strength of an operation. RandAugment uses the
levels that timm calls "increasing", as most recipes of this family do, and AutoAugment those that
timm calls "original".
"""

from collections.abc import Callable

import torch
from kornia import enhance
from kornia.geometry import transform
from torch import Tensor

# Fills the pixels that a geometric operation leaves empty.
GREY = 128 / 255

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


# ## Operations
#
# Each takes images with values from 0 to 1, `[B, 3, height, width]`, and per image a `level` from
# 0 to 1 and a `sign`, 1 or -1, both `[B]`.
def auto_contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Stretches each channel to the range 0 to 1; a constant channel is unchanged."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.equalize(x)


def invert(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return 1 - x


def rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotates by up to 30 degrees in either direction."""
    return transform.rotate(x - GREY, sign * level * 30) + GREY


def shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shifts each row by up to 0.3 of its distance from the first row."""
    amount = sign * level * 0.3
    return _shear(x, torch.stack([amount, torch.zeros_like(amount)], dim=-1))


def shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    amount = sign * level * 0.3
    return _shear(x, torch.stack([torch.zeros_like(amount), amount], dim=-1))


def _shear(x: Tensor, amount: Tensor) -> Tensor:
    return transform.shear(x - GREY, amount, align_corners=True) + GREY


def translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shifts by up to 0.45 of the width."""
    amount = sign * level * 0.45 * x.shape[3]
    return _translate(x, torch.stack([amount, torch.zeros_like(amount)], dim=-1))


def translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    amount = sign * level * 0.45 * x.shape[2]
    return _translate(x, torch.stack([torch.zeros_like(amount), amount], dim=-1))


def _translate(x: Tensor, amount: Tensor) -> Tensor:
    return transform.translate(x - GREY, amount) + GREY


def _keep_bits(x: Tensor, bits: Tensor) -> Tensor:
    # The small offset restores integers that earlier float operations made a little too low.
    step = (2.0 ** (8 - bits))[:, None, None, None]
    return (255 * x + 1e-3).div(step, rounding_mode="floor") * step / 255


def posterize_increasing(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keeps 4 bits of each value at level 0 and none at level 1."""
    return _keep_bits(x, 4 - (4 * level).floor())


def posterize_original(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keeps 4 bits of each value at level 0 and all 8 at level 1, as in AutoAugment."""
    return _keep_bits(x, 4 + (4 * level).floor())


def solarize_increasing(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Inverts bright values: none at level 0, all at level 1."""
    return _solarize(x, 1 - level)


def solarize_original(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Inverts bright values: all at level 0, none at level 1, as in AutoAugment."""
    return _solarize(x, level)


def _solarize(x: Tensor, threshold: Tensor) -> Tensor:
    # A threshold of 256 is above every pixel, so it inverts none.
    return torch.where(255 * x < (256 * threshold).floor()[:, None, None, None], x, 1 - x)


def solarize_add(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Brightens values below 128 by up to 110."""
    amount = ((110 * level).floor() / 255)[:, None, None, None]
    return torch.where(255 * x < 128, (x + amount).clamp(max=1), x)


# The next four apply a factor of $1 + 0.9 \, \mathrm{sign} \cdot \mathrm{level}$, so level 0
# changes nothing.
def color(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.adjust_saturation_with_gray_subtraction(x, _factor(level, sign))


def contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.adjust_contrast_with_mean_subtraction(x, _factor(level, sign))


def brightness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return enhance.adjust_brightness_accumulative(x, _factor(level, sign))


def sharpness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    # Kornia's 3 x 3 filter needs at least three pixels per side.
    return enhance.sharpness(x, _factor(level, sign)) if min(x.shape[2:]) > 2 else x


def _factor(level: Tensor, sign: Tensor) -> Tensor:
    return 1 + sign * 0.9 * level


def _original_factor(operation: Operation) -> Operation:
    r"""Applies a factor of $0.1 + 1.8 \, \mathrm{level}$, as in AutoAugment."""
    return lambda x, level, sign: operation(x, 2 * level - 1, torch.ones_like(sign))


# ## RandAugment
RAND_OPERATIONS: tuple[Operation, ...] = (
    *(auto_contrast, equalize, invert, rotate),
    *(posterize_increasing, solarize_increasing, solarize_add),
    *(color, contrast, brightness, sharpness, shear_x, shear_y, translate_x, translate_y),
)


def rand_augment(images: Tensor, n_operations: int, magnitude: float) -> Tensor:
    r"""Applies `n_operations` random operations of fifteen to each image.

    As in timm, each one is skipped with probability 1/2, and its level is drawn from a normal
    distribution around `magnitude` with standard deviation 0.5.

    * `images` have values from 0 to 1, `[B, 3, height, width]`
    * `magnitude` is from 0 to 10

    Returns `[B, 3, height, width]`.
    """
    n = len(images)
    for _ in range(n_operations):
        choice = torch.randint(len(RAND_OPERATIONS), (n,))
        choice = torch.where(torch.rand(n) < 0.5, choice, -1)
        level = (magnitude + 0.5 * torch.randn(n)).clamp(0, 10) / 10
        images = _apply(images, RAND_OPERATIONS, choice, level)
    return images


# ## AutoAugment
#
# The 25 sub-policies for ImageNet (table 9): two operations each, with probability and level from
# 0 to 10.
AUTO_OPERATIONS: dict[str, Operation] = {
    "auto_contrast": auto_contrast,
    "color": _original_factor(color),
    "contrast": _original_factor(contrast),
    "equalize": equalize,
    "invert": invert,
    "posterize": posterize_original,
    "rotate": rotate,
    "sharpness": _original_factor(sharpness),
    "shear_x": shear_x,
    "solarize": solarize_original,
}
AUTO_POLICY = (
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
    """Applies a random sub-policy to each image; `images` are as in `rand_augment`."""
    operations, names = tuple(AUTO_OPERATIONS.values()), list(AUTO_OPERATIONS)
    n = len(images)
    policies = torch.randint(len(AUTO_POLICY), (n,)).tolist()
    for position in range(2):
        entries = [AUTO_POLICY[policy][position] for policy in policies]
        choice = torch.tensor([names.index(name) for name, _, _ in entries])
        applied = torch.rand(n) < torch.tensor([probability for _, probability, _ in entries])
        level = torch.tensor([level / 10 for _, _, level in entries])
        images = _apply(images, operations, torch.where(applied, choice, -1), level)
    return images


def _apply(
    images: Tensor, operations: tuple[Operation, ...], choice: Tensor, level: Tensor
) -> Tensor:
    """* `choice` is the index of each image's operation, -1 for none; on the CPU, `[B]`"""
    sign = 2.0 * torch.randint(2, (len(images),)) - 1
    changed = images.clone()
    for k in sorted(set(choice.tolist()) - {-1}):
        rows = (choice == k).nonzero()[:, 0]
        on_device = rows.to(images.device)
        arguments = (level[rows].to(images.device), sign[rows].to(images.device))
        changed[on_device] = operations[k](images[on_device], *arguments)
    return changed
