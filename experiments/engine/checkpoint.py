r"""Checkpoint files that survive a kill and carry their own checksum.

# Checkpoints

A checkpoint is written to a new file, flushed to disk and renamed over the old one. A kill at any
instant leaves either the old checkpoint or the new one, complete.
"""

import hashlib
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from labml_gmlp.storage import atomic_writer

# The newest checkpoint of a run, the one before it, and the best.
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"

# torch saves a zip archive, which may end with a comment. Here the comment is the SHA-256 of all
# bytes before it, so the file carries its own checksum and `torch.load` still reads it.
DIGEST_CHARACTERS = 64


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable, damaged, or from another run."""


def save_checkpoint(path: Path, state: dict[str, Any], keep: Path | None = None) -> None:
    r"""Saves a checkpoint atomically, without a second copy of it in memory.

        save_checkpoint(Path("last.pt"), {"model": model.state_dict(), "step": 7})

    * `path` is replaced when the new file is complete
    * `state` holds tensors, numbers, strings, and lists and dicts of them
    * `keep` is where to keep the old checkpoint; by default it is replaced

    Raises `OSError` if the file cannot be written; the old file is then unchanged.
    """
    with atomic_writer(path, keep) as file:
        writer = _ChecksumWriter(file)
        try:
            torch.save(state, writer)  # type: ignore[arg-type]
        except RuntimeError as e:
            # torch hides the reason, such as a full disk; the writer has recorded it.
            raise writer.error or e from e
        writer.sign()


class _ChecksumWriter:
    """Writes to a file and hashes it, except the last two bytes, which `sign` replaces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._pending, self._digest = file, b"", hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        joined = self._pending + bytes(content)
        self._pending = joined[-2:]
        self._write(joined[:-2])
        return len(content)

    def flush(self) -> None:
        self._file.flush()

    def sign(self) -> None:
        # The last two bytes of an archive without a comment are the comment's length, zero.
        self._write(struct.pack("<H", DIGEST_CHARACTERS))
        self._file.write(self._digest.hexdigest().encode())

    def _write(self, content: bytes) -> None:
        self._digest.update(content)
        try:
            self._file.write(content)
        except OSError as e:
            self.error = e
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    r"""Reads a checkpoint, with its tensors on the CPU.

    The checksum is verified first. Then the file is read with `weights_only`, so a checkpoint
    cannot run code.

    Raises `CheckpointError` if the file is missing, cannot be read, is cut short or altered, or
    holds objects other than tensors, numbers, strings, lists and dicts.
    """
    try:
        size, expected, found = _digests(path)
    except FileNotFoundError as e:
        raise CheckpointError(f"checkpoint {path} must exist, got no such file") from e
    except OSError as e:
        # A folder of that name, or a failing disk.
        raise CheckpointError(
            f"checkpoint {path} must be a file that can be read, got: {e.strerror or e}"
        ) from e
    if found != expected:
        raise CheckpointError(
            f"checkpoint {path} must match its checksum, got {size} bytes that do not; "
            f"it was cut short or altered"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as e:
        raise CheckpointError(
            f"checkpoint {path} must hold only tensors, numbers and strings, got other objects"
        ) from e
    return state


def _digests(path: Path) -> tuple[int, bytes, bytes]:
    """The size of the file, the checksum at its end, and the checksum of the bytes before it."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        left = max(0, size - DIGEST_CHARACTERS)
        while part := file.read(min(left, 2**20)):
            digest.update(part)
            left -= len(part)
        return size, file.read(), digest.hexdigest().encode()


def find_checkpoint(
    run: Path, check: Callable[[Path], dict[str, Any]]
) -> tuple[Path, dict[str, Any]] | None:
    r"""The checkpoint to resume from, with its content: the newest, or the one before it.

    * `run` is the folder of the run
    * `check` returns the content of a checkpoint, or raises `CheckpointError`

    Returns `None` if the run was killed before its first checkpoint.

    Raises `CheckpointError`, about the newest checkpoint, if neither can be used.
    """
    last, previous = run / LAST, run / PREVIOUS
    if not last.exists() and not previous.exists():
        return None
    try:
        return last, check(last)
    except CheckpointError as e:
        try:
            content = check(previous)
        except CheckpointError:
            raise e from None
        print(f"{e}; resuming from {previous}", file=sys.stderr)
        return previous, content


def restore_previous(run: Path) -> None:
    r"""Copies the previous checkpoint over a damaged newest one.

    Otherwise the next save would move the damaged file over the intact one, and a kill at that
    moment would leave no usable checkpoint.

    Raises `OSError` if a file cannot be read or written.
    """
    with (run / PREVIOUS).open("rb") as intact, atomic_writer(run / LAST) as file:
        shutil.copyfileobj(intact, file)
