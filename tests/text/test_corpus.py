"""From a text to tokens, and the order in which training reads them."""

import hashlib
import os
import shutil
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.engine.download import download
from experiments.text import corpus as corpora
from experiments.text import source as texts
from experiments.text import tokens
from experiments.text.corpus import load_corpus, part
from experiments.text.source import decoded, file_text, standard_library
from experiments.text.tokens import Tokens
from experiments.text.vocabulary import NAMES, UNKNOWN, learn_vocabulary
from experiments.text.windows import ROUNDS, Windows, permuted
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.small_runs import ROOT, files, text_file, words

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tiny_shakespeare.txt"
needs_tiny_shakespeare = pytest.mark.skipif(
    not TINY_SHAKESPEARE.exists(), reason="needs tiny_shakespeare.txt"
)


def forbidden(*arguments: object, **options: object) -> None:
    raise AssertionError("nothing may be fetched here")


def test_a_character_that_only_validation_has_is_token_0_and_shown_as_unknown(tmp_path):
    text = words(1_800) + "zebra quiz " + words(189)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    assert set(corpus.vocabulary.characters) == set(text[:1_800])
    read_back = corpus.vocabulary.decode(corpus.validation[:].tolist())
    assert read_back == text[1_799:].translate({ord(c): UNKNOWN for c in "zbqi"})
    assert 0 not in corpus.train[:]
    assert (corpus.validation[:] == 0).sum() == 5


# ## The cut


@pytest.mark.parametrize("n", [200, 203, 205, 209, 1_000])
def test_the_last_tenth_is_for_validation_with_one_character_before_it(n, tmp_path):
    text = words(n)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    n_train = len(corpus.train)
    assert abs(n_train - 0.9 * n) <= 0.5
    assert corpus.vocabulary.decode(corpus.train[:].tolist()) == text[:n_train]
    assert len(corpus.validation) == n - n_train + 1
    assert corpus.validation[:1].equal(corpus.train[-1:])
    assert corpus.vocabulary.decode(corpus.validation[:].tolist()) == text[n_train - 1 :]


