r"""
# Reading in worker processes

What a step reads follows from the seed, the step and the row in the batch alone: which image, and
what is drawn for its crop. So it does not matter which process reads it, and a resumed run needs no
state.

A million photographs hold some that are damaged. Each is named once and counted; in training
another image takes its place, in validation it is left out.
"""

import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiments.engine.settings.errors import UserError
from experiments.images.decode import Crop, centre_crop, random_crop
from experiments.images.folders import Images

# How often another image is tried in the place of a damaged one.
TRIES = 20
# What a worker imports, because the command does: loaded once, in the process that they fork from.
PRELOADED = [
    "experiments.engine.command",
    "experiments.reporting.run_page",
    "experiments.images.validate_command",
]


class Reads(Protocol):
    """Which rows of a step's batch a process reads, one range for each micro-batch."""

    def rows(self, batch: int) -> list[range]: ...


class Place(NamedTuple):
    """Where an image stands: its number among the files, and the `row` of the batch of a `step`."""

    image: int
    step: int
    row: int


class Read(NamedTuple):
    """One image, `[3, size, size]`, and the files that could not be read in its place."""

    pixels: Tensor | None
    label: int
    damaged: list[tuple[int, str]]


# ## Damaged files
@dataclass
class Damaged:
    """The files that could not be read so far: each is named once, on stderr."""

    names: set[Path] = field(default_factory=set)

    def note(self, path: Path, reason: str) -> None:
        if path not in self.names:
            self.names.add(path)
            print(f"skipped {path}: {reason} ({len(self.names)} so far)", file=sys.stderr)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


# ## What a worker runs
class TrainingImages(Dataset[Read]):
    r"""
    * `size` is the side of a crop in pixels, `seed` decides all crops

    An image that cannot be read gives its place to another one, which follows from its place: so
    all processes, and a resumed run, take the same.
    """

    def __init__(self, images: Images, size: int, crop: Crop, seed: int) -> None:
        self.images, self.size, self.crop, self.seed = images, size, crop, seed

    def __getitem__(self, place: Any) -> Read:
        index, step, row = place
        damaged: list[tuple[int, str]] = []
        # A generator of its own: neither numpy's nor torch's nor Python's global one is touched.
        generator = np.random.default_rng((self.seed, step, row))
        for _ in range(TRIES):
            try:
                pixels = random_crop(self.images.path(index), self.size, self.crop, generator)
                return Read(pixels, int(self.images.labels[index]), damaged)
            except Exception as e:  # a damaged file can make Pillow raise nearly anything
                damaged.append((index, _reason(e)))
                index = int(generator.integers(len(self.images)))
        return Read(None, 0, damaged)


class ValidationImages(Dataset[Read]):
    """* `share` and `mode` are those of `centre_crop`; an `index` below 0 is filling"""

    def __init__(self, images: Images, size: int, share: float, mode: str) -> None:
        self.images, self.size, self.share, self.mode = images, size, share, mode

    def __getitem__(self, index: int) -> Read:
        if index < 0:
            return Read(None, 0, [])
        try:
            pixels = centre_crop(self.images.path(index), self.size, self.share, self.mode)
            return Read(pixels, int(self.images.labels[index]), [])
        except Exception as e:  # as above
            return Read(None, 0, [(index, _reason(e))])


class Stack(NamedTuple):
    """Images `[B, 3, size, size]`, labels `[B]`, which of them are there `[B]`, and the damaged."""

    pixels: Tensor
    labels: Tensor
    there: Tensor
    damaged: list[tuple[int, str]]


@dataclass(frozen=True)
class _Stacking:
    size: int

    def __call__(self, reads: list[Read]) -> Stack:
        pixels = torch.zeros(len(reads), 3, self.size, self.size, dtype=torch.uint8)
        for place, read in zip(pixels, reads, strict=True):
            if read.pixels is not None:
                place.copy_(read.pixels)
        return Stack(
            pixels,
            torch.tensor([read.label for read in reads]),
            torch.tensor([read.pixels is not None for read in reads]),
            [name for read in reads for name in read.damaged],
        )


