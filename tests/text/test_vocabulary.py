"""Text to tokens and back, three ways."""

import itertools
import json
import sys

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.text import byte_pairs
from experiments.text.byte_pairs import BytePairs
from experiments.text.vocabulary import (
    NAMES,
    UNKNOWN,
    Bytes,
    Characters,
    Vocabulary,
    check_vocabulary,
    from_description,
    learn_vocabulary,
)
from tests.support.helpers import assert_raises, properties
from tests.support.small_runs import words

# Letters of one to four bytes, line ends, and words that come again.
some_text = st.text(st.sampled_from("aab \n\r\t1.\u00e9\u20ac\U0001f40d"), max_size=80)


def learned(name: str) -> Vocabulary:
    return learn_vocabulary(name, 300, [words(3_000) + "caf\u00e9 \U0001f40d" * 3])


# ## Characters


@properties
@given(training=st.text(), text=st.text())
def test_what_is_known_survives_encoding_and_all_else_becomes_unknown(training, text):
    vocabulary = Characters.of([training])
    tokens = vocabulary.encode(text)
    assert tokens.dtype == torch.int64
    assert all(0 <= t < len(vocabulary) for t in tokens.tolist())
    want = "".join(c if c in training else UNKNOWN for c in text)
    assert vocabulary.decode(tokens.tolist()) == want


@properties
@given(text=st.text(min_size=1))
def test_tokens_are_the_places_of_characters_in_order_from_1(text):
    vocabulary = Characters.of([text])
    known = sorted(set(text) - {UNKNOWN})
    assert vocabulary.characters == "".join(known)
    assert len(vocabulary) == len(known) + 1
    assert vocabulary.encode("".join(known)).tolist() == list(range(1, len(known) + 1))


def test_the_sign_for_unknown_is_itself_unknown():
    vocabulary = Characters.of([f"ab{UNKNOWN}"])
    assert vocabulary.characters == "ab"
    assert vocabulary.encode(UNKNOWN).tolist() == [0]


def test_a_prompt_of_known_characters_is_encoded():
    assert Characters.of(["banana"]).encode_known("nab").tolist() == [3, 1, 2]


def test_a_prompt_with_unknown_characters_names_each_once_with_its_code():
    message = (
        "prompt must use characters of the training text only, "
        "got '\\x00' (U+0000), 'z' (U+007A), '\U0001f40d' (U+1F40D)"
    )
    vocabulary = Characters.of(["abc"])
    assert_raises(lambda: vocabulary.encode_known("z\U0001f40dazz\x00"), ValueError, message)


@properties
@given(pieces=st.lists(st.text()))
def test_characters_are_the_same_however_the_text_is_cut(pieces):
    assert Characters.of(pieces).characters == Characters.of(["".join(pieces)]).characters


# ## Bytes


@properties
@given(text=st.text())
def test_bytes_are_those_of_utf_8(text):
    assert Bytes().encode(text).tolist() == list(text.encode())
    assert Bytes().encode(text).dtype == torch.int64
    assert len(Bytes()) == 256


@properties
@given(content=st.binary())
@example(b"\xe2\x82")
@example(b"\xf0\x9f\x90a\xff")
def test_bytes_that_are_no_text_become_unknown(content):
    assert Bytes().decode(content) == content.decode("utf-8", "replace")
    assert "".join(Bytes().stream(content)) == content.decode("utf-8", "replace")


def test_a_character_is_shown_with_its_last_byte_and_not_before():
    drawn: list[int] = []

    def tokens():
        for token in "a\u20acb".encode():
            drawn.append(token)
            yield token

    shown = [(text, len(drawn)) for text in Bytes().stream(tokens())]
    assert shown == [("a", 1), ("\u20ac", 4), ("b", 5)]


# ## Pairs of bytes