def test_a_corpus_knows_its_name_and_the_checksum_of_its_text(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    assert corpus.name == str(path)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_line_ends_and_a_byte_order_mark_are_read_as_they_are(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r")
    assert "".join(file_text(path).characters("reading")) == "\ufeffone\r\ntwo\r"


def test_the_default_text_is_the_standard_library_of_this_python_each_time():
    text = standard_library()
    assert text == standard_library()
    for line in ("class ArgumentParser(", "def dataclass(", "class TextWrapper:"):
        assert line in text
    assert text.index("class TextWrapper:") > text.index("class ArgumentParser(")


@needs_tiny_shakespeare
def test_tiny_shakespeare_is_read_from_its_folder_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", forbidden)
    shutil.copy(TINY_SHAKESPEARE, tmp_path)
    corpus = load_corpus("tiny_shakespeare", 64, tmp_path)
    assert len(corpus.train) + len(corpus.validation) - 1 == 1_115_394
    assert len(corpus.vocabulary) == 65 + 1
    assert corpus.vocabulary.decode(corpus.train[:13].tolist()) == "First Citizen"


# ## Texts that will not do. test_bad_input.py has the rest, from the command line.


def test_training_needs_twice_the_context(tmp_path):
    enough = load_corpus(str(text_file(tmp_path, words(36))), 16, tmp_path)
    assert Windows(enough.train, 16, 2, seed=0).at(0)[0].shape == (2, 16)
    path = text_file(tmp_path, words(34))
    message = (
        "corpus must have at least 32 characters for training with seq_len=16 "
        f"and one for validation, got 31 and 3 in {path}"
    )
    assert_raises(lambda: load_corpus(str(path), 16, tmp_path), ValueError, message)


def test_validation_needs_a_character(tmp_path):
    path = text_file(tmp_path, "abcd")
    message = (
        "corpus must have at least 2 characters for training with seq_len=1 "
        f"and one for validation, got 4 and 0 in {path}"
    )
    assert_raises(lambda: load_corpus(str(path), 1, tmp_path), ValueError, message)


@pytest.mark.parametrize(
    ("vocabulary", "got"),
    # Pairs of bytes: "a" * 27 is six times "aaaa" and "aaa", or what of it was learned.
    [("bytes", "27 and 3"), ("bpe", "8 and 2"), ("characters", "27 and 3")],
)
def test_the_length_that_training_needs_is_counted_in_tokens(vocabulary, got, tmp_path):
    path = text_file(tmp_path, "a" * 30)
    unit = "characters" if vocabulary == "characters" else "tokens"
    message = (
        f"corpus must have at least 32 {unit} for training with seq_len=16 "
        f"and one for validation, got {got} in {path}"
    )
    ask = {"vocabulary": vocabulary, "n_tokens": 258}
    # Also when the tokens lie there already.
    for _ in range(2):
        assert_raises(lambda: load_corpus(str(path), 16, tmp_path, **ask), ValueError, message)


@pytest.mark.parametrize("vocabulary", ["bytes", "bpe"])
def test_a_text_too_short_to_have_a_last_tenth_is_refused(vocabulary, tmp_path):
    path = text_file(tmp_path, "abcd")
    with pytest.raises(
        ValueError, match=r"at least 2 tokens .* and one for validation, got 4 and 0"
    ):
        load_corpus(str(path), 1, tmp_path, vocabulary=vocabulary)


def test_an_unknown_vocabulary_is_refused_before_the_text_is_looked_for(tmp_path):
    with pytest.raises(ValueError, match="vocabulary must be characters, bytes or bpe, got 'x'"):
        load_corpus("nowhere", 16, tmp_path, vocabulary="x")


def test_a_text_of_unknown_characters_has_no_characters_but_bytes(tmp_path):
    path = text_file(tmp_path, UNKNOWN * 400)
    message = f"corpus must have characters other than U+FFFD, got none in {path}"
    assert_raises(lambda: load_corpus(str(path), 16, tmp_path), ValueError, message)
    corpus = load_corpus(str(path), 16, tmp_path, vocabulary="bytes")
    assert len(corpus.train) == 360 * 3


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with a name")
def test_what_can_be_read_only_once_is_refused(tmp_path):
    message = "corpus must be a file on a disk, as it is read more than once, got /dev/null"
    assert_raises(lambda: load_corpus("/dev/null", 16, tmp_path), ValueError, message)


def test_a_data_folder_that_cannot_be_written_is_refused(tmp_path):
    path, data = text_file(tmp_path), tmp_path / "file"
    data.touch()
    with pytest.raises(
        ValueError, match=rf"data must be a folder that can be written, got {data} \(.+\)$"
    ):
        load_corpus(str(path), 16, data)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path, data = text_file(tmp_path), tmp_path / "data"
    monkeypatch.setattr(os, "fsync", full)
    message = f"data must be a folder that can be written, got {data} (No space left on device)"
    assert_raises(lambda: load_corpus(str(path), 16, data), ValueError, message)
    assert list(files(data)) == ["tokens"]


def test_a_text_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path, data, learn = text_file(tmp_path), tmp_path / "data", corpora.learn_vocabulary

    def change(*arguments: object) -> object:
        found = learn(*arguments)
        path.write_text(words(seed=1))
        return found

    monkeypatch.setattr(corpora, "learn_vocabulary", change)
    message = f"corpus must stay as it is while it is read, got other content of {path}"
    assert_raises(lambda: load_corpus(str(path), 16, data), ValueError, message)
    assert list(files(data)) == ["tokens"]


def test_a_text_that_cannot_be_read_to_its_end_is_refused(tmp_path, monkeypatch):
    def broken(file: object) -> Iterator[bytes]:
        yield b"abc"
        raise OSError(5, "Input/output error")

    path = text_file(tmp_path)
    monkeypatch.setattr(texts, "chunks_of", broken)
    message = f"corpus must be a file that may be read, got {path} (Input/output error)"
    assert_raises(lambda: load_corpus(str(path), 16, tmp_path), ValueError, message)


def test_a_standard_library_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    message = f"corpus python needs the standard library's sources, got none in {tmp_path}"
    assert_raises(lambda: load_corpus("python", 16, tmp_path), ValueError, message)


# ## Piece by piece


@properties
@given(
    content=st.lists(
        st.sampled_from(
            [b"a", b"\n", "\u00e9".encode(), "\u20ac".encode(), "\U0001f40d".encode(), b"\x80"]
        ),
        max_size=12,
    ).map(b"".join),
    cut=st.integers(0, 40),
    size=st.integers(1, 5),
)
@example(content=b"ab\xe2\x82c", cut=9, size=2)
@example(content=b"ab\xe2\x82", cut=9, size=1)
def test_bytes_that_come_in_chunks_are_the_same_text_or_the_same_mistake(content, cut, size):
    content = content[:cut]
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    try:
        want = content.decode()
    except UnicodeDecodeError as e:
        message = (
            f"corpus must be UTF-8 text, got byte 0x{content[e.start]:02X} "
            f"at offset {e.start} of here"
        )
        assert_raises(lambda: list(decoded(chunks, "here")), ValueError, message)
    else:
        assert "".join(decoded(chunks, "here")) == want


@properties
@given(pieces=st.lists(st.text(max_size=5)), start=st.integers(0, 20), length=st.integers(0, 20))
def test_a_part_of_a_text_in_pieces_is_its_slice(pieces, start, length):
    text = "".join(pieces)
    assert "".join(part(pieces, start, start + length)) == text[start : start + length]
    assert "".join(part(pieces, start)) == text[start:]


@properties
@given(
    text=st.text(st.sampled_from("ab \n\u00e9\u20ac\U0001f40d"), min_size=50, max_size=200),
    size=st.integers(1, 50),
    name=st.sampled_from(NAMES),
)
def test_a_text_read_in_chunks_has_the_tokens_of_the_whole(text, size, name):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "CHUNK", size)
        path = text_file(Path(folder), text)
        corpus = load_corpus(str(path), 1, Path(folder), vocabulary=name, n_tokens=270)
        split = round(len(text) * 0.9)
        whole = learn_vocabulary(name, 270, [text[:split]])
        assert corpus.vocabulary.description() == whole.description()
        assert corpus.train[:].equal(whole.encode(text[:split]))
        assert corpus.validation[1:].equal(whole.encode(text[split:]))
        assert corpus.validation[:1].equal(corpus.train[-1:])
        assert corpus.validation_characters == len(text) - split
        assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_characters_have_the_tokens_that_recorded_runs_had(tmp_path):
    text = words(2_000)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    places = {c: i + 1 for i, c in enumerate(sorted(set(text[:1_800])))}
    want = [places.get(c, 0) for c in text]
    assert corpus.train[:].tolist() == want[:1_800]
    assert corpus.validation[:].tolist() == want[1_799:]


# ## Downloads


def test_a_download_with_the_right_checksum_is_kept_and_not_fetched_again(tmp_path, monkeypatch):
    source, target = tmp_path / "source.txt", tmp_path / "data" / "kept" / "text.txt"
    source.write_bytes(b"the text")
    sha256 = hashlib.sha256(b"the text").hexdigest()
    assert download(source.as_uri(), sha256, target) == target
    assert files(target.parent) == {"text.txt": b"the text"}
    monkeypatch.setattr(urllib.request, "urlopen", forbidden)
    assert download(source.as_uri(), sha256, target).read_bytes() == b"the text"


def test_a_download_with_another_checksum_leaves_nothing_behind(tmp_path):
    source = tmp_path / "source.txt"
    source.write_bytes(b"another text")
    before, wanted = files(tmp_path), "0" * 64
    found = hashlib.sha256(b"another text").hexdigest()
    with pytest.raises(ValueError, match=rf"text\.txt must have the SHA-256 {wanted}, got {found}"):
        download(source.as_uri(), wanted, tmp_path / "data" / "text.txt")
    assert files(tmp_path) == before


def test_a_damaged_text_that_is_there_already_is_refused_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", forbidden)
    path = tmp_path / "tiny_shakespeare.txt"
    path.write_bytes(b"First Citizen, damaged")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"{texts.TINY_SHAKESPEARE_SHA256}, got {found}"):
        load_corpus("tiny_shakespeare", 16, tmp_path)
    assert files(tmp_path) == {"tiny_shakespeare.txt": b"First Citizen, damaged"}


