r"""
# From files to pixels

Pillow opens, decodes, crops and resizes, in [worker processes](reading.py), and what comes out are
whole numbers from 0 to 255 of one size: a quarter of what floats would take on the way. All else is
done [on the device](augment.py), for a whole batch at once.

The crop is drawn here and not there. Most of the time goes into decoding, and whoever knows the
crop beforehand can decode less: a JPEG is stored in blocks of 8 x 8 pixels, and its decoder makes
a half, a quarter or an eighth of each side for less than the price of all pixels. That is allowed
as long as the crop is still larger than what it is resized to. Photographs of ImageNet's usual
500 x 375 pixels are mostly too small for it; of larger ones, it saves most of the time.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MODES = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# That of our own runs, in training and in validation.
MODE = "bicubic"


# ## Opening
@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image of which only the header is read. Refuses what asks for gigabytes, with an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Pillow warns of it before it decodes.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            yield image


def decoded(image: Image.Image, at_least: tuple[int, int] | None = None) -> Image.Image:
    r"""
    Any kind that Pillow knows, in three colours: grey, palettes, CMYK, 16 bits. Transparency is
    dropped. The orientation in EXIF is not looked at, as in the usual recipes: ImageNet's labels
    were given without it.

    * `image` is one that was opened
    * `at_least` is (width, height) that the decoder of a JPEG must not fall below; `None` decodes
      all pixels

    Raises what Pillow raises for a damaged file, which can be nearly anything.
    """
    if at_least is not None:
        image.draft(image.mode, at_least)
    if image.mode.startswith("I;16"):
        # Pillow would cut off all above 255.
        grey = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def pixels_of(image: Image.Image) -> Tensor:
    """Whole numbers from 0 to 255, `[3, height, width]`."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


# ## The random crop
class Crop(NamedTuple):
    r"""
    * `share` is the smallest and the largest area of a crop, as a share of the image
    * `aspect` is the smallest and the largest width for a height of 1
    """

    share: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)


def crop_box(
    size: tuple[int, int], crop: Crop, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    r"""
    ## Where the crop lies

    $$A \sim \mathcal{U}(s_0, s_1) \cdot \mathrm{area}, \qquad
      \log r \sim \mathcal{U}(\log r_0, \log r_1), \qquad
      w = \sqrt{A r}, \quad h = \sqrt{A / r}$$

    at a random place (Szegedy et al., 2014, section 6). Where ten draws do not fit into the image,
    the largest part from its middle whose sides are of an allowed ratio is taken.

    * `size` is (width, height) of the image in pixels

    Returns (left, top, right, bottom).
    """
    width, height = size
    for _ in range(10):
        area = generator.uniform(*crop.share) * width * height
        low, high = map(math.log, crop.aspect)
        ratio = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(width - w + 1))
            top = int(generator.integers(height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * crop.aspect[1])))
    h = max(1, min(height, round(width / crop.aspect[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_crop(path: Path, size: int, crop: Crop, generator: np.random.Generator) -> Tensor:
    r"""
    ## A crop of an image

    Returns `[3, size, size]`, resized with bicubic weights and smoothed where it shrinks.
    """
    with opened(path) as file:
        whole = file.size
        box = crop_box(whole, crop, generator)
        across, down = box[2] - box[0], box[3] - box[1]
        # The whole image is as much larger than what is needed of it as the crop is.
        needed = math.ceil(whole[0] * size / across), math.ceil(whole[1] * size / down)
        image = decoded(file, needed)
    # The decoder divides by 1, 2, 4 or 8 and rounds the size up.
    divisor = next(d for d in (1, 2, 4, 8) if d * max(image.size) >= max(whole))
    left, top, right, bottom = (side / divisor for side in box)
    cut = image.resize((size, size), MODES[MODE], (left, top, right, bottom))
    return pixels_of(cut)


def centre_crop(path: Path, size: int, share: float, mode: str) -> Tensor:
    r"""
    ## The middle of an image

    The shorter side is resized to `size / share`, and the middle of `size` x `size` is kept. All
    pixels are decoded: results are compared with those of others, who do the same.

    Returns `[3, size, size]`.
    """
    with opened(path) as file:
        image = decoded(file)
    shorter = math.floor(size / share)
    # In whole numbers: a factor is rounded, and 512 pixels can become 511.
    width, height = (shorter * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    # Only what is kept is resized. A filter reads over the edges of its box, so that the pixels are
    # those of the whole image resized, which may be a thousand times wider than high.
    x, y = image.width / width, image.height / height
    box = (left * x, top * y, (left + size) * x, (top + size) * y)
    return pixels_of(image.resize((size, size), MODES[mode], box))
