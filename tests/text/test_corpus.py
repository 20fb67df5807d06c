"""From a text to the tokens of its two splits."""

import hashlib
import os
import shutil
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.text import corpus as corpora
from experiments.text import source
from experiments.text.corpus import load_corpus, slice_text
from experiments.text.source import decode_utf8, file_source, standard_library
from experiments.text.vocabulary import UNKNOWN, VOCABULARIES, learn_vocabulary
from experiments.text.windows import Windows
from tests.support.helpers import assert_raises, properties
from tests.support.small_runs import ROOT, files, text_file, words

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tiny_shakespeare.txt"
needs_tiny_shakespeare = pytest.mark.skipif(
    not TINY_SHAKESPEARE.exists(), reason="needs tiny_shakespeare.txt"
)


def refuse_network(*arguments: object, **options: object) -> None:
    raise AssertionError("this test must not download")


# ## The split


@pytest.mark.parametrize("n", [200, 203, 205, 209, 1_000])
def test_the_last_tenth_is_for_validation_after_one_token_of_context(n, tmp_path):
    text = words(n)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    n_train = len(corpus.train)
    assert abs(n_train - 0.9 * n) <= 0.5
    assert corpus.vocabulary.decode(corpus.train[:].tolist()) == text[:n_train]
    assert len(corpus.validation) == n - n_train + 1
    assert corpus.validation[:1].equal(corpus.train[-1:])
    assert corpus.vocabulary.decode(corpus.validation[:].tolist()) == text[n_train - 1 :]


def test_a_character_that_only_validation_has_is_token_0_and_decoded_as_unknown(tmp_path):
    text = words(1_800) + "zebra quiz " + words(189)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    assert set(corpus.vocabulary.characters) == set(text[:1_800])
    decoded = corpus.vocabulary.decode(corpus.validation[:].tolist())
    assert decoded == text[1_799:].translate({ord(c): UNKNOWN for c in "zbqi"})
    assert 0 not in corpus.train[:]
    assert (corpus.validation[:] == 0).sum() == 5


def test_characters_have_the_tokens_of_recorded_runs(tmp_path):
    text = words(2_000)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    tokens = {c: i + 1 for i, c in enumerate(sorted(set(text[:1_800])))}
    want = [tokens.get(c, 0) for c in text]
    assert corpus.train[:].tolist() == want[:1_800]
    assert corpus.validation[:].tolist() == want[1_799:]


# ## Sources