# ## Windows
#
# Where the tokens are the places in the text themselves, a window shows where it lies.


@st.composite
def readings(draw: st.DrawFn) -> Windows:
    seq_len = draw(st.integers(1, 8))
    n = draw(st.integers(2 * seq_len, 60))
    return Windows(
        Tokens(torch.arange(n)), seq_len, draw(st.integers(1, 9)), draw(st.integers(0, 2**31 - 1))
    )


def starts(windows: Windows, first: int, n: int) -> list[int]:
    """Where windows `first` to `first + n`, counted over all steps, begin."""
    steps = range(first // windows.batch, (first + n - 1) // windows.batch + 1)
    found = torch.cat([windows.at(step)[0][:, 0] for step in steps]).tolist()
    skipped = first % windows.batch
    return found[skipped : skipped + n]


@properties
@given(windows=readings(), step=st.integers(0, 1_000))
def test_a_window_lies_in_the_text_and_its_targets_are_one_further(windows, step):
    x, y = windows.at(step)
    assert x.shape == y.shape == (windows.batch, windows.seq_len)
    assert torch.equal(x, x[:, :1] + torch.arange(windows.seq_len))
    assert torch.equal(y, x + 1)
    assert x.min() >= 0
    assert y.max() < len(windows.tokens)


@properties
@given(windows=readings(), number=st.integers(0, 20))
def test_each_pass_reads_each_of_its_windows_once_and_they_lie_edge_to_edge(windows, number):
    # All that fit, wherever the first one starts.
    n = len(windows.tokens) // windows.seq_len - 1
    found = sorted(starts(windows, number * n, n))
    assert found == list(range(found[0], found[0] + n * windows.seq_len, windows.seq_len))
    assert found[0] < windows.seq_len


@properties
@given(windows=readings(), steps=st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_the_windows_of_a_step_follow_from_seed_and_step_alone(windows, steps):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    fresh = [
        Windows(windows.tokens, windows.seq_len, windows.batch, windows.seed).at(step)
        for step in steps
    ]
    torch.rand(3)
    for step, (x, y) in zip(steps, fresh, strict=True):
        again = windows.at(step)
        assert torch.equal(again[0], x)
        assert torch.equal(again[1], y)
    torch.manual_seed(0)
    windows.at(steps[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_passes_and_seeds_differ_in_order_and_in_place():
    def orders(seed: int) -> list[list[int]]:
        windows = Windows(Tokens(torch.arange(2_000)), 16, 4, seed)
        return [starts(windows, number * windows.per_pass, windows.per_pass) for number in range(8)]

    found = [order for seed in (0, 1, 2) for order in orders(seed)]
    assert len({tuple(order) for order in found}) == len(found)
    assert len({min(order) for order in found}) > 8
    assert all(order != sorted(order) for order in found)


def test_a_batch_may_be_larger_than_a_pass():
    windows = Windows(Tokens(torch.arange(20)), 5, 10, seed=0)
    assert windows.per_pass == 3
    found = starts(windows, 0, 30)
    for number in range(10):
        a, b, c = sorted(found[3 * number : 3 * number + 3])
        assert (b - a, c - b) == (5, 5)


# What the order was before it could be shared and computed: recorded runs have read it.
@properties
@given(windows=readings(), step=st.integers(0, 100))
def test_the_order_is_that_of_recorded_runs(windows, step):
    wanted = []
    for k in range(step * windows.batch, (step + 1) * windows.batch):
        number, place = divmod(k, windows.per_pass)
        generator = torch.Generator().manual_seed(windows.seed * 1_000_003 + number)
        start = torch.randint(windows.seq_len, (1,), generator=generator)
        order = torch.randperm(windows.per_pass, generator=generator)
        wanted.append(int(start + windows.seq_len * order[place]))
    assert windows.at(step)[0][:, 0].tolist() == wanted


@properties
@given(windows=readings(), step=st.integers(0, 100), data=st.data())
def test_rows_are_those_of_the_step(windows, step, data):
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, windows.batch)] * 2)))
    x, y = windows.at(step)
    rows = windows.rows(step, range(a, b))
    assert rows[0].shape == rows[1].shape == (b - a, windows.seq_len)
    assert rows[0].dtype == torch.int64
    assert rows[0].equal(x[a:b])
    assert rows[1].equal(y[a:b])


