"""Token files: they are read back as written, and encoded again if damaged."""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.text import corpus as corpora
from experiments.text import tokens
from experiments.text.corpus import Corpus, load_corpus
from experiments.text.tokens import (
    Tokens,
    read_encoded,
    remove_stale_files,
    token_dtype,
    write_encoded,
)
from experiments.text.vocabulary import VOCABULARIES, ByteVocabulary
from labml_gmlp.storage import atomic_writer
from tests.support.encoding_processes import encode_at, encode_killed, measure_memory
from tests.support.helpers import assert_names, assert_raises, properties
from tests.support.small_runs import files, start_process, text_file, words

IDENTITY = {"text": "0" * 64, "vocabulary": "bytes"}
needs_fork_server = pytest.mark.skipif(os.name != "posix", reason="needs a fork server")


def content(corpus: Corpus) -> tuple[object, ...]:
    return (
        corpus.vocabulary.description(),
        corpus.train[:].tolist(),
        corpus.validation[:].tolist(),
        corpus.validation_characters,
    )


# ## Tokens


@properties
@given(
    values=st.lists(st.integers(0, 2**32 - 1), max_size=30),
    start=st.integers(-40, 40),
    stop=st.integers(-40, 40),
)
def test_a_slice_is_that_of_a_list(values, start, stop):
    array = Tokens(np.array(values, dtype=np.uint32))
    assert len(array) == len(values)
    assert array[start:stop].dtype == torch.int64
    assert array[start:stop].tolist() == values[start:stop]
    assert array.view(start, stop)[:].tolist() == values[start:stop]


@properties
@given(n=st.integers(1, 40), data=st.data())
def test_windows_are_gathered_from_their_starts(n, data):
    length = data.draw(st.integers(1, n))
    starts = data.draw(st.lists(st.integers(0, n - length), max_size=9))
    values = np.arange(1_000, 1_000 + n, dtype=np.uint16)
    windows = Tokens(values).gather(torch.tensor(starts, dtype=torch.int64), length)
    assert windows.dtype == torch.int64
    assert windows.shape == (len(starts), length)
    assert windows.tolist() == [values[s : s + length].tolist() for s in starts]


@pytest.mark.parametrize(("starts", "got"), [([0, 7], "0 to 7"), ([-1], "-1 to -1")])
def test_a_window_outside_the_text_is_refused(starts, got):
    array = Tokens(torch.arange(10))
    assert_raises(
        lambda: array.gather(torch.tensor(starts), 4),
        ValueError,
        *("starts", "[0, 6]", "windows of 4", "10 tokens", got),
    )


@pytest.mark.parametrize(
    ("n_tokens", "size"),
    [(1, 1), (256, 1), (257, 2), (2**16, 2), (2**16 + 1, 4), (2**20, 4)],
)
def test_the_dtype_is_the_smallest_that_holds_the_largest_token(n_tokens, size):
    dtype = token_dtype(n_tokens)
    assert dtype.itemsize == size
    assert np.array([n_tokens - 1]).astype(dtype)[0] == n_tokens - 1


# ## Writing and reading


