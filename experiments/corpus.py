r"""
# Corpora

A corpus is a text, cut once: the last tenth is for validation, what comes before is for training.
Both parts are tokens of one of three [vocabularies](vocabulary.py).
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from experiments.texts import Text, find_text
from experiments.tokens import Encoded, Tokens, read_encoded, write_encoded
from experiments.vocabulary import Characters, Vocabulary, check_vocabulary, learn_vocabulary

if TYPE_CHECKING:
    from experiments.devices import Share

VALIDATION_SHARE = 0.1

# Windows in a pass up to which their order is drawn as a whole: 32 MB. More than any recorded run
# has; above, the order is computed window by window.
WINDOWS_DRAWN = 2**22


@dataclass(frozen=True)
class Corpus:
    r"""
    ## A text, cut and encoded

    * `name` is what was asked for
    * `sha256` identifies the text: a run goes on with this one and no other
    * `vocabulary` turns text to tokens
    * `train` and `validation` are tokens, `[n]`. The first token of `validation` is the last of
      `train`: as context only, so that each token of the validation part is predicted, the first
      too
    * `validation_characters` is the number of characters of the validation part. The loss is
      divided by it, so that vocabularies can be compared
    """

    name: str
    sha256: str
    vocabulary: Vocabulary
    train: Tokens
    validation: Tokens
    validation_characters: int


def load_corpus(
    name: str, seq_len: int, data: Path, *, vocabulary: str = "characters", n_tokens: int = 1024
) -> Corpus:
    r"""
    ## Loading

    The last tenth validates, as in nanoGPT's preparation of Tiny Shakespeare, so that losses can be
    set beside its. The end and not a random tenth: pieces from between would have their
    neighbours, often the same names and phrases, in the training part.

    The cut lies between the same two characters for each vocabulary. So all of them train on the
    same text and predict the same text, and a loss per character means the same.

    * `name` is `python`, `tiny_shakespeare` or the path of a UTF-8 text
    * `seq_len` is the context in tokens
    * `data` is the folder that keeps what was downloaded and, under `tokens`, what was encoded
    * `vocabulary` is characters, bytes or bpe
    * `n_tokens` is the number of tokens of bpe

    Raises `ValueError` for a text that is missing, empty, not UTF-8 or too short, for a vocabulary
    that does not exist, and for a `data` that cannot be written.
    """
    check_vocabulary(vocabulary, n_tokens)
    try:
        text = find_text(name, data)
        sha256 = text.checksum()
        size = {"n_tokens": n_tokens} if vocabulary == "bpe" else {}
        label = "-".join([sha256[:16], vocabulary, *map(str, size.values())])
        path = data / "tokens" / f"{label}.bin"
        identity = {"text": sha256, "vocabulary": vocabulary, **size}
        encoded = read_encoded(path, identity)
        if encoded is None:
            encoded = _encode(text, path, identity, seq_len, name, n_tokens)
    except OSError as e:
        # What cannot be read became a `ValueError` where it was read.
        raise ValueError(
            f"data must be a folder that can be written, got {data} ({e.strerror or e})"
        ) from e
    n, n_train = len(encoded.tokens), encoded.n_train
    unit = "characters" if vocabulary == "characters" else "tokens"
    _check_length(n_train, n - n_train, unit, seq_len, name)
    return Corpus(
        name=name,
        sha256=sha256,
        vocabulary=encoded.vocabulary,
        train=encoded.tokens.part(0, n_train),
        validation=encoded.tokens.part(n_train - 1, n),
        validation_characters=encoded.characters[1],
    )


# Each step reads the text anew: it may be larger than the memory.
def _encode(
    text: Text, path: Path, identity: dict[str, Any], seq_len: int, name: str, n_tokens: int
) -> Encoded:
    n = sum(map(len, text.characters("counting characters")))
    split = round(n * (1 - VALIDATION_SHARE))
    # The number of other tokens is known only when they are encoded.
    if identity["vocabulary"] == "characters":
        _check_length(split, n - split, "characters", seq_len, name)
    training = part(text.characters("learning the vocabulary"), 0, split)
    vocabulary = learn_vocabulary(identity["vocabulary"], n_tokens, training)
    if isinstance(vocabulary, Characters) and not vocabulary.characters:
        raise ValueError(f"corpus must have characters other than U+FFFD, got none in {name}")
    # Each part is encoded for itself: no token lies across the cut.
    parts = (
        vocabulary.encode_pieces(part(text.characters("encoding for training"), 0, split)),
        vocabulary.encode_pieces(
            part(text.unchanged(identity["text"], "encoding for validation"), split)
        ),
    )
    return write_encoded(path, identity, vocabulary, (split, n - split), parts)


def part(pieces: Iterable[str], start: int, stop: int | None = None) -> Iterator[str]:
    r"""
    ## A part of a text

    * `pieces` are the text in order
    * `start` is the first character of the part, `stop` the one behind it; `None` means the end
    """
    place = 0
    for piece in pieces:
        if stop is not None and place >= stop:
            return
        wanted = piece[max(start - place, 0) : None if stop is None else stop - place]
        if wanted:
            yield wanted
        place += len(piece)


def _check_length(train: int, validation: int, unit: str, seq_len: int, name: str) -> None:
    # Windows start anywhere in the first `seq_len` tokens, so one whole window takes two.
    if train < 2 * seq_len or validation < 1:
        raise ValueError(
            f"corpus must have at least {2 * seq_len} {unit} for training with "
            f"seq_len={seq_len} and one for validation, got {train} and {validation} in {name}"
        )


class Windows:
    r"""
    ## The order of reading

    Training reads windows of `seq_len` tokens and, one further, their targets. In each pass
    over the text the windows lie edge to edge, in a new random order, from a new random start, so
    every token is read about once a pass and seldom at the same place in its window.

    Which windows belong to a step follows from the seed and the step's number alone. So a resumed
    run reads on where it stopped, without any state to save, and any number of processes can share
    a step.

    * `tokens` is the training part, at least `2 * seq_len` long
    * `seq_len` is the length of a window in tokens
    * `batch` is the number of windows a step
    * `seed` decides the order
    """

    def __init__(self, tokens: Tokens, seq_len: int, batch: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch = batch
        self.seed = seed
        self.per_pass = len(tokens) // seq_len - 1
        self._pass = lru_cache(maxsize=2)(self._draw_pass)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, `[batch, seq_len]` each."""
        return self.rows(step, range(self.batch))

    def rows(self, step: int, rows: range) -> tuple[Tensor, Tensor]:
        r"""
        * `rows` are those of the step's `batch` windows that are wanted

        Returns their inputs and targets, `[len(rows), seq_len]` each. Raises `ValueError` for rows
        that the step does not have.
        """
        if len(rows) and not 0 <= min(rows) <= max(rows) < self.batch:
            raise ValueError(f"rows must lie in [0, batch={self.batch}), got {rows}")
        numbers, places = np.divmod(step * self.batch + np.array(rows, np.int64), self.per_pass)
        starts = torch.empty(len(rows), dtype=torch.int64)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            first, order = self._pass(number)
            starts[here] = first + self.seq_len * order(places[here])
        window = self.tokens.gather(starts, self.seq_len + 1)
        return window[:, :-1], window[:, 1:]

    def batches(self, step: int, share: "Share") -> Iterator[tuple[Tensor, Tensor]]:
        """From a step on, without end: what this `share` of the processes reads, in order."""
        for number in itertools.count(step):
            for rows in share.rows(self.batch):
                yield self.rows(number, rows)

    # The start of a pass, and the function from places in its order to windows.
    def _draw_pass(self, number: int) -> tuple[int, Any]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        first = int(torch.randint(self.seq_len, (1,), generator=generator))
        if self.per_pass <= WINDOWS_DRAWN:
            drawn = torch.randperm(self.per_pass, generator=generator)
            return first, lambda places: drawn[places]
        keys = torch.randint(2**62, (ROUNDS,), generator=generator).tolist()
        return first, lambda places: torch.from_numpy(permuted(places, self.per_pass, keys))


ROUNDS = 6


def permuted(places: Any, n: int, keys: list[int]) -> Any:
    r"""
    ## An order without a list

    A Feistel network: the bits of a place are halved, and each round adds to one half, modulo 2,
    what a hash makes of the other. Whatever the hash, each round can be undone, so different
    places stay different. The bits may give a number that is not below $n$; then they go through
    again until they do. That ends, as a permutation leads back to where it began.

    A list of all windows of a pass takes 8 bytes for each, and some of those again while it is
    drawn: gigabytes for a text of billions of tokens.

    * `places` are whole numbers in $[0, n)$, `[k]`
    * `keys` choose one order of many, a key a round

    Returns the numbers in $[0, n)$ that these places have in the order, `[k]`.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), dtype=np.bool_)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & low
        for key in keys:
            # Products modulo $2^{64}$ with large odd numbers: the upper bits depend on all lower.
            mixed = (right + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            left, right = right, left ^ (mixed >> (np.uint64(64) - half))
        found[outside] = left << half | right
        outside = found >= n
    return found.astype(np.int64)
