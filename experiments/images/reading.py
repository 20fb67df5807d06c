r"""Reading of images in worker processes, for training and validation.

# Reading images

The seed, the step and the row in the batch alone determine which image is read and how it is
cropped. Any worker can therefore read any row, and a resumed run needs no saved state.

Damaged files are reported once and counted. In training another image replaces them; in validation
they are left out.
"""

import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.engine.order import BatchSplit, EpochOrder, micro_batches, row_generator
from experiments.engine.settings.errors import UserError
from experiments.images.decode import CropRange, centre_crop, random_resized_crop
from experiments.images.folders import ImageFiles

# Training stops after this many damaged images, one after another.
MAX_TRIES = 20
# Workers need these modules. The fork server imports them once, before it forks.
PRELOADED = [
    "experiments.engine.command",
    "experiments.reporting.run_page",
    "experiments.images.validate_command",
]


class Position(NamedTuple):
    """The index of an image among the files, and its step and row in the batch of that step."""

    image: int
    step: int
    row: int


class DecodedImage(NamedTuple):
    """An image, `[3, size, size]` or `None`, its label, and the damaged files tried before it."""

    pixels: Tensor | None
    label: int
    damaged: list[tuple[int, str]]


# ## Damaged files
@dataclass
class DamagedFiles:
    r"""The damaged files found so far; each is reported once on stderr.

    ```python
    damaged = DamagedFiles()
    damaged.report(Path("train/n01440764/1.JPEG"), "image file is truncated")
    ```
    """

    paths: set[Path] = field(default_factory=set)

    def report(self, path: Path, reason: str) -> None:
        if path not in self.paths:
            self.paths.add(path)
            print(f"skipped {path}: {reason} ({len(self.paths)} so far)", file=sys.stderr)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


# ## Datasets
class TrainingDataset(Dataset[DecodedImage]):
    r"""Random crops of the training images, indexed by `Position`.

    ```python
    dataset = TrainingDataset(find_images(Path("imagenet"), "train"), 224, CropRange(), seed=0)
    pixels, label, damaged = dataset[Position(image=0, step=0, row=0)]
    ```

    * `size` is the side of a crop in pixels
    * `seed` determines all crops, with the step and the row

    The replacement of a damaged image is drawn from the same generator, so all processes, and a
    resumed run, choose the same one.
    """

    def __init__(self, images: ImageFiles, size: int, crop: CropRange, seed: int) -> None:
        self.images, self.size, self.crop, self.seed = images, size, crop, seed

    def __getitem__(self, position: Any) -> DecodedImage:
        index, step, row = position
        damaged: list[tuple[int, str]] = []
        generator = row_generator(self.seed, step, row)
        for _ in range(MAX_TRIES):
            try:
                path = self.images.path(index)
                pixels = random_resized_crop(path, self.size, self.crop, generator)
                return DecodedImage(pixels, int(self.images.labels[index]), damaged)
            except Exception as e:  # a damaged file can make Pillow raise almost anything
                damaged.append((index, _reason(e)))
                index = int(generator.integers(len(self.images)))
        return DecodedImage(None, 0, damaged)


class ValidationDataset(Dataset[DecodedImage]):
    r"""Centre crops of the validation images; index -1 is padding.

    ```python
    dataset = ValidationDataset(find_images(Path("imagenet"), "val"), 224, 0.875, "bicubic")
    pixels, label, damaged = dataset[0]
    ```

    * `crop` and `interpolation` are those of `centre_crop`
    """

    def __init__(self, images: ImageFiles, size: int, crop: float, interpolation: str) -> None:
        self.images, self.size = images, size
        self.crop, self.interpolation = crop, interpolation

    def __getitem__(self, index: int) -> DecodedImage:
        if index < 0:
            return DecodedImage(None, 0, [])
        try:
            pixels = centre_crop(self.images.path(index), self.size, self.crop, self.interpolation)
            return DecodedImage(pixels, int(self.images.labels[index]), [])
        except Exception as e:  # as above
            return DecodedImage(None, 0, [(index, _reason(e))])


class DecodedBatch(NamedTuple):
    """Images `[B, 3, size, size]`, labels `[B]`, whether each was read `[B]`, and damaged files."""

    pixels: Tensor
    labels: Tensor
    was_read: Tensor
    damaged: list[tuple[int, str]]


@dataclass(frozen=True)
class _Collate:
    size: int

    def __call__(self, samples: list[DecodedImage]) -> DecodedBatch:
        pixels = torch.zeros(len(samples), 3, self.size, self.size, dtype=torch.uint8)
        for image, sample in zip(pixels, samples, strict=True):
            if sample.pixels is not None:
                image.copy_(sample.pixels)
        return DecodedBatch(
            pixels,
            torch.tensor([sample.label for sample in samples]),
            torch.tensor([sample.pixels is not None for sample in samples]),
            [file for sample in samples for file in sample.damaged],
        )


