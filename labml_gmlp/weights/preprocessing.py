r"""Prepares images as a model expects them: resized, cropped and normalised.

# Preprocessing

A model is silently less accurate on images that are prepared in another way. On the hub, timm
stores the preprocessing beside the weights, in `config.json` under `pretrained_cfg`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.weights.errors import WeightsError, short_repr

MODES = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocessing:
    r"""Resizes, crops and normalises a batch of images.

    ## Preprocessing

    $$x' = \frac{\mathrm{crop}(\mathrm{resize}(x)) - \mathrm{mean}}{\mathrm{std}}$$

    * `image_size` is the size that the model takes, (height, width) in pixels
    * `crop` is the fraction of the shorter side of the resized image that is kept
    * `mode` is the interpolation, `bicubic` or `bilinear`
    * `mean` and `std` have one number for each channel, for pixels from 0 to 1

    For example:

        prepare = Preprocessing((224, 224), 0.875, "bicubic", (0.5,) * 3, (0.5,) * 3)
        logits = model(prepare(images))
    """

    image_size: tuple[int, int]
    crop: float
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        r"""Returns the images as the model takes them, `[B, c, *image_size]`.

        * `images` are `[B, c, height, width]`, from 0 to 255 in `torch.uint8` or from 0 to 1 in a
          floating type

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
        # One factor for both sides keeps the aspect ratio, and the larger of the two covers the
        # crop. Integer arithmetic: with a rounded factor, 512 pixels could become 511.
        wanted = [floor(side / self.crop) for side in self.image_size]
        size = [max(w * side // s for w, s in zip(wanted, sides, strict=True)) for side in sides]
        # Antialiased like Pillow, which timm uses. Pillow also rounds to integers, so the last
        # digits differ. Bicubic weights overshoot at edges, hence the clamp.
        images = nn.functional.interpolate(images, size, mode=self.mode, antialias=True)
        images = images.clamp(0, 1)
        top, left = (round((s - c) / 2) for s, c in zip(size, self.image_size, strict=True))
        images = images[..., top : top + self.image_size[0], left : left + self.image_size[1]]
        mean, std = (images.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (images - mean) / std

    def to_config(self) -> dict[str, Any]:
        """Returns the value of `pretrained_cfg` in a `config.json`, under timm's keys."""
        return {
            "input_size": [len(self.mean), *self.image_size],
            "crop_pct": self.crop,
            "interpolation": self.mode,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_config(cls, config: Any) -> "Preprocessing":
        r"""Reads the preprocessing from the content of a `config.json`.

        * `config` is that of a model of timm, or of a model saved with its preprocessing

        Raises `WeightsError` if `pretrained_cfg` is missing, and for an invalid `input_size`,
        `crop_pct`, `interpolation`, `mean` or `std` in it.
        """
        found = config.get("pretrained_cfg") if isinstance(config, Mapping) else None
        if not isinstance(found, Mapping):
            raise WeightsError("config must have pretrained_cfg, the preprocessing of its images")
        size: Any = found.get("input_size")
        crop: Any = found.get("crop_pct")
        if not (
            isinstance(size, list)
            and len(size) == 3
            and all(type(side) is int and 1 <= side <= 2**14 for side in size)
        ):
            raise WeightsError(
                f"input_size must be [channels, height, width], at most {2**14} each, got "
                f"{short_repr(size)}"
            )
        if not _is_number(crop) or not 0.01 <= crop <= 1:
            raise WeightsError(f"crop_pct must lie in [0.01, 1], got {short_repr(crop)}")
        mode = found.get("interpolation")
        if mode not in MODES:
            raise WeightsError(
                f"interpolation must be one of {list(MODES)}, got {short_repr(mode)}"
            )
        for name in ("mean", "std"):
            values = found.get(name)
            if not (
                isinstance(values, list) and len(values) == size[0] and all(map(_is_number, values))
            ):
                raise WeightsError(f"{name} must be {size[0]} numbers, got {short_repr(values)}")
        if not all(value > 0 for value in found["std"]):
            raise WeightsError(f"std must be above 0, got {short_repr(found['std'])}")
        return cls((size[1], size[2]), float(crop), mode, tuple(found["mean"]), tuple(found["std"]))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6
