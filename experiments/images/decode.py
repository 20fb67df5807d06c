r"""Decoding and cropping of image files, with Pillow.

# Decoding and cropping

[Worker processes](reading.py) open, decode, crop and resize each file, and return 8-bit pixels,
which are a quarter of the size of floats. Everything else happens [on the device](augment.py), for
a whole batch at once.

Decoding takes most of the time. A JPEG decoder can scale each side down to a half, a quarter or an
eighth while it decodes, which is much faster. The crop box is therefore drawn first, and the image
scaled down as long as the decoded crop is at least as large as the output. At ImageNet's usual
500 x 375 pixels this rarely applies; for larger photographs it saves most of the time.
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

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# The interpolation of our own runs, in training and in validation.
INTERPOLATION = "bicubic"


# ## Opening and decoding
@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image and reads only its header; a decompression bomb is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # For moderately large bombs Pillow only warns.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            yield image


def decode_image(image: Image.Image, min_size: tuple[int, int] | None = None) -> Image.Image:
    r"""Decodes an image of any Pillow mode (grey, palette, CMYK, 16-bit) as RGB.

    An alpha channel is dropped. The EXIF orientation is ignored, as in the usual recipes:
    ImageNet was labelled without it.

    * `image` is an opened image
    * `min_size` is the (width, height) below which the JPEG decoder must not scale down; `None`
      decodes all pixels

    Raises any exception of Pillow for a damaged file.
    """
    if min_size is not None:
        image.draft(image.mode, min_size)
    if image.mode.startswith("I;16"):
        # Pillow would clip values above 255 instead of scaling them.
        grey = np.asarray(image).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """Returns the pixels of an RGB image in `torch.uint8`, `[3, height, width]`."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


# ## Random resized crop
class CropRange(NamedTuple):
    r"""The range of areas and aspect ratios that a random crop is drawn from.

    ```python
    crop = CropRange(scale=(0.25, 1.0))
    left, top, right, bottom = crop_box((500, 375), crop, np.random.default_rng(0))
    ```

    * `scale` is the smallest and the largest area of the crop, as a fraction of the image
    * `ratio` is the smallest and the largest aspect ratio, width / height
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


def crop_box(
    size: tuple[int, int], crop: CropRange, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    r"""Draws the box of a random crop.

    ## The crop box

    $$A \sim \mathcal{U}(s_0, s_1) \cdot \mathrm{area}, \qquad
      \log r \sim \mathcal{U}(\log r_0, \log r_1), \qquad
      w = \sqrt{A r}, \quad h = \sqrt{A / r}$$

    at a uniformly random position (Szegedy et al., 2014, section 6). If ten draws do not fit into
    the image, the box is the largest centred one with an allowed aspect ratio.

    * `size` is the (width, height) of the image in pixels

    Returns (left, top, right, bottom).
    """
    width, height = size
    for _ in range(10):
        area = generator.uniform(*crop.scale) * width * height
        low, high = map(math.log, crop.ratio)
        ratio = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(width - w + 1))
            top = int(generator.integers(height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * crop.ratio[1])))
    h = max(1, min(height, round(width / crop.ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_resized_crop(
    path: Path, size: int, crop: CropRange, generator: np.random.Generator
) -> Tensor:
    r"""Decodes a random crop of a file and resizes it.

    Returns `[3, size, size]`, with bicubic interpolation and antialiasing.

    Raises any exception of Pillow for a damaged file.
    """
    with open_image(path) as file:
        full_size = file.size
        box = crop_box(full_size, crop, generator)
        crop_width, crop_height = box[2] - box[0], box[3] - box[1]
        # The smallest decoded image whose crop is still `size` pixels wide and high.
        min_size = (
            math.ceil(full_size[0] * size / crop_width),
            math.ceil(full_size[1] * size / crop_height),
        )
        image = decode_image(file, min_size)
    # The decoder divides by 1, 2, 4 or 8 and rounds up.
    divisor = next(d for d in (1, 2, 4, 8) if d * max(image.size) >= max(full_size))
    left, top, right, bottom = (side / divisor for side in box)
    resized = image.resize((size, size), INTERPOLATIONS[INTERPOLATION], (left, top, right, bottom))
    return to_tensor(resized)


def centre_crop(path: Path, size: int, crop: float, interpolation: str) -> Tensor:
    r"""Resizes the shorter side of an image to `size / crop` and keeps the central square.

    ## Centre crop

    All pixels are decoded, as in the implementations whose results we compare with.

    * `crop` is the fraction of the shorter side to keep
    * `interpolation` is a key of `INTERPOLATIONS`

    Returns `[3, size, size]`.

    Raises any exception of Pillow for a damaged file.
    """
    with open_image(path) as file:
        image = decode_image(file)
    shorter = math.floor(size / crop)
    # Integer arithmetic, because a rounded scale factor can make 511 pixels of 512.
    width, height = (shorter * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    # Resize only the box that is kept: an image may be a thousand times wider than high. Pillow's
    # filter reads beyond the box, so the pixels equal those of the whole image resized.
    x, y = image.width / width, image.height / height
    box = (left * x, top * y, (left + size) * x, (top + size) * y)
    return to_tensor(image.resize((size, size), INTERPOLATIONS[interpolation], box))
