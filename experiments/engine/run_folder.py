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
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.engine.checkpoint import BEST, LAST, PREVIOUS
from experiments.engine.launch import Launch
from labml_gmlp.storage import atomic_write

# The parts of `settings.json`.
RECORD = ("settings", "data", "launch", "environment")


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


def write_json(path: Path, value: Any) -> None:
    atomic_write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


class Metrics:
    r"""
    ## Measurements

    One JSON object a line, written through at once: after a kill, all lines but perhaps the last
    are whole. This file is the truth; curves, pages and tracking are made from it.

    * `path` is the file
    * `before` keeps the lines of earlier steps only: those after the checkpoint from which a run
      goes on will be measured again
    """

    def __init__(self, path: Path, before: int = 0) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= before] if before else []
        atomic_write(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, **values: float) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics file. A last line that a kill has cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # What follows the last line break is a line that was never finished.
    return [json.loads(line) for line in lines[:-1]]


def environment(device: torch.device, command: str) -> dict[str, Any]:
    r"""
    ## Where it ran

    Versions, hardware, commit, date and command: what one needs to judge a number, or to repeat it.

    * `device` is where the model is
    * `command` is what was typed
    """
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "hardware": hardware(device),
    }


def commit() -> str:
    """The commit of the working tree, with a `+` if files differ; empty outside a repository."""
    root = Path(__file__).parents[2]
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changes else "")


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {torch.get_num_threads()} threads"
