"""The digits experiment: files, order of images, models, loss."""

import gzip
import hashlib
import itertools
import struct
import sys
import typing
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.digits import (
    DEFAULTS,
    LAYERS,
    DigitBatches,
    DigitsSettings,
    build,
    describe,
    evaluate,
    make_classifier,
    shift_image,
    smoothed_loss,
)
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.order import BatchSplit
from experiments.images import digits as sources
from experiments.images.digits import DigitImages, load_digit_images, read_idx
from labml_gmlp import GMLPBlock, MixerBlock
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.small_runs import ROOT

FABRIC = Fabric(accelerator="cpu", devices=1)
REAL = ROOT.parent / "shared" / "data"
needs_real_images = pytest.mark.skipif(
    not (REAL / "t10k-images-idx3-ubyte.gz").exists(), reason="needs files of MNIST"
)


def idx(numbers: Any) -> bytes:
    """An array as the bytes of an IDX file."""
    numbers = np.asarray(numbers, np.uint8)
    return (
        struct.pack(f">HBB{numbers.ndim}I", 0, 8, numbers.ndim, *numbers.shape) + numbers.tobytes()
    )


def pair(folder: Path, n: int = 20, side: int = 8) -> tuple[Path, Path, Any, Any]:
    """Writes random images and labels; returns the two paths and the two arrays."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (n, side, side), dtype=np.uint8)
    labels = random.integers(0, 10, n, dtype=np.uint8)
    (folder / "images").write_bytes(idx(pixels))
    (folder / "labels").write_bytes(gzip.compress(idx(labels)))
    return folder / "images", folder / "labels", pixels, labels


def task_of(folder: Path, layer: str = "gmlp", **changes: Any) -> Task:
    images, labels, _, _ = pair(folder)
    values = {"d_model": 16, "d_ffn": 24, "d_tokens": 8, "n_layers": 2, **changes}
    settings = DigitsSettings(images=str(images), labels=str(labels), layer=layer, **values)
    return build(settings, Training(batch=4, steps=10, warmup=1), Launch(data=folder), FABRIC)


# ## IDX


@pytest.mark.parametrize("compressed", [False, True])
@properties
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3), seed=seeds)
def test_an_idx_file_is_read_compressed_or_not(compressed, shape, seed, tmp_path_factory):
    numbers = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(numbers)) if compressed else idx(numbers))
    found = read_idx(path, len(shape), "images")
    assert found.dtype == np.uint8
    assert found.shape == tuple(shape)
    assert np.array_equal(found, numbers)


BYTES = idx(np.zeros((3, 2, 2)))
GZIP = "complete gzip file"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["00000803", "got nothing"]),
        (b"\x00\x00", ["00000803", "got 0000"]),
        (idx(np.zeros(3)), ["00000803", "got 00000801"]),
        (b"\x00\x00\x0d\x03" + bytes(99), ["00000803", "got 00000d03"]),
        (b"\x89PNG" + bytes(99), ["00000803", "got 89504e47"]),
        (BYTES[:15], ["header", 16, "got 15"]),
        (BYTES[:-1], ["12 bytes", "[3, 2, 2]", "got 11"]),
        (BYTES + b"\x00", ["12 bytes", "[3, 2, 2]", "got 13"]),
        # Sizes whose product does not fit into 64 bits.
        (b"\x00\x00\x08\x03" + b"\xff" * 12, [f"{(2**32 - 1) ** 3} bytes"]),
        (gzip.compress(BYTES, mtime=0)[:-9], [GZIP]),
        (b"\x1f\x8b" + bytes(30), [GZIP]),
        (gzip.compress(bytes(50), mtime=0)[:12] + b"\xff" * 20, [GZIP]),
    ],
)
def test_a_damaged_file_is_rejected_in_one_sentence(content, parts, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert_raises(lambda: read_idx(path, 3, "images"), ValueError, "images", path, *parts)


def test_a_missing_file_is_rejected(tmp_path):
    path = str(tmp_path / "none")
    assert_raises(
        lambda: load_digit_images(path, "x", None, tmp_path),
        *(ValueError, "images", "digits, mnist, t10k", "IDX", repr(path)),
    )
    images = str(pair(tmp_path)[0])
    assert_raises(
        lambda: load_digit_images(images, path, None, tmp_path),
        *(ValueError, "labels", "IDX", repr(path)),
    )


# ## Images and labels


def test_the_first_images_are_for_training(tmp_path):
    images, labels, pixels, digits = pair(tmp_path)
    for n_train, want in ((None, 16), (5, 5)):
        found = load_digit_images(str(images), str(labels), n_train, tmp_path)
        assert found.n_train == want
        assert np.array_equal(found.pixels, pixels)
        assert np.array_equal(found.labels, digits)
        assert found.labels.dtype == torch.int64
    assert found.name == str(images)


def test_the_checksum_covers_images_and_labels(tmp_path):
    images, labels, pixels, digits = pair(tmp_path)
    checksums = set()
    for changed_pixels, changed_labels in (
        (pixels, digits),
        (255 - pixels, digits),
        (pixels, 9 - digits),
        (pixels.reshape(20, 4, 16), digits),
    ):
        images.write_bytes(idx(changed_pixels))
        labels.write_bytes(idx(changed_labels))
        checksums.add(load_digit_images(str(images), str(labels), None, tmp_path).sha256)
    assert len(checksums) == 4


def test_the_digits_of_scikit_learn_need_no_file(tmp_path):
    from sklearn.datasets import load_digits

    found = load_digit_images("digits", None, None, tmp_path)
    theirs = load_digits()
    assert found.pixels.shape == (1_797, 8, 8)
    assert found.n_train == 1_438
    assert np.array_equal(found.labels, theirs.target)
    assert np.abs(found.pixels.numpy() / 255 - theirs.images / 16).max() < 1 / 255
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)


@needs_real_images
def test_the_test_files_of_mnist_have_their_checksums(tmp_path):
    names = [name for name in sources.MNIST_SHA256 if name.startswith("t10k")]
    for name in names:
        found = hashlib.sha256((REAL / name).read_bytes()).hexdigest()
        assert found == sources.MNIST_SHA256[name]
    found = load_digit_images(*(str(REAL / name) for name in names), 8_000, tmp_path)
    assert found.pixels.shape == (10_000, 28, 28)
    assert found.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert load_digit_images("t10k", None, None, REAL).sha256 == found.sha256
    assert load_digit_images("t10k", None, None, REAL).n_train == 8_000
    assert found.labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_mnist_is_downloaded_once_and_keeps_its_split(tmp_path, monkeypatch):
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    contents = {
        "train-images-idx3-ubyte.gz": np.full((7, 4, 4), 1),
        "train-labels-idx1-ubyte.gz": np.full(7, 2),
        "t10k-images-idx3-ubyte.gz": np.full((3, 4, 4), 3),
        "t10k-labels-idx1-ubyte.gz": np.full(3, 4),
    }
    sums = {}
    for name, numbers in contents.items():
        (source / name).write_bytes(gzip.compress(idx(numbers)))
        sums[name] = hashlib.sha256((source / name).read_bytes()).hexdigest()
    assert sums.keys() == sources.MNIST_SHA256.keys()
    monkeypatch.setattr(sources, "MNIST_URL", source.as_uri() + "/")
    monkeypatch.setattr(sources, "MNIST_SHA256", sums)
    found = load_digit_images("mnist", None, None, data)
    assert found.n_train == 7
    assert found.pixels[:, 0, 0].tolist() == [1] * 7 + [3] * 3
    assert found.labels.tolist() == [2] * 7 + [4] * 3
    monkeypatch.setattr(urllib.request, "urlopen", None)
    tested = load_digit_images("t10k", None, 2, data)
    assert (tested.n_train, tested.labels.tolist()) == (2, [4] * 3)
    assert load_digit_images("mnist", None, None, data).sha256 == found.sha256
    damaged = data / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"damaged")
    assert_raises(
        lambda: load_digit_images("mnist", None, None, data),
        *(ValueError, "images", damaged, "SHA-256"),
    )


@pytest.mark.parametrize(
    ("images", "labels", "n_train", "parts"),
    [
        ("digits", "x", None, ["labels", "'digits'", "'x'"]),
        ("mnist", "x", None, ["labels", "'mnist'", "'x'"]),
        ("t10k", "x", None, ["labels", "'t10k'", "'x'"]),
        ("mnist", None, 9, ["train", "'mnist'", "got 9"]),
        ("digits", None, 0, ["train", "[1, 1797)", "got 0"]),
        ("digits", None, 1797, ["train", "[1, 1797)", "got 1797"]),
    ],
)
def test_arguments_that_do_not_fit_together_are_rejected(images, labels, n_train, parts, tmp_path):
    assert_raises(lambda: load_digit_images(images, labels, n_train, tmp_path), ValueError, *parts)


def test_labels_must_be_digits_and_as_many_as_the_images(tmp_path):
    images, labels, _, _ = pair(tmp_path)

    def load(labels: Path | None) -> DigitImages:
        return load_digit_images(str(images), labels and str(labels), None, tmp_path)

    assert_raises(lambda: load(None), ValueError, "labels", images, "None")
    labels.write_bytes(idx(np.zeros(19)))
    assert_raises(lambda: load(labels), ValueError, "labels", 20, "got 19")
    labels.write_bytes(idx(np.arange(20)))
    assert_raises(lambda: load(labels), ValueError, "labels", "[0, 10)", "got 19")
    labels.write_bytes(idx(np.zeros(0)))
    images.write_bytes(idx(np.zeros((0, 8, 8))))
    assert_raises(lambda: load(labels), ValueError, "train", "[1, 0)", "got 0")


def test_without_scikit_learn_its_digits_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert_raises(
        lambda: load_digit_images("digits", None, None, tmp_path),
        *(ValueError, "images", "mnist, t10k", "'digits'", "pip install scikit-learn"),
    )


# ## Order and shifts


def grey_images(n: int, n_train: int) -> DigitImages:
    """Image k has the constant grey k and the label k."""
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None].expand(n, 3, 3).clone()
    return DigitImages("grey", "", pixels, torch.arange(n), n_train)


def whole_batch(order: DigitBatches, step: int) -> tuple[Tensor, Tensor]:
    return order.at(step, range(order.batch))


@properties
@given(n=st.integers(2, 20), batch=st.integers(1, 30), seed=st.integers(0, 2**31 - 1))
def test_each_epoch_reads_each_training_image_once_with_its_label(n, batch, seed):
    order = DigitBatches(grey_images(n + 5, n), 0, batch, seed)
    labels, pixels = [], []
    while len(labels) < 3 * n:
        images, found = whole_batch(order, len(labels) // batch)
        assert images.shape == (batch, 1, 3, 3)
        pixels += (images[:, 0, 1, 1] * order.std + order.mean).round().tolist()
        labels += found.tolist()
    assert pixels == labels
    for k in range(3):
        assert sorted(labels[k * n : (k + 1) * n]) == list(range(n))
    if n > 12:
        assert labels[:n] != labels[n : 2 * n]


def test_rows_depend_only_on_seed_step_and_row():
    images = DigitImages(
        "noise", "", torch.randint(256, (50, 6, 6), dtype=torch.uint8), torch.arange(50), 40
    )
    first = whole_batch(DigitBatches(images, 2, 12, 3), 7)
    again = DigitBatches(images, 2, 12, 3)
    whole_batch(again, 0)
    torch.rand(1)
    parts = [again.at(7, range(a, a + 4)) for a in (8, 0, 4)]
    assert torch.equal(torch.cat([parts[k][0] for k in (1, 2, 0)]), first[0])
    assert torch.equal(torch.cat([parts[k][1] for k in (1, 2, 0)]), first[1])
    other = whole_batch(DigitBatches(images, 2, 12, 4), 7)
    assert not torch.equal(other[1], first[1])


def test_images_are_shifted_by_every_distance_up_to_the_largest():
    pixels = torch.zeros(10, 9, 9, dtype=torch.uint8)
    pixels[:, 4, 4] = 255
    order = DigitBatches(DigitImages("dots", "", pixels, torch.zeros(10).long(), 9), 2, 500, 0)
    images, _ = whole_batch(order, 0)
    positions = images[:, 0].flatten(1).argmax(1)
    found = {(int(p) // 9 - 4, int(p) % 9 - 4) for p in positions}
    assert found == set(itertools.product(range(-2, 3), repeat=2))


@properties
@given(down=st.integers(-5, 5), right=st.integers(-5, 5))
def test_a_shifted_image_is_filled_with_background(down, right):
    image = torch.arange(1, 21).view(4, 5)
    want = torch.zeros_like(image)
    for i, j in itertools.product(range(4), range(5)):
        if 0 <= i + down < 4 and 0 <= j + right < 5:
            want[i + down, j + right] = image[i, j]
    assert torch.equal(shift_image(image, down, right), want)


def test_training_images_are_normalised_to_mean_0_and_variance_1(tmp_path):
    images = load_digit_images("digits", None, None, tmp_path)
    order = DigitBatches(images, 0, 8, 0)
    scaled = order.normalise(order.pixels)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-4)
    assert scaled.std().item() == pytest.approx(1, abs=1e-4)
    flat = DigitBatches(grey_images(1, 1), 0, 1, 0)
    assert torch.isfinite(flat.normalise(flat.pixels)).all()


@pytest.mark.parametrize(("world", "accumulate"), [(1, 2), (2, 1), (2, 2)])
def test_any_number_of_processes_reads_the_same_batch(world, accumulate, tmp_path):
    task = task_of(tmp_path)
    images, labels = next(itertools.islice(task.batches(2, BatchSplit()), 1, None))
    found = []
    for k in range(accumulate):
        for rank in range(world):
            parts = task.batches(3, BatchSplit(rank, world, accumulate))
            found.append(next(itertools.islice(parts, k, None)))
    assert torch.equal(torch.cat([part[0] for part in found]), images)
    assert torch.equal(torch.cat([part[1] for part in found]), labels)


# ## Models, loss, evaluation


def test_the_variants_have_about_equally_many_parameters():
    for side, want in (((28, 28), {"gmlp": 112_786, "mixer": 111_549}), ((8, 8), None)):
        counts = {}
        for layer, (settings, training) in DEFAULTS.items():
            with torch.device("meta"):
                model = make_classifier(settings, side, seed=0)
            counts[layer] = sum(p.numel() for p in model.parameters())
            assert settings.layer == layer
            # Ten epochs of 8,000 images.
            assert training.batch * training.steps == 80_000
        assert want is None or counts == want
        assert list(counts) == list(LAYERS)
    assert max(counts.values()) / min(counts.values()) < 1.1


@pytest.mark.parametrize(("layer", "block"), [("gmlp", GMLPBlock), ("mixer", MixerBlock)])
def test_a_model_has_the_block_of_its_name_and_patches_by_its_size(layer, block):
    settings = DigitsSettings(layer=layer, n_layers=2, d_model=16, d_ffn=24)
    for side, n in (((28, 28), 49), ((8, 8), 16), ((16, 20), 20)):
        model = make_classifier(settings, side, seed=0, checkpoint_layers=True)
        assert [type(b) for b in model.encoder.layers] == [block] * 2
        assert model.encoder.checkpoint_layers
        assert model.n_patches == n


def test_a_patch_must_divide_the_image(tmp_path):
    assert_raises(
        lambda: task_of(tmp_path, patch_size=3), ValueError, "patch_size", "(8, 8)", "got (3, 3)"
    )


class FixedLogits(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


def test_the_loss_is_smoothed_and_the_evaluation_is_not():
    torch.manual_seed(0)
    logits, labels, images = torch.randn(40, 10), torch.randint(10, (40,)), torch.zeros(40, 1, 8, 8)
    log_p = logits.double().log_softmax(-1).numpy()
    y = np.eye(10)[labels]
    model = FixedLogits(logits)
    smoothed = -((0.8 * y + 0.02) * log_p).sum(1).mean()
    assert smoothed_loss(0.2)(model, (images, labels)).item() == pytest.approx(smoothed, abs=1e-5)
    found = evaluate(model, FABRIC, (images, labels))
    assert found["nats"] == pytest.approx(-(y * log_p).sum(1).mean(), abs=1e-5)
    assert found["error"] == pytest.approx((log_p.argmax(1) != labels.numpy()).mean(), abs=1e-12)
    assert describe({"error": 0.025, "nats": 0.125}) == "2.50% wrong, 0.1250 nats per image"


@pytest.mark.parametrize("layer", LAYERS)
def test_every_variant_starts_at_chance_and_learns_the_digits_of_scikit_learn(layer, tmp_path):
    settings = DigitsSettings(layer=layer, d_model=32, d_ffn=64, n_layers=1, shift=0)
    task = build(settings, Training(batch=32, steps=100, warmup=1), Launch(data=tmp_path), FABRIC)
    assert task.monitor == "error"
    assert task.about == "digits: 1,438 training images of 8 x 8, 359 held out"
    assert list(task.data) == ["name", "sha256", "train"]
    before = task.evaluate(task.model, FABRIC)
    assert before["nats"] == pytest.approx(np.log(10), abs=1e-5)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2)
    for batch in itertools.islice(task.batches(0, BatchSplit()), 100):
        optimizer.zero_grad()
        task.loss(task.model, batch).backward()
        optimizer.step()
    after = task.evaluate(task.model, FABRIC)
    assert after["error"] < 0.3
    assert "wrong" in task.describe(after)


def test_each_layer_of_the_settings_has_a_builder():
    assert typing.get_args(typing.get_type_hints(DigitsSettings)["layer"]) == tuple(LAYERS)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"d_tokens": 0}, ["d_tokens", "above 0", "got 0"]),
        ({"train": 0}, ["train", "above 0", "got 0"]),
        ({"patch_size": -1}, ["patch_size", "above 0", "got -1"]),
        ({"shift": -1}, ["shift", "at least 0", "got -1"]),
        ({"smoothing": 1.0}, ["smoothing", "[0, 1)", "got 1.0"]),
    ],
)
def test_a_bad_setting_is_rejected(change, parts):
    assert_raises(lambda: DigitsSettings(**change), ValueError, *parts)