@properties
@given(
    train=st.lists(st.lists(st.integers(0, 255))),
    validation=st.lists(st.lists(st.integers(0, 255))),
)
def test_tokens_written_in_pieces_are_read_back(train, validation, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "new" / "text.bin"
    splits = tuple(
        [torch.tensor(piece, dtype=torch.int64) for piece in split] for split in (train, validation)
    )
    want = [list(itertools.chain(*split)) for split in (train, validation)]
    written = write_encoded(path, IDENTITY, ByteVocabulary(), (3, 2), splits)
    for encoded in (written, read_encoded(path, IDENTITY)):
        assert encoded.n_train == len(want[0])
        assert encoded.characters == (3, 2)
        assert encoded.tokens[:].tolist() == want[0] + want[1]
        assert encoded.vocabulary.description() == {"name": "bytes"}
    assert path.read_bytes() == bytes(want[0] + want[1])
    assert sorted(files(path.parent)) == ["text.bin", "text.bin.json"]


def test_a_text_is_encoded_once_for_each_vocabulary(tmp_path, monkeypatch, capsys):
    path, data = text_file(tmp_path), tmp_path / "data"

    def load_all(seq_len: int) -> list[Corpus]:
        return [
            load_corpus(str(path), seq_len, data, vocabulary=name, n_tokens=270)
            for name in VOCABULARIES
        ]

    first, before = load_all(16), files(data)
    monkeypatch.setattr(corpora, "_encode", None)
    again = load_all(8)
    assert list(map(content, first)) == list(map(content, again))
    assert files(data) == before
    assert len(before) == 1 + 2 * len(VOCABULARIES)
    assert capsys.readouterr().err == ""


def test_other_texts_and_other_numbers_of_tokens_have_their_own_files(tmp_path):
    path, sizes = text_file(tmp_path), (270, 280)
    found = [load_corpus(str(path), 16, tmp_path, vocabulary="bpe", n_tokens=n) for n in sizes]
    assert [len(corpus.vocabulary) for corpus in found] == [270, 280]
    other = load_corpus(str(text_file(tmp_path, words(seed=1))), 16, tmp_path)
    assert other.vocabulary.decode(other.train[:].tolist()) == words(seed=1)[:3_600]
    assert len(list((tmp_path / "tokens").glob("*.bin"))) == 3


# ## Damage


def record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def edit(path: Path, **changes: object) -> None:
    """Changes the record and its checksum."""
    record = {**json.loads(record_of(path).read_bytes()), **changes}
    del record["checksum"]
    record_of(path).write_text(json.dumps({**record, "checksum": tokens._checksum(record)}))


def flip_bit(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


# For each damage, what does it and what the message names.
DAMAGES: dict[str, tuple[Callable[[Path], object], tuple[object, ...]]] = {
    "no tokens": (Path.unlink, ("No such file",)),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), (3999, 4000)),
    "too long": (lambda p: p.write_bytes(p.read_bytes() + b"x"), (4001, 4000)),
    "empty": (lambda p: p.write_bytes(b""), (0, 4000)),
    "another token": (flip_bit, ("checksum", "tokens")),
    "not JSON": (lambda p: record_of(p).write_text("{"), (".bin.json", "JSON")),
    "not text": (lambda p: record_of(p).write_bytes(b"\xff"), (".bin.json", "JSON")),
    "a list": (lambda p: record_of(p).write_text("[]"), (".bin.json", "checksum")),
    "no checksum": (
        lambda p: record_of(p).write_text('{"format": 1}'),
        (".bin.json", "checksum"),
    ),
    "another number": (
        lambda p: record_of(p).write_text(record_of(p).read_text().replace("3600", "3599")),
        (".bin.json", "checksum"),
    ),
    "an older format": (lambda p: edit(p, format=0), ("format", 0, 1)),
    "another text": (
        lambda p: edit(p, identity={"text": "1", "vocabulary": "characters"}),
        ("text", 1),
    ),
    "another vocabulary": (
        lambda p: edit(
            p, identity={**json.loads(record_of(p).read_text())["identity"], "vocabulary": "bytes"}
        ),
        ("vocabulary", "bytes", "characters"),
    ),
    "no vocabulary": (lambda p: edit(p, vocabulary={}), ("vocabulary", "{}")),
}


def test_damaged_files_are_reported_and_encoded_again(tmp_path, capsys):
    path, data = text_file(tmp_path), tmp_path / "data"
    want = content(load_corpus(str(path), 16, data))
    before, [tokens_path] = files(data), (data / "tokens").glob("*.bin")
    for name, (damage, parts) in DAMAGES.items():
        damage(tokens_path)
        assert files(data) != before, name
        assert content(load_corpus(str(path), 16, data)) == want, name
        [line] = capsys.readouterr().err.splitlines()
        assert_names(line, tokens_path, "again", *parts)
        assert files(data) == before, name


