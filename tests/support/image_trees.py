"""Small images and folders of them."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def smooth_image(width: int = 40, height: int = 32, seed: int = 0) -> Image.Image:
    """Smooth, so that JPEG keeps it, and different for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR)


def image_tree(folder: Path, classes: int = 3, train: int = 6, val: int = 4) -> Path:
    """Writes `train/c0/0.JPEG` and so on, `train` and `val` images per class; returns `folder`."""
    for split, n in (("train", train), ("val", val)):
        for label in range(classes):
            (folder / split / f"c{label}").mkdir(parents=True)
            for k in range(n):
                seed = 1000 * label + k + (500 if split == "val" else 0)
                smooth_image(24, 20, seed).save(folder / split / f"c{label}" / f"{k}.JPEG")
    return folder


def decompression_bomb(path: Path, side: int = 20_000) -> Path:
    """Writes a PNG of a few bytes whose header claims four hundred million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    return path