def _load(
    dataset: Any, sampler: Iterable[list[Any]], workers: int, size: int
) -> Iterator[DecodedBatch]:
    # Forking a process with threads or a GPU can deadlock; the fork server has neither.
    context: Any = None
    if workers:
        has_forkserver = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if has_forkserver else "spawn")
        if has_forkserver:
            context.set_forkserver_preload(PRELOADED)
    loader: DataLoader[DecodedImage] = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_Collate(size),
        multiprocessing_context=context,
        # Without its own generator the loader would advance torch's global one.
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except (RuntimeError, OSError, EOFError) as e:
        # torch reports either the dead worker or its closed socket.
        if isinstance(e, RuntimeError) and "DataLoader worker (pid" not in str(e):
            raise
        raise UserError(
            f"workers must stay alive, got one that died, perhaps for lack of memory; use fewer "
            f"than {workers} and continue from the last checkpoint with --resume"
        ) from e


# ## Training
class TrainingOrder:
    r"""The order in which training reads its images.

    ## The order of training images

    Each epoch reads each image once, in an order that depends only on the seed and the epoch. A
    batch may span two epochs.

    ```python
    order = TrainingOrder(n=1000, batch=64, seed=0, step=0, split=BatchSplit())
    positions = next(iter(order))
    ```

    * `n` is the number of images
    * `batch` is the number of images per step, over all processes
    * `seed` determines the order
    * `step` is the first step; iteration never ends
    * `split` selects the rows of this process
    """

    def __init__(self, n: int, batch: int, seed: int, step: int, split: BatchSplit) -> None:
        self.n, self.batch, self.seed = n, batch, seed
        self.step, self.split = step, split
        self._order = EpochOrder(n, batch, seed)

    def __iter__(self) -> Iterator[list[Position]]:
        for step, rows in micro_batches(self.step, self.batch, self.split):
            yield [Position(self._order.item(step, row), step, row) for row in rows]


def training_batches(
    images: ImageFiles,
    *,
    size: int,
    crop: CropRange,
    batch: int,
    seed: int,
    step: int,
    split: BatchSplit,
    workers: int,
    damaged: DamagedFiles,
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""Yields the micro-batches of this process, without end.

    ## Training batches

    * `workers` is the number of worker processes; 0 decodes in this one
    * `damaged` collects the damaged files
    * the others are the arguments of `TrainingDataset` and `TrainingOrder`

    Yields images `[B, 3, size, size]` in `torch.uint8` and labels `[B]`.

    Raises `UserError` if a worker dies, or if `MAX_TRIES` images in a row are damaged.
    """
    dataset = TrainingDataset(images, size, crop, seed)
    order = TrainingOrder(len(images), batch, seed, step, split)
    for samples in _load(dataset, order, workers, size):
        for index, reason in samples.damaged:
            damaged.report(images.path(index), reason)
        if not bool(samples.was_read.all()):
            index, reason = samples.damaged[-1]
            raise UserError(
                f"data must have images that can be read, got {MAX_TRIES} damaged ones in a row, "
                f"such as {images.path(index)}: {reason}"
            )
        yield samples.pixels, samples.labels


# ## Validation
def validation_batches(
    images: ImageFiles,
    *,
    size: int,
    crop: float,
    interpolation: str,
    batch: int,
    rank: int,
    world: int,
    workers: int,
    damaged: DamagedFiles,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""Yields the validation batches of one process.

    ## Validation batches

    Process `rank` of `world` reads every `world`-th image. All processes yield the same number of
    batches of the same size, because they wait for each other; the last ones are padded.

    * `crop` and `interpolation` are those of `centre_crop`
    * `batch` is the number of images per process and batch

    Yields images `[B, 3, size, size]` in `torch.uint8`, labels `[B]`, and weights `[B]`: 0 for
    padding and damaged files, 1 otherwise.

    Raises `UserError` if a worker dies.
    """
    n_batches = -(-len(images) // (batch * world))
    own = range(rank, n_batches * batch * world, world)
    indices = [index if index < len(images) else -1 for index in own]
    order = [indices[first : first + batch] for first in range(0, len(indices), batch)]
    dataset = ValidationDataset(images, size, crop, interpolation)
    for samples in _load(dataset, order, workers, size):
        for index, reason in samples.damaged:
            damaged.report(images.path(index), reason)
        yield samples.pixels, samples.labels, samples.was_read.float()
