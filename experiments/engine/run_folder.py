r"""The folder of a run and its files.

# Run folder

| file | content |
| --- | --- |
| `settings.json` | settings, data, launch and environment, written first |
| `metrics.jsonl` | measurements, one JSON object a line |
| `last.pt`, `previous.pt` | the newest checkpoint and the one before |
| `best.pt` | the checkpoint with the best evaluation |
| `result.json`, pictures, `index.md` | the report, written at the end |
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
    """The path of a new run's folder, which is not created. Raises `ValueError` if it exists."""
    folder = launch.run or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
    if folder.exists():
        raise ValueError(
            f"run must be a new folder, got {folder}, which exists; "
            f"--resume {folder} continues a run"
        )
    return folder


def read_record(folder: Path) -> dict[str, Any]:
    r"""The content of a run's `settings.json`.

    Raises `ValueError` if it is missing, is not valid JSON, or lacks one of its parts.
    """
    path = folder / "settings.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise ValueError(
            f"run must be the folder of an earlier run, got {folder} without {path.name}"
        ) from e
    except ValueError as e:
        raise ValueError(f"{path} must be valid JSON, got: {e}") from e
    for part in RECORD:
        if not isinstance(record, dict) or not isinstance(record.get(part), dict):
            raise ValueError(f"{path} must have the objects {', '.join(RECORD)}, got no {part}")
    return record


def make_folder(folder: Path, record: dict[str, Any]) -> None:
    r"""Creates the folder of a new run, with its `settings.json` already in it.

    A kill at any instant therefore leaves no folder, or one that can be resumed.

    Raises `ValueError` if the folder cannot be created.
    """
    new = folder.with_name(folder.name + ".new")
    try:
        new.mkdir(parents=True, exist_ok=True)
        write_json(new / "settings.json", record)
        new.rename(folder)
    except OSError as e:
        raise ValueError(
            f"run must be a folder that can be created, got {folder}: {e.strerror or e}"
        ) from e


def check_space(folder: Path, model: nn.Module, averaged: bool) -> None:
    r"""Checks that the disk has room for the checkpoints.

    A checkpoint holds the weights, AdamW's two averages, and perhaps an average of the weights. Up
    to four checkpoints exist at a time: three that stay and a new one. A resumed run has some of
    them already.

    * `averaged` says whether the run averages its weights

    Raises `ValueError` if the disk of `folder` has less free space.
    """
    one = (4 if averaged else 3) * sum(p.numel() * p.element_size() for p in model.parameters())
    n_present = sum((folder / name).exists() for name in (LAST, PREVIOUS, BEST))
    needed = (4 - n_present) * one
    path = folder.absolute()
    existing = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ValueError(
            f"run must have {needed / 1e6:.1f} MB free on its disk for checkpoints, "
            f"got {free / 1e6:.1f} MB in {existing}"
        )


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically. Raises `OSError` if it cannot be written."""
    atomic_write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


class Metrics:
    r"""Writer of `metrics.jsonl`, from which curves and pages are made.

    Each line is flushed at once, so after a kill all lines except perhaps the last are complete.

        with Metrics(folder / "metrics.jsonl") as metrics:
            metrics.write(step=10, loss=2.5)

    * `before` is the step of the checkpoint that a run resumes from; later lines are removed,
      because they will be measured again
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
    """The lines of a metrics file, without an incomplete last line."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # Text after the last line break is an incomplete line.
    return [json.loads(line) for line in lines[:-1]]


def environment(device: torch.device, command: str) -> dict[str, Any]:
    r"""The date, command, commit, versions and hardware of a run.

    * `device` is the device of the model
    * `command` is the command line
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
    """The commit of the working tree, with `+` if files differ; empty outside a repository."""
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
    """The name of the GPU, or of the CPU with the number of threads."""
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
