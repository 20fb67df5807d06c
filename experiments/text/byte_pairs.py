r"""
# Pairs of bytes

Byte-level BPE, learned from the text at hand. It counts as a [vocabulary](vocabulary.py) like
characters and bytes.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.text.utf8 import N_BYTES, characters_of, check_utf8

# Pairs are learned and found within a line, and within so many characters of it. So a text can be
# cut into pieces that never cut a word, without looking further than one line.
LINE = 4096  # characters
# Pairs are learned from the beginning of the training part. What is frequent is so here already,
# and the words that were met, all of which are counted, would fill the memory otherwise.
LEARNED_FROM = 2**28  # characters


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
        package = need_tokenizers()
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
        check_utf8(prompt)
        return self.encode(prompt)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        return characters_of(self.bytes[token] for token in tokens)

    def description(self) -> dict[str, Any]:
        return {"name": self.name, "pairs": [list(pair) for pair in self.pairs]}

    def _of_package(self) -> Any:
        if self._tokenizer is None:
            package = need_tokenizers()
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


def need_tokenizers() -> Any:
    """The package. Raises `ValueError` where it is not there."""
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


def is_pair(pair: object) -> bool:
    """Whether `pair` is a list of two tokens: what comes from a file may be anything."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(token) is int and token >= 0 for token in pair)
    )
