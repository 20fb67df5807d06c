"""Which images there are: folders of classes, and lists."""

from pathlib import Path

import numpy as np
import pytest

from experiments.images.folders import Images, read_images
from tests.support.helpers import assert_raises
from tests.support.image_trees import image_tree


def listed(folder: Path, text: str, part: str = "train") -> Path:
    (folder / f"{part}_list.txt").write_text(text, encoding="utf-8")
    return folder


def names(images: Images) -> list[str]:
    return [str(images.path(k).relative_to(images.root)) for k in range(len(images))]


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


# ## Folders


def test_classes_are_numbered_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "train/n02/b.JPEG", "train/n10/a.jpg", "train/n01/z.png", "train/n02/a.JPEG")
    images = read_images(tmp_path, "train")
    assert images.classes == ("n01", "n02", "n10")
    assert names(images) == ["n01/z.png", "n02/a.JPEG", "n02/b.JPEG", "n10/a.jpg"]
    assert images.labels.tolist() == [0, 1, 1, 2]
    assert images.labels.dtype == np.int64
    assert images.path(0) == tmp_path / "train" / "n01" / "z.png"


def test_other_files_and_names_with_a_dot_in_front_are_no_images(tmp_path):
    touch(tmp_path, "train/a/1.JPEG", "train/a/._1.JPEG", "train/a/notes.txt", "train/.cache/1.png")
    touch(tmp_path, "train/readme.png")
    assert names(read_images(tmp_path, "train")) == ["a/1.JPEG"]


def test_names_may_be_of_any_alphabet(tmp_path):
    touch(tmp_path, "train/\u732b/photo \u00e9.JPEG")
    assert read_images(tmp_path, "train").path(0).exists()


def test_validation_takes_the_classes_of_training_and_may_lack_some(tmp_path):
    touch(tmp_path, "val/b/1.png")
    (tmp_path / "val" / "c").mkdir()
    images = read_images(tmp_path, "val", ("a", "b", "c"))
    assert images.classes == ("a", "b", "c")
    assert images.labels.tolist() == [1]


def test_the_checksum_is_that_of_names_and_labels(tmp_path):
    image_tree(tmp_path / "one")
    image_tree(tmp_path / "two")
    one, two = (read_images(tmp_path / name, "train") for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert one.sha256 != read_images(tmp_path / "one", "val").sha256
    (tmp_path / "two/train/c0/0.JPEG").rename(tmp_path / "two/train/c1/9.JPEG")
    assert read_images(tmp_path / "two", "train").sha256 != one.sha256


# ## Lists


def test_the_label_is_the_last_word_and_a_path_may_hold_spaces(tmp_path):
    listed(tmp_path, "train/a b.JPEG 1\n\ntrain/c.JPEG\t0\r\n  d  e.png   1  ")
    images = read_images(tmp_path, "train")
    assert names(images) == ["train/a b.JPEG", "train/c.JPEG", "d  e.png"]
    assert images.labels.tolist() == [1, 0, 1]
    assert images.classes == ("0", "1")


def test_where_there_is_a_list_the_folder_is_not_looked_at(tmp_path):
    image_tree(tmp_path)
    listed(tmp_path, "train/c2/0.JPEG 0\n")
    assert names(read_images(tmp_path, "train")) == ["train/c2/0.JPEG"]


# ## What will not do


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list must have at least one image, got none in {}"),
        ("a.png\n", "line must be a path and a label, got 'a.png' in {}, line 1"),
        ("a.png 0\n7\n", "line must be a path and a label, got '7' in {}, line 2"),
        ("a.png cat", "label must be a whole number from 0 on, got 'cat' in {}, line 1"),
        ("a.png -1", "label must be a whole number from 0 on, got '-1' in {}, line 1"),
        ("a.png 1.0", "label must be a whole number from 0 on, got '1.0' in {}, line 1"),
        ("a.png \u0663", "label must be a whole number from 0 on, got '\u0663' in {}, line 1"),
        (
            "a.png 0\n\nb.png 2\n",
            "labels must be all whole numbers from 0 to the largest, got none with 1 in {}",
        ),
        (
            f"a.png {10**8}",
            "labels must be all whole numbers from 0 to the largest, got none with 0 in {}",
        ),
    ],
)
def test_a_list_that_will_not_do_is_told_with_its_line(tmp_path, text, message):
    listed(tmp_path, text)
    message = message.format(tmp_path / "train_list.txt")
    assert_raises(lambda: read_images(tmp_path, "train"), ValueError, message)


def test_a_label_outside_the_classes_is_told_with_its_line(tmp_path):
    listed(tmp_path, "a.png 1\nb.png 3\n", "val")
    assert read_images(tmp_path, "val", "abcd").labels.tolist() == [1, 3]
    message = f"label must be below 3, got 3 in {tmp_path / 'val_list.txt'}, line 2"
    assert_raises(lambda: read_images(tmp_path, "val", "abc"), ValueError, message)


def test_a_number_of_many_digits_is_no_label(tmp_path):
    listed(tmp_path, "a.png " + "9" * 5000)
    message = (
        f"label must be a whole number from 0 on, got '{'9' * 20}' "
        f"in {tmp_path / 'train_list.txt'}, line 1"
    )
    assert_raises(lambda: read_images(tmp_path, "train"), ValueError, message)


def test_a_list_of_other_bytes_is_refused(tmp_path):
    (tmp_path / "train_list.txt").write_bytes(b"caf\xe9.png 0\n")
    message = f"list must be UTF-8 text, got other bytes in {tmp_path / 'train_list.txt'}"
    assert_raises(lambda: read_images(tmp_path, "train"), ValueError, message)


def test_a_missing_folder_is_named(tmp_path):
    message = f"data must be a folder of images, got {tmp_path / 'nowhere'}; --data names it"
    assert_raises(lambda: read_images(tmp_path / "nowhere", "train"), ValueError, message)
    message = f"data must have train/CLASS or train_list.txt, got neither in {tmp_path}"
    assert_raises(lambda: read_images(tmp_path, "train"), ValueError, message)


def test_an_empty_part_and_an_empty_class_are_named(tmp_path):
    train = tmp_path / "train"
    train.mkdir()
    message = f"data must have a folder for each class, got none in {train}"
    assert_raises(lambda: read_images(tmp_path, "train"), ValueError, message)
    touch(tmp_path, "train/a/1.png", "train/b/notes.txt")
    message = f"class must have at least one image, got none in {train / 'b'}"
    assert_raises(lambda: read_images(tmp_path, "train"), ValueError, message)
    (tmp_path / "val" / "a").mkdir(parents=True)
    message = f"data must have at least one image, got none in {tmp_path / 'val'}"
    assert_raises(lambda: read_images(tmp_path, "val", ("a",)), ValueError, message)


def test_a_class_that_the_model_does_not_know_is_named(tmp_path):
    touch(tmp_path, "val/a/1.png", "val/zebra/1.png")
    message = f"class must be one of the 2 of the model, got {tmp_path / 'val' / 'zebra'}"
    assert_raises(lambda: read_images(tmp_path, "val", ("a", "b")), ValueError, message)
