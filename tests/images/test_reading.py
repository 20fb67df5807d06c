"""Reading images in worker processes: order, batches, damaged files."""

import itertools
import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.engine.order import BatchSplit
from experiments.engine.settings.errors import UserError
from experiments.images.decode import CropRange
from experiments.images.folders import ImageFiles, find_images
from experiments.images.reading import (
    MAX_TRIES,
    DamagedFiles,
    TrainingDataset,
    TrainingOrder,
    training_batches,
    validation_batches,
)
from tests.support.helpers import assert_raises, properties
from tests.support.image_trees import decompression_bomb, image_tree

WHOLE = BatchSplit()


def read(
    images: ImageFiles, *, step: int = 0, split: BatchSplit = WHOLE, workers: int = 0, **changes
):
    options = {"size": 16, "crop": CropRange(), "batch": 4, "seed": 0, "damaged": DamagedFiles()}
    return training_batches(
        images, step=step, split=split, workers=workers, **{**options, **changes}
    )


# ## Order


@st.composite
def orders(draw: st.DrawFn) -> TrainingOrder:
    n, batch = draw(st.integers(1, 30)), draw(st.integers(1, 12))
    return TrainingOrder(n, batch, draw(st.integers(0, 99)), 0, WHOLE)


@properties
@given(order=orders(), epoch=st.integers(0, 5))
def test_each_epoch_reads_each_image_once(order, epoch):
    positions = itertools.chain.from_iterable(order)
    found = list(itertools.islice(positions, epoch * order.n, (epoch + 1) * order.n))
    assert sorted(position.image for position in found) == list(range(order.n))


@properties
@given(
    order=orders(),
    world=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    size=st.integers(1, 3),
    step=st.integers(0, 20),
)
def test_any_number_of_processes_reads_the_same_batch(order, world, accumulate, size, step):
    batch = world * accumulate * size
    whole = next(iter(TrainingOrder(order.n, batch, order.seed, step, WHOLE)))
    parts = []
    for rank in range(world):
        split = BatchSplit(rank, world, accumulate)
        own = iter(TrainingOrder(order.n, batch, order.seed, step, split))
        for _ in range(accumulate):
            parts += next(own)
    assert sorted(parts, key=lambda position: position.row) == whole


def test_epochs_and_seeds_differ_in_order():
    def epochs(seed: int) -> list[list[int]]:
        order = iter(TrainingOrder(50, 50, seed, 0, WHOLE))
        return [[position.image for position in next(order)] for _ in range(4)]

    found = epochs(0) + epochs(1)
    assert len({tuple(order) for order in found}) == len(found)


numbers = st.integers(0, 2**20)