@pytest.mark.parametrize("rows", [range(3, 5), range(-1, 2), range(4, 5)])
def test_rows_that_a_step_does_not_have_are_refused(rows):
    windows = Windows(Tokens(torch.arange(100)), 4, 4, seed=0)
    message = f"rows must lie in [0, batch=4), got {rows}"
    assert_raises(lambda: windows.rows(0, rows), ValueError, message)


def test_shares_read_a_step_together_micro_batch_after_micro_batch():
    class Part:
        def __init__(self, rows: list[range]) -> None:
            self._rows = rows

        def rows(self, batch: int) -> list[range]:
            assert batch == 8
            return self._rows

    windows = Windows(Tokens(torch.arange(300)), 4, 8, seed=1)
    shares = [[range(2), range(2, 4)], [range(4, 6), range(6, 8)]]
    streams = [windows.batches(5, Part(share)) for share in shares]
    for step in range(5, 30):
        read = [next(stream) for stream in streams for _ in range(2)]
        for whole, parts in zip(windows.at(step), zip(*read, strict=True), strict=True):
            assert torch.cat(parts).equal(whole)


# ## An order without a list


@properties
@given(n=st.integers(1, 3_000), seed=seeds)
def test_each_number_has_one_place(n, seed):
    keys = torch.randint(2**62, (ROUNDS,), generator=torch.Generator().manual_seed(seed)).tolist()
    found = permuted(np.arange(n), n, keys)
    assert sorted(found.tolist()) == list(range(n))
    # One at a time is the same.
    assert permuted(np.array([n // 2]), n, keys).tolist() == [found[n // 2]]


def test_an_order_of_more_than_any_list_can_hold_is_computed_where_it_is_asked():
    n, keys = 2**40 + 7, [1, 2, 3, 4, 5, 6]
    found = permuted(np.arange(10**12, 10**12 + 1_000), n, keys)
    assert len(set(found.tolist())) == 1_000
    assert 0 <= found.min() < n / 50
    assert n - n / 50 < found.max() < n


# 64 cells of about 1000 pairs each: the sum of squares has mean 63 and deviation 11.
@pytest.mark.parametrize("seed", range(5))
def test_places_side_by_side_are_far_apart_in_no_regular_way(seed):
    n = 64_000
    keys = torch.randint(2**62, (ROUNDS,), generator=torch.Generator().manual_seed(seed)).tolist()
    found = permuted(np.arange(n), n, keys)
    cells = np.histogram2d(found[:-1], found[1:], bins=8, range=[[0, n], [0, n]])[0]
    steps = np.histogram(np.diff(found) % n, bins=64, range=(0, n))[0]
    for counts in (cells, steps):
        assert 63 - 5 * 11 < ((counts - n / 64) ** 2).sum() / (n / 64) < 63 + 5 * 11


def test_above_the_limit_passes_are_read_once_in_an_order_of_their_own(monkeypatch):
    drawn = Windows(Tokens(torch.arange(2_000)), 16, 4, 0).at(0)[0]
    monkeypatch.setattr(corpora, "WINDOWS_DRAWN", 100)
    windows = Windows(Tokens(torch.arange(2_000)), 16, 4, 0)
    n = windows.per_pass
    orders = [starts(windows, number * n, n) for number in range(4)]
    for order in orders:
        assert sorted(order) == list(range(min(order), min(order) + 16 * n, 16))
        assert order != sorted(order)
    assert len(set(map(tuple, orders))) == 4
    assert not windows.at(0)[0].equal(drawn)