def _loader(dataset: Any, order: Iterable[list[Any]], workers: int, size: int) -> Iterator[Stack]:
    # A process that is forked from one with threads or a GPU can hang, so a fresh one forks.
    context: Any = None
    if workers:
        fresh = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if fresh else "spawn")
        if fresh:
            context.set_forkserver_preload(PRELOADED)
    loader: DataLoader[Read] = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_Stacking(size),
        multiprocessing_context=context,
        # Otherwise a number would be drawn from the global one.
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except (RuntimeError, OSError, EOFError) as e:
        # torch finds the worker gone, or the socket that its pixels should come through.
        if isinstance(e, RuntimeError) and "DataLoader worker (pid" not in str(e):
            raise
        raise UserError(
            f"workers must live as long as the run, got one that died; fewer than {workers} need "
            f"less memory, and --resume goes on from the last checkpoint"
        ) from e


# ## Reading for training
class Order:
    r"""
    ## The order of reading

    Each pass reads each image once, in an order that follows from the seed and the number of the
    pass. A batch may end one pass and begin the next.

    * `n` is the number of images, `batch` that of a step over all processes
    * `step` is the first one to read; it goes on for ever
    """

    def __init__(self, n: int, batch: int, seed: int, step: int, share: Reads) -> None:
        self.n, self.batch, self.seed = n, batch, seed
        self.step, self.share = step, share
        self._of_pass = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, number: int) -> np.ndarray:
        # numpy fills a short key up with zeros. A crop's has two numbers behind the seed, and so a
        # zero where this one ends: no stream is used twice.
        return np.random.default_rng((self.seed, number, 0, 1)).permutation(self.n)

    def __iter__(self) -> Iterator[list[Place]]:
        step = self.step
        while True:
            for rows in self.share.rows(self.batch):
                yield [self.place(step, row) for row in rows]
            step += 1

    def place(self, step: int, row: int) -> Place:
        number, k = divmod(step * self.batch + row, self.n)
        return Place(int(self._of_pass(number)[k]), step, row)


def training_batches(
    images: Images,
    *,
    size: int,
    crop: Crop,
    batch: int,
    seed: int,
    step: int,
    share: Reads,
    workers: int,
    damaged: Damaged,
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""
    ## Batches for training

    * `workers` is the number of processes that decode, 0 for none but this one
    * the others are those of `TrainingImages`, `Order` and `Damaged`

    Returns, micro-batch after micro-batch and for ever, images `[B, 3, size, size]` in
    `torch.uint8` and labels `[B]`.

    Raises `UserError` where too many files in a row are damaged: then all of them are.
    """
    dataset = TrainingImages(images, size, crop, seed)
    order = Order(len(images), batch, seed, step, share)
    for stack in _loader(dataset, order, workers, size):
        for index, reason in stack.damaged:
            damaged.note(images.path(index), reason)
        if not bool(stack.there.all()):
            index, reason = stack.damaged[-1]
            raise UserError(
                f"data must have images that can be read, got {TRIES} in a row that cannot, such "
                f"as {images.path(index)}: {reason}"
            )
        yield stack.pixels, stack.labels


def validation_batches(
    images: Images,
    *,
    size: int,
    share: float,
    mode: str,
    batch: int,
    rank: int,
    world: int,
    workers: int,
    damaged: Damaged,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    r"""
    ## Batches for validation

    Process `rank` of `world` reads every `world`-th image, and all of them the same number of
    batches of the same size: they wait for each other. What is missing in the last is filled up.

    * `batch` is the number of images that a process reads at once

    Returns images `[B, 3, size, size]` in `torch.uint8`, labels `[B]`, and weights `[B]`: 0 for
    filling and for damaged files, else 1.
    """
    n_batches = -(-len(images) // (batch * world))
    own = range(rank, n_batches * batch * world, world)
    indices = [index if index < len(images) else -1 for index in own]
    order = [indices[first : first + batch] for first in range(0, len(indices), batch)]
    dataset = ValidationImages(images, size, share, mode)
    for stack in _loader(dataset, order, workers, size):
        for index, reason in stack.damaged:
            damaged.note(images.path(index), reason)
        yield stack.pixels, stack.labels, stack.there.float()