def spelled_out(pairs: list[tuple[int, int]], word: bytes) -> list[int]:
    """BPE as it was published: the earliest pair first, everywhere in the word, until none is."""
    tokens, joined = list(word), {}
    for a, b in pairs:
        joined.setdefault((a, b), 256 + len(joined))
    while True:
        there = [pair for pair in itertools.pairwise(tokens) if pair in joined]
        if not there:
            return tokens
        best, i, merged = min(there, key=lambda pair: joined[pair]), 0, []
        while i < len(tokens):
            if tuple(tokens[i : i + 2]) == best:
                merged.append(joined[best])
                i += 2
            else:
                merged.append(tokens[i])
                i += 1
        tokens = merged


@properties
@given(words_=st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=9), min_size=1))
def test_a_word_is_encoded_as_the_definition_says(words_):
    vocabulary = BytePairs.of(["".join(f" {word}" for word in words_)], 280)
    # The oracle takes each pair for a token of its own.
    if len(vocabulary) == 256 + len(vocabulary.pairs):
        for word in words_:
            want = spelled_out(vocabulary.pairs, f" {word}".encode())
            assert vocabulary.encode(f" {word}").tolist() == want


def test_the_first_pair_is_the_most_frequent_one():
    vocabulary = BytePairs.of(["ab ab ab cd cd\n"], 257)
    assert vocabulary.pairs == [(ord("a"), ord("b"))]
    assert vocabulary.encode("abcd").tolist() == [256, ord("c"), ord("d")]


def test_pairs_that_occur_once_are_no_tokens():
    assert len(BytePairs.of(["abcdefg"], 300)) == 256
    assert len(BytePairs.of([], 300)) == 256
    assert len(BytePairs.of([words()], 270)) == 270


@properties
@given(training=some_text, text=st.text())
def test_any_text_survives_pairs_of_bytes(training, text):
    vocabulary = BytePairs.of([training], 300)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == torch.int64
    assert all(0 <= t < len(vocabulary) for t in tokens.tolist())
    assert vocabulary.decode(tokens.tolist()) == text
    assert "".join(vocabulary.stream(tokens.tolist())) == text


@properties
@given(text=some_text, cuts=st.lists(st.integers(0, 80)), line=st.integers(1, 9))
def test_where_the_pieces_are_cut_changes_neither_pairs_nor_tokens(text, cuts, line):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_pairs, "LINE", line)
        vocabulary = BytePairs.of(pieces, 270)
        assert vocabulary.pairs == BytePairs.of([text], 270).pairs
        found = torch.cat([torch.empty(0, dtype=int), *vocabulary.encode_pieces(pieces)])
        assert found.equal(vocabulary.encode(text))
        assert vocabulary.decode(found.tolist()) == text
        lines = list(byte_pairs._lines(pieces))
    assert "".join(lines) == text
    assert all(len(part) <= line and "\n" not in part[:-1] for part in lines)
    # No line is cut that fits.
    assert lines == [
        part[i : i + line]
        for part in text.replace("\n", "\n\0").split("\0")
        for i in range(0, len(part), line)
    ]


def test_pairs_are_learned_from_the_beginning_alone(monkeypatch):
    monkeypatch.setattr(byte_pairs, "LEARNED_FROM", 10)
    assert BytePairs.of(["abababab\n", "a\n", "cdcd\n" * 100], 300).decode([256]) == "ab"
    assert all(b"c" not in token for token in BytePairs.of(["ab" * 6, "\ncdcd"], 300).bytes[256:])


def test_pairs_of_bytes_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    vocabulary = BytePairs([(97, 98)])
    assert vocabulary.decode([256, 99]) == "abc"
    message = (
        "vocabulary=bpe needs the package tokenizers, which is not there; "
        "to install it: pip install tokenizers"
    )
    assert_raises(lambda: check_vocabulary("bpe", 300), ValueError, message)
    assert_raises(lambda: vocabulary.encode("abc"), ValueError, message)
    check_vocabulary("bytes", 300)


