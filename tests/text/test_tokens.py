"""Tokens in a file: what is read is what was written, or it is written again."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.engine import progress
from experiments.engine.progress import with_progress
from experiments.text import corpus as corpora
from experiments.text import tokens
from experiments.text.corpus import Corpus, load_corpus
from experiments.text.tokens import (
    Tokens,
    number_type,
    read_encoded,
    remove_left_over,
    write_encoded,
)
from experiments.text.vocabulary import NAMES, Bytes
from labml_gmlp.storage import atomic_writer
from tests.support.helpers import assert_raises, properties
from tests.support.small_runs import ROOT, files, text_file, words

IDENTITY = {"text": "0" * 64, "vocabulary": "bytes"}


def content(corpus: Corpus) -> tuple[object, ...]:
    return (
        corpus.vocabulary.description(),
        corpus.train[:].tolist(),
        corpus.validation[:].tolist(),
        corpus.validation_characters,
    )


# ## Reading


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
    assert array.part(start, stop)[:].tolist() == values[start:stop]


@properties
@given(n=st.integers(1, 40), data=st.data())
def test_windows_are_gathered_from_where_they_start(n, data):
    length = data.draw(st.integers(1, n))
    starts = data.draw(st.lists(st.integers(0, n - length), max_size=9))
    values = np.arange(1_000, 1_000 + n, dtype=np.uint16)
    found = Tokens(values).gather(torch.tensor(starts, dtype=torch.int64), length)
    assert found.dtype == torch.int64
    assert found.shape == (len(starts), length)
    assert found.tolist() == [values[s : s + length].tolist() for s in starts]


@pytest.mark.parametrize(("starts", "range_"), [([0, 7], "0 to 7"), ([-1], "-1 to -1")])
def test_a_window_that_is_not_inside_is_refused(starts, range_):
    message = f"starts must lie in [0, 6] for windows of 4 in 10 tokens, got {range_}"
    array = Tokens(torch.arange(10))
    assert_raises(lambda: array.gather(torch.tensor(starts), 4), ValueError, message)


@pytest.mark.parametrize(
    ("n_tokens", "size"),
    [(1, 1), (256, 1), (257, 2), (2**16, 2), (2**16 + 1, 4), (2**20, 4)],
)
def test_a_number_is_as_small_as_the_largest_token_allows(n_tokens, size):
    kind = number_type(n_tokens)
    assert kind.itemsize == size
    assert np.array([n_tokens - 1]).astype(kind)[0] == n_tokens - 1


# ## Writing


@properties
@given(
    train=st.lists(st.lists(st.integers(0, 255))),
    validation=st.lists(st.lists(st.integers(0, 255))),
)
def test_what_is_written_in_pieces_is_read_as_a_whole(train, validation, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "new" / "text.bin"
    parts = tuple(
        [torch.tensor(piece, dtype=torch.int64) for piece in part] for part in (train, validation)
    )
    want = [list(itertools.chain(*part)) for part in (train, validation)]
    written = write_encoded(path, IDENTITY, Bytes(), (3, 2), parts)
    for encoded in (written, read_encoded(path, IDENTITY)):
        assert encoded.n_train == len(want[0])
        assert encoded.characters == (3, 2)
        assert encoded.tokens[:].tolist() == want[0] + want[1]
        assert encoded.vocabulary.description() == {"name": "bytes"}
    assert path.read_bytes() == bytes(want[0] + want[1])
    assert sorted(files(path.parent)) == ["text.bin", "text.bin.json"]


def test_a_text_is_encoded_once_for_each_vocabulary(tmp_path, monkeypatch, capsys):
    path, data = text_file(tmp_path), tmp_path / "data"
    first = [load_corpus(str(path), 16, data, vocabulary=name, n_tokens=270) for name in NAMES]
    before = files(data)
    monkeypatch.setattr(corpora, "_encode", None)
    again = [load_corpus(str(path), 8, data, vocabulary=name, n_tokens=270) for name in NAMES]
    assert list(map(content, first)) == list(map(content, again))
    assert files(data) == before
    assert len(before) == 1 + 2 * len(NAMES)
    assert capsys.readouterr().err == ""


def test_other_texts_and_other_numbers_of_tokens_have_files_of_their_own(tmp_path):
    path, sizes = text_file(tmp_path), (270, 280)
    found = [load_corpus(str(path), 16, tmp_path, vocabulary="bpe", n_tokens=n) for n in sizes]
    assert [len(corpus.vocabulary) for corpus in found] == [270, 280]
    other = load_corpus(str(text_file(tmp_path, words(seed=1))), 16, tmp_path)
    assert other.vocabulary.decode(other.train[:].tolist()) == words(seed=1)[:3_600]
    assert len(list((tmp_path / "tokens").glob("*.bin"))) == 3


# ## Damage


def edited(path: Path, **changes: object) -> None:
    """Changes the description and makes its checksum fit."""
    beside = path.with_name(f"{path.name}.json")
    record = {**json.loads(beside.read_bytes()), **changes}
    del record["checksum"]
    beside.write_text(json.dumps({**record, "checksum": tokens._checksum(record)}))


def flipped(path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokens": (Path.unlink, "No such file or directory"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "3999 bytes instead of 4000"),
    "too long": (lambda p: p.write_bytes(p.read_bytes() + b"x"), "4001 bytes instead of 4000"),
    "empty": (lambda p: p.write_bytes(b""), "0 bytes instead of 4000"),
    "another token": (flipped, "other tokens than were written"),
    "no JSON": (lambda p: beside(p).write_text("{"), "its description is no JSON"),
    "no text": (lambda p: beside(p).write_bytes(b"\xff"), "its description is no JSON"),
    "a list": (lambda p: beside(p).write_text("[]"), "its description is not as it was written"),
    "no checksum": (
        lambda p: beside(p).write_text('{"format": 1}'),
        "its description is not as it was written",
    ),
    "another number": (
        lambda p: beside(p).write_text(beside(p).read_text().replace("3600", "3599")),
        "its description is not as it was written",
    ),
    "an older format": (lambda p: edited(p, format=0), "it has format 0 instead of 1"),
    "another text": (
        lambda p: edited(p, identity={"text": "1", "vocabulary": "characters"}),
        "it has text 1 instead of ",
    ),
    "no vocabulary": (
        lambda p: edited(p, vocabulary={}),
        "vocabulary must be described as characters",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tokens_are_told_and_made_again(damage, tmp_path, capsys):
    path, data = text_file(tmp_path), tmp_path / "data"
    want = content(load_corpus(str(path), 16, data))
    before, [bin_] = files(data), (data / "tokens").glob("*.bin")
    do, reason = DAMAGES[damage]
    do(bin_)
    assert files(data) != before
    capsys.readouterr()
    assert content(load_corpus(str(path), 16, data)) == want
    printed = capsys.readouterr().err
    assert printed.startswith(f"{bin_} is made again: {reason}")
    assert printed.count("\n") == 1
    assert files(data) == before


def test_tokens_under_the_name_of_another_vocabulary_are_made_again(tmp_path, capsys):
    path = text_file(tmp_path)
    want = content(load_corpus(str(path), 16, tmp_path / "one"))
    load_corpus(str(path), 16, tmp_path / "two", vocabulary="bytes")
    for file in (tmp_path / "two" / "tokens").iterdir():
        file.rename(file.with_name(file.name.replace("bytes", "characters")))
    assert content(load_corpus(str(path), 16, tmp_path / "two")) == want
    assert "it has vocabulary bytes instead of characters\n" in capsys.readouterr().err


def test_tokens_without_their_description_count_as_not_there(tmp_path, capsys):
    path = text_file(tmp_path)
    want = content(load_corpus(str(path), 16, tmp_path))
    [bin_] = (tmp_path / "tokens").glob("*.bin")
    beside(bin_).unlink()
    bin_.write_bytes(b"half")
    assert content(load_corpus(str(path), 16, tmp_path)) == want
    assert capsys.readouterr().err == ""


# ## Kills, and two at once


def child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


KILLED = """
import itertools, os, signal, stat, sys
from pathlib import Path
from experiments.text.corpus import load_corpus
flushes, flush = itertools.count(1), os.fsync
def fsync(fd):
    if next(flushes) == int(sys.argv[3]):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, os.fstat(fd).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    flush(fd)
