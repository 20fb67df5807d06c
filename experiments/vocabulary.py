r"""
# Vocabularies

A vocabulary turns text to tokens and back. There are three, with one set of methods: characters,
bytes, and pairs of bytes that were learned from the text.
"""

import codecs
import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

UNKNOWN = "\ufffd"
NAMES = ("characters", "bytes", "bpe")
N_BYTES = 256
# A token for each of a million pairs is more than any text needs, and still fits 32 bits.
MOST_TOKENS = 2**20

# Pairs are learned and found within a line, and within so many characters of it. So a text can be
# cut into pieces that never cut a word, without looking further than one line.
LINE = 4096  # characters
# Pairs are learned from the beginning of the training part. What is frequent is so here already,
# and the words that were met, all of which are counted, would fill the memory otherwise.
LEARNED_FROM = 2**28  # characters


class Vocabulary(Protocol):
    r"""
    ## What all have

    * `name` is characters, bytes or bpe
    * `start` is a text to begin with where nobody gave any
    """

    name: str

    @property
    def start(self) -> str: ...

    def __len__(self) -> int: ...

    def encode(self, text: str) -> Tensor:
        """Tokens of `text`, `[n]`, whole numbers of 64 bits."""

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        """The tokens of a text that comes in pieces, the same ones wherever it was cut."""

    def encode_known(self, prompt: str) -> Tensor:
        """Tokens of a `prompt`. Raises `ValueError` that names the characters it does not know."""

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`, with U+FFFD for what is none."""

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The same text, each character as soon as its last token has come."""

    def description(self) -> dict[str, Any]:
        """What `from_description` needs to make it again; it can be written as JSON."""


def check_vocabulary(name: str, n_tokens: int) -> None:
    r"""
    ## What may be asked for

    * `name` is one of `NAMES`
    * `n_tokens` is the number of tokens of bpe: the bytes and at least one pair. The others have as
      many as they have, and ignore it

    Raises `ValueError` for another name or number, and where bpe lacks its package.
    """
    if name not in NAMES:
        raise ValueError(f"vocabulary must be characters, bytes or bpe, got {name!r}")
    if name == "bpe":
        if not N_BYTES < n_tokens <= MOST_TOKENS:
            raise ValueError(
                f"n_tokens must lie in ({N_BYTES}, {MOST_TOKENS}] for vocabulary=bpe, whose first "
                f"{N_BYTES} are the bytes, got {n_tokens}"
            )
        _tokenizers()


def learn_vocabulary(name: str, n_tokens: int, pieces: Iterable[str]) -> Vocabulary:
    r"""
    ## From a text

    * `name` and `n_tokens` are those of `check_vocabulary`
    * `pieces` are the *training* part of the text. What only the validation part has would tell the
      model something about the text that it is measured on
    """
    if name == "characters":
        return Characters.of(pieces)
    return Bytes() if name == "bytes" else BytePairs.of(pieces, n_tokens)


def from_description(description: object) -> Vocabulary:
    r"""
    ## From a checkpoint

    * `description` is what `description()` returned

    Raises `ValueError` for one that no vocabulary returned.
    """
    match description:
        case {"name": "characters", "characters": str(characters), **rest} if not rest:
            if characters and list(characters) == sorted(set(characters) - {UNKNOWN}):
                return Characters(characters)
        case {"name": "bytes", **rest} if not rest:
            return Bytes()
        case {"name": "bpe", "pairs": list(pairs), **rest} if not rest:
            # A pair may name only tokens before it: any other index is out of range.
            with contextlib.suppress(IndexError):
                if all(_is_pair(pair) for pair in pairs):
                    return BytePairs([(a, b) for a, b in pairs])
    shown = repr(description)
    raise ValueError(
        "vocabulary must be described as characters, bytes or bpe with all that belongs to it, got "
        f"{shown if len(shown) <= 80 else shown[:80] + '...'}"
    )


class Characters:
    r"""
    ## Characters as tokens

    The characters of the training part, sorted, behind one token for all others.

    A character never seen in training is the token 0 and is shown as U+FFFD. It counts in the loss
    like any other: the model must predict "something unknown", which it never met.

    * `characters` are the known ones, in the order of their tokens
    """

    name = "characters"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        # The token of each of the codes that a character can have.
        self._tokens = np.zeros(0x110000, dtype=np.uint32)
        self._tokens[_codes(characters)] = np.arange(1, len(characters) + 1)

    @classmethod
    def of(cls, pieces: Iterable[str]) -> "Characters":
        seen = np.zeros(0x110000, dtype=np.bool_)
        for piece in pieces:
            seen[_codes(piece)] = True
        seen[ord(UNKNOWN)] = False
        return cls("".join(map(chr, seen.nonzero()[0])))

    @property
    def start(self) -> str:
        return "\n" if "\n" in self.characters else self.characters[0]

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tensor:
        return torch.from_numpy(self._tokens[_codes(text)].astype(np.int64))

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        return map(self.encode, pieces)

    def encode_known(self, prompt: str) -> Tensor:
        unknown = set(prompt) - set(self.characters)
        if unknown:
            raise ValueError(
                f"prompt must use characters of the training text only, got {_named(unknown)}"
            )
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return (self.characters[token - 1] if token else UNKNOWN for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name, "characters": self.characters}


class Bytes:
    r"""
    ## Bytes as tokens

    Those of UTF-8. Nothing is unknown to them, and any text of any language needs no more than 256
    tokens; but a character may take up to four.
    """

    name = "bytes"
    start = "\n"

    def __len__(self) -> int:
        return N_BYTES

    def encode(self, text: str) -> Tensor:
        content = np.frombuffer(text.encode(), dtype=np.uint8)
        return torch.from_numpy(content.astype(np.int64))

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        return map(self.encode, pieces)

    def encode_known(self, prompt: str) -> Tensor:
        _check_utf8(prompt)
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return _characters_of(bytes([token]) for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name}


class BytePairs:
    r"""
    ## Pairs of bytes as tokens

    Byte-level BPE: the tokens 0 to 255 are the bytes, each further one is two tokens that stood
    side by side most often when it was learned. Frequent words become one token, and nothing is
    unknown. Words are those of GPT-2's pattern, with the space before them, within a line.

    To learn and to encode it needs the package `tokenizers`; to decode it needs nothing.

    * `pairs` are the two tokens of each, in the order in which they were learned
    """

    name = "bpe"
    start = "\n"

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self.pairs = list(pairs)
        self.bytes = [bytes([b]) for b in range(N_BYTES)]
        known = set(self.bytes)
        for a, b in self.pairs:
            joined = self.bytes[a] + self.bytes[b]
            # Another pair may have given the same bytes before; then both are that token.
            if joined not in known:
                known.add(joined)
                self.bytes.append(joined)
        self._tokenizer: Any = None

    @classmethod
    def of(cls, pieces: Iterable[str], n_tokens: int) -> "BytePairs":
        """Up to `n_tokens` tokens: fewer if no further pair occurs twice."""
        package = _tokenizers()
        tokenizer = _words_of(package, package.models.BPE())
        trainer = package.trainers.BpeTrainer(
            vocab_size=n_tokens,
            min_frequency=2,
            initial_alphabet=list(_SPELLING.values()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_beginning(_lines(pieces)), trainer)
        # The package spells bytes as printable characters and numbers them in its own way.
        byte = {spelling: bytes([b]) for b, spelling in _SPELLING.items()}
        tokens = {bytes([b]): b for b in range(N_BYTES)}
        pairs = []
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]:
            first, second = (b"".join(byte[c] for c in part) for part in pair)
            pairs.append((tokens[first], tokens[second]))
            tokens.setdefault(first + second, len(tokens))
        return cls(pairs)

    def __len__(self) -> int:
        return len(self.bytes)

    def encode(self, text: str) -> Tensor:
        return torch.cat([torch.empty(0, dtype=torch.int64), *self.encode_pieces([text])])

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        tokenizer = self._of_package()
        lines = _lines(pieces)
        while batch := list(itertools.islice(lines, 4096)):
            found = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            tokens = itertools.chain.from_iterable(line.ids for line in found)
            yield torch.from_numpy(np.fromiter(tokens, dtype=np.int64))

    def encode_known(self, prompt: str) -> Tensor:
        _check_utf8(prompt)
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return _characters_of(self.bytes[token] for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name, "pairs": [list(pair) for pair in self.pairs]}

    def _of_package(self) -> Any:
        if self._tokenizer is None:
            package = _tokenizers()
            spelled = ["".join(_SPELLING[b] for b in content) for content in self.bytes]
            model = package.models.BPE(
                vocab={spelling: token for token, spelling in enumerate(spelled)},
                merges=[(spelled[a], spelled[b]) for a, b in self.pairs],
            )
            self._tokenizer = _words_of(package, model)
        return self._tokenizer


# The printable character that GPT-2 and the package write for each byte: itself, or one from 256 on
# for a byte that shows nothing.
def _spelling() -> dict[int, str]:
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = itertools.count(N_BYTES)
    return {b: chr(b if b in shown else next(others)) for b in range(N_BYTES)}


_SPELLING = _spelling()


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as e:
        raise ValueError(
            "vocabulary=bpe needs the package tokenizers, which is not there; "
            "to install it: pip install tokenizers"
        ) from e
    return tokenizers


def _words_of(package: Any, model: Any) -> Any:
    tokenizer = package.Tokenizer(model)
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


# The lines of a text, each with its line break; longer ones are cut each `LINE` characters. They do
# not depend on where the pieces were cut.
def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        for line in whole:
            line += "\n"
            yield from (line[i : i + LINE] for i in range(0, len(line), LINE))
        full = len(rest) // LINE * LINE
        yield from (rest[i : i + LINE] for i in range(0, full, LINE))
        rest = rest[full:]
    if rest:
        yield rest


def _beginning(lines: Iterable[str]) -> Iterator[str]:
    n = 0
    for line in lines:
        if n >= LEARNED_FROM:
            return
        n += len(line)
        yield line


def _characters_of(pieces: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def _codes(text: str) -> Any:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(token) is int and token >= 0 for token in pair)
    )


# What a command line could not read arrives as half a pair of UTF-16, which UTF-8 has no bytes for.
def _check_utf8(prompt: str) -> None:
    halves = {c for c in prompt if "\ud800" <= c <= "\udfff"}
    if halves:
        raise ValueError(f"prompt must be text that UTF-8 can write, got {_named(halves)}")


def _named(characters: Iterable[str]) -> str:
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(characters))