@properties
@given(seed=st.integers(0, 99), k=numbers, step=numbers, row=numbers)
def test_no_crop_uses_the_random_stream_of_an_order(seed, k, step, row):
    images = ImageFiles(Path(), np.array([b"a.png"]), np.zeros(1, dtype=np.int64), ("a",))
    drawn = []

    def crop(path: Path, size: int, _: CropRange, generator: np.random.Generator) -> torch.Tensor:
        drawn.append(generator.permutation(40).tolist())
        return torch.zeros(3, size, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.images.reading.random_resized_crop", crop)
        dataset = TrainingDataset(images, 16, CropRange(), seed)
        for position in [(0, k, 0), (0, step, row)]:
            assert dataset[position].pixels is not None
    order = next(iter(TrainingOrder(40, 40, seed, k, WHOLE)))
    permutation = [position.image for position in order]
    assert sorted(permutation) == list(range(40))
    assert permutation not in drawn


# ## Batches


def test_a_batch_has_8_bit_pixels_and_the_labels_of_its_images(tree):
    images = find_images(tree, "train")
    batches = read(images, batch=6)
    found = [next(batches) for _ in range(3)]  # one epoch
    for pixels, labels in found:
        assert pixels.shape == (6, 3, 16, 16)
        assert pixels.dtype == torch.uint8
        assert labels.dtype == torch.int64
    assert sorted(torch.cat([labels for _, labels in found]).tolist()) == sorted(images.labels)


def test_a_resumed_run_reads_the_same_images_with_the_same_crops(tree):
    images = find_images(tree, "train")
    through = list(itertools.islice(read(images), 8))
    resumed = list(itertools.islice(read(images, step=5), 3))
    for (x, y), (a, b) in zip(through[5:], resumed, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    # The same image is read again in the next epoch, with another crop.
    assert len({x.numpy().tobytes() for batch, _ in through for x in batch}) == 32


def test_worker_processes_read_the_same_pixels_until_one_dies(tree_copy):
    images = find_images(tree_copy, "train")
    (tree_copy / "train/c1/3.JPEG").write_bytes(b"no image")
    damaged = DamagedFiles()
    want = torch.cat([x for x, _ in itertools.islice(read(images), 6)])
    before = set(multiprocessing.active_children())
    got = read(images, workers=2, split=BatchSplit(accumulate=2), damaged=damaged)
    assert torch.equal(torch.cat([x for x, _ in itertools.islice(got, 12)]), want)
    assert damaged.paths == {tree_copy / "train/c1/3.JPEG"}

    worker, _ = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    assert_raises(
        lambda: list(itertools.islice(got, 50)),
        *(UserError, "workers", "died", "fewer than 2", "--resume"),
    )


def test_the_global_random_generators_are_neither_advanced_nor_read(tree):
    images = find_images(tree, "train")

    def state() -> tuple[object, ...]:
        numbers = np.random.get_state(legacy=False)["state"]["key"].tobytes()  # noqa: NPY002
        return random.getstate(), numbers, torch.get_rng_state().numpy().tobytes()

    before = state()
    first = next(read(images))[0]
    assert state() == before
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(next(read(images))[0], first)


# ## Damaged files


def damage(folder: Path) -> list[Path]:
    """Damages one file in each way: truncated, no image, missing, decompression bomb."""
    truncated, text, missing = (folder / f"train/c{k}/{k}.JPEG" for k in (0, 1, 2))
    bomb = folder / "train/c0/5.JPEG"
    truncated.write_bytes(truncated.read_bytes()[:400])
    text.write_text("no image at all")
    missing.unlink()
    decompression_bomb(bomb)
    return [truncated, text, missing, bomb]


def test_a_damaged_file_is_reported_once_and_replaced(tree_copy, capsys):
    images = find_images(tree_copy, "train")
    paths = damage(tree_copy)
    damaged = DamagedFiles()
    found = list(itertools.islice(read(images, batch=6, damaged=damaged), 9))  # three epochs
    lines = capsys.readouterr().err.splitlines()
    assert damaged.paths == set(paths)
    for path in paths:
        assert len([line for line in lines if line.startswith(f"skipped {path}: ")]) == 1
    assert len(lines) == 4
    assert lines[-1].endswith("(4 so far)")
    again = list(itertools.islice(read(images, batch=6), 9))
    for (x, y), (a, b) in zip(found, again, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    # No image is left black.
    assert all(x.float().std() > 0 for x, _ in found)


def test_a_replacement_has_its_own_label(tmp_path):
    images = find_images(image_tree(tmp_path, classes=2, train=1), "train")
    (tmp_path / "train/c0/0.JPEG").write_bytes(b"")
    dataset = TrainingDataset(images, 16, CropRange(), seed=0)
    for row in range(8):
        sample = dataset[(0, 0, row)]
        assert sample.label == 1
        assert {index for index, _ in sample.damaged} == {0}


def test_training_stops_if_all_files_are_damaged(tmp_path):
    images = find_images(image_tree(tmp_path, classes=1, train=1), "train")
    path = tmp_path / "train/c0/0.JPEG"
    path.unlink()
    assert_raises(
        lambda: next(read(images, batch=1)),
        *(UserError, "data", MAX_TRIES, f"{path}: [Errno 2] No such file or directory"),
    )


# ## Validation


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [2, 5])
def test_processes_split_validation_into_equally_many_batches(tree_copy, world, batch):
    images = find_images(tree_copy, "val")
    (tree_copy / "val/c1/1.JPEG").write_bytes(b"no image")
    options = {"size": 16, "crop": 0.9, "interpolation": "bicubic", "batch": batch, "workers": 0}
    parts = [
        list(validation_batches(images, rank=rank, world=world, damaged=DamagedFiles(), **options))
        for rank in range(world)
    ]
    assert len({len(part) for part in parts}) == 1
    labels, weights, pixels = [], [], []
    for x, y, w in itertools.chain.from_iterable(parts):
        assert x.shape == (batch, 3, 16, 16)
        labels += y[w == 1].tolist()
        weights += w.tolist()
        pixels += [image.numpy().tobytes() for image in x[w == 1]]
    assert sorted(labels) == [0] * 4 + [1] * 3 + [2] * 4
    assert sum(weights) == 11
    assert len(set(pixels)) == 11
