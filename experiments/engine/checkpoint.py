r"""
# Checkpoints

A checkpoint holds all that the next step depends on. It is either whole or not there: written
aside, flushed to the disk, then renamed over the old one. A kill at any instant leaves the old file
or the new one.
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

# torch saves a zip archive, and a zip archive may end with a comment. The comment is the SHA-256 of
# all that comes before it: so one file carries its own checksum, and `torch.load` still opens it.
DIGEST_CHARACTERS = 64


class CheckpointError(ValueError):
    """The file is no checkpoint, or is not what was written. The text says which."""


def save_checkpoint(path: Path, state: dict[str, Any], keep: Path | None = None) -> None:
    r"""
    ## Saving

    Written through as it is made: no second copy of a large model in memory.

    * `path` is replaced at the last moment
    * `state` holds tensors, numbers, strings, and lists and dicts of them
    * `keep` is where the old checkpoint stays

    Raises `OSError` if it cannot be written; the old file is untouched then.
    """
    with atomic_writer(path, keep) as file:
        signed = _Signed(file)
        try:
            torch.save(state, signed)  # type: ignore[arg-type]
        except RuntimeError as e:
            # torch says only that a write fell short; the disk said why.
            raise signed.error or e from e
        signed.sign()


class _Signed:
    """A file that hashes what goes through it, all but the two bytes that `sign` replaces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held, self._digest = file, b"", hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        whole = self._held + bytes(content)
        self._held = whole[-2:]
        self._through(whole[:-2])
        return len(content)

    def flush(self) -> None:
        self._file.flush()

    def sign(self) -> None:
        # The last two bytes of an archive without a comment are the comment's length, zero.
        self._through(struct.pack("<H", DIGEST_CHARACTERS))
        self._file.write(self._digest.hexdigest().encode())

    def _through(self, content: bytes) -> None:
        self._digest.update(content)
        try:
            self._file.write(content)
        except OSError as e:
            self.error = e
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    r"""
    ## Loading

    Verifies the checksum before anything is read from the file, then reads it with `weights_only`:
    a checkpoint can hold no code. Tensors arrive on the CPU.

    Raises `CheckpointError` for a file that is missing, cut short or altered, and for one that
    holds more than data.
    """
    try:
        size, expected, found = _digests(path)
    except FileNotFoundError as e:
        raise CheckpointError(f"checkpoint {path} must exist, got no such file") from e
    except OSError as e:
        # A folder of that name, or a disk that is breaking.
        raise CheckpointError(
            f"checkpoint {path} must be a file that can be read, got: {e.strerror or e}"
        ) from e
    if found != expected:
        raise CheckpointError(
            f"checkpoint {path} must match its checksum, got {size} bytes that do not: "
            f"it was cut short or altered"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as e:
        raise CheckpointError(
            f"checkpoint {path} must hold tensors, numbers and texts only, got other objects"
        ) from e
    return state


# The size of the file, the checksum at its end, and that of all before.
def _digests(path: Path) -> tuple[int, bytes, bytes]:
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        left = max(0, size - DIGEST_CHARACTERS)
        while part := file.read(min(left, 2**20)):
            digest.update(part)
            left -= len(part)
        return size, file.read(), digest.hexdigest().encode()


def resumable(run: Path, check: Callable[[Path], object]) -> Path | None:
    r"""
    ## Where a run goes on

    The newest checkpoint, or the one before if the newest is damaged; `None` for a run that was
    killed before its first.

    * `run` is the folder
    * `check` raises `CheckpointError` for a checkpoint that cannot be used

    Raises `CheckpointError` if there are checkpoints and none can be used; it is about the newest.
    """
    last, previous = run / LAST, run / PREVIOUS
    if not last.exists() and not previous.exists():
        return None
    try:
        check(last)
    except CheckpointError as e:
        try:
            check(previous)
        except CheckpointError:
            raise e from None
        print(f"{e}; going on from {previous}", file=sys.stderr)
        return previous
    return last


def restore_previous(run: Path) -> None:
    r"""
    ## In the place of a damaged one

    Makes the checkpoint before the newest the newest again. Otherwise the next to be saved would
    move the damaged one over the whole one, and a kill in that moment would leave none.

    * `run` is the folder
    """
    with (run / PREVIOUS).open("rb") as whole, atomic_writer(run / LAST) as file:
        shutil.copyfileobj(whole, file)
