r"""
# Studies

```
python -m experiments.study tiny_shakespeare
python -m experiments.study --list
```

A study is the list of runs behind a page of results: each model with each seed. The command starts
the runs that are missing and goes on with those that were stopped, copies what they found beside
the page, and then [makes the page](report.py) anew.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import alignment, autoregressive, digits, masked
from experiments.engine.experiment import Experiment, Training
from experiments.engine.settings.errors import UserError, run_command
from experiments.report import RESULTS, ROOT
from experiments.reporting.scaling import (
    deepest_at_half_the_rate,
    masked_transformers_at_twice_the_rate,
    variants,
)

# What is kept of a run beside its page. Checkpoints are not: they are large, and made anew.
KEPT = ("settings.json", "metrics.jsonl", "result.json")
# Matrices and samples take more room, and these pages show them.
SHOWN = {"tiny_shakespeare": ("sample.txt", "spatial.npz"), "masked": ("spatial.npz",)}
SEEDS = (0, 1, 2)
GATES = ("gmlp", "linear", "additive", "multiplicative")
Defaults = Mapping[str, tuple[Any, Training]]


@dataclass(frozen=True)
class Run:
    r"""
    ## One run

    * `name` is that of its folder
    * `module` is the experiment's
    * `flags` are those of its command
    """

    name: str
    module: str
    flags: tuple[str, ...]

    def command(self, folder: Path) -> list[str]:
        """The command for the run in `folder`, new or stopped."""
        start = ["-m", f"experiments.{self.module}"]
        if folder.exists():
            return [*start, "--resume", str(folder)]
        return [*start, *self.flags, "--run", str(folder)]


def _each(module: str, variants: dict[str, str], seeds: Sequence[int] = SEEDS) -> list[Run]:
    return [
        Run(f"{name}-{seed}", module, (*shlex.split(flags), "--seed", str(seed)))
        for name, flags in variants.items()
        for seed in seeds
    ]


# The flags of each variant, by its name.
def _layers(flags: str, layers: Iterable[str]) -> dict[str, str]:
    return {layer: f"{flags} --layer {layer}" for layer in layers}


TEXT = "--corpus tiny_shakespeare"


# The depths beside the default.
def _depths(experiment: Experiment) -> list[Run]:
    flags = {name: f"{TEXT} {flags}" for name, flags in variants(experiment).items()}
    return _each(experiment.name, flags)


# The peak rates around the default of each layer: half of it, and twice.
def _rates(module: str, flags: str, defaults: Defaults) -> list[Run]:
    variants = {
        f"{layer}-{rate:g}": f"{flags} --layer {layer} --lr {rate:g}"
        for layer, (_, training) in defaults.items()
        for rate in (training.lr / 2, 2 * training.lr)
    }
    return _each(module, variants, seeds=(0,))


# ## The studies
#
# The name of a study is that of its folder under `results`.
STUDIES: dict[str, list[Run]] = {
    "tiny_shakespeare": _each("autoregressive", _layers(TEXT, autoregressive.DEFAULTS)),
    # The Transformer in the precision in which it is faster here, and the best model with one more
    # thing that costs no time, for as many steps as fit into the Transformer's time.
    "equal_time": _each(
        "autoregressive",
        {
            "transformer": f"{TEXT} --layer transformer --precision float32",
            "toeplitz": f"{TEXT} --layer toeplitz --ema 0.99 --steps 1900",
        },
    ),
    "rates": _rates("autoregressive", TEXT, autoregressive.DEFAULTS),
    "masked": _each("masked", _layers(TEXT, masked.DEFAULTS)),
    # Of the gates that the paper compares, whose order is in question.
    "masked_rates": _rates("masked", TEXT, {gate: masked.DEFAULTS[gate] for gate in GATES}),
    "alignment": _each("alignment", _layers("", alignment.DEFAULTS)),
    "digits": _each("digits", _layers("", digits.DEFAULTS)),
    "mnist": _each("digits", _layers("--images t10k", digits.DEFAULTS)),
    "scaling": _depths(autoregressive.EXPERIMENT),
    "scaling_rates": _each(
        "autoregressive",
        {
            name: f"{TEXT} {flags}"
            for name, flags in deepest_at_half_the_rate(autoregressive.EXPERIMENT).items()
        },
        seeds=(0,),
    ),
    "masked_scaling": _depths(masked.EXPERIMENT),
    "masked_scaling_rates": _each(
        "masked",
        {
            name: f"{TEXT} {flags}"
            for name, flags in masked_transformers_at_twice_the_rate().items()
        },
    ),
}


def perform(name: str, folder: Path, jobs: int) -> None:
    r"""
    ## Performing a study

    * `name` is a key of `STUDIES`
    * `folder` receives a folder for each run
    * `jobs` is the number of runs at a time; the processor's threads are shared out among them

    Raises `UserError` for the first run that fails, with the end of what it said.
    """
    missing = [run for run in STUDIES[name] if not (folder / run.name / "result.json").exists()]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    print(f"{name}: {len(missing)} of {len(STUDIES[name])} runs to do, {jobs} at a time")
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda run: _perform(run, folder, threads), missing)
        for number, run in enumerate(done, 1):
            left = (time.monotonic() - began) / number * (len(missing) - number)
            print(
                f"{run.name} done, {number} of {len(missing)}, about {left:.0f} s left", flush=True
            )
    for run in STUDIES[name]:
        keep(folder / run.name, RESULTS / name / run.name, (*KEPT, *SHOWN.get(name, ())))


def _perform(run: Run, folder: Path, threads: int) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{run.name}.log"
    with log.open("ab") as file:
        done = subprocess.run(
            [sys.executable, *run.command(folder / run.name)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        raise UserError(f"run {run.name} ended with status {done.returncode}: {' '.join(said)}")
    return run


def keep(run: Path, folder: Path, names: Iterable[str]) -> None:
    """Copies the files of a run that have these `names` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)


def _lines() -> Iterator[str]:
    for name, runs in STUDIES.items():
        yield f"{name}: {len(runs)} runs"
        yield from (
            f"  python {shlex.join(run.command(Path('runs') / name / run.name))}" for run in runs
        )


def command(arguments: Sequence[str]) -> None:
    """The command. Raises `UserError` for a run that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study", description="Do the runs behind a page of results."
    )
    parser.add_argument("name", nargs="*", help=f"{', '.join(STUDIES)}; by default all")
    parser.add_argument("--list", action="store_true", help="list the runs and do nothing")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where the runs go (default: runs)"
    )
    flags = parser.parse_args(arguments)
    unknown = [name for name in flags.name if name not in STUDIES]
    if unknown:
        parser.error(f"name must be {' or '.join(STUDIES)}, got {unknown[0]!r}")
    if flags.jobs < 1:
        parser.error(f"jobs must be at least 1, got {flags.jobs}")
    if flags.list:
        print("\n".join(_lines()))
        return
    for name in flags.name or STUDIES:
        perform(name, flags.runs / name, flags.jobs)
    subprocess.run([sys.executable, "-m", "experiments.report"], cwd=ROOT, check=True)


def main() -> int:
    return run_command(command, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
