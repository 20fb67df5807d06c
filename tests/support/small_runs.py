"""Small runs of the autoregressive experiment, and processes in which to kill them."""

import dataclasses
import errno
import functools
import importlib
import itertools
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from experiments.autoregressive import EXPERIMENT
from experiments.engine.checkpoint import BEST
from experiments.engine.command import run
from experiments.engine.devices import exit_process
from experiments.engine.experiment import Experiment
from experiments.engine.run_folder import read_metrics, write_json
from experiments.engine.state import State, load_run_checkpoint

ROOT = Path(__file__).parents[2]

# Losses are equal bit for bit only for the same number of threads.
torch.set_num_threads(1)


@functools.cache
def _data() -> "tempfile.TemporaryDirectory[str]":
    made = tempfile.TemporaryDirectory(prefix="gmlp-tests-", ignore_cleanup_errors=True)
    (Path(made.name) / "tokens").mkdir()
    return made


# Created on demand: the processes below import this module too, and a killed one would leave its
# folder behind.
def data() -> Path:
    """The folder of the tokens of small texts, the same for all tests."""
    return Path(_data().name)


# A step takes milliseconds, and each file is written several times.
SMALL: dict[str, Any] = {
    "d_model": 16,
    "d_ffn": 32,
    "n_layers": 2,
    "seq_len": 16,
    "batch": 4,
    "steps": 12,
    "warmup": 2,
    "evaluate_every": 6,
    "save_every": 4,
    "log_every": 2,
}


def words(n: int = 4_000, seed: int = 0) -> str:
    """A text of `n` characters that a model can learn."""
    generator = random.Random(seed)
    known = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dogs", "run"]
    drawn = (
        generator.choice(known) + generator.choice([" ", " ", ", ", ".\n"])
        for _ in itertools.count()
    )
    text = ""
    while len(text) < n:
        text += next(drawn)
    return text[:n]


def text_file(folder: Path, text: str | None = None) -> Path:
    path = folder / "text.txt"
    path.write_text(words() if text is None else text, encoding="utf-8")
    return path


def flags(**values: Any) -> list[str]:
    """The command line for these values."""
    typed = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        switch = f"--{flag}" if value is True else f"--no-{flag}"
        typed.append(switch if isinstance(value, bool) else f"--{flag}={value}")
    return typed


# The same on all hardware.
PLAIN = {"device": "cpu", "precision": "float32"}


def small(corpus: Path, run: Path, /, **changes: Any) -> list[str]:
    """The command line of a small run without labml."""
    values = {"corpus": corpus, "run": run, **SMALL, **PLAIN, **changes}
    values.setdefault("data", data())
    return ["--no-labml", *flags(**values)]


def experiment(*arguments: object) -> int:
    """Runs the command in this process. Returns its exit status."""
    return _status(EXPERIMENT, arguments)


def quick(*arguments: object) -> int:
    """As `experiment`, with a report that takes no time: no pictures and no sample."""
    return _status(QUICK, arguments)


def _status(command: Experiment, arguments: Sequence[object]) -> int:
    try:
        return run(command, [str(argument) for argument in arguments])
    except SystemExit as e:
        return int(e.code or 0)


