"""Images of digits: the files, the order of reading, the models."""

import gzip
import hashlib
import itertools
import struct
import sys
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
    Reading,
    Settings,
    build,
    describe,
    evaluate,
    make_classifier,
    move,
    smoothed_loss,
)
from experiments.engine.devices import BatchSplit
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.images import digits as sources
from experiments.images.digits import Images, load_images, read_idx
from labml_gmlp import GMLPBlock, MixerBlock
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.small_runs import ROOT

FABRIC = Fabric(accelerator="cpu", devices=1)
REAL = ROOT.parent / "shared" / "data"
needs_real_images = pytest.mark.skipif(
    not (REAL / "t10k-images-idx3-ubyte.gz").exists(), reason="needs files of MNIST"
)


def idx(numbers: Any) -> bytes:
    numbers = np.asarray(numbers, np.uint8)
    return (
        struct.pack(f">HBB{numbers.ndim}I", 0, 8, numbers.ndim, *numbers.shape) + numbers.tobytes()
    )


def pair(folder: Path, n: int = 20, side: int = 8) -> tuple[Path, Path, Any, Any]:
    """Files of images and labels, and what is in them."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (n, side, side), dtype=np.uint8)
    labels = random.integers(0, 10, n, dtype=np.uint8)
    (folder / "images").write_bytes(idx(pixels))
    (folder / "labels").write_bytes(gzip.compress(idx(labels)))
    return folder / "images", folder / "labels", pixels, labels


def task_of(folder: Path, layer: str = "gmlp", **changes: Any) -> Task:
    images, labels, _, _ = pair(folder)
    values = {"d_model": 16, "d_ffn": 24, "d_tokens": 8, "n_layers": 2, **changes}
    settings = Settings(images=str(images), labels=str(labels), layer=layer, **values)
    return build(settings, Training(batch=4, steps=10, warmup=1), Launch(data=folder), FABRIC)


# ## IDX


@pytest.mark.parametrize("compressed", [False, True])
@properties
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3), seed=seeds)
def test_what_an_idx_file_holds_is_read_compressed_or_not(
    compressed, shape, seed, tmp_path_factory
):
    numbers = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(numbers)) if compressed else idx(numbers))
    found = read_idx(path, len(shape), "images")
    assert found.dtype == np.uint8
    assert found.shape == tuple(shape)
    assert np.array_equal(found, numbers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with 00000803, got nothing in"),
        (b"\x00\x00", "begins with 00000803, got 0000 in"),
        (idx(np.zeros(3)), "begins with 00000803, got 00000801 in"),
        (b"\x00\x00\x0d\x03" + bytes(99), "begins with 00000803, got 00000d03 in"),
        (b"\x89PNG" + bytes(99), "begins with 00000803, got 89504e47 in"),
        (idx(np.zeros((1, 1, 1)))[:15], "must have a header of 16 bytes, got 15 in"),
        (
            idx(np.zeros((3, 2, 2)))[:-1],
            r"must have 12 bytes after the header, which says \[3, 2, 2\], got 11 in",
        ),
        (
            idx(np.zeros((3, 2, 2))) + b"\x00",
            r"must have 12 bytes after the header, which says \[3, 2, 2\], got 13 in",
        ),
        # Sizes whose product does not fit into 64 bits.
        (
            b"\x00\x00\x08\x03" + b"\xff" * 12,
            f"must have {(2**32 - 1) ** 3} bytes after the header",
        ),
        (
            gzip.compress(idx(np.zeros((3, 2, 2))), mtime=0)[:-9],
            "must be a whole gzip file, got .*/file ",
        ),
        (b"\x1f\x8b" + bytes(30), "must be a whole gzip file, got .*/file "),
        (
            gzip.compress(bytes(50), mtime=0)[:12] + b"\xff" * 20,
            "must be a whole gzip file, got .*/file ",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^images .*{message}") as error:
        read_idx(path, 3, "images")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    path = str(tmp_path / "none")
    message = f"images must be digits, mnist, t10k or the path of an IDX file, got {path!r}"
    assert_raises(lambda: load_images(path, "x", None, tmp_path), ValueError, message)
    message = f"labels must be the path of an IDX file, got {path!r}"
    images = str(pair(tmp_path)[0])
    assert_raises(lambda: load_images(images, path, None, tmp_path), ValueError, message)


# ## Images and labels


def test_files_are_cut_after_the_first_images(tmp_path):
    images, labels, pixels, digits = pair(tmp_path)
    for n_train, want in ((None, 16), (5, 5)):
        found = load_images(str(images), str(labels), n_train, tmp_path)
        assert found.n_train == want
        assert np.array_equal(found.pixels, pixels)
        assert np.array_equal(found.labels, digits)
        assert found.labels.dtype == torch.int64
    assert found.name == str(images)


def test_the_checksum_belongs_to_images_and_labels(tmp_path):
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
        checksums.add(load_images(str(images), str(labels), None, tmp_path).sha256)
    assert len(checksums) == 4


def test_the_digits_of_scikit_learn_need_no_file(tmp_path):
    from sklearn.datasets import load_digits

    found = load_images("digits", None, None, tmp_path)
    theirs = load_digits()
    assert found.pixels.shape == (1_797, 8, 8)
    assert found.n_train == 1_438
    assert np.array_equal(found.labels, theirs.target)
    assert np.abs(found.pixels.numpy() / 255 - theirs.images / 16).max() < 1 / 255
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)


@needs_real_images
def test_the_test_files_of_mnist_are_what_their_checksums_say(tmp_path):
    names = [name for name in sources.MNIST_SHA256 if name.startswith("t10k")]
    for name in names:
        found = hashlib.sha256((REAL / name).read_bytes()).hexdigest()
        assert found == sources.MNIST_SHA256[name]
    found = load_images(*(str(REAL / name) for name in names), 8_000, tmp_path)
    assert found.pixels.shape == (10_000, 28, 28)
    assert found.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert load_images("t10k", None, None, REAL).sha256 == found.sha256
    assert load_images("t10k", None, None, REAL).n_train == 8_000
    assert found.labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_mnist_is_downloaded_once_and_cut_as_it_came(tmp_path, monkeypatch):
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
    monkeypatch.setattr(sources, "MNIST", source.as_uri() + "/")
    monkeypatch.setattr(sources, "MNIST_SHA256", sums)
    found = load_images("mnist", None, None, data)
    assert found.n_train == 7
    assert found.pixels[:, 0, 0].tolist() == [1] * 7 + [3] * 3
    assert found.labels.tolist() == [2] * 7 + [4] * 3
    monkeypatch.setattr(urllib.request, "urlopen", None)
    tested = load_images("t10k", None, 2, data)
    assert (tested.n_train, tested.labels.tolist()) == (2, [4] * 3)
    assert load_images("mnist", None, None, data).sha256 == found.sha256
    damaged = data / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=rf"^images file {damaged} must have the SHA-256 "):
        load_images("mnist", None, None, data)


@pytest.mark.parametrize(
    ("images", "labels", "n_train", "message"),
    [
        ("digits", "x", None, "labels must be left out with images='digits', got 'x'"),
        ("mnist", "x", None, "labels must be left out with images='mnist', got 'x'"),
        ("t10k", "x", None, "labels must be left out with images='t10k', got 'x'"),
        ("mnist", None, 9, "train must be left out with images='mnist', got 9"),
        ("digits", None, 0, "train must leave images on both sides of 1797 in all, got 0"),
        ("digits", None, 1797, "train must leave images on both sides of 1797 in all, got 1797"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, labels, n_train, message, tmp_path):
    assert_raises(lambda: load_images(images, labels, n_train, tmp_path), ValueError, message)


def test_labels_must_be_digits_and_as_many_as_the_images(tmp_path):
    images, labels, _, _ = pair(tmp_path)
    message = f"labels must be the path of an IDX file beside {images}, got none"
    assert_raises(lambda: load_images(str(images), None, None, tmp_path), ValueError, message)
    labels.write_bytes(idx(np.zeros(19)))
    message = "labels must be as many as the images, 20, got 19"
    assert_raises(
        lambda: load_images(str(images), str(labels), None, tmp_path), ValueError, message
    )
    labels.write_bytes(idx(np.arange(20)))
    message = "labels must lie in [0, 10), got 19"
    assert_raises(
        lambda: load_images(str(images), str(labels), None, tmp_path), ValueError, message
    )


def test_no_images_are_too_few(tmp_path):
    images, labels, _, _ = pair(tmp_path, n=0)
    message = "train must leave images on both sides of 0 in all, got 0"
    assert_raises(
        lambda: load_images(str(images), str(labels), None, tmp_path), ValueError, message
    )


def test_without_scikit_learn_its_digits_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        ValueError, match=r"^images must be mnist, t10k or .* pip install scikit-learn$"
    ):
        load_images("digits", None, None, tmp_path)


# ## The order of reading


def shades(n: int, n_train: int) -> Images:
    """Each image has one grey of its own, which its label tells too."""
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None].expand(n, 3, 3).clone()
    return Images("shades", "", pixels, torch.arange(n), n_train)


def whole(reading: Reading, step: int) -> tuple[Tensor, Tensor]:
    return reading.at(step, range(reading.batch))


@properties
@given(n=st.integers(2, 20), batch=st.integers(1, 30), seed=st.integers(0, 2**31 - 1))
def test_each_pass_reads_each_training_image_once_with_its_label(n, batch, seed):
    reading = Reading(shades(n + 5, n), 0, batch, seed)
    labels, pixels = [], []
    while len(labels) < 3 * n:
        images, found = whole(reading, len(labels) // batch)
        assert images.shape == (batch, 1, 3, 3)
        pixels += (images[:, 0, 1, 1] * reading.deviation + reading.mean).round().tolist()
        labels += found.tolist()
    assert pixels == labels
    for k in range(3):
        assert sorted(labels[k * n : (k + 1) * n]) == list(range(n))
    if n > 12:
        assert labels[:n] != labels[n : 2 * n]


def test_rows_follow_from_seed_step_and_row_alone():
    images = Images(
        "noise", "", torch.randint(256, (50, 6, 6), dtype=torch.uint8), torch.arange(50), 40
    )
    first = whole(Reading(images, 2, 12, 3), 7)
    again = Reading(images, 2, 12, 3)
    whole(again, 0)
    torch.rand(1)
    parts = [again.at(7, range(a, a + 4)) for a in (8, 0, 4)]
    assert torch.equal(torch.cat([parts[k][0] for k in (1, 2, 0)]), first[0])
    assert torch.equal(torch.cat([parts[k][1] for k in (1, 2, 0)]), first[1])
    other = whole(Reading(images, 2, 12, 4), 7)
    assert not torch.equal(other[1], first[1])


def test_images_move_by_each_distance_and_no_further():
    pixels = torch.zeros(10, 9, 9, dtype=torch.uint8)
    pixels[:, 4, 4] = 255
    reading = Reading(Images("dots", "", pixels, torch.zeros(10).long(), 9), 2, 500, 0)
    images, _ = whole(reading, 0)
    places = images[:, 0].flatten(1).argmax(1)
    found = {(int(p) // 9 - 4, int(p) % 9 - 4) for p in places}
    assert found == set(itertools.product(range(-2, 3), repeat=2))


@properties
@given(down=st.integers(-5, 5), right=st.integers(-5, 5))
def test_a_moved_image_is_the_image_elsewhere_over_background(down, right):
    image = torch.arange(1, 21).view(4, 5)
    want = torch.zeros_like(image)
    for i, j in itertools.product(range(4), range(5)):
        if 0 <= i + down < 4 and 0 <= j + right < 5:
            want[i + down, j + right] = image[i, j]
    assert torch.equal(move(image, down, right), want)


def test_training_images_have_mean_0_and_variance_1_and_the_others_are_scaled_alike(tmp_path):
    images = load_images("digits", None, None, tmp_path)
    reading = Reading(images, 0, 8, 0)
    scaled = reading.normalised(reading.pixels)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-4)
    assert scaled.std().item() == pytest.approx(1, abs=1e-4)
    flat = Reading(shades(1, 1), 0, 1, 0)
    assert torch.isfinite(flat.normalised(flat.pixels)).all()


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


def test_the_variants_have_about_as_many_parameters():
    for side, want in (((28, 28), {"gmlp": 112_786, "mixer": 111_549}), ((8, 8), None)):
        counts = {}
        for layer, (settings, training) in DEFAULTS.items():
            with torch.device("meta"):
                model = make_classifier(settings, side, seed=0)
            counts[layer] = sum(p.numel() for p in model.parameters())
            assert settings.layer == layer
            # Ten passes over 8,000 images.
            assert training.batch * training.steps == 80_000
        assert want is None or counts == want
        assert list(counts) == list(LAYERS)
    assert max(counts.values()) / min(counts.values()) < 1.1


@pytest.mark.parametrize(("layer", "block"), [("gmlp", GMLPBlock), ("mixer", MixerBlock)])
def test_a_model_has_the_block_of_its_name_and_patches_by_its_size(layer, block):
    settings = Settings(layer=layer, n_layers=2, d_model=16, d_ffn=24)
    for side, n in (((28, 28), 49), ((8, 8), 16), ((16, 20), 20)):
        model = make_classifier(settings, side, seed=0, checkpoint_layers=True)
        assert [type(b) for b in model.encoder.layers] == [block] * 2
        assert model.encoder.checkpoint_layers
        assert model.n_patches == n


def test_a_patch_must_divide_the_image(tmp_path):
    message = "patch_size must divide image_size=(8, 8), got (3, 3)"
    assert_raises(lambda: task_of(tmp_path, patch_size=3), ValueError, message)


class Fixed(nn.Module):
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
    model = Fixed(logits)
    smoothed = -((0.8 * y + 0.02) * log_p).sum(1).mean()
    assert smoothed_loss(0.2)(model, (images, labels)).item() == pytest.approx(smoothed, abs=1e-5)
    found = evaluate(model, FABRIC, (images, labels))
    assert found["nats"] == pytest.approx(-(y * log_p).sum(1).mean(), abs=1e-5)
    assert found["error"] == pytest.approx((log_p.argmax(1) != labels.numpy()).mean(), abs=1e-12)
    assert describe({"error": 0.025, "nats": 0.125}) == "2.50% wrong, 0.1250 nats per image"


@pytest.mark.parametrize("layer", LAYERS)
def test_every_variant_starts_undecided_and_learns_the_digits_of_scikit_learn(layer, tmp_path):
    settings = Settings(layer=layer, d_model=32, d_ffn=64, n_layers=2, shift=0)
    task = build(settings, Training(batch=32, steps=150, warmup=1), Launch(data=tmp_path), FABRIC)
    assert task.monitor == "error"
    assert task.about == "digits: 1,438 images of 8 x 8 to train, 359 held out"
    assert list(task.data) == ["name", "sha256", "train"]
    before = task.evaluate(task.model, FABRIC)
    assert before["nats"] == pytest.approx(np.log(10), abs=1e-5)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    for batch in itertools.islice(task.batches(0, BatchSplit()), 150):
        optimizer.zero_grad()
        task.loss(task.model, batch).backward()
        optimizer.step()
    after = task.evaluate(task.model, FABRIC)
    assert after["error"] < 0.15
    assert "wrong" in task.describe(after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "amlp"}, "layer must be gmlp or mixer, got 'amlp'"),
        ({"d_tokens": 0}, "d_tokens must be above 0, got 0"),
        ({"train": 0}, "train must be above 0, got 0"),
        ({"patch_size": -1}, "patch_size must be above 0, got -1"),
        ({"shift": -1}, "shift must be at least 0, got -1"),
        ({"smoothing": 1.0}, "smoothing must lie in [0, 1), got 1.0"),
    ],
)
def test_a_bad_setting_is_refused(change, message):
    assert_raises(lambda: Settings(**change), ValueError, message)
