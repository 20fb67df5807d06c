"""From files to pixels, and the order in which they are read."""

import itertools
import math
import multiprocessing
import os
import random
import signal
import struct
import tempfile
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from experiments.engine.settings.errors import UserError
from experiments.images.decode import (
    Crop,
    centre_crop,
    crop_box,
    decoded,
    opened,
    pixels_of,
    random_crop,
)
from experiments.images.folders import Images, read_images
from experiments.images.reading import (
    TRIES,
    Damaged,
    Order,
    TrainingImages,
    training_batches,
    validation_batches,
)
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.image_trees import image_tree, picture


class Part:
    """As the loop's own: micro-batches of one size, side by side."""

    def __init__(self, rank: int = 0, world: int = 1, accumulate: int = 1) -> None:
        self.rank, self.world, self.accumulate = rank, world, accumulate

    def rows(self, batch: int) -> list[range]:
        size = batch // (self.world * self.accumulate)
        first = self.rank * self.accumulate * size
        return [range(first + k * size, first + (k + 1) * size) for k in range(self.accumulate)]


WHOLE = Part()


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def reading(images: Images, *, step: int = 0, share: Part = WHOLE, workers: int = 0, **changes):
    options = {"size": 16, "crop": Crop(), "batch": 4, "seed": 0, "damaged": Damaged(), **changes}
    return training_batches(images, step=step, share=share, workers=workers, **options)


def open_rgb(path: Path, at_least: tuple[int, int] | None = None) -> Image.Image:
    with opened(path) as image:
        return decoded(image, at_least)


