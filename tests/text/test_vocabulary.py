"""Three vocabularies: encoding, decoding and errors."""

import itertools
import json
import sys

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.text import byte_pairs
from experiments.text.byte_pairs import BytePairVocabulary
from experiments.text.vocabulary import (
    UNKNOWN,
    VOCABULARIES,
    ByteVocabulary,
    CharacterVocabulary,
    Vocabulary,
    check_vocabulary,
    learn_vocabulary,
    restore_vocabulary,
)
from tests.support.helpers import assert_raises, properties
from tests.support.small_runs import words

# Letters of one to four bytes, line ends, and words that repeat.
some_text = st.text(st.sampled_from("aab \n\r\t1.\u00e9\u20ac\U0001f40d"), max_size=80)


def learned(name: str) -> Vocabulary:
    return learn_vocabulary(name, 300, [words(3_000) + "caf\u00e9 \U0001f40d" * 3])


# ## Characters


@properties
@given(training=st.text(), text=st.text())
def test_known_characters_are_decoded_and_all_others_become_unknown(training, text):
    vocabulary = CharacterVocabulary.from_text([training])
    tokens = vocabulary.encode(text)
    assert tokens.dtype == torch.int64
    assert all(0 <= t < len(vocabulary) for t in tokens.tolist())
    want = "".join(c if c in training else UNKNOWN for c in text)
    assert vocabulary.decode(tokens.tolist()) == want


@properties
@given(pieces=st.lists(st.text()))
@example(pieces=[f"ab{UNKNOWN}"])
def test_tokens_are_the_places_of_the_sorted_characters_from_1(pieces):
    vocabulary = CharacterVocabulary.from_text(pieces)
    known = sorted(set("".join(pieces)) - {UNKNOWN})
    assert vocabulary.characters == "".join(known)
    assert len(vocabulary) == len(known) + 1
    assert vocabulary.encode("".join(known)).tolist() == list(range(1, len(known) + 1))
    assert vocabulary.encode(UNKNOWN).tolist() == [0]


def test_a_prompt_of_known_characters_is_encoded():
    vocabulary = CharacterVocabulary.from_text(["banana"])
    assert vocabulary.encode_prompt("nab").tolist() == [3, 1, 2]


def test_a_prompt_with_unknown_characters_is_refused_and_each_is_listed_once():
    vocabulary = CharacterVocabulary.from_text(["abc"])
    assert_raises(
        lambda: vocabulary.encode_prompt("z\U0001f40dazz\x00"),
        ValueError,
        "prompt",
        "got '\\x00' (U+0000), 'z' (U+007A), '\U0001f40d' (U+1F40D)",
    )


def test_the_default_prompt_is_a_line_break_or_else_the_first_character():
    assert CharacterVocabulary("\nab").default_prompt == "\n"
    assert CharacterVocabulary("ab").default_prompt == "a"


# ## Bytes


@properties
@given(text=st.text())
def test_byte_tokens_are_the_bytes_of_utf_8(text):
    assert ByteVocabulary().encode(text).tolist() == list(text.encode())
    assert ByteVocabulary().encode(text).dtype == torch.int64
    assert len(ByteVocabulary()) == 256


@properties
@given(content=st.binary())
@example(b"\xe2\x82")
@example(b"\xf0\x9f\x90a\xff")
def test_bytes_that_are_not_utf_8_become_unknown(content):
    assert ByteVocabulary().decode(content) == content.decode("utf-8", "replace")
    assert "".join(ByteVocabulary().decode_stream(content)) == content.decode("utf-8", "replace")


def test_a_character_is_yielded_with_its_last_byte():
    read: list[int] = []

    def tokens():
        for token in "a\u20acb".encode():
            read.append(token)
            yield token

    yielded = [(text, len(read)) for text in ByteVocabulary().decode_stream(tokens())]
    assert yielded == [("a", 1), ("\u20ac", 4), ("b", 5)]


# ## Byte pairs


def bpe_with_loops(pairs: list[tuple[int, int]], word: bytes) -> list[int]:
    """BPE as published: merges the earliest pair everywhere in the word until none is left."""
    tokens, merges = list(word), {}
    for a, b in pairs:
        merges.setdefault((a, b), 256 + len(merges))
    while True:
        found = [pair for pair in itertools.pairwise(tokens) if pair in merges]
        if not found:
            return tokens
        best, i, merged = min(found, key=lambda pair: merges[pair]), 0, []
        while i < len(tokens):
            if tuple(tokens[i : i + 2]) == best:
                merged.append(merges[best])
                i += 2
            else:
                merged.append(tokens[i])
                i += 1
        tokens = merged


@properties
@given(words_=st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=9), min_size=1))
def test_a_word_is_encoded_as_by_the_definition_written_with_loops(words_):
    vocabulary = BytePairVocabulary.train(["".join(f" {word}" for word in words_)], 280)
    # The oracle assumes that different pairs have different bytes.
    if len(vocabulary) == 256 + len(vocabulary.pairs):
        for word in words_:
            want = bpe_with_loops(vocabulary.pairs, f" {word}".encode())
            assert vocabulary.encode(f" {word}").tolist() == want


def test_the_first_pair_is_the_most_frequent_one():
    vocabulary = BytePairVocabulary.train(["ab ab ab cd cd\n"], 257)
    assert vocabulary.pairs == [(ord("a"), ord("b"))]
    assert vocabulary.encode("abcd").tolist() == [256, ord("c"), ord("d")]