def test_a_corpus_has_the_name_and_the_checksum_of_its_text(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    assert corpus.name == str(path)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_line_ends_and_a_byte_order_mark_are_kept(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r")
    assert "".join(file_source(path).characters("reading")) == "\ufeffone\r\ntwo\r"


def test_the_default_text_is_the_standard_library_of_this_python():
    text = standard_library()
    assert text == standard_library()
    for line in ("class ArgumentParser(", "def dataclass(", "class TextWrapper:"):
        assert line in text
    assert text.index("class TextWrapper:") > text.index("class ArgumentParser(")


@needs_tiny_shakespeare
def test_tiny_shakespeare_is_read_from_its_folder_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", refuse_network)
    shutil.copy(TINY_SHAKESPEARE, tmp_path)
    corpus = load_corpus("tiny_shakespeare", 64, tmp_path)
    assert len(corpus.train) + len(corpus.validation) - 1 == 1_115_394
    assert len(corpus.vocabulary) == 65 + 1
    assert corpus.vocabulary.decode(corpus.train[:13].tolist()) == "First Citizen"


def test_a_damaged_tiny_shakespeare_is_refused_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", refuse_network)
    path = text_file(tmp_path, "First Citizen, damaged")
    path = path.rename(tmp_path / "tiny_shakespeare.txt")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert_raises(
        lambda: load_corpus("tiny_shakespeare", 16, tmp_path),
        ValueError,
        source.TINY_SHAKESPEARE_SHA256,
        found,
    )
    assert path.read_text() == "First Citizen, damaged"


# ## Texts that cannot be used. test_bad_input.py has the rest, from the command line.


def test_training_needs_twice_the_context(tmp_path):
    enough = load_corpus(str(text_file(tmp_path, words(36))), 16, tmp_path)
    assert Windows(enough.train, 16, 2, seed=0).batch_at(0)[0].shape == (2, 16)


SHORT = {
    "characters": ("31 and 3", words(34)),
    "bytes": ("27 and 3", "a" * 30),
    # BPE encodes "a" * 27 as six times "aaaa" and "aaa", with the pairs it has learned.
    "bpe": ("8 and 2", "a" * 30),
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_text_that_is_too_short_for_training_or_validation_is_refused(vocabulary, tmp_path):
    unit = "characters" if vocabulary == "characters" else "tokens"
    options = {"vocabulary": vocabulary, "n_tokens": 258}
    counts, text = SHORT[vocabulary]
    path = text_file(tmp_path, text)
    # The second time, the tokens are on disk.
    for _ in range(2):
        parts = ("corpus", f"32 {unit}", "seq_len=16", counts, path)
        assert_raises(lambda: load_corpus(str(path), 16, tmp_path, **options), ValueError, *parts)
    path = text_file(tmp_path, "abcd")
    parts = ("corpus", f"2 {unit}", "seq_len=1", "one for validation", "4 and 0", path)
    assert_raises(lambda: load_corpus(str(path), 1, tmp_path, **options), ValueError, *parts)


def test_an_unknown_vocabulary_is_refused_before_the_text_is_read(tmp_path):
    assert_raises(
        lambda: load_corpus("nowhere", 16, tmp_path, vocabulary="x"),
        ValueError,
        "vocabulary",
        *VOCABULARIES,
        "'x'",
    )


def test_a_text_of_unknown_characters_needs_a_vocabulary_of_bytes(tmp_path):
    path = text_file(tmp_path, UNKNOWN * 400)
    assert_raises(
        lambda: load_corpus(str(path), 16, tmp_path), ValueError, "corpus", "U+FFFD", path
    )
    corpus = load_corpus(str(path), 16, tmp_path, vocabulary="bytes")
    assert len(corpus.train) == 360 * 3


@pytest.mark.skipif(os.name != "posix", reason="needs devices")
def test_a_device_is_refused(tmp_path):
    assert_raises(
        lambda: load_corpus("/dev/null", 16, tmp_path), ValueError, "regular file", "/dev/null"
    )


def test_a_data_folder_that_cannot_be_written_is_refused(tmp_path):
    path, data = text_file(tmp_path), tmp_path / "file"
    data.touch()
    assert_raises(lambda: load_corpus(str(path), 16, data), ValueError, "data", data)


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path, data = text_file(tmp_path), tmp_path / "data"
    monkeypatch.setattr(os, "fsync", full)
    assert_raises(
        lambda: load_corpus(str(path), 16, data), ValueError, data, "(No space left on device)"
    )
    assert list(files(data)) == ["tokens"]


def test_a_text_that_changes_while_it_is_encoded_is_refused(tmp_path, monkeypatch):
    path, data, learn = text_file(tmp_path), tmp_path / "data", corpora.learn_vocabulary

    def change(*arguments: object) -> object:
        vocabulary = learn(*arguments)
        path.write_text(words(seed=1))
        return vocabulary

    monkeypatch.setattr(corpora, "learn_vocabulary", change)
    assert_raises(lambda: load_corpus(str(path), 16, data), ValueError, "corpus", "change", path)
    assert list(files(data)) == ["tokens"]


def test_a_text_that_cannot_be_read_to_its_end_is_refused(tmp_path, monkeypatch):
    def broken(file: object) -> Iterator[bytes]:
        yield b"abc"
        raise OSError(5, "Input/output error")

    path = text_file(tmp_path)
    monkeypatch.setattr(source, "read_chunks", broken)
    assert_raises(
        lambda: load_corpus(str(path), 16, tmp_path),
        ValueError,
        "corpus",
        path,
        "(Input/output error)",
    )


def test_a_standard_library_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert_raises(
        lambda: load_corpus("python", 16, tmp_path), ValueError, "corpus python", tmp_path
    )


# ## In chunks


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
def test_decoding_in_chunks_gives_the_same_text_or_the_same_error(content, cut, size):
    content = content[:cut]
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    try:
        want = content.decode()
    except UnicodeDecodeError as e:
        parts = (f"byte 0x{content[e.start]:02X}", f"offset {e.start}", "here")
        assert_raises(lambda: list(decode_utf8(chunks, "here")), ValueError, "UTF-8", *parts)
    else:
        assert "".join(decode_utf8(chunks, "here")) == want


@properties
@given(pieces=st.lists(st.text(max_size=5)), start=st.integers(0, 20), length=st.integers(0, 20))
def test_a_slice_of_pieces_is_the_slice_of_the_text(pieces, start, length):
    text = "".join(pieces)
    assert "".join(slice_text(pieces, start, start + length)) == text[start : start + length]
    assert "".join(slice_text(pieces, start)) == text[start:]


@properties
@given(
    text=st.text(st.sampled_from("ab \n\u00e9\u20ac\U0001f40d"), min_size=50, max_size=200),
    size=st.integers(1, 50),
    name=st.sampled_from(VOCABULARIES),
)
def test_a_text_read_in_chunks_has_the_tokens_of_the_whole(text, size, name):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "CHUNK_SIZE", size)
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
