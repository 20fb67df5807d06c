r"""
# Runs

Each run has a folder of its own, and all that it writes is in there:

| file | what it holds |
| --- | --- |
| `settings.json` | the settings, the text and the machine, written first |
| `metrics.jsonl` | what was measured, a line at a time |
| `last.pt`, `best.pt` | checkpoints: the newest, and the one with the lowest validation loss |
| `result.json`, `sample.txt`, pictures, `index.md` | written at the end |
"""

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.records import write_json

# The parts of `settings.json`.
RECORD = ("settings", "corpus", "environment")


@dataclass(frozen=True, kw_only=True)
class Launch:
    r"""
    ## Launch

    Where and how a run goes, which its result does not depend on.

    * `run` is the folder to write to, a new one; by default one under runs, named by time, corpus
      and layer
    * `resume` is the folder of an earlier run to go on with
    * `device` is cpu or cuda; by default the GPU if there is one
    * `data` is the folder for downloaded texts
    * `labml` records the run with labml too
    """

    run: Path | None = None
    resume: Path | None = None
    device: str | None = None
    data: Path = Path("data")
    labml: bool = True


def pick_device(name: str | None) -> torch.device:
    """The device of that name. Raises `ValueError` for one that torch does not know or have."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # Some devices exist by name only, and one holds no values; reading a number back tells.
        device = torch.zeros(1, device=name)
        device.item()
        return device.device
    except (RuntimeError, AssertionError) as e:
        raise ValueError(f"device must be one that torch has here, got {name!r}") from e


def new_folder(launch: Launch, corpus: str, layer: str) -> Path:
    """The folder of a new run, not made yet. Raises `ValueError` if it exists."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{Path(corpus).stem}-{layer}"
    folder = launch.run or Path("runs") / name
    if folder.exists():
        raise ValueError(
            f"run must be a new folder, got {folder}, which exists; "
            f"--resume {folder} goes on with a run"
        )
    return folder


def read_record(folder: Path) -> dict[str, Any]:
    """The content of `settings.json`. Raises `ValueError` if it is not that of a run."""
    path = folder / "settings.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise ValueError(
            f"run must be the folder of an earlier run, got {folder} without {path.name}"
        ) from e
    except ValueError as e:
        raise ValueError(f"{path} must be JSON, got: {e}") from e
    for part in RECORD:
        if not isinstance(record, dict) or not isinstance(record.get(part), dict):
            raise ValueError(f"{path} must hold {', '.join(RECORD)}, got none or another {part}")
    return record


def make_folder(folder: Path, record: dict[str, Any]) -> None:
    r"""
    ## The folder of a new run

    It appears with its `settings.json` in it, so that there is no moment at which a kill leaves a
    folder that can be neither resumed nor used.

    Raises `ValueError` if it cannot be made.
    """
    aside = folder.with_name(folder.name + ".new")
    try:
        aside.mkdir(parents=True, exist_ok=True)
        write_json(aside / "settings.json", record)
        aside.rename(folder)
    except OSError as e:
        raise ValueError(
            f"run must be a folder that can be made, got {folder}: {e.strerror or e}"
        ) from e


def check_space(folder: Path, model: nn.Module) -> None:
    r"""
    ## Room for the checkpoints

    A checkpoint holds each parameter and AdamW's two averages of it. Two checkpoints stay, and a
    third is written aside.

    Raises `ValueError` if the disk of `folder` has less.
    """
    needed = 3 * 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    place = folder.absolute()
    existing = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ValueError(
            f"run must have {needed / 1e6:.1f} MB free on its disk for checkpoints, "
            f"got {free / 1e6:.1f} MB in {existing}"
        )
