"""From a text to tokens, and the order in which training reads them."""

import hashlib
import shutil
import urllib.request

import pytest
import torch
from helpers import assert_raises, properties
from hypothesis import given
from hypothesis import strategies as st
from small_runs import ROOT, files, text_file, words

from experiments import corpus as corpora
from experiments.corpus import (
    UNKNOWN,
    Vocabulary,
    Windows,
    download,
    load_corpus,
    read_text,
    standard_library,
)

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tiny_shakespeare.txt"
needs_tiny_shakespeare = pytest.mark.skipif(
    not TINY_SHAKESPEARE.exists(), reason="needs tiny_shakespeare.txt"
)


def forbidden(*arguments: object, **options: object) -> None:
    raise AssertionError("nothing may be fetched here")


# ## Vocabulary


def test_a_character_that_only_validation_has_is_token_0_and_shown_as_unknown(tmp_path):
    text = words(1_800) + "zebra quiz " + words(189)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    assert set(corpus.vocabulary.characters) == set(text[:1_800])
    read_back = corpus.vocabulary.decode(corpus.validation.tolist())
    assert read_back == text[1_799:].translate({ord(c): UNKNOWN for c in "zbqi"})
    assert 0 not in corpus.train
    assert (corpus.validation == 0).sum() == 5


@properties
@given(training=st.text(), text=st.text())
def test_what_is_known_survives_encoding_and_all_else_becomes_unknown(training, text):
    vocabulary = Vocabulary.of(training)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == torch.int64
    assert all(0 <= t < len(vocabulary) for t in tokens.tolist())
    want = "".join(c if c in training else UNKNOWN for c in text)
    assert vocabulary.decode(tokens.tolist()) == want


@properties
@given(text=st.text(min_size=1))
def test_tokens_are_the_places_of_characters_in_order_from_1(text):
    vocabulary = Vocabulary.of(text)
    known = sorted(set(text) - {UNKNOWN})
    assert vocabulary.characters == "".join(known)
    assert len(vocabulary) == len(known) + 1
    assert vocabulary.encode("".join(known)).tolist() == list(range(1, len(known) + 1))


def test_the_sign_for_unknown_is_itself_unknown():
    vocabulary = Vocabulary.of(f"ab{UNKNOWN}")
    assert vocabulary.characters == "ab"
    assert vocabulary.encode(UNKNOWN).tolist() == [0]


def test_a_prompt_of_known_characters_is_encoded():
    assert Vocabulary.of("banana").encode_known("nab").tolist() == [3, 1, 2]


def test_a_prompt_with_unknown_characters_names_each_once_with_its_code():
    message = (
        "prompt must use characters of the training text only, "
        "got '\\x00' (U+0000), 'z' (U+007A), '\U0001f40d' (U+1F40D)"
    )
    vocabulary = Vocabulary.of("abc")
    assert_raises(lambda: vocabulary.encode_known("z\U0001f40dazz\x00"), ValueError, message)


# ## The cut


@pytest.mark.parametrize("n", [200, 203, 205, 209, 1_000])
def test_the_last_tenth_is_for_validation_with_one_character_before_it(n, tmp_path):
    text = words(n)
    corpus = load_corpus(str(text_file(tmp_path, text)), 16, tmp_path)
    n_train = len(corpus.train)
    assert abs(n_train - 0.9 * n) <= 0.5
    assert corpus.vocabulary.decode(corpus.train.tolist()) == text[:n_train]
    assert len(corpus.validation) == n - n_train + 1
    assert corpus.validation[0] == corpus.train[-1]
    assert corpus.vocabulary.decode(corpus.validation.tolist()) == text[n_train - 1 :]


def test_a_corpus_knows_its_name_and_the_checksum_of_its_text(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    assert corpus.name == str(path)
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_line_ends_and_a_byte_order_mark_are_read_as_they_are(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r")
    assert read_text(path) == "\ufeffone\r\ntwo\r"


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
    with pytest.raises(ValueError, match=f"{corpora.TINY_SHAKESPEARE_SHA256}, got {found}"):
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
        torch.arange(n), seq_len, draw(st.integers(1, 9)), draw(st.integers(0, 2**31 - 1))
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
        windows = Windows(torch.arange(2_000), 16, 4, seed)
        return [starts(windows, number * windows.per_pass, windows.per_pass) for number in range(8)]

    found = [order for seed in (0, 1, 2) for order in orders(seed)]
    assert len({tuple(order) for order in found}) == len(found)
    assert len({min(order) for order in found}) > 8
    assert all(order != sorted(order) for order in found)


def test_a_batch_may_be_larger_than_a_pass():
    windows = Windows(torch.arange(20), 5, 10, seed=0)
    assert windows.per_pass == 3
    found = starts(windows, 0, 30)
    for number in range(10):
        a, b, c = sorted(found[3 * number : 3 * number + 3])
        assert (b - a, c - b) == (5, 5)
