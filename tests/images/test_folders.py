"""Finding image files: class folders and lists."""

from pathlib import Path

import numpy as np
import pytest

from experiments.images.folders import ImageFiles, find_images
from tests.support.helpers import assert_raises


def write_list(folder: Path, text: str, split: str = "train") -> Path:
    (folder / f"{split}_list.txt").write_text(text, encoding="utf-8")
    return folder


def names(images: ImageFiles) -> list[str]:
    return [str(images.path(k).relative_to(images.root)) for k in range(len(images))]


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


# ## Folders


def test_classes_are_numbered_alphabetically(tmp_path):
    touch(tmp_path, "train/n02/b.JPEG", "train/n10/a.jpg", "train/n01/z.png", "train/n02/a.JPEG")
    images = find_images(tmp_path, "train")
    assert images.classes == ("n01", "n02", "n10")
    assert names(images) == ["n01/z.png", "n02/a.JPEG", "n02/b.JPEG", "n10/a.jpg"]
    assert images.labels.tolist() == [0, 1, 1, 2]
    assert images.labels.dtype == np.int64
    assert images.path(0) == tmp_path / "train" / "n01" / "z.png"


def test_other_files_and_hidden_files_are_ignored(tmp_path):
    touch(tmp_path, "train/a/1.JPEG", "train/a/._1.JPEG", "train/a/notes.txt", "train/.cache/1.png")
    touch(tmp_path, "train/readme.png")
    assert names(find_images(tmp_path, "train")) == ["a/1.JPEG"]


def test_names_may_use_any_alphabet(tmp_path):
    touch(tmp_path, "train/\u732b/photo \u00e9.JPEG")
    assert find_images(tmp_path, "train").path(0).exists()


def test_validation_uses_the_classes_of_training_and_may_lack_some(tmp_path):
    touch(tmp_path, "val/b/1.png")
    (tmp_path / "val" / "c").mkdir()
    images = find_images(tmp_path, "val", ("a", "b", "c"))
    assert images.classes == ("a", "b", "c")
    assert images.labels.tolist() == [1]


def test_the_checksum_covers_names_and_labels(tmp_path):
    touch(tmp_path / "one", "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/2.png")
    touch(tmp_path / "two", "train/a/1.png", "train/b/1.png")
    one, two = (find_images(tmp_path / name, "train") for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert one.sha256 != find_images(tmp_path / "one", "val").sha256
    touch(tmp_path / "two", "train/b/2.png")
    (tmp_path / "two/train/a/1.png").rename(tmp_path / "two/train/a/2.png")
    (tmp_path / "two/train/b/2.png").unlink()
    assert find_images(tmp_path / "two", "train").sha256 != one.sha256
    (tmp_path / "one_list").mkdir()
    lists = []
    for text in ("a.png 0\nb.png 1\n", "a.png 1\nb.png 0\n"):
        lists.append(find_images(write_list(tmp_path / "one_list", text), "train").sha256)
    assert lists[0] != lists[1]


# ## Lists


def test_the_label_is_the_last_word_and_a_path_may_contain_spaces(tmp_path):
    write_list(tmp_path, "train/a b.JPEG 1\n\ntrain/c.JPEG\t0\r\n  d  e.png   1  ")
    images = find_images(tmp_path, "train")
    assert names(images) == ["train/a b.JPEG", "train/c.JPEG", "d  e.png"]
    assert images.labels.tolist() == [1, 0, 1]
    assert images.classes == ("0", "1")


def test_a_list_takes_precedence_over_folders(tmp_path):
    touch(tmp_path, "train/a/1.png", "train/b/1.png")
    write_list(tmp_path, "train/b/1.png 0\n")
    assert names(find_images(tmp_path, "train")) == ["train/b/1.png"]


# ## Errors


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["list", "at least one"]),
        ("a.png\n", ["line", "a path and a label", "'a.png'", "line 1"]),
        ("a.png 0\n7\n", ["line", "a path and a label", "'7'", "line 2"]),
        ("a.png cat", ["label", "non-negative integer", "'cat'", "line 1"]),
        ("a.png -1", ["label", "non-negative integer", "'-1'", "line 1"]),
        ("a.png 1.0", ["label", "non-negative integer", "'1.0'", "line 1"]),
        ("a.png \u0663", ["label", "non-negative integer", "'\u0663'", "line 1"]),
        # By default, Python parses no integer of more than 4,300 digits.
        ("a.png " + "9" * 5000, ["label", "non-negative integer", f"'{'9' * 20}'", "line 1"]),
        ("a.png 0\n\nb.png 2\n", ["labels", "consecutive", "no 1"]),
        (f"a.png {10**8}", ["labels", "consecutive", "no 0"]),
    ],
)
def test_a_bad_list_is_rejected_with_the_line(tmp_path, text, parts):
    write_list(tmp_path, text)
    where = tmp_path / "train_list.txt"
    assert_raises(lambda: find_images(tmp_path, "train"), ValueError, *parts, where)


def test_a_label_outside_the_classes_is_rejected_with_the_line(tmp_path):
    write_list(tmp_path, "a.png 1\nb.png 3\n", "val")
    assert find_images(tmp_path, "val", "abcd").labels.tolist() == [1, 3]
    assert_raises(
        lambda: find_images(tmp_path, "val", "abc"),
        *(ValueError, "label", "below 3", "got 3", tmp_path / "val_list.txt", "line 2"),
    )


def test_a_list_that_is_not_utf_8_is_rejected(tmp_path):
    (tmp_path / "train_list.txt").write_bytes(b"caf\xe9.png 0\n")
    where = tmp_path / "train_list.txt"
    assert_raises(lambda: find_images(tmp_path, "train"), ValueError, "list", "UTF-8", where)


def test_a_missing_folder_is_named(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert_raises(lambda: find_images(nowhere, "train"), ValueError, "data", nowhere, "--data")
    assert_raises(
        lambda: find_images(tmp_path, "train"),
        *(ValueError, "data", "train/CLASS", "train_list.txt", tmp_path),
    )


def test_an_empty_split_and_an_empty_class_are_named(tmp_path):
    train = tmp_path / "train"
    train.mkdir()
    assert_raises(lambda: find_images(tmp_path, "train"), ValueError, "data", "class", train)
    touch(tmp_path, "train/a/1.png", "train/b/notes.txt")
    assert_raises(lambda: find_images(tmp_path, "train"), ValueError, "class", "one", train / "b")
    val = tmp_path / "val"
    (val / "a").mkdir(parents=True)
    assert_raises(lambda: find_images(tmp_path, "val", ("a",)), ValueError, "data", "one", val)


def test_a_class_unknown_to_the_model_is_named(tmp_path):
    touch(tmp_path, "val/a/1.png", "val/zebra/1.png")
    zebra = tmp_path / "val" / "zebra"
    assert_raises(lambda: find_images(tmp_path, "val", ("a", "b")), ValueError, "class", 2, zebra)
