r"""
# Which images there are

Two layouts are read, for each `part` of the data, `train` and `val`:

* a folder for each class, `train/CLASS/*.JPEG`; the classes are numbered in the order of their
  names, as in most code for ImageNet
* a list, `train_list.txt`, with a path and the number of a class on each line; a path is relative
  to the folder of the list and may hold spaces. Where there is a list, it is taken

No image is opened here: a million of them are listed in seconds, and what is damaged shows when it
is read.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Images:
    r"""
    ## Images with their classes

    Two arrays and not lists of Python objects: a worker process gets them as they are, and does not
    copy a page of memory because it counted a reference there.

    * `root` is the folder that the paths start in
    * `paths` are bytes as the file system has them, `[n]`
    * `labels` are whole numbers below `len(classes)`, `[n]`
    * `classes` are the names; those of a list are its numbers
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
        """That of names and labels, not of pixels: a run goes on with the same list."""
        digest = hashlib.sha256()
        for path, label in zip(self.paths, self.labels, strict=True):
            digest.update(b"%s\0%d\n" % (path, label))
        return digest.hexdigest()


def read_images(data: Path, part: str, classes: Sequence[str] | None = None) -> Images:
    r"""
    ## Reading

    * `data` is the folder with both parts
    * `part` is `train` or `val`
    * `classes` are those of the model; `None` takes those that are found

    Raises `ValueError` for a folder or a list that is missing, empty or not UTF-8, for a class
    without an image in a part that defines the classes, for a class that is not among `classes`,
    and for a line that does not end with such a class; with the line's number.
    """
    if not data.is_dir():
        raise ValueError(f"data must be a folder of images, got {data}; --data names it")
    listed, folder = data / f"{part}_list.txt", data / part
    if listed.is_file():
        return _from_list(listed, classes)
    if folder.is_dir():
        return _from_folder(folder, classes)
    raise ValueError(f"data must have {folder.name}/CLASS or {listed.name}, got neither in {data}")


def _from_folder(folder: Path, classes: Sequence[str] | None) -> Images:
    # Names that start with a dot are what systems leave behind, and not images.
    found = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."
    )
    if not found:
        raise ValueError(f"data must have a folder for each class, got none in {folder}")
    names = tuple(found if classes is None else classes)
    if strangers := sorted(set(found) - set(names)):
        raise ValueError(
            f"class must be one of the {len(names)} of the model, got {folder / strangers[0]}"
        )
    paths: list[bytes] = []
    labels: list[int] = []
    for name in found:
        images = sorted(
            os.fsencode(f"{name}/{entry.name}")
            for entry in os.scandir(folder / name)
            if entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in ENDINGS  # noqa: PTH122
        )
        if not images and classes is None:
            raise ValueError(f"class must have at least one image, got none in {folder / name}")
        paths += images
        labels += [names.index(name)] * len(images)
    if not paths:
        raise ValueError(f"data must have at least one image, got none in {folder}")
    return Images(folder, np.array(paths), np.array(labels, dtype=np.int64), names)


def _from_list(listed: Path, classes: Sequence[str] | None) -> Images:
    try:
        lines = listed.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as e:
        raise ValueError(f"list must be UTF-8 text, got other bytes in {listed}") from e
    paths: list[bytes] = []
    labels: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{listed}, line {number}"
        words = line.rsplit(maxsplit=1)
        if len(words) != 2:
            raise ValueError(
                f"line must be a path and a label, got {line.strip()[:80]!r} in {where}"
            )
        path, label = words
        if not (label.isascii() and label.isdigit() and len(label) < 10):
            raise ValueError(
                f"label must be a whole number from 0 on, got {label[:20]!r} in {where}"
            )
        if classes is not None and int(label) >= len(classes):
            raise ValueError(f"label must be below {len(classes)}, got {label} in {where}")
        paths.append(os.fsencode(path.strip()))
        labels.append(int(label))
    if not paths:
        raise ValueError(f"list must have at least one image, got none in {listed}")
    if classes is None:
        # A number left out is more often a slip than a class; and so no label can be huge.
        present = set(labels)
        absent = next(k for k in range(len(present) + 1) if k not in present)
        if absent < len(present):
            raise ValueError(
                f"labels must be all whole numbers from 0 to the largest, got none with {absent} "
                f"in {listed}"
            )
        classes = [str(label) for label in range(len(present))]
    return Images(listed.parent, np.array(paths), np.array(labels, dtype=np.int64), tuple(classes))
