r"""
# Runs

Each run has a folder of its own, and all that it writes is in there:

| file | what it holds |
| --- | --- |
| `settings.json` | the settings, the data, the way of launching and the machine, written first |
| `metrics.jsonl` | what was measured, a line at a time |
| `last.pt`, `previous.pt` | the newest checkpoint, and the one before |
| `best.pt` | the checkpoint that was best on validation |
| `result.json`, pictures, `index.md` | written at the end |
"""

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn

from experiments.checkpoint import BEST, LAST, PREVIOUS
from experiments.records import write_json
from experiments.settings import check_positive

# The parts of `settings.json`.
RECORD = ("settings", "data", "launch", "environment")
# The fields of `Launch` that are written to it.
HOW = ("devices", "strategy", "precision", "accumulate", "compile", "checkpoint_layers")


@dataclass(frozen=True, kw_only=True)
class Launch:
    r"""
    ## Launch

    Where and how a run goes. Its result depends on that by rounding only, unless training draws
    something, as dropout and augmentation do: each process and each micro-batch draws its own.

    * `run` is the folder to write to, a new one; by default one under runs, named by time and
      settings
    * `resume` is the folder of an earlier run to go on with
    * `config` is a YAML file with values for these flags; what the command line says wins
    * `device` is cpu or cuda; by default the GPU if there is one
    * `devices` is the number of processes, on GPUs one for each; torchrun sets it itself
    * `strategy` is ddp, with the whole model in each process, or fsdp, with a part in each
    * `precision` is float32, bf16, or auto: bf16 where the hardware has it
    * `accumulate` is the number of micro-batches that make up a step
    * `compile` runs the model through torch.compile
    * `checkpoint_layers` computes each layer a second time instead of keeping what is inside it
    * `workers` is the number of processes that decode images, for each that trains
    * `data` is the folder of data
    * `labml` records the run with labml too
    """

    run: Path | None = None
    resume: Path | None = None
    config: Path | None = None
    device: str | None = None
    devices: int = 1
    strategy: str = "ddp"
    precision: str = "auto"
    accumulate: int = 1
    compile: bool = False
    checkpoint_layers: bool = False
    workers: int = 2
    data: Path = Path("data")
    labml: bool = True

    def __post_init__(self) -> None:
        check_positive(self, ("devices", "accumulate"))
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.run is not None and self.resume is not None:
            raise ValueError(f"run must be left out beside resume, got {self.run}")

    def how(self) -> dict[str, Any]:
        """What a resumed run does again unless it is told otherwise."""
        return {name: getattr(self, name) for name in HOW}


def new_folder(launch: Launch, label: str) -> Path:
    """The folder of a new run, not made yet. Raises `ValueError` if it exists."""
    folder = launch.run or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
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


def check_space(folder: Path, model: nn.Module, averaged: bool) -> None:
    r"""
    ## Room for the checkpoints

    A checkpoint holds each parameter, AdamW's two averages of it, and perhaps an average of the
    weights. Three checkpoints stay, and a fourth is written aside. Those that a resumed run has
    already take no further room.

    Raises `ValueError` if the disk of `folder` has less.
    """
    one = (4 if averaged else 3) * sum(p.numel() * p.element_size() for p in model.parameters())
    there = [folder / name for name in (LAST, PREVIOUS, BEST) if (folder / name).exists()]
    needed = (4 - len(there)) * one
    place = folder.absolute()
    existing = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ValueError(
            f"run must have {needed / 1e6:.1f} MB free on its disk for checkpoints, "
            f"got {free / 1e6:.1f} MB in {existing}"
        )