def test_tokens_without_a_record_are_ignored(tmp_path, capsys):
    path = text_file(tmp_path)
    want = content(load_corpus(str(path), 16, tmp_path))
    [tokens_path] = (tmp_path / "tokens").glob("*.bin")
    record_of(tokens_path).unlink()
    tokens_path.write_bytes(b"half")
    assert content(load_corpus(str(path), 16, tmp_path)) == want
    assert capsys.readouterr().err == ""


# ## Killed processes, and two at once


@needs_fork_server
# The flushes are of the tokens, of their folder, and of the record.
@pytest.mark.parametrize(("flush", "n_left"), [(1, 1), (2, 0), (3, 1)])
def test_files_of_a_killed_process_are_not_accepted(flush, n_left, tmp_path, capsys):
    path, data = text_file(tmp_path), tmp_path / "data"
    killed = start_process(encode_killed, path, data, flush)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    left = [file for file in (data / "tokens").iterdir() if file.suffix == ".new"]
    assert len(left) == n_left
    assert not list(data.rglob("*.json"))
    want = content(load_corpus(str(path), 16, tmp_path / "other"))
    assert content(load_corpus(str(path), 16, data)) == want
    assert capsys.readouterr().err == ""


@needs_fork_server
def test_two_processes_can_encode_the_same_text_at_once(tmp_path):
    text = words(30_000) * 10
    path, data = text_file(tmp_path, text), tmp_path / "data"
    outs = [tmp_path / "out-0", tmp_path / "out-1"]
    moment = time.time() + 1
    started = [start_process(encode_at, moment, path, data, out) for out in outs]
    for process, out in zip(started, outs, strict=True):
        process.join()
        assert process.exitcode == 0
        assert out.read_text() == text[:270_000]
    assert not list(data.rglob("*.new"))
    want = content(load_corpus(str(path), 16, tmp_path / "other"))
    assert content(load_corpus(str(path), 16, data)) == want


def test_two_shared_writers_do_not_mix_their_content(tmp_path):
    path = tmp_path / "file"
    with atomic_writer(path, shared=True) as first:
        first.write(b"first")
        with atomic_writer(path, shared=True) as second:
            second.write(b"second, longer")
        assert path.read_bytes() == b"second, longer"
    assert files(tmp_path) == {"file": b"first"}


def test_an_interrupted_shared_writer_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_writer(path, shared=True) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == {"file": b"old"}


def test_stale_files_are_removed_after_a_day(tmp_path):
    for name, age in [("file.a.new", 25), ("file.b.new", 23), ("other.c.new", 25)]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - age * 3600))
    remove_stale_files(tmp_path / "file")
    assert sorted(files(tmp_path)) == ["file.b.new", "other.c.new"]


# ## Texts larger than memory


def peak_growth(folder: Path, vocabulary: str, megabytes: int, chunk_size: int) -> float:
    small, large, out = folder / "small.txt", folder / "large.txt", folder / "out"
    text = words(10_000) * 100
    small.write_text(text)
    with large.open("w") as file:
        for _ in range(megabytes):
            file.write(text)
    process = start_process(measure_memory, large, small, folder, out, vocabulary, chunk_size)
    process.join()
    assert process.exitcode == 0
    n, growth = out.read_text().split()
    assert int(n) > (200_000 if vocabulary == "bpe" else 899_999) * megabytes
    return float(growth)


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


# An array of the tokens would take as much as the text, and one of int64 eight times as much.
@needs_proc
def test_the_memory_does_not_grow_with_the_text(tmp_path):
    assert peak_growth(tmp_path, "characters", 15, 2**16) < 7


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("vocabulary", "megabytes"), [("characters", 200), ("bytes", 200), ("bpe", 80)]
)
def test_a_large_text_takes_a_fraction_of_its_size(vocabulary, megabytes, tmp_path):
    assert peak_growth(tmp_path, vocabulary, megabytes, 2**20) < 0.3 * megabytes