def bomb(path: Path, side: int = 20_000) -> Path:
    """A PNG of a few bytes that says it has four hundred million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    return path


# ## Any file


def test_grey_palettes_cmyk_and_16_bits_become_three_colours(tmp_path):
    original = picture()
    grey = original.convert("L")
    want = np.array(original).astype(int)
    palette = original.quantize()
    for image, name in [
        (palette, "a.png"),
        (palette, "a.gif"),
        (original.convert("CMYK"), "a.tif"),
        (original.convert("RGBA"), "a.webp"),
    ]:
        got = np.array(open_rgb(saved(tmp_path, image, name)))
        assert got.shape == (32, 40, 3)
        # A palette has 256 colours, and WebP loses a little.
        assert abs(got - want).mean() < 6
    for name, image in [
        ("grey.png", grey),
        ("grey.JPEG", grey),
        ("deep.png", Image.fromarray(np.array(grey).astype(np.uint16) * 257)),
    ]:
        got = np.array(open_rgb(saved(tmp_path, image, name, quality=100))).astype(int)
        assert abs(got - np.array(grey)[..., None]).max() <= 1


def test_a_cmyk_jpeg_is_read_and_cropped(tmp_path):
    path = saved(tmp_path, picture(200, 160).convert("CMYK"), "a.JPEG", quality=95)
    crop = random_crop(path, 16, Crop(), np.random.default_rng(0))
    assert crop.shape == (3, 16, 16)


def test_transparency_is_dropped_without_a_warning(tmp_path):
    palette = picture().convert("P")
    path = saved(tmp_path, palette, "a.png", transparency=bytes(range(256)))
    assert open_rgb(path).mode == "RGB"
    grey = saved(tmp_path, picture().convert("L"), "b.png", transparency=0)
    assert open_rgb(grey).mode == "RGB"


def test_orientation_is_not_looked_at(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = saved(tmp_path, picture(), "a.JPEG", exif=exif)
    assert open_rgb(path).size == (40, 32)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    with pytest.raises(Image.DecompressionBombError):
        open_rgb(bomb(tmp_path / "a.png"))
    # Between one and two times its limit, Pillow itself only warns.
    with pytest.raises(Image.DecompressionBombWarning):
        open_rgb(bomb(tmp_path / "b.png", 10_000))


# ## Crops


@properties
@given(seed=seeds, width=st.integers(1, 60), height=st.integers(1, 60))
def test_a_crop_lies_in_its_image(seed, width, height):
    left, top, right, bottom = crop_box((width, height), Crop(), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_area_and_ratio_of_crops_are_spread_as_asked():
    generator = np.random.default_rng(0)
    crop = Crop(share=(0.1, 0.3))
    found = [crop_box((1000, 1000), crop, generator) for _ in range(4_000)]
    sides = np.array([(right - left, bottom - top) for left, top, right, bottom in found])
    area, ratio = sides.prod(axis=1) / 1e6, np.log(sides[:, 0] / sides[:, 1])
    assert abs(area.mean() - 0.2) < 0.005
    assert 0.099 < area.min() < 0.103
    assert 0.297 < area.max() < 0.301
    assert abs(ratio.mean()) < 0.01
    # A uniform distribution has the variance of its width squared, over 12.
    assert ratio.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), rel=0.03)
    for axis in range(2):
        places = np.array([box[axis] for box in found]) / (1000 - sides[:, axis])
        assert abs(places.mean() - 0.5) < 0.02


def test_the_middle_is_taken_where_no_crop_fits():
    generator = np.random.default_rng(0)
    narrow = Crop(share=(1.0, 1.0))
    assert crop_box((100, 10), narrow, generator) == (43, 0, 56, 10)
    assert crop_box((10, 100), narrow, generator) == (0, 43, 10, 56)


@pytest.mark.parametrize("width", [40, 300, 1200])
def test_decoding_less_gives_nearly_the_same_crop(tmp_path, width):
    path = saved(tmp_path, picture(width, width * 3 // 4, seed=5), "a.JPEG", quality=95)
    for seed in range(5):
        got = random_crop(path, 24, Crop(), np.random.default_rng(seed))
        image = Image.open(path).convert("RGB")
        box = crop_box(image.size, Crop(), np.random.default_rng(seed))
        want = pixels_of(image.crop(box).resize((24, 24), Image.Resampling.BICUBIC))
        difference = (got.int() - want.int()).abs().float()
        # A shift by a tenth of a pixel shows here. At its edges the crop reads over them, which the
        # one cut out first cannot.
        assert difference.mean() < 0.7
        assert difference.max() <= 6


def test_a_jpeg_is_decoded_at_a_part_of_its_size_where_that_is_enough(tmp_path):
    path = saved(tmp_path, picture(800, 600), "a.JPEG")
    assert open_rgb(path, (100, 75)).size == (100, 75)
    assert open_rgb(path, (101, 75)).size == (200, 150)
    assert open_rgb(path, (801, 601)).size == (800, 600)


@pytest.mark.parametrize("size", [(40, 32), (31, 67), (100, 20), (24, 24)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_the_middle_is_that_of_the_whole_image_resized(tmp_path, size, mode):
    path = saved(tmp_path, picture(*size), "a.png")
    # As it is usually written: resize all, then cut.
    image, shorter = Image.open(path), math.floor(24 / 0.875)
    whole = tuple(int(shorter * side / min(size)) for side in size)
    resized = image.resize(whole, getattr(Image.Resampling, mode.upper()))
    left, top = round((whole[0] - 24) / 2), round((whole[1] - 24) / 2)
    want = pixels_of(resized.crop((left, top, left + 24, top + 24)))
    got = centre_crop(path, 24, 0.875, mode)
    # Pillow rounds its weights, and its numbers between the two directions.
    assert (got.int() - want.int()).abs().max() <= 2


@properties
@given(
    sides=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    size=st.integers(1, 384),
    share=st.sampled_from([0.5, 0.75, 0.875, 1.0]),
)
@example(sides=(103, 206), size=224, share=0.875)
@example(sides=(206, 103), size=224, share=0.875)
def test_the_whole_image_has_the_sides_of_exact_arithmetic(sides, size, share):
    boxes = []

    def resize(image: Image.Image, size: object, mode: object, box: tuple[float, ...]) -> object:
        boxes.append(box)
        return image

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = saved(Path(folder), Image.new("RGB", sides), "a.png")
        patch.setattr(Image.Image, "resize", resize)
        centre_crop(path, size, share, "bicubic")
    ((left, top, right, bottom),) = boxes
    # The box is that of the cut, in pixels of the file: as much smaller as the whole image is.
    got = size * sides[0] / (right - left), size * sides[1] / (bottom - top)
    shorter = math.floor(Fraction(size) / Fraction(share))
    want = tuple(math.floor(shorter * Fraction(side, min(sides))) for side in sides)
    assert got == pytest.approx(want, rel=1e-6)
    if (sides, size) == ((103, 206), 224):
        assert want == (256, 512)


def test_an_image_a_thousand_times_wider_than_high_costs_no_memory(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (30_000, 3)), "a.png")
    assert centre_crop(path, 224, 0.875, "bicubic").shape == (3, 224, 224)


# ## The order of reading


@st.composite
def orders(draw: st.DrawFn) -> Order:
    n, batch = draw(st.integers(1, 30)), draw(st.integers(1, 12))
    return Order(n, batch, draw(st.integers(0, 99)), 0, Part())


@properties
@given(order=orders(), number=st.integers(0, 5))
def test_each_pass_reads_each_image_once(order, number):
    places = itertools.chain.from_iterable(order)
    found = list(itertools.islice(places, number * order.n, (number + 1) * order.n))
    assert sorted(place.image for place in found) == list(range(order.n))


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
    whole = next(iter(Order(order.n, batch, order.seed, step, Part())))
    parts = []
    for rank in range(world):
        own = iter(Order(order.n, batch, order.seed, step, Part(rank, world, accumulate)))
        for _ in range(accumulate):
            parts += next(own)
    assert sorted(parts, key=lambda place: place.row) == whole


def test_passes_and_seeds_differ_in_order():
    def passes(seed: int) -> list[list[int]]:
        order = iter(Order(50, 50, seed, 0, Part()))
        return [[place.image for place in next(order)] for _ in range(4)]

    found = passes(0) + passes(1)
    assert len({tuple(order) for order in found}) == len(found)


places = st.integers(0, 2**20)


@properties
@given(seed=st.integers(0, 99), k=places, step=places, row=places)
def test_no_crop_draws_the_numbers_of_an_order(seed, k, step, row):
    images = Images(Path(), np.array([b"a.png"]), np.zeros(1, dtype=np.int64), ("a",))
    drawn = []

    def crop(path: Path, size: int, crop: Crop, generator: np.random.Generator) -> torch.Tensor:
        drawn.append(generator.permutation(40).tolist())
        return torch.zeros(3, size, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.images.reading.random_crop", crop)
        dataset = TrainingImages(images, 16, Crop(), seed)
        for place in [(0, k, 0), (0, step, row)]:
            assert dataset[place].pixels is not None
    order = Order(40, 40, seed, k, Part())
    passed = [place.image for place in next(iter(order))]
    assert sorted(passed) == list(range(40))
    assert passed not in drawn


# ## Batches


def test_a_batch_has_whole_numbers_and_the_labels_of_its_images(tmp_path):
    images = read_images(image_tree(tmp_path), "train")
    batches = reading(images, batch=6)
    found = [next(batches) for _ in range(3)]  # one pass
    for pixels, labels in found:
        assert pixels.shape == (6, 3, 16, 16)
        assert pixels.dtype == torch.uint8
        assert labels.dtype == torch.int64
    assert sorted(torch.cat([labels for _, labels in found]).tolist()) == sorted(images.labels)


def test_a_resumed_run_reads_the_same_images_with_the_same_crops(tmp_path):
    images = read_images(image_tree(tmp_path), "train")
    through = list(itertools.islice(reading(images), 8))
    resumed = list(itertools.islice(reading(images, step=5), 3))
    for (x, y), (a, b) in zip(through[5:], resumed, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    # The same image comes again after a pass, and is cropped anew.
    assert len({x.numpy().tobytes() for batch, _ in through for x in batch}) == 32


def test_worker_processes_and_any_share_give_the_same_pixels(tmp_path):
    images = read_images(image_tree(tmp_path), "train")
    (tmp_path / "train/c1/3.JPEG").write_bytes(b"no image")
    damaged = Damaged()
    want = torch.cat([x for x, _ in itertools.islice(reading(images), 6)])
    got = reading(images, workers=2, share=Part(accumulate=2), damaged=damaged)
    assert torch.equal(torch.cat([x for x, _ in itertools.islice(got, 12)]), want)
    assert damaged.names == {tmp_path / "train/c1/3.JPEG"}


def test_no_global_state_of_random_numbers_is_touched_or_read(tmp_path):
    images = read_images(image_tree(tmp_path), "train")

    def state() -> tuple[object, ...]:
        numbers = np.random.get_state(legacy=False)["state"]["key"].tobytes()  # noqa: NPY002
        return random.getstate(), numbers, torch.get_rng_state().numpy().tobytes()

    before = state()
    first = next(reading(images))[0]
    assert state() == before
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(next(reading(images))[0], first)


# ## Damaged files


def damage(folder: Path) -> list[Path]:
    """One of each kind."""
    short, other, gone, huge = (folder / f"train/c{k}/{k}.JPEG" for k in (0, 1, 2, 0))
    huge = folder / "train/c0/5.JPEG"
    short.write_bytes(short.read_bytes()[:400])
    other.write_text("no image at all")
    gone.unlink()
    bomb(huge)
    return [short, other, gone, huge]


def test_a_damaged_file_is_named_once_and_another_takes_its_place(tmp_path, capsys):
    images = read_images(image_tree(tmp_path), "train")
    paths = damage(tmp_path)
    damaged = Damaged()
    found = list(itertools.islice(reading(images, batch=6, damaged=damaged), 9))  # three passes
    lines = capsys.readouterr().err.splitlines()
    assert damaged.names == set(paths)
    for path in paths:
        assert len([line for line in lines if line.startswith(f"skipped {path}: ")]) == 1
    assert len(lines) == 4
    assert lines[-1].endswith("(4 so far)")
    again = list(itertools.islice(reading(images, batch=6), 9))
    for (x, y), (a, b) in zip(found, again, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    # Each place is taken by an image with its own label, and is not black.
    assert all(x.float().std() > 0 for x, _ in found)


def test_the_label_is_that_of_the_image_that_took_the_place(tmp_path):
    images = read_images(image_tree(tmp_path, classes=2, train=1), "train")
    (tmp_path / "train/c0/0.JPEG").write_bytes(b"")
    dataset = TrainingImages(images, 16, Crop(), seed=0)
    for row in range(8):
        read = dataset[(0, 0, row)]
        assert read.label == 1
        assert {index for index, _ in read.damaged} == {0}


def test_a_folder_of_nothing_but_damaged_files_ends_the_run(tmp_path):
    images = read_images(image_tree(tmp_path, classes=1, train=1), "train")
    path = tmp_path / "train/c0/0.JPEG"
    path.unlink()
    message = (
        f"data must have images that can be read, got {TRIES} in a row that cannot, such as "
        f"{path}: [Errno 2] No such file or directory: '{path}'"
    )
    assert_raises(lambda: next(reading(images, batch=1)), UserError, message)


def test_a_worker_that_dies_ends_the_run_with_one_sentence(tmp_path):
    images = read_images(image_tree(tmp_path), "train")
    before = set(multiprocessing.active_children())
    batches = reading(images, workers=1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    message = (
        "workers must live as long as the run, got one that died; fewer than 1 need less memory, "
        "and --resume goes on from the last checkpoint"
    )
    assert_raises(lambda: list(itertools.islice(batches, 50)), UserError, message)


# ## Validation


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [2, 5])
def test_the_processes_share_validation_and_wait_for_each_other(tmp_path, world, batch):
    images = read_images(image_tree(tmp_path), "val")
    (tmp_path / "val/c1/1.JPEG").write_bytes(b"no image")
    parts = []
    for rank in range(world):
        options = {"batch": batch, "rank": rank, "world": world, "workers": 0}
        parts.append(
            list(
                validation_batches(
                    images, size=16, share=0.9, mode="bicubic", damaged=Damaged(), **options
                )
            )
        )
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
