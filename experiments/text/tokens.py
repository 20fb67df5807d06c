r"""Encoded texts on disk, mapped to memory.

# Token files

A text is encoded once. The file is mapped to memory, so it may be larger than memory, and the next
run starts at once.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.engine.progress import with_progress
from experiments.text.source import read_chunks
from experiments.text.vocabulary import Vocabulary, restore_vocabulary
from labml_gmlp.storage import atomic_writer

# Increase this when the file format or an encoding changes, so that old files are encoded again.
FORMAT = 1

# A temporary file that no process has written to for this long was left by a killed process.
STALE_AFTER = 24 * 60 * 60  # seconds


class Tokens:
    r"""A sequence of tokens of any integer type, in memory or mapped from a file.

    ## Tokens

    ```python
    tokens = Tokens(np.arange(100, dtype=np.uint8))
    window = tokens[10:20]
    ```

    Slices are returned as int64 tensors, which torch accepts as indices.

    * `array` holds the tokens, `[n]`
    """

    def __init__(self, array: Any) -> None:
        self._array = np.asarray(array)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, places: slice) -> Tensor:
        return torch.from_numpy(self._array[places].astype(np.int64))

    def view(self, start: int, stop: int) -> "Tokens":
        """Returns the tokens `start` to `stop - 1` without reading them."""
        return Tokens(self._array[start:stop])

    def gather(self, starts: Tensor, length: int) -> Tensor:
        r"""Reads windows of equal length.

        * `starts` are the positions where the windows start, `[k]`
        * `length` is the number of tokens in each

        Returns the windows, `[k, length]`.

        Raises `ValueError` for a window that is not inside the text.
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
class EncodedText:
    r"""A text as tokens, with the vocabulary that encoded it.

    ## Encoded text

    * `vocabulary` is the vocabulary
    * `characters` are the numbers of characters in the training and the validation split
    * `n_train` is the number of tokens in the training split
    * `tokens` are those of the training split, then those of the validation split
    """

    vocabulary: Vocabulary
    characters: tuple[int, int]
    n_train: int
    tokens: Tokens


def token_dtype(n_tokens: int) -> Any:
    r"""The smallest unsigned integer type for a vocabulary of `n_tokens`.

    Characters of most texts fit one byte and every common vocabulary fits two, as in nanoGPT's
    files. That is an eighth or a quarter of int64, on disk and in the page cache.
    """
    size = 1 if n_tokens <= 2**8 else 2 if n_tokens <= 2**16 else 4
    return np.dtype(f"<u{size}")


def write_encoded(
    path: Path,
    identity: dict[str, Any],
    vocabulary: Vocabulary,
    characters: tuple[int, int],
    splits: tuple[Iterable[Tensor], Iterable[Tensor]],
) -> EncodedText:
    r"""Writes an encoded text to disk and maps it to memory.

    ## Writing

    The tokens go to `path`, their description to a JSON file beside it. The JSON file is written
    last and contains the checksum of both files, so a process that is killed at any moment never
    leaves files that would be accepted as complete.

    * `path` is the file for the tokens
    * `identity` identifies the text and the vocabulary; `read_encoded` compares it
    * `vocabulary` and `characters` are as in `EncodedText`
    * `splits` are the tokens of the training and the validation split, in pieces

    Raises `OSError` if a file cannot be written.
    """
    dtype, digest, counts = token_dtype(len(vocabulary)), hashlib.sha256(), []
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_files(path)
    with atomic_writer(path, shared=True) as file:
        for pieces in splits:
            count = 0
            for piece in pieces:
                content = piece.numpy().astype(dtype).tobytes()
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
    with atomic_writer(_record_path(path), shared=True) as file:
        file.write(json.dumps({**record, "checksum": _checksum(record)}, indent=1).encode())
    tokens = _map_tokens(path, len(vocabulary), sum(counts))
    return EncodedText(vocabulary, characters, counts[0], tokens)


def read_encoded(path: Path, identity: dict[str, Any]) -> EncodedText | None:
    r"""Maps an encoded text to memory, if it is on disk and intact.

    ## Reading

    * `path` and `identity` are as in `write_encoded`

    Returns `None` if there is no such file. Also returns `None`, and prints the reason to standard
    error, if a file is damaged or belongs to another text or vocabulary.
    """
    if not _record_path(path).exists():
        return None
    try:
        record = _read_record(path, identity)
        vocabulary = restore_vocabulary(record["vocabulary"])
        train, validation = record["tokens"]
        n = train + validation
        size, expected = path.stat().st_size, n * token_dtype(len(vocabulary)).itemsize
        if size != expected:
            raise ValueError(f"{size} bytes instead of {expected}")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for chunk in with_progress(read_chunks(file), size, "checking the tokens"):
                digest.update(chunk)
        if digest.hexdigest() != record["sha256"]:
            raise ValueError("wrong checksum of the tokens")
        characters = (record["characters"][0], record["characters"][1])
        return EncodedText(vocabulary, characters, train, _map_tokens(path, len(vocabulary), n))
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        print(f"encoding {path} again: {reason}", file=sys.stderr, flush=True)
        return None


def remove_stale_files(path: Path) -> None:
    """Removes temporary files that killed processes left beside `path` more than a day ago."""
    for old in path.parent.glob(f"{path.name}.*.new"):
        # Another process may be removing or renaming it.
        with suppress(FileNotFoundError):
            if old.stat().st_mtime < time.time() - STALE_AFTER:
                old.unlink()


def _read_record(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    name = _record_path(path).name
    try:
        record = json.loads(_record_path(path).read_bytes())
    except ValueError as e:
        raise ValueError(f"{name} is not valid JSON") from e
    # A record with the right checksum was written by `write_encoded`: its fields need no checks.
    if not isinstance(record, dict) or record.pop("checksum", None) != _checksum(record):
        raise ValueError(f"wrong checksum in {name}")
    if record["format"] != FORMAT:
        raise ValueError(f"format {record['format']} instead of {FORMAT}")
    for key, value in identity.items():
        if record["identity"].get(key) != value:
            raise ValueError(f"{key} {record['identity'].get(key)} instead of {value}")
    return record


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _map_tokens(path: Path, n_tokens: int, n: int) -> Tokens:
    dtype = token_dtype(n_tokens)
    # An empty file cannot be mapped.
    return Tokens(np.memmap(path, dtype=dtype, mode="r", shape=(n,)) if n else np.empty(0, dtype))
