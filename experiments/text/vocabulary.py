r"""
# Vocabularies

A vocabulary turns text to tokens and back. There are three, with one set of methods: characters,
bytes, and [pairs of bytes](byte_pairs.py) that were learned from the text.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from experiments.text.byte_pairs import BytePairs, is_pair, need_tokenizers
from experiments.text.utf8 import N_BYTES, characters_of, check_utf8, named

UNKNOWN = "\ufffd"
NAMES = ("characters", "bytes", "bpe")
# A token for each of a million pairs is more than any text needs, and still fits 32 bits.
MOST_TOKENS = 2**20


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
        need_tokenizers()


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
                if all(is_pair(pair) for pair in pairs):
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
                f"prompt must use characters of the training text only, got {named(unknown)}"
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
        check_utf8(prompt)
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return characters_of(bytes([token]) for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name}


def _codes(text: str) -> Any:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
