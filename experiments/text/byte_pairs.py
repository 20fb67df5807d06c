r"""Byte-level BPE, trained on the corpus itself.

# Byte-pair encoding

One of the three [vocabularies](vocabulary.py).
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.text.utf8 import N_BYTES, check_utf8, decode_stream

# Tokens never cross a line break or this limit, so a text can be encoded in pieces and get the same
# tokens wherever it is cut.
MAX_LINE = 4096  # characters
# BPE is trained on the beginning of the training split only. This is enough to rank the pairs; a
# table of all words of a long text would fill the memory.
MAX_TRAINING = 2**28  # characters


class BytePairVocabulary:
    r"""Byte-level BPE, on words split as in GPT-2.

    ## Byte pairs as tokens

    ```python
    vocabulary = BytePairVocabulary.train(["the cat sat on the mat"], n_tokens=260)
    tokens = vocabulary.encode("the cat")
    ```

    Tokens 0 to 255 are the bytes. Each further token is the most frequent pair of adjacent tokens
    at the time it was added. Frequent words become single tokens, and any text can be encoded.
    GPT-2's pattern first splits the text into words, each with the space before it.

    Training and encoding need the package `tokenizers`; decoding does not.

    * `pairs` are the merged tokens, in the order of training
    """

    name = "bpe"
    default_prompt = "\n"

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self.pairs = list(pairs)
        self.bytes = [bytes([b]) for b in range(N_BYTES)]
        known = set(self.bytes)
        for a, b in self.pairs:
            joined = self.bytes[a] + self.bytes[b]
            # An earlier pair may have produced the same bytes: the two are one token.
            if joined not in known:
                known.add(joined)
                self.bytes.append(joined)
        self._tokenizer: Any = None

    @classmethod
    def train(cls, pieces: Iterable[str], n_tokens: int) -> "BytePairVocabulary":
        """Trains up to `n_tokens` tokens; fewer if no remaining pair occurs twice."""
        package = import_tokenizers()
        tokenizer = _split_words(package, package.models.BPE())
        trainer = package.trainers.BpeTrainer(
            vocab_size=n_tokens,
            min_frequency=2,
            initial_alphabet=list(_PRINTABLE.values()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_first_lines(_lines(pieces)), trainer)
        # The package spells bytes as printable characters and orders its tokens differently.
        byte = {character: bytes([b]) for b, character in _PRINTABLE.items()}
        tokens = {bytes([b]): b for b in range(N_BYTES)}
        pairs = []
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]:
            first, second = (b"".join(byte[c] for c in side) for side in pair)
            pairs.append((tokens[first], tokens[second]))
            tokens.setdefault(first + second, len(tokens))
        return cls(pairs)

    def __len__(self) -> int:
        return len(self.bytes)

    def encode(self, text: str) -> Tensor:
        return torch.cat([torch.empty(0, dtype=torch.int64), *self.encode_pieces([text])])

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Tensor]:
        tokenizer = self._load_tokenizer()
        lines = _lines(pieces)
        while batch := list(itertools.islice(lines, 4096)):
            encoded = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            tokens = itertools.chain.from_iterable(line.ids for line in encoded)
            yield torch.from_numpy(np.fromiter(tokens, dtype=np.int64))

    def encode_prompt(self, prompt: str) -> Tensor:
        check_utf8(prompt)
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.decode_stream(tokens))

    def decode_stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return decode_stream(self.bytes[token] for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name, "pairs": [list(pair) for pair in self.pairs]}

    def _load_tokenizer(self) -> Any:
        if self._tokenizer is None:
            package = import_tokenizers()
            spelled = ["".join(_PRINTABLE[b] for b in token) for token in self.bytes]
            model = package.models.BPE(
                vocab={spelling: token for token, spelling in enumerate(spelled)},
                merges=[(spelled[a], spelled[b]) for a, b in self.pairs],
            )
            self._tokenizer = _split_words(package, model)
        return self._tokenizer


# How GPT-2 and the package write each byte: as its own character if that is printable, else as one
# from U+0100 on.
def _printable_bytes() -> dict[int, str]:
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = itertools.count(N_BYTES)
    return {b: chr(b if b in printable else next(others)) for b in range(N_BYTES)}


_PRINTABLE = _printable_bytes()


def import_tokenizers() -> Any:
    """Imports the package `tokenizers`. Raises `ValueError` if it is not installed."""
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as e:
        raise ValueError(
            "vocabulary=bpe needs the package tokenizers; install it: pip install tokenizers"
        ) from e
    return tokenizers


def _split_words(package: Any, model: Any) -> Any:
    tokenizer = package.Tokenizer(model)
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


# The lines of a text with their line breaks; longer ones are cut every `MAX_LINE` characters. They
# do not depend on where the pieces were cut.
def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        for line in whole:
            line += "\n"
            yield from (line[i : i + MAX_LINE] for i in range(0, len(line), MAX_LINE))
        full = len(rest) // MAX_LINE * MAX_LINE
        yield from (rest[i : i + MAX_LINE] for i in range(0, full, MAX_LINE))
        rest = rest[full:]
    if rest:
        yield rest


def _first_lines(lines: Iterable[str]) -> Iterator[str]:
    n = 0
    for line in lines:
        if n >= MAX_TRAINING:
            return
        n += len(line)
        yield line


def is_pair(pair: object) -> bool:
    """Whether a value read from a file is a list of two tokens."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(token) is int and token >= 0 for token in pair)
    )
