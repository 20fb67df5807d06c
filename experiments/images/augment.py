r"""
# Random changes on the device

What is drawn comes from torch's global generator on the CPU, which the loop seeds at each step from
the seed, the step and the process. So a resumed run draws the same, on any device.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.images.policies import (
    auto_augment,
    brightness,
    color,
    contrast,
    rand_augment,
)

POLICIES = ("none", "rand", "auto")
FILLS = ("noise", "mean")


class Augmentation(NamedTuple):
    r"""
    ## What is done in training

    * `flip` is the probability that left and right change places
    * `policy` is one of `POLICIES`; `layers` and `magnitude` are those of RandAugment
    * `jitter` is the largest change of brightness, contrast and colour, as a share; 0 for none
    * `erasing` is the probability of a box in which the image is lost, and `fill` what stands
      there, one of `FILLS`
    """

    flip: float = 0.5
    policy: str = "auto"
    layers: int = 2
    magnitude: float = 9.0
    jitter: float = 0.0
    erasing: float = 0.0
    fill: str = "noise"


class Normalisation(NamedTuple):
    r"""
    $$x' = (x - \mathrm{mean}) / \mathrm{std}$$

    A half each is what this family of models was trained with: from -1 to 1. Pretrained weights
    bring their own.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __call__(self, images: Tensor) -> Tensor:
        """* `images` are whole numbers from 0 to 255, or from 0 to 1, `[B, 3, height, width]`"""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        mean, std = (images.new_tensor(values)[:, None, None] for values in self)
        return (images - mean) / std


@torch.no_grad()
def augment(images: Tensor, how: Augmentation, normalise: Normalisation) -> Tensor:
    r"""
    ## All of them

    * `images` are whole numbers from 0 to 255, `[B, 3, height, width]`

    Returns what the model takes, `[B, 3, height, width]`.
    """
    x = images.float() / 255
    if how.flip:
        x = flip(x, how.flip)
    if how.policy == "rand":
        x = rand_augment(x, how.layers, how.magnitude)
    elif how.policy == "auto":
        x = auto_augment(x)
    if how.jitter:
        x = jitter(x, how.jitter)
    x = normalise(x)
    # Behind the norm, where zero is the mean and noise of deviation 1 looks like any image.
    if how.erasing:
        x = erase(x, how.erasing, how.fill)
    return x


def flip(x: Tensor, probability: float) -> Tensor:
    flipped = (torch.rand(len(x)) < probability).to(x.device)
    return torch.where(flipped[:, None, None, None], x.flip(3), x)


def jitter(x: Tensor, amount: float) -> Tensor:
    r"""
    Three factors from $\mathcal{U}(1 - a, 1 + a)$ for each image, on its brightness, its contrast
    and its colour; their order is drawn once for all images. No hue, as in most recipes.
    """
    operations = (brightness, contrast, color)
    for k in torch.randperm(3).tolist():
        # Operations know factors of $1 \pm 0.9 \, \mathrm{level}$.
        level = (amount / 0.9) * (2 * torch.rand(len(x)) - 1)
        x = operations[k](x, level.to(x.device), torch.ones(len(x), device=x.device))
    return x


def erase(x: Tensor, probability: float, fill: str) -> Tensor:
    r"""
    ## Random erasing

    $$A \sim \mathcal{U}(0.02, 1/3) \cdot \mathrm{area}, \qquad
      \log r \sim \mathcal{U}(\log 0.3, \log (1 / 0.3))$$

    A box of area $A$, $r$ times as high as wide, at a random place inside (Zhong et al., 2017,
    [arXiv 1708.04896](https://arxiv.org/abs/1708.04896)). A side that would be longer than the
    image's is cut down to it; others draw again.

    * `x` is normalised, `[B, 3, height, width]`
    * `fill` is `noise`, a number from the normal distribution for each channel of each pixel, or
      `mean`, which is 0
    """
    n, _, height, width = x.shape
    area = torch.empty(n).uniform_(0.02, 1 / 3) * height * width
    ratio = torch.empty(n).uniform_(math.log(0.3), -math.log(0.3)).exp()
    happens = torch.rand(n) < probability
    inside = happens[:, None, None]
    for side, size, axis in (
        ((area * ratio).sqrt(), height, 1),
        ((area / ratio).sqrt(), width, 2),
    ):
        side = side.round().clamp(1, size)
        first = (torch.rand(n) * (size - side + 1)).floor()
        place = torch.arange(size)
        within = (place >= first[:, None]) & (place < (first + side)[:, None])  # [B, size]
        inside = inside & within.unsqueeze(3 - axis)
    erased = torch.randn(x.shape).to(x) if fill == "noise" else torch.zeros_like(x)
    return torch.where(inside[:, None].to(x.device), erased, x)
