r"""Augmentation of a batch of images on the device.

# Augmentation

All random numbers come from torch's global CPU generator, which the training loop seeds from the
seed, the step and the process. A resumed run therefore repeats them, on any device.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from experiments.images.policies import (
    auto_augment,
    brightness,
    color,
    contrast,
    rand_augment,
)

Policy = Literal["none", "rand", "auto"]
Fill = Literal["noise", "mean"]


class Augmentation(NamedTuple):
    r"""The augmentations used in training.

    ```python
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    x = augment(images, Augmentation(policy="rand", erasing=0.25), Normalisation())
    ```

    * `flip` is the probability of a horizontal flip
    * `policy` is `rand` for RandAugment, `auto` for AutoAugment, or `none`
    * `n_operations` and `magnitude` are those of RandAugment
    * `jitter` is the maximum relative change of brightness, contrast and saturation, 0 for none
    * `erasing` is the probability of random erasing, and `fill` is `noise` or `mean`
    """

    flip: float = 0.5
    policy: Policy = "auto"
    n_operations: int = 2
    magnitude: float = 9.0
    jitter: float = 0.0
    erasing: float = 0.0
    fill: Fill = "noise"


class Normalisation(NamedTuple):
    r"""Normalises each channel by a mean and a standard deviation.

    $$x' = (x - \mathrm{mean}) / \mathrm{std}$$

    The defaults map pixels to $[-1, 1]$, as in the training of this family of models. Pretrained
    weights bring their own.

    ```python
    normalise = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    x = normalise(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    ```
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalises `torch.uint8` or floats from 0 to 1, `[B, 3, height, width]`."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        mean, std = (images.new_tensor(values)[:, None, None] for values in self)
        return (images - mean) / std


@torch.no_grad()
def augment(images: Tensor, augmentation: Augmentation, normalise: Normalisation) -> Tensor:
    r"""Augments and normalises a batch.

    * `images` are `torch.uint8`, `[B, 3, height, width]`

    Returns the input of the model, `[B, 3, height, width]`.
    """
    x = images.float() / 255
    if augmentation.flip:
        x = horizontal_flip(x, augmentation.flip)
    if augmentation.policy == "rand":
        x = rand_augment(x, augmentation.n_operations, augmentation.magnitude)
    elif augmentation.policy == "auto":
        x = auto_augment(x)
    if augmentation.jitter:
        x = color_jitter(x, augmentation.jitter)
    x = normalise(x)
    # Erase after normalisation, so that the mean pixel is 0 and the noise has the images' scale.
    if augmentation.erasing:
        x = random_erasing(x, augmentation.erasing, augmentation.fill)
    return x


def horizontal_flip(x: Tensor, probability: float) -> Tensor:
    """Flips each image left to right with this probability."""
    flipped = (torch.rand(len(x)) < probability).to(x.device)
    return torch.where(flipped[:, None, None, None], x.flip(3), x)


def color_jitter(x: Tensor, amount: float) -> Tensor:
    r"""Changes the brightness, contrast and saturation of each image by random factors.

    Each image draws three factors from $\mathcal{U}(1 - a, 1 + a)$. The order of the three
    operations is drawn once for the batch. The hue stays, as in most recipes.
    """
    operations = (brightness, contrast, color)
    for k in torch.randperm(3).tolist():
        # The operations take a level and apply the factor $1 + 0.9 \, \mathrm{level}$.
        level = (amount / 0.9) * (2 * torch.rand(len(x)) - 1)
        x = operations[k](x, level.to(x.device), torch.ones(len(x), device=x.device))
    return x


def random_erasing(x: Tensor, probability: float, fill: Fill) -> Tensor:
    r"""Erases a random box of each image with this probability.

    ## Random erasing

    $$A \sim \mathcal{U}(0.02, 1/3) \cdot \mathrm{area}, \qquad
      \log r \sim \mathcal{U}(\log 0.3, \log (1 / 0.3))$$

    The box has area $A$ and aspect ratio $r$ = height / width, at a random position inside the
    image (Zhong et al., 2017, [arXiv 1708.04896](https://arxiv.org/abs/1708.04896)). A side longer
    than the image is clipped to it, where other implementations draw again.

    * `x` is normalised, `[B, 3, height, width]`
    * `fill` is `noise`, a standard normal value for each channel of each pixel, or `mean`, zero
    """
    n, _, height, width = x.shape
    area = torch.empty(n).uniform_(0.02, 1 / 3) * height * width
    ratio = torch.empty(n).uniform_(math.log(0.3), -math.log(0.3)).exp()
    erased = torch.rand(n) < probability
    inside = erased[:, None, None]
    for side, size, axis in (
        ((area * ratio).sqrt(), height, 1),
        ((area / ratio).sqrt(), width, 2),
    ):
        side = side.round().clamp(1, size)
        first = (torch.rand(n) * (size - side + 1)).floor()
        position = torch.arange(size)
        within = (position >= first[:, None]) & (position < (first + side)[:, None])  # [B, size]
        inside = inside & within.unsqueeze(3 - axis)
    filling = torch.randn(x.shape).to(x) if fill == "noise" else torch.zeros_like(x)
    return torch.where(inside[:, None].to(x.device), filling, x)