def test_pairs_that_occur_once_do_not_become_tokens():
    assert len(BytePairVocabulary.train(["abcdefg"], 300)) == 256
    assert len(BytePairVocabulary.train([], 300)) == 256
    assert len(BytePairVocabulary.train([words()], 270)) == 270


@properties
@given(training=some_text, text=st.text())
def test_byte_pairs_encode_any_text(training, text):
    vocabulary = BytePairVocabulary.train([training], 300)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == torch.int64
    assert all(0 <= t < len(vocabulary) for t in tokens.tolist())
    assert vocabulary.decode(tokens.tolist()) == text
    assert "".join(vocabulary.decode_stream(tokens.tolist())) == text


@properties
@given(text=some_text, cuts=st.lists(st.integers(0, 80)), line=st.integers(1, 9))
def test_pairs_and_tokens_do_not_depend_on_where_the_pieces_are_cut(text, cuts, line):
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_pairs, "MAX_LINE", line)
        vocabulary = BytePairVocabulary.train(pieces, 270)
        assert vocabulary.pairs == BytePairVocabulary.train([text], 270).pairs
        tokens = torch.cat([torch.empty(0, dtype=int), *vocabulary.encode_pieces(pieces)])
        assert tokens.equal(vocabulary.encode(text))
        assert vocabulary.decode(tokens.tolist()) == text
        lines = list(byte_pairs._lines(pieces))
    # Lines are cut only if they are longer than the limit.
    assert lines == [
        part[i : i + line]
        for part in text.replace("\n", "\n\0").split("\0")
        for i in range(0, len(part), line)
    ]


def test_pairs_are_trained_on_the_beginning_of_the_text(monkeypatch):
    monkeypatch.setattr(byte_pairs, "MAX_TRAINING", 10)
    vocabulary = BytePairVocabulary.train(["abababab\n", "a\n", "cdcd\n" * 100], 300)
    assert vocabulary.decode([256]) == "ab"
    vocabulary = BytePairVocabulary.train(["ab" * 6, "\ncdcd"], 300)
    assert all(b"c" not in token for token in vocabulary.bytes[256:])


def test_training_and_encoding_byte_pairs_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    vocabulary = BytePairVocabulary([(97, 98)])
    assert vocabulary.decode([256, 99]) == "abc"
    for call in (lambda: check_vocabulary("bpe", 300), lambda: vocabulary.encode("abc")):
        assert_raises(call, ValueError, "vocabulary=bpe", "pip install tokenizers")
    check_vocabulary("bytes", 300)


# ## All vocabularies


@pytest.mark.parametrize("name", ["bytes", "bpe"])
@pytest.mark.parametrize("prompt", ["\udcff\x1b\ud800", "ab\ud800\udcff"])
def test_a_prompt_with_surrogates_is_refused(name, prompt):
    parts = ("prompt", "UTF-8", "got '\\ud800' (U+D800), '\\udcff' (U+DCFF)")
    assert_raises(lambda: learned(name).encode_prompt(prompt), ValueError, *parts)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_is_restored_from_json(name):
    vocabulary = learned(name)
    again = restore_vocabulary(json.loads(json.dumps(vocabulary.description())))
    text = "the dogs and the cat\n"
    assert type(again) is type(vocabulary)
    assert (again.name, len(again)) == (name, len(vocabulary))
    assert again.encode(text).equal(vocabulary.encode(text))
    assert again.encode_prompt(text).equal(vocabulary.encode(text))
    assert again.decode(again.encode(text).tolist()) == text
    assert len(again.encode_prompt(again.default_prompt)) == 1


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
        # The second pair repeats the first, so there is no token 257.
        {"name": "bpe", "pairs": [[1, 2], [1, 2], [257, 3]]},
        {"name": "bpe", "pairs": [], "more": 1},
    ],
)
def test_a_damaged_description_is_refused(damaged):
    parts = ("vocabulary", "description", f"got {damaged!r}")
    assert_raises(lambda: restore_vocabulary(damaged), ValueError, *parts)


def test_a_long_description_is_abbreviated():
    with pytest.raises(
        ValueError, match=r"got \{'name': 'bpe', 'pairs': \[\[1, 1\].{40,50}\.\.\.$"
    ):
        restore_vocabulary({"name": "bpe", "pairs": [[1, 1]] * 100 + [[1, 999]]})


@pytest.mark.parametrize("name", ["", "words", "BPE", "char"])
def test_an_unknown_vocabulary_is_refused(name):
    parts = ("vocabulary", *VOCABULARIES, repr(name))
    assert_raises(lambda: check_vocabulary(name, 1024), ValueError, *parts)


@pytest.mark.parametrize("n_tokens", [-1, 0, 256, 2**20 + 1, 10**30])
def test_bpe_needs_more_than_256_and_at_most_2_to_the_20_tokens(n_tokens):
    parts = ("n_tokens", "(256, 1048576]", "vocabulary=bpe", n_tokens)
    assert_raises(lambda: check_vocabulary("bpe", n_tokens), ValueError, *parts)
    check_vocabulary("characters", n_tokens)
    check_vocabulary("bpe", 257)
    check_vocabulary("bpe", 2**20)
