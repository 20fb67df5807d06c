"""Folders of small images, made where a test needs them."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(width: int = 40, height: int = 32, seed: int = 0) -> Image.Image:
    """Smooth, so that JPEG keeps it, and different for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR)


def image_tree(folder: Path, classes: int = 3, train: int = 6, val: int = 4) -> Path:
    """`train/c0/0.JPEG` and so on, with so many images for each class; returns `folder`."""
    for part, n in (("train", train), ("val", val)):
        for label in range(classes):
            (folder / part / f"c{label}").mkdir(parents=True)
            for k in range(n):
                image = picture(seed=1000 * label + k + (500 if part == "val" else 0))
                image.save(folder / part / f"c{label}" / f"{k}.JPEG")
    return folder
