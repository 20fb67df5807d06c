r"""
# Corpora

A corpus is a text, cut once: the last tenth is for validation, what comes before is for training.
Both parts are tokens of one of three [vocabularies](vocabulary.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.text.source import Text, find_text
from experiments.text.tokens import Encoded, Tokens, read_encoded, write_encoded
from experiments.text.vocabulary import Characters, Vocabulary, check_vocabulary, learn_vocabulary

VALIDATION_SHARE = 0.1


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