os.fsync = fsync
load_corpus(sys.argv[1], 16, Path(sys.argv[2]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
# The flushes are of the tokens, of their folder, and of the description.
@pytest.mark.parametrize(("flush", "half"), [(1, 1), (2, 0), (3, 1)])
def test_a_kill_leaves_nothing_that_is_taken_for_whole(flush, half, tmp_path, capsys):
    path, data = text_file(tmp_path), tmp_path / "data"
    killed = child(KILLED, path, data, flush)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = [file for file in (data / "tokens").iterdir() if file.suffix == ".new"]
    assert len(left) == half
    assert not list(data.rglob("*.json"))
    want = content(load_corpus(str(path), 16, tmp_path / "other"))
    assert content(load_corpus(str(path), 16, data)) == want
    assert capsys.readouterr().err == ""


TOGETHER = """
import sys, time
from pathlib import Path
from experiments.text.corpus import load_corpus
print("ready", flush=True)
sys.stdin.readline()
corpus = load_corpus(sys.argv[1], 16, Path(sys.argv[2]))
print(corpus.vocabulary.decode((corpus.train[:].tolist())), end="", flush=True)
"""


def test_processes_that_encode_the_same_text_do_not_harm_each_other(tmp_path):
    text = words(30_000) * 10
    path, data = text_file(tmp_path, text), tmp_path / "data"
    code = TOGETHER.replace("sys.stdin.readline()", f"while time.time() < {time.time() + 3}: pass")
    started = [child(code, path, data) for _ in range(2)]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out == "ready\n" + text[:270_000]
    assert not list(data.rglob("*.new"))
    want = content(load_corpus(str(path), 16, tmp_path / "other"))
    assert content(load_corpus(str(path), 16, data)) == want


def test_two_files_that_are_written_at_once_keep_to_themselves(tmp_path):
    path = tmp_path / "file"
    with atomic_writer(path, shared=True) as first:
        first.write(b"first")
        with atomic_writer(path, shared=True) as second:
            second.write(b"second, longer")
        assert path.read_bytes() == b"second, longer"
    assert files(tmp_path) == {"file": b"first"}


def test_a_body_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def stopped() -> None:
        with atomic_writer(path, shared=True) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert files(tmp_path) == {"file": b"old"}


def test_what_a_kill_left_is_removed_after_a_day(tmp_path):
    for name, age in [("file.a.new", 25), ("file.b.new", 23), ("other.c.new", 25)]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - age * 3600))
    remove_left_over(tmp_path / "file")
    assert sorted(files(tmp_path)) == ["file.b.new", "other.c.new"]