def _quick_report(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
    best = load_run_checkpoint(folder / BEST)["best"]
    write_json(folder / "result.json", {"validation": best})
    print(f"validation: step {best['step']}")


# The report takes nine tenths of the time of a small run.
QUICK = dataclasses.replace(EXPERIMENT, finish=_quick_report)


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Runs the command in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.autoregressive", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def files(folder: Path) -> dict[str, bytes]:
    """The content of each file below a folder, by path; folders appear as empty files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "copy"))


def edit_settings(run: Path, **changes: Any) -> None:
    path = run / "settings.json"
    record = json.loads(path.read_text())
    record["settings"].update(changes)
    path.write_text(json.dumps(record))


def measured(run: Path) -> list[dict[str, float]]:
    """The metrics of a run without the times."""
    lines = read_metrics(run / "metrics.jsonl")
    return [{name: v for name, v in line.items() if name != "seconds"} for line in lines]


# A process forked from one that has imported torch starts at once. It is a real process, which a
# signal can kill.
_processes = multiprocessing.get_context("forkserver") if os.name == "posix" else None
# The optimizer imports `torch._dynamo` in its first step.
_LOADED = ["torch", "torch._dynamo", "matplotlib.backends.backend_svg"]


def launch(
    arguments: list[str],
    log: Path,
    *,
    module: str = EXPERIMENT.name,
    die_at_flush: int = 0,
    die_at_rename: int = 0,
    full_from_flush: int = 0,
    environment: dict[str, str] | None = None,
    report: bool = False,
) -> Any:
    r"""Starts the command in a forked process and returns the process.

    * `log` is the file for its output
    * `module` is the experiment, a module of `experiments`
    * `die_at_flush` is the number of the flush to disk, from 1, in the middle of which the process
      kills itself; 0 means never
    * `die_at_rename` is the number of the rename before which it kills itself
    * `full_from_flush` is the number of the first flush that finds the disk full
    * `environment` has further environment variables
    * `report` writes the whole report at the end
    """
    moments = (die_at_flush, die_at_rename, full_from_flush)
    child = (module, arguments, str(log), environment or {}, report, *moments)
    return start_process(_child, *child, module=module)


def start_process(
    target: Callable[..., None], *arguments: object, module: str = EXPERIMENT.name
) -> Any:
    """Starts a process that calls `target`, a function of an importable module.

    The first call decides what all processes find imported: `module` of the experiments.
    """
    assert _processes is not None
    _processes.set_forkserver_preload([*_LOADED, f"experiments.{module}", "tests.support.warm"])
    process = _processes.Process(target=target, args=arguments)
    process.start()
    return process


def start_main(
    arguments: list[str], out: Path, err: Path, *, module: str = EXPERIMENT.name, cwd: Path = ROOT
) -> Any:
    r"""Starts `python -m experiments.MODULE ARGUMENTS` in a forked process and returns the process.

    It runs the file as `__main__`, without the seconds of a new interpreter's imports.

    * `out` and `err` are the files for its output
    """
    return start_process(_main, module, arguments, str(out), str(err), str(cwd), module=module)


def _main(module: str, arguments: list[str], out: str, err: str, cwd: str) -> None:
    for number, path in ((1, out), (2, err)):
        with Path(path).open("ab") as file:
            os.dup2(file.fileno(), number)
    os.chdir(cwd)
    # For the processes that this one starts.
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
    torch.set_num_threads(1)
    name = f"experiments.{module}"
    sys.modules.pop(name, None)
    sys.argv[1:] = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def launch_ranks(
    arguments: list[str],
    logs: Path,
    world: int = 2,
    module: str = EXPERIMENT.name,
    **first: int,
) -> list[Any]:
    r"""Starts the processes of a run as torchrun does, with their ranks in the environment.

    * `logs` is the folder for their output, in files named by rank
    * `first` are options of `launch` for rank 0
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs.mkdir(exist_ok=True)
    common = {
        "TORCHELASTIC_RUN_ID": "tests",
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return [
        launch(
            arguments,
            logs / str(rank),
            module=module,
            environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            **(first if rank == 0 else {}),
        )
        for rank in range(world)
    ]


def _child(
    module: str,
    arguments: list[str],
    log: str,
    environment: dict[str, str],
    report: bool,
    die_at_flush: int,
    die_at_rename: int,
    full_from_flush: int,
) -> None:
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    flush, flushes = os.fsync, itertools.count(1)
    rename, renamings = Path.replace, itertools.count(1)

    # The worst moment: half of the file has reached the disk.
    def fsync(fd: int) -> None:
        number = next(flushes)
        if 0 < full_from_flush <= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number == die_at_flush:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.ftruncate(fd, os.fstat(fd).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        flush(fd)

    def replace(path: Path, target: Path) -> Path:
        if next(renamings) == die_at_rename:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    os.fsync, Path.replace = fsync, replace  # type: ignore[assignment]
    try:
        experiment = importlib.import_module(f"experiments.{module}").EXPERIMENT
        quick = experiment is EXPERIMENT and not report
        status = run(QUICK if quick else experiment, arguments)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0
    loaded = "imported labml" if "labml" in sys.modules else "never imported labml"
    print(loaded, file=sys.stderr, flush=True)
    exit_process(status)
