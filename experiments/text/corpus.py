r"""A text, split into training and validation, and encoded as tokens.

# Corpora

The last tenth of a text is the validation split, the rest is the training split. There is no test
split. Both are encoded by one of three [vocabularies](vocabulary.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.text.source import TextSource, find_source
from experiments.text.tokens import EncodedText, Tokens, read_encoded, write_encoded
from experiments.text.vocabulary import (
    CharacterVocabulary,
    Vocabulary,
    check_vocabulary,
    learn_vocabulary,
)

VALIDATION_FRACTION = 0.1


@dataclass(frozen=True)
class Corpus:
    r"""The training and the validation split of a text as tokens.

    ## Corpus

    ```python
    corpus = load_corpus("python", seq_len=64, data=Path("data"))
    text = corpus.vocabulary.decode(corpus.train[:80].tolist())
    ```

    * `name` is the name or path passed to `load_corpus`
    * `sha256` is the checksum of the text; a run resumes only with the same text
    * `vocabulary` encoded the text
    * `train` and `validation` are tokens. `validation` starts with the last token of `train`, which
      is context only: all tokens of the validation split are predicted, including the first
    * `validation_characters` is the number of characters in the validation split. The loss is
      divided by this number, so that vocabularies can be compared
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
    r"""Loads a text, encodes it, and caches the tokens on disk.

    ## Loading

    The last tenth is for validation, as in nanoGPT's preparation of Tiny Shakespeare, so the losses
    can be compared. We take the end instead of random passages, because the text around a random
    passage often contains the same names and phrases.

    The split is at the same character for each vocabulary, so losses per character can be compared
    between vocabularies.

    * `name` is `python`, `tiny_shakespeare` or the path of a UTF-8 text
    * `seq_len` is the context length in tokens
    * `data` is the folder for downloads, and for tokens in its subfolder `tokens`
    * `vocabulary` is characters, bytes or bpe
    * `n_tokens` is the number of tokens for bpe

    Raises `ValueError` for a text that is missing, empty, unreadable, not UTF-8, too short, or
    changed while it is encoded; for an unknown vocabulary or `n_tokens` out of range; if bpe lacks
    the package tokenizers; for a download that fails or has a wrong checksum; and if `data` is not
    writable.
    """
    check_vocabulary(vocabulary, n_tokens)
    try:
        source = find_source(name, data)
        sha256 = source.checksum()
        size = {"n_tokens": n_tokens} if vocabulary == "bpe" else {}
        label = "-".join([sha256[:16], vocabulary, *map(str, size.values())])
        path = data / "tokens" / f"{label}.bin"
        identity = {"text": sha256, "vocabulary": vocabulary, **size}
        encoded = read_encoded(path, identity)
        if encoded is None:
            encoded = _encode(source, path, identity, seq_len, name, n_tokens)
    except OSError as e:
        # Errors in reading the text are `ValueError` already.
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
        train=encoded.tokens.view(0, n_train),
        validation=encoded.tokens.view(n_train - 1, n),
        validation_characters=encoded.characters[1],
    )


# Each pass reads the text again, since it may be larger than memory.
def _encode(
    source: TextSource, path: Path, identity: dict[str, Any], seq_len: int, name: str, n_tokens: int
) -> EncodedText:
    n = sum(map(len, source.characters("counting characters")))
    split = round(n * (1 - VALIDATION_FRACTION))
    # Other vocabularies are checked after encoding, when the number of tokens is known.
    if identity["vocabulary"] == "characters":
        _check_length(split, n - split, "characters", seq_len, name)
    training = slice_text(source.characters("learning the vocabulary"), 0, split)
    vocabulary = learn_vocabulary(identity["vocabulary"], n_tokens, training)
    if isinstance(vocabulary, CharacterVocabulary) and not vocabulary.characters:
        raise ValueError(f"corpus must have characters other than U+FFFD, got none in {name}")
    # The splits are encoded separately: no token crosses the boundary.
    training = slice_text(source.characters("encoding for training"), 0, split)
    validation = slice_text(
        source.verified_characters(identity["text"], "encoding for validation"), split
    )
    splits = (vocabulary.encode_pieces(training), vocabulary.encode_pieces(validation))
    return write_encoded(path, identity, vocabulary, (split, n - split), splits)


def slice_text(pieces: Iterable[str], start: int, stop: int | None = None) -> Iterator[str]:
    r"""Yields `text[start:stop]` of a text that comes in pieces.

    * `pieces` are the text in order
    * `start` and `stop` count characters; `None` means the end
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
    # The first window may start anywhere in the first `seq_len` tokens.
    if train < 2 * seq_len or validation < 1:
        raise ValueError(
            f"corpus must have at least {2 * seq_len} {unit} for training with "
            f"seq_len={seq_len} and one for validation, got {train} and {validation} in {name}"
        )
