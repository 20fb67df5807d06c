r"""
# What is done to an image first

Weights for images belong to pixels that were prepared in one way: resized, cut, normalised. On the
hub timm keeps the way beside the weights, in the same `config.json`, under `pretrained_cfg`; a
model that gets its pixels otherwise answers worse and says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import short

MODES = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocessing:
    r"""
    ## Preprocessing

    $$x' = \frac{\mathrm{cut}(\mathrm{resize}(x)) - \mathrm{mean}}{\mathrm{std}}$$

    * `image_size` is (height, width) of what the model takes, in pixels
    * `crop` is the part of the resized image that is kept, as a share of its shorter side
    * `mode` is how pixels are interpolated, `bicubic` or `bilinear`
    * `mean` and `std` are those of each channel, for pixels from 0 to 1
    """

    image_size: tuple[int, int]
    crop: float
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        r"""
        * `images` are `[B, c, height, width]`, whole numbers from 0 to 255 in `torch.uint8` or
          floating numbers from 0 to 1

        Returns what the model takes, `[B, c, *image_size]`.

        Raises `WeightsError` for images of another shape or type.
        """
        if images.dim() != 4 or images.shape[1] != len(self.mean):
            raise WeightsError(
                f"images must be [B, {len(self.mean)}, height, width], got {list(images.shape)}"
            )
        if images.dtype == torch.uint8:
            images = images.float() / 255
        if not images.is_floating_point():
            raise WeightsError(f"images must be uint8 or floating, got {images.dtype}")
        sides = images.shape[2:]
        # The whole image is scaled so that the cut just fits: by the same factor on both sides, so
        # that nothing is squeezed, and by the larger one, so that nothing is missing. In whole
        # numbers, as a factor would be rounded, and 512 pixels could become 511.
        wanted = [floor(side / self.crop) for side in self.image_size]
        size = [max(w * side // s for w, s in zip(wanted, sides, strict=True)) for side in sides]
        # Smoothed where it shrinks, as Pillow does, which timm uses; Pillow also rounds to whole
        # numbers, so that the last digits differ. Bicubic weights overshoot at edges.
        images = nn.functional.interpolate(images, size, mode=self.mode, antialias=True)
        images = images.clamp(0, 1)
        top, left = (round((s - c) / 2) for s, c in zip(size, self.image_size, strict=True))
        images = images[..., top : top + self.image_size[0], left : left + self.image_size[1]]
        mean, std = (images.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (images - mean) / std


def preprocessing_of(config: Any) -> Preprocessing:
    r"""
    ## From timm's config

    * `config` is the `config.json` of a model of timm on the hub

    Raises `WeightsError` for a config without `pretrained_cfg`, and for one whose values make no
    sense.
    """
    found = config.get("pretrained_cfg") if isinstance(config, Mapping) else None
    if not isinstance(found, Mapping):
        raise WeightsError("config must have pretrained_cfg, which says how images are prepared")
    size: Any = found.get("input_size")
    crop: Any = found.get("crop_pct")
    if not (
        isinstance(size, list)
        and len(size) == 3
        and all(type(side) is int and 1 <= side <= 2**14 for side in size)
    ):
        raise WeightsError(
            f"input_size must be [channels, height, width], at most {2**14} each, got {short(size)}"
        )
    if not _is_number(crop) or not 0.01 <= crop <= 1:
        raise WeightsError(f"crop_pct must lie in [0.01, 1], got {short(crop)}")
    mode = found.get("interpolation")
    if mode not in MODES:
        raise WeightsError(f"interpolation must be one of {list(MODES)}, got {short(mode)}")
    for name in ("mean", "std"):
        values = found.get(name)
        if not (
            isinstance(values, list) and len(values) == size[0] and all(map(_is_number, values))
        ):
            raise WeightsError(f"{name} must be {size[0]} numbers, got {short(values)}")
    if not all(value > 0 for value in found["std"]):
        raise WeightsError(f"std must be above 0, got {short(found['std'])}")
    return Preprocessing(
        (size[1], size[2]), float(crop), mode, tuple(found["mean"]), tuple(found["std"])
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6
