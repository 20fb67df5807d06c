r"""Images of digits from scikit-learn, MNIST or any pair of IDX files.

# Images of digits
"""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.engine.download import download

Bytes = NDArray[np.uint8]

DATASETS = ("digits", "mnist", "t10k")
N_CLASSES = 10
HELD_OUT_FRACTION = 0.2

MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
# Checksums of the compressed files, as published by several projects, including torchvision's
# prototypes. We also computed those of the two test files ourselves.
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}


@dataclass(frozen=True)
class DigitImages:
    r"""Grey images of digits with their labels, training images first.

    ## Images and labels

    ```python
    images = load_digit_images("digits", labels=None, n_train=None, data=Path("data"))
    held_out = images.pixels[images.n_train :]
    ```

    * `name` is the data set's name or path
    * `sha256` is the checksum of images and labels together
    * `pixels` are `torch.uint8`, 0 for the background, `[n, height, width]`
    * `labels` are the digits, `[n]`
    * `n_train` is the number of training images; the rest are held out
    """

    name: str
    sha256: str
    pixels: Tensor
    labels: Tensor
    n_train: int


def load_digit_images(
    images: str, labels: str | None, n_train: int | None, data: Path
) -> DigitImages:
    r"""Loads a data set and splits it.

    ## Loading

    * `images` is `digits`, `mnist`, `t10k` (MNIST's 10,000 test images) or the path of an IDX file
    * `labels` is the path of the IDX file of labels, if `images` is a path
    * `n_train` is the number of training images; `None` means four fifths. MNIST has its own split
    * `data` is the folder for downloads

    Raises `ValueError` if

    * a file is missing or damaged, a download fails or has another checksum
    * `labels` is given with a data set's name, or missing with a path
    * `n_train` is given with `mnist`, or leaves no image to train on or to hold out
    * the labels differ in number from the images, or one is above 9
    * scikit-learn is needed and not installed

    Raises `OSError` if a download cannot be written.
    """
    if images in DATASETS and labels is not None:
        raise ValueError(f"labels must be left out with images={images!r}, got {labels!r}")
    if images == "mnist":
        if n_train is not None:
            raise ValueError(f"train must be left out with images='mnist', got {n_train}")
        train, train_labels = _mnist("train", data)
        test, test_labels = _mnist("t10k", data)
        pixels, digits = np.concatenate([train, test]), np.concatenate([train_labels, test_labels])
        return _split(images, pixels, digits, len(train))
    if images == "digits":
        pixels, digits = _scikit_learn()
    elif images == "t10k":
        pixels, digits = _mnist("t10k", data)
    else:
        pixels = read_idx(Path(images), 3, "images")
        if labels is None:
            raise ValueError(f"labels must be the path of an IDX file for {images}, got None")
        digits = read_idx(Path(labels), 1, "labels")
    n = len(pixels)
    n_train = round(n * (1 - HELD_OUT_FRACTION)) if n_train is None else n_train
    return _split(images, pixels, digits, n_train)


def _split(name: str, pixels: Bytes, digits: Bytes, n_train: int) -> DigitImages:
    if len(pixels) != len(digits):
        raise ValueError(f"labels must be as many as the images, {len(pixels)}, got {len(digits)}")
    if len(digits) and digits.max() >= N_CLASSES:
        raise ValueError(f"labels must lie in [0, {N_CLASSES}), got {digits.max()}")
    if not 1 <= n_train < len(pixels):
        raise ValueError(f"train must lie in [1, {len(pixels)}), got {n_train}")
    digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes() + digits.tobytes())
    return DigitImages(
        name=name,
        sha256=digest.hexdigest(),
        pixels=torch.from_numpy(pixels.copy()),
        labels=torch.from_numpy(digits.astype(np.int64)),
        n_train=n_train,
    )


def _scikit_learn() -> tuple[Bytes, Bytes]:
    """1,797 images of 8 x 8 pixels, included in scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as e:
        raise ValueError(
            f"images must be mnist, t10k or the path of an IDX file without scikit-learn, got "
            f"'digits' ({str(e).splitlines()[0]}); pip install scikit-learn"
        ) from e
    found = load_digits()
    # Their values are from 0 to 16; scaling to 255 truncates less than 1 / 255.
    pixels = (found.images * 255 / 16).astype(np.uint8)
    return pixels, found.target.astype(np.uint8)


def _mnist(split: str, data: Path) -> tuple[Bytes, Bytes]:
    """Images of 28 x 28 pixels: the 60,000 of `train`, or the 10,000 of `t10k`."""

    def read(kind: str, n_axes: int) -> Bytes:
        name = f"{split}-{kind}-idx{n_axes}-ubyte.gz"
        path = download(MNIST_URL + name, MNIST_SHA256[name], data / name, "images")
        return read_idx(path, n_axes, "images")

    return read("images", 3), read("labels", 1)


def read_idx(path: Path, n_axes: int, name: str) -> Bytes:
    r"""Reads a file in MNIST's IDX format.

    ## The IDX format

    Two zero bytes; the data type, 8 for unsigned bytes; the number of axes; the length of each axis
    as a big-endian 32-bit integer; the values. The file may be compressed with gzip, which is
    detected by its first bytes and not by its name.

    * `n_axes` is 3 for images, 1 for labels
    * `name` is the setting to name in error messages

    Returns the values as an array with `n_axes` axes.

    Raises `ValueError` if the file is missing, is not a complete gzip file, has another format, or
    has another length than its header says.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as e:
        known = "digits, mnist, t10k or " if name == "images" else ""
        raise ValueError(f"{name} must be {known}the path of an IDX file, got {str(path)!r}") from e
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as e:
            raise ValueError(f"{name} must be a complete gzip file, got {path} ({e})") from e
    magic = bytes([0, 0, 8, n_axes])
    if content[:4] != magic:
        raise ValueError(
            f"{name} must be an IDX file that begins with {magic.hex()}, "
            f"got {content[:4].hex() or 'nothing'} in {path}"
        )
    header = 4 + 4 * n_axes
    if len(content) < header:
        raise ValueError(
            f"{name} must have a header of {header} bytes, got {len(content)} in {path}"
        )
    shape = tuple(int(k) for k in np.frombuffer(content[4:header], ">u4"))
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{name} must have {math.prod(shape)} bytes after the header, for the shape "
            f"{list(shape)}, got {len(content) - header} in {path}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
