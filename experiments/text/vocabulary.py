r"""Three vocabularies with one interface: characters, bytes and byte pairs.

# Vocabularies

A vocabulary encodes text as tokens and decodes it again. [Byte pairs](byte_pairs.py) are trained on
the text.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from experiments.text.byte_pairs import BytePairVocabulary, import_tokenizers, is_pair
from experiments.text.utf8 import N_BYTES, check_utf8, decode_stream, list_characters

UNKNOWN = "\ufffd"
VOCABULARIES = ("characters", "bytes", "bpe")
# More than any text needs.
MAX_TOKENS = 2**20


class Vocabulary(Protocol):
    r"""The interface of all vocabularies.

    ## Interface

    ```python
    vocabulary = learn_vocabulary("characters", 0, ["the cat sat on the mat"])
    assert vocabulary.decode(vocabulary.encode("a cat").tolist()) == "a cat"
    ```

    * `name` is one of `VOCABULARIES`
    * `default_prompt` is the text of one known token, the start of a sample without a prompt
    """

    name: str

    @property
    def default_prompt(self) -> str: ...

    def __len__(self) -> int:
        """The number of tokens."""

    def encode(self, text: str) -> Tensor:
        """Returns the tokens of `text`, int64, `[n]`."""

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        """Yields the tokens of a long text; they do not depend on where it is cut into pieces."""

    def encode_prompt(self, prompt: str) -> Tensor:
        """Returns the tokens of `prompt`. Raises `ValueError` that lists unknown characters."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Returns the text of `tokens`, with U+FFFD for unknown characters and invalid bytes."""

    def decode_stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yields the same text, each character as soon as its last token arrives."""

    def description(self) -> dict[str, Any]:
        """Returns JSON values from which `restore_vocabulary` builds an equal vocabulary."""


def check_vocabulary(name: str, n_tokens: int) -> None:
    r"""Checks the choice of a vocabulary.

    * `name` is one of `VOCABULARIES`
    * `n_tokens` is the number of tokens for bpe, which includes the 256 bytes; the others ignore it

    Raises `ValueError` for an unknown name, for bpe with `n_tokens` out of range, and for bpe if
    the package tokenizers is not installed.
    """
    if name not in VOCABULARIES:
        raise ValueError(f"vocabulary must be characters, bytes or bpe, got {name!r}")
    if name == "bpe":
        if not N_BYTES < n_tokens <= MAX_TOKENS:
            raise ValueError(
                f"n_tokens must lie in ({N_BYTES}, {MAX_TOKENS}] for vocabulary=bpe, whose first "
                f"{N_BYTES} are the bytes, got {n_tokens}"
            )
        import_tokenizers()


def learn_vocabulary(name: str, n_tokens: int, pieces: Iterable[str]) -> Vocabulary:
    r"""Builds a vocabulary from a training split.

    ## From a text

    * `name` and `n_tokens` are as in `check_vocabulary`
    * `pieces` are the *training* split. With the validation split, the vocabulary would leak
      information about the text that the model is evaluated on
    """
    if name == "characters":
        return CharacterVocabulary.from_text(pieces)
    return ByteVocabulary() if name == "bytes" else BytePairVocabulary.train(pieces, n_tokens)


def restore_vocabulary(description: object) -> Vocabulary:
    r"""Builds a vocabulary from its description in a checkpoint.

    ## From a checkpoint

    * `description` is the result of `Vocabulary.description`

    Raises `ValueError` if it is not.
    """
    match description:
        case {"name": "characters", "characters": str(characters), **rest} if not rest:
            if characters and list(characters) == sorted(set(characters) - {UNKNOWN}):
                return CharacterVocabulary(characters)
        case {"name": "bytes", **rest} if not rest:
            return ByteVocabulary()
        case {"name": "bpe", "pairs": list(pairs), **rest} if not rest:
            # A pair that names a later token raises `IndexError`.
            with contextlib.suppress(IndexError):
                if all(is_pair(pair) for pair in pairs):
                    return BytePairVocabulary([(a, b) for a, b in pairs])
    text = repr(description)
    raise ValueError(
        "vocabulary must be a description of characters, bytes or bpe, got "
        f"{text if len(text) <= 80 else text[:80] + '...'}"
    )


class CharacterVocabulary:
    r"""One token for each character of the training split, and token 0 for all others.

    ## Characters as tokens

    ```python
    vocabulary = CharacterVocabulary.from_text(["banana"])
    assert vocabulary.encode("nabz").tolist() == [3, 1, 2, 0]
    ```

    The known characters are sorted. Token 0 is decoded as U+FFFD. It counts in the loss like any
    other token, although the model never sees it in training.

    * `characters` are the known characters, in the order of their tokens
    """

    name = "characters"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        # The token of every code point.
        self._tokens = np.zeros(0x110000, dtype=np.uint32)
        self._tokens[_code_points(characters)] = np.arange(1, len(characters) + 1)

    @classmethod
    def from_text(cls, pieces: Iterable[str]) -> "CharacterVocabulary":
        """Collects the characters of a text that comes in pieces."""
        seen = np.zeros(0x110000, dtype=np.bool_)
        for piece in pieces:
            seen[_code_points(piece)] = True
        seen[ord(UNKNOWN)] = False
        return cls("".join(map(chr, seen.nonzero()[0])))

    @property
    def default_prompt(self) -> str:
        return "\n" if "\n" in self.characters else self.characters[0]

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tensor:
        return torch.from_numpy(self._tokens[_code_points(text)].astype(np.int64))

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        return map(self.encode, pieces)

    def encode_prompt(self, prompt: str) -> Tensor:
        unknown = set(prompt) - set(self.characters)
        if unknown:
            raise ValueError(
                "prompt must use characters of the training text only, "
                f"got {list_characters(unknown)}"
            )
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.decode_stream(tokens))

    def decode_stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return (self.characters[token - 1] if token else UNKNOWN for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name, "characters": self.characters}


class ByteVocabulary:
    r"""The 256 bytes of UTF-8 as tokens.

    ## Bytes as tokens

    ```python
    vocabulary = ByteVocabulary()
    assert vocabulary.encode("cat").tolist() == [99, 97, 116]
    ```

    Any text of any language can be encoded, but a character takes up to four tokens.
    """

    name = "bytes"
    default_prompt = "\n"

    def __len__(self) -> int:
        return N_BYTES

    def encode(self, text: str) -> Tensor:
        content = np.frombuffer(text.encode(), dtype=np.uint8)
        return torch.from_numpy(content.astype(np.int64))

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        return map(self.encode, pieces)

    def encode_prompt(self, prompt: str) -> Tensor:
        check_utf8(prompt)
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.decode_stream(tokens))

    def decode_stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return decode_stream(bytes([token]) for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name}


def _code_points(text: str) -> Any:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
