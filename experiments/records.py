r"""
# Records

What a run writes down: its settings, where it ran, and what it measured, line by line.
"""

import json
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from labml_gmlp.storage import write_aside


def write_json(path: Path, value: Any) -> None:
    write_aside(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


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
        write_aside(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
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
    root = Path(__file__).parent.parent
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