# ## Texts larger than memory

MEASURED = """
import re, sys
from pathlib import Path
from experiments import tokens
from experiments.text.corpus import load_corpus
# Not `getrusage`: what it tells begins with the peak of the process that started this one.
def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) * 1024 / 1e6
tokens.CHUNK = int(sys.argv[4])
data = Path(sys.argv[2])
# What is loaded once, whatever the size: the package, and pages of code.
load_corpus(sys.argv[3], 64, data, vocabulary=sys.argv[5], n_tokens=300)
before = peak()
corpus = load_corpus(sys.argv[1], 64, data, vocabulary=sys.argv[5], n_tokens=300)
again = load_corpus(sys.argv[1], 64, data, vocabulary=sys.argv[5], n_tokens=300)
print(len(corpus.train), peak() - before)
"""


def peak_growth(folder: Path, vocabulary: str, megabytes: int, chunk: int) -> float:
    small, large = folder / "small.txt", folder / "large.txt"
    text = words(10_000) * 100
    small.write_text(text)
    with large.open("w") as file:
        for _ in range(megabytes):
            file.write(text)
    process = child(MEASURED, large, folder, small, chunk, vocabulary)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    n, growth = out.split()
    assert int(n) > (200_000 if vocabulary == "bpe" else 899_999) * megabytes
    return float(growth)


# A list of the tokens alone would take eight times the text.
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_memory_does_not_grow_with_the_text(tmp_path):
    assert peak_growth(tmp_path, "characters", 30, 2**16) < 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("vocabulary", "megabytes"), [("characters", 200), ("bytes", 200), ("bpe", 80)]
)
def test_a_large_text_takes_a_small_part_of_its_size(vocabulary, megabytes, tmp_path):
    assert peak_growth(tmp_path, vocabulary, megabytes, 2**20) < 0.3 * megabytes


# ## Progress


def test_reading_that_takes_long_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SAID_EVERY", 0)
    monkeypatch.setattr(time, "monotonic", iter(range(100)).__next__)
    assert list(with_progress([b"abc", b"d"], 4, "reading the text")) == [b"abc", b"d"]
    assert capsys.readouterr().err.splitlines() == [
        "reading the text: 75%, 1 s left",
        "reading the text: 100%, 0 s left",
    ]


def test_reading_that_is_over_in_a_moment_says_nothing(capsys):
    assert list(with_progress([b"abc", b"d"], 4, "reading")) == [b"abc", b"d"]
    assert list(with_progress([], 0, "reading")) == []
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0)
    assert list(with_progress([b"abc", b"d"], 4, "reading the text")) == [b"abc", b"d"]
    assert capsys.readouterr().err.startswith("\rreading the text:   0%|")
