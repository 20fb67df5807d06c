r"""
# Checkpoints

A checkpoint holds all that the next step depends on. It is either whole or not there: written
aside, flushed to the disk, then renamed over the old one. A kill at any instant leaves the old file
or the new one.
"""

import dataclasses
import hashlib
import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labml_gmlp.storage import write_aside

# torch saves a zip archive, and a zip archive may end with a comment. The comment is the SHA-256 of
# all that comes before it: so one file carries its own checksum, and `torch.load` still opens it.
DIGEST_CHARACTERS = 64


class CheckpointError(ValueError):
    """The file is no checkpoint, or is not what was written. The text says which."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    r"""
    ## Saving

    * `path` is replaced at the last moment
    * `state` holds tensors, numbers, strings, and lists and dicts of them

    Raises `OSError` if it cannot be written; the old file is untouched then.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    archive = buffer.getvalue()
    # The last two bytes of an archive without a comment are the comment's length, zero.
    content = archive[:-2] + struct.pack("<H", DIGEST_CHARACTERS)
    write_aside(path, content + hashlib.sha256(content).hexdigest().encode())


def load_checkpoint(path: Path) -> dict[str, Any]:
    r"""
    ## Loading

    Verifies the checksum before anything is read from the file, then reads it with `weights_only`:
    a checkpoint can hold no code. Tensors arrive on the CPU.

    Raises `CheckpointError` for a file that is missing, cut short or altered, and for one that
    holds more than data.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as e:
        raise CheckpointError(f"checkpoint {path} must exist, got no such file") from e
    expected, rest = content[-DIGEST_CHARACTERS:], content[:-DIGEST_CHARACTERS]
    if hashlib.sha256(rest).hexdigest().encode() != expected:
        raise CheckpointError(
            f"checkpoint {path} must match its checksum, got {len(content)} bytes that do not: "
            f"it was cut short or altered"
        )
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except (pickle.UnpicklingError, RuntimeError) as e:
        raise CheckpointError(
            f"checkpoint {path} must hold tensors, numbers and texts only, got other objects"
        ) from e
    return state


def load_run_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint with all that `State.save` writes. Raises `CheckpointError` for any other."""
    loaded = load_checkpoint(path)
    missing = [field.name for field in dataclasses.fields(State) if field.name not in loaded]
    if missing:
        raise CheckpointError(f"checkpoint {path} must be that of a run, got one without {missing}")
    return loaded


@dataclass
class State:
    r"""
    ## The state of a run

    All that the next step depends on. The order of the data needs no state, as it follows from the
    step; and nothing in a step draws random numbers.

    * `identity` says which run this is: what must be equal for a checkpoint to belong to it
    * `model` and `optimizer` change with each step
    * `step` is the number of steps done
    * `seconds` is the time they took, over all launches
    * `best` is the evaluation with the lowest loss so far, with its step
    """

    identity: dict[str, Any]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] | None = None

    def save(self, path: Path) -> None:
        """Raises `OSError` if it cannot be written; the old file is untouched then."""
        save_checkpoint(
            path,
            {
                "identity": self.identity,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
            },
        )

    def load(self, path: Path) -> None:
        """Raises `CheckpointError` for a damaged checkpoint and for one of another run."""
        loaded = self.check(path)
        self.model.load_state_dict(loaded["model"])
        self.optimizer.load_state_dict(loaded["optimizer"])
        self.step, self.seconds, self.best = loaded["step"], loaded["seconds"], loaded["best"]

    def check(self, path: Path) -> dict[str, Any]:
        """The content of a checkpoint of this run, not loaded. Raises as `load` does."""
        loaded = load_run_checkpoint(path)
        for name, value in self.identity.items():
            found = loaded["identity"].get(name)
            if found != value:
                raise CheckpointError(
                    f"checkpoint {path} must be of this run with {_difference(name, value, found)}"
                )
        return loaded


def _difference(name: str, value: Any, found: Any) -> str:
    if isinstance(value, dict) and isinstance(found, dict):
        for key in sorted(value.keys() | found.keys()):
            if value.get(key) != found.get(key):
                return f"{key}={value.get(key)!r}, got one with {key}={found.get(key)!r}"
    return f"{name}={value!r}, got one with {name}={found!r}"