# ## All of them


@pytest.mark.parametrize("name", ["bytes", "bpe"])
@pytest.mark.parametrize("prompt", ["\udcff\x1b\ud800", "ab\ud800\udcff"])
def test_a_prompt_that_utf_8_cannot_write_is_refused(name, prompt):
    message = "prompt must be text that UTF-8 can write, got '\\ud800' (U+D800), '\\udcff' (U+DCFF)"
    assert_raises(lambda: learned(name).encode_known(prompt), ValueError, message)


@pytest.mark.parametrize("name", NAMES)
def test_a_vocabulary_survives_being_written_as_json(name):
    vocabulary = learned(name)
    again = from_description(json.loads(json.dumps(vocabulary.description())))
    text = "the dogs and the cat\n"
    assert type(again) is type(vocabulary)
    assert (again.name, len(again)) == (name, len(vocabulary))
    assert again.encode(text).equal(vocabulary.encode(text))
    assert again.encode_known(text).equal(vocabulary.encode(text))
    assert again.decode(again.encode(text).tolist()) == text
    assert len(again.encode_known(again.start)) == 1


def test_the_text_to_begin_with_is_a_line_break_or_the_first_character_that_is_known():
    assert Characters("\nab").start == "\n"
    assert Characters("ab").start == "a"


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        "abc",
        {},
        {"name": "words"},
        {"name": "bytes", "more": 1},
        {"name": "characters"},
        {"name": "characters", "characters": ""},
        {"name": "characters", "characters": ["a", "b"]},
        {"name": "characters", "characters": "ba"},
        {"name": "characters", "characters": "aab"},
        {"name": "characters", "characters": "ab\ufffd"},
        {"name": "characters", "characters": "ab", "more": 1},
        {"name": "bpe"},
        {"name": "bpe", "pairs": {}},
        {"name": "bpe", "pairs": [1, 2]},
        {"name": "bpe", "pairs": [[1, 2, 3]]},
        {"name": "bpe", "pairs": [[1, 2.0]]},
        {"name": "bpe", "pairs": [[1, True]]},
        {"name": "bpe", "pairs": [[1, -1]]},
        {"name": "bpe", "pairs": [[1, 256]]},
        # The second is the first again, so there is no 257.
        {"name": "bpe", "pairs": [[1, 2], [1, 2], [257, 3]]},
        {"name": "bpe", "pairs": [], "more": 1},
    ],
)
def test_a_damaged_description_is_refused(damaged):
    message = (
        "vocabulary must be described as characters, bytes or bpe with all that belongs to it, "
        f"got {damaged!r}"
    )
    assert_raises(lambda: from_description(damaged), ValueError, message)


def test_a_long_description_is_shown_in_part():
    with pytest.raises(
        ValueError, match=r"got \{'name': 'bpe', 'pairs': \[\[1, 1\].{40,50}\.\.\.$"
    ):
        from_description({"name": "bpe", "pairs": [[1, 1]] * 100 + [[1, 999]]})


@pytest.mark.parametrize("name", ["", "words", "BPE", "char"])
def test_an_unknown_vocabulary_is_refused(name):
    message = f"vocabulary must be characters, bytes or bpe, got {name!r}"
    assert_raises(lambda: check_vocabulary(name, 1024), ValueError, message)


@pytest.mark.parametrize("n_tokens", [-1, 0, 256, 2**20 + 1, 10**30])
def test_pairs_of_bytes_need_room_for_the_bytes_and_one_pair(n_tokens):
    message = (
        "n_tokens must lie in (256, 1048576] for vocabulary=bpe, whose first 256 are the bytes, "
        f"got {n_tokens}"
    )
    assert_raises(lambda: check_vocabulary("bpe", n_tokens), ValueError, message)
    check_vocabulary("characters", n_tokens)
    check_vocabulary("bpe", 257)
    check_vocabulary("bpe", 2**20)
