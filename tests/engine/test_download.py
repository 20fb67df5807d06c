"""Downloads are verified by their checksum and fetched once."""

import hashlib
import urllib.request

from experiments.engine.download import download
from tests.support.helpers import assert_raises
from tests.support.small_runs import files


def refuse_network(*arguments: object, **options: object) -> None:
    raise AssertionError("this test must not download")


def test_a_download_with_the_right_checksum_is_kept_and_not_fetched_again(tmp_path, monkeypatch):
    source, target = tmp_path / "source.txt", tmp_path / "data" / "kept" / "text.txt"
    source.write_bytes(b"the text")
    sha256 = hashlib.sha256(b"the text").hexdigest()
    assert download(source.as_uri(), sha256, target) == target
    assert files(target.parent) == {"text.txt": b"the text"}
    monkeypatch.setattr(urllib.request, "urlopen", refuse_network)
    assert download(source.as_uri(), sha256, target).read_bytes() == b"the text"


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(tmp_path):
    source = tmp_path / "source.txt"
    source.write_bytes(b"another text")
    before, wanted = files(tmp_path), "0" * 64
    found = hashlib.sha256(b"another text").hexdigest()
    assert_raises(
        lambda: download(source.as_uri(), wanted, tmp_path / "data" / "text.txt"),
        ValueError,
        "text.txt",
        wanted,
        found,
    )
    assert files(tmp_path) == before


def test_a_damaged_file_is_refused_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", refuse_network)
    path, wanted = tmp_path / "text.txt", "0" * 64
    path.write_bytes(b"damaged")
    found = hashlib.sha256(b"damaged").hexdigest()
    assert_raises(
        lambda: download("https://localhost/text.txt", wanted, path), ValueError, wanted, found
    )
    assert files(tmp_path) == {"text.txt": b"damaged"}
