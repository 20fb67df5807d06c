r"""Image files and their classes, found in class folders or in a list.

# Image files

Each split of the data, `train` and `val`, is read from one of two layouts:

* class folders, `train/CLASS/*.JPEG`; classes are numbered in alphabetical order, as in most code
  for ImageNet
* a list, `train_list.txt`, with a path and a label on each line; paths are relative to the folder
  of the list and may contain spaces. If both are present, the list is used

No image is opened here, so a million files are listed in seconds. Damaged files are found when
they are [read](reading.py).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

Split = Literal["train", "val"]


@dataclass(frozen=True)
class ImageFiles:
    r"""The paths and labels of the images of one split.

    ## Image files and labels

    ```python
    images = find_images(Path("imagenet"), "train")
    print(images.path(0), images.classes[images.labels[0]])
    ```

    Paths and labels are numpy arrays because each worker process unpickles a copy. Lists of a
    million Python objects would take far more time and memory.

    * `root` is the folder that the paths are relative to
    * `paths` are bytes in the file system's encoding, `[n]`
    * `labels` are integers below `len(classes)`, `[n]`
    * `classes` are the class names; for a list they are its label numbers
    """

    root: Path
    paths: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(self.paths[index])

    @property
    def sha256(self) -> str:
        """The checksum of paths and labels, not of pixels; a resumed run must have the same."""
        digest = hashlib.sha256()
        for path, label in zip(self.paths, self.labels, strict=True):
            digest.update(b"%s\0%d\n" % (path, label))
        return digest.hexdigest()


def find_images(data: Path, split: Split, classes: Sequence[str] | None = None) -> ImageFiles:
    r"""Lists the images of a split with their labels.

    ## Finding the files

    * `data` is the folder that contains both splits
    * `split` is `train` or `val`
    * `classes` are the class names of the model; `None` takes those found

    Raises `ValueError` if

    * `data` is not a folder, or has neither class folders nor a list for this split
    * the split has no image, or the list is not UTF-8
    * a class is not in `classes`, or has no image when `classes` is `None`
    * a line of the list has no path or no valid label (the message names the line)
    * `classes` is `None` and the labels of the list skip a number

    Raises `OSError` if a folder or the list cannot be read.
    """
    if not data.is_dir():
        raise ValueError(f"data must be a folder of images, got {data}; set --data")
    list_file, folder = data / f"{split}_list.txt", data / split
    if list_file.is_file():
        return _from_list(list_file, classes)
    if folder.is_dir():
        return _from_folder(folder, classes)
    raise ValueError(
        f"data must contain {folder.name}/CLASS or {list_file.name}, got neither in {data}"
    )


def _from_folder(folder: Path, classes: Sequence[str] | None) -> ImageFiles:
    # Hidden files are system metadata, such as macOS's `._1.JPEG`.
    found = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."
    )
    if not found:
        raise ValueError(f"data must have one folder per class, got none in {folder}")
    names = tuple(found if classes is None else classes)
    if unknown := sorted(set(found) - set(names)):
        raise ValueError(
            f"class must be one of the {len(names)} of the model, got {folder / unknown[0]}"
        )
    paths: list[bytes] = []
    labels: list[int] = []
    for name in found:
        images = sorted(
            os.fsencode(f"{name}/{entry.name}")
            for entry in os.scandir(folder / name)
            if entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in EXTENSIONS  # noqa: PTH122
        )
        if not images and classes is None:
            raise ValueError(f"class must have at least one image, got none in {folder / name}")
        paths += images
        labels += [names.index(name)] * len(images)
    if not paths:
        raise ValueError(f"data must have at least one image, got none in {folder}")
    return ImageFiles(folder, np.array(paths), np.array(labels, dtype=np.int64), names)


def _from_list(list_file: Path, classes: Sequence[str] | None) -> ImageFiles:
    try:
        lines = list_file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as e:
        raise ValueError(f"list must be UTF-8 text, got other bytes in {list_file}") from e
    paths: list[bytes] = []
    labels: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{list_file}, line {number}"
        words = line.rsplit(maxsplit=1)
        if len(words) != 2:
            raise ValueError(
                f"line must be a path and a label, got {line.strip()[:80]!r} in {where}"
            )
        path, label = words
        if not (label.isascii() and label.isdigit() and len(label) < 10):
            raise ValueError(f"label must be a non-negative integer, got {label[:20]!r} in {where}")
        if classes is not None and int(label) >= len(classes):
            raise ValueError(f"label must be below {len(classes)}, got {label} in {where}")
        paths.append(os.fsencode(path.strip()))
        labels.append(int(label))
    if not paths:
        raise ValueError(f"list must have at least one image, got none in {list_file}")
    if classes is None:
        # A skipped label is more likely a mistake than a class without images. Without gaps, the
        # number of classes is at most the number of images.
        present = set(labels)
        absent = next(k for k in range(len(present) + 1) if k not in present)
        if absent < len(present):
            raise ValueError(
                f"labels must be consecutive integers from 0, got no {absent} in {list_file}"
            )
        classes = [str(label) for label in range(len(present))]
    return ImageFiles(
        list_file.parent, np.array(paths), np.array(labels, dtype=np.int64), tuple(classes)
    )
