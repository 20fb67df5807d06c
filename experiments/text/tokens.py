r"""
# Tokens on the disk

A text is turned to tokens once. They lie in a file that is mapped to memory, so a text may be
larger than the memory, and the next run begins at once.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from experiments.engine.progress import with_progress
from experiments.text.vocabulary import Vocabulary, from_description
from labml_gmlp.storage import atomic_writer

# What the files below look like and how a text becomes tokens. A change of either needs a new
# number, so that files of before are made again.
FORMAT = 1

CHUNK = 2**20  # bytes
# A process writes to its file all the time; one that has not for so long was killed.
LEFT_OVER = 24 * 60 * 60  # seconds


class Tokens:
    r"""
    ## Tokens

    * `array` holds them in whole numbers of any size, `[n]`; mapped from a file, or in memory

    What is read comes as whole numbers of 64 bits, which torch takes as indices.
    """

    def __init__(self, array: Any) -> None:
        self._array = np.asarray(array)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, places: slice) -> Tensor:
        return torch.from_numpy(self._array[places].astype(np.int64))

    def part(self, start: int, stop: int) -> "Tokens":
        """Those from `start` to before `stop`, not read yet."""
        return Tokens(self._array[start:stop])

    def gather(self, starts: Tensor, length: int) -> Tensor:
        r"""
        * `starts` are the places where the windows begin, `[k]`
        * `length` is the number of tokens of each

        Returns the windows, `[k, length]`. Raises `ValueError` for one that does not lie inside.
        """
        places = starts.numpy()
        if len(places) and not 0 <= places.min() <= places.max() <= len(self) - length:
            raise ValueError(
                f"starts must lie in [0, {len(self) - length}] for windows of {length} in "
                f"{len(self)} tokens, got {places.min()} to {places.max()}"
            )
        windows = self._array[places[:, None] + np.arange(length)]
        return torch.from_numpy(windows.astype(np.int64))


@dataclass(frozen=True)
class Encoded:
    r"""
    ## An encoded text

    * `vocabulary` is the one it was encoded with
    * `characters` are the numbers of characters of the training and of the validation part
    * `n_train` is the number of tokens of the training part
    * `tokens` are those of both parts, one after the other
    """

    vocabulary: Vocabulary
    characters: tuple[int, int]
    n_train: int
    tokens: Tokens


def number_type(n_tokens: int) -> Any:
    r"""
    ## Numbers as small as they can be

    The smallest type that holds all tokens: a byte for characters of most texts, two for any
    vocabulary in use, as in nanoGPT's files, whose 50257 tokens stay below $2^{16}$. The file, and
    what of it fits into memory, takes an eighth or a quarter of what torch's indices would.
    """
    size = 1 if n_tokens <= 2**8 else 2 if n_tokens <= 2**16 else 4
    return np.dtype(f"<u{size}")


def write_encoded(
    path: Path,
    identity: dict[str, Any],
    vocabulary: Vocabulary,
    characters: tuple[int, int],
    parts: tuple[Iterable[Tensor], Iterable[Tensor]],
) -> Encoded:
    r"""
    ## Writing

    The tokens go to `path` and what they are goes to a JSON file beside it. The JSON file comes
    last and carries the checksum of both: a kill at any instant leaves tokens that are whole or
    that nobody takes for whole.

    * `path` is the file of the tokens
    * `identity` says which text and which vocabulary this is: what `read_encoded` compares
    * `vocabulary`, `characters`, `parts` are the content; the parts are written as they come

    Raises `OSError` if it cannot be written.
    """
    kind, digest, counts = number_type(len(vocabulary)), hashlib.sha256(), []
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path)
    with atomic_writer(path, shared=True) as file:
        for part in parts:
            count = 0
            for piece in part:
                content = piece.numpy().astype(kind).tobytes()
                digest.update(content)
                file.write(content)
                count += len(piece)
            counts.append(count)
    record = {
        "format": FORMAT,
        "identity": identity,
        "vocabulary": vocabulary.description(),
        "characters": list(characters),
        "tokens": counts,
        "sha256": digest.hexdigest(),
    }
    with atomic_writer(_beside(path), shared=True) as file:
        file.write(json.dumps({**record, "checksum": _checksum(record)}, indent=1).encode())
    tokens = _mapped(path, len(vocabulary), sum(counts))
    return Encoded(vocabulary, characters, counts[0], tokens)


def read_encoded(path: Path, identity: dict[str, Any]) -> Encoded | None:
    r"""
    ## Reading

    * `path` and `identity` are those that it was written with

    Returns `None` if nothing was written yet, and also, after a line on standard error that says
    why, if what lies there is damaged or is of another text or vocabulary.
    """
    if not _beside(path).exists():
        return None
    try:
        record = _read_record(path, identity)
        vocabulary = from_description(record["vocabulary"])
        train, validation = record["tokens"]
        n = train + validation
        size, expected = path.stat().st_size, n * number_type(len(vocabulary)).itemsize
        if size != expected:
            raise ValueError(f"{size} bytes instead of {expected}")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for chunk in with_progress(chunks_of(file), size, "checking the tokens"):
                digest.update(chunk)
        if digest.hexdigest() != record["sha256"]:
            raise ValueError("other tokens than were written")
        characters = (record["characters"][0], record["characters"][1])
        return Encoded(vocabulary, characters, train, _mapped(path, len(vocabulary), n))
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        print(f"{path} is made again: {reason}", file=sys.stderr, flush=True)
        return None


def remove_left_over(path: Path) -> None:
    """Removes what processes that were killed left of `path`, after a day."""
    for old in path.parent.glob(f"{path.name}.*.new"):
        # Another process may remove it, or end with it, just now.
        with suppress(FileNotFoundError):
            if old.stat().st_mtime < time.time() - LEFT_OVER:
                old.unlink()


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """The content of an open file, piece by piece."""
    while chunk := file.read(CHUNK):
        yield chunk


def _read_record(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    try:
        record = json.loads(_beside(path).read_bytes())
    except ValueError as e:
        raise ValueError("its description is no JSON") from e
    # With its own checksum, it was written here and needs no further check of its fields.
    if not isinstance(record, dict) or record.pop("checksum", None) != _checksum(record):
        raise ValueError("its description is not as it was written")
    if record["format"] != FORMAT:
        raise ValueError(f"it has format {record['format']} instead of {FORMAT}")
    for name, value in identity.items():
        if record["identity"].get(name) != value:
            raise ValueError(f"it has {name} {record['identity'].get(name)} instead of {value}")
    return record


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path, n_tokens: int, n: int) -> Tokens:
    kind = number_type(n_tokens)
    # No system maps an empty file.
    return Tokens(np.memmap(path, dtype=kind, mode="r", shape=(n,)) if n else np.empty(0, kind))
