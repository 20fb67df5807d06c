r"""Studies: the runs behind each page of results.

# Studies

```
python -m experiments.study tiny_shakespeare
python -m experiments.study --list
```

The command starts the missing runs of a study, resumes those that were interrupted, copies their
records to `results/`, and then [rewrites the pages](report.py).
"""

import argparse
import json
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
from experiments.engine.run_folder import read_metrics
from experiments.engine.settings.errors import UserError, run_command
from experiments.reporting.records import EVALUATIONS, METRICS, RESULTS, ROOT, evaluations
from labml_gmlp.storage import atomic_write

SEEDS = (0, 1, 2)
TEXT = "--corpus tiny_shakespeare"
GATES = ("gmlp", "linear", "additive", "multiplicative")
# The files of a run that are recorded, besides its evaluations. Checkpoints are too large.
RECORDED = ("settings.json", "result.json")
# Larger files are recorded only for the runs whose page shows them.
SHOWN_ON_A_PAGE: dict[tuple[str, str], tuple[str, ...]] = {
    ("tiny_shakespeare", "gmlp-0"): (METRICS, "sample.txt", "spatial.npz"),
    **{("masked", f"gmlp-{seed}"): ("spatial.npz",) for seed in SEEDS},
}
Defaults = Mapping[str, tuple[Any, Training]]


@dataclass(frozen=True)
class StudyRun:
    r"""One run of a study.

    ## Run of a study

    * `name` is the name of its folder
    * `module` is the experiment
    * `flags` are the flags of its command
    """

    name: str
    module: str
    flags: tuple[str, ...]

    def command(self, folder: Path) -> list[str]:
        """The arguments of Python that start the run in `folder`, or resume it if it exists."""
        start = ["-m", f"experiments.{self.module}"]
        if folder.exists():
            return [*start, "--resume", str(folder)]
        return [*start, *self.flags, "--run", str(folder)]


# A run for each seed and each entry of `flags`, whose key names it.
def _runs(module: str, flags: dict[str, str], seeds: Sequence[int] = SEEDS) -> list[StudyRun]:
    return [
        StudyRun(f"{name}-{seed}", module, (*shlex.split(line), "--seed", str(seed)))
        for name, line in flags.items()
        for seed in seeds
    ]


def _layers(flags: str, layers: Iterable[str]) -> dict[str, str]:
    return {layer: f"{flags} --layer {layer}" for layer in layers}


# Half and twice the default peak rate of each layer.
def _rates(module: str, flags: str, defaults: Defaults) -> list[StudyRun]:
    by_name = {
        f"{layer}-{rate:g}": f"{flags} --layer {layer} --lr {rate:g}"
        for layer, (_, training) in defaults.items()
        for rate in (training.lr / 2, 2 * training.lr)
    }
    return _runs(module, by_name, seeds=(0,))


# ## Depth scaling
#
# A Transformer layer has about 1.75 times the parameters of a gMLP block in the autoregressive
# models and 1.46 times in the masked ones, so fewer layers give the same size. The runs at the
# default depth belong to the studies `tiny_shakespeare` and `masked`.
DEPTHS: dict[str, dict[str, tuple[int, ...]]] = {
    "autoregressive": {"gmlp": (2, 4, 7, 14), "transformer": (1, 2, 4, 8)},
    "masked": {"gmlp": (2, 3, 6, 12), "transformer": (1, 2, 4)},
}


def other_depths(experiment: Experiment) -> dict[str, str]:
    """The flags of each depth in `DEPTHS` except the default depth, by name."""
    return {
        f"{layer}-{depth}": f"{TEXT} --layer {layer} --n-layers {depth}"
        for layer, depths in DEPTHS[experiment.name].items()
        for depth in depths
        if depth != experiment.defaults[layer][0].n_layers
    }


def deepest_at_half_the_rate(experiment: Experiment) -> dict[str, str]:
    """The flags of the deepest model of each layer at half its default peak rate, by name."""
    return {
        f"{layer}-{depths[-1]}": f"{TEXT} --layer {layer} --n-layers {depths[-1]} "
        f"--lr {experiment.defaults[layer][1].lr / 2:g}"
        for layer, depths in DEPTHS[experiment.name].items()
    }


def masked_transformers_at_twice_the_rate() -> dict[str, str]:
    """The flags of each masked Transformer in `DEPTHS` at twice its default peak rate, by name."""
    return {
        f"transformer-{depth}": f"{TEXT} --layer transformer --n-layers {depth} --lr 0.002"
        for depth in DEPTHS["masked"]["transformer"]
    }


# ## The studies
#
# The name of a study is the name of its folder under `results/`.
STUDIES: dict[str, list[StudyRun]] = {
    "tiny_shakespeare": _runs("autoregressive", _layers(TEXT, autoregressive.DEFAULTS)),
    # The Transformer in the precision that is faster on this hardware, against the best gMLP with
    # averaged weights for as many steps as fit into the same time.
    "equal_time": _runs(
        "autoregressive",
        {
            "transformer": f"{TEXT} --layer transformer --precision float32",
            "toeplitz": f"{TEXT} --layer toeplitz --ema 0.99 --steps 1900",
        },
    ),
    "rates": _rates("autoregressive", TEXT, autoregressive.DEFAULTS),
    "masked": _runs("masked", _layers(TEXT, masked.DEFAULTS)),
    # Only the gates of the paper's ablation, whose ranking is in question.
    "masked_rates": _rates("masked", TEXT, {gate: masked.DEFAULTS[gate] for gate in GATES}),
    "alignment": _runs("alignment", _layers("", alignment.DEFAULTS)),
    "digits": _runs("digits", _layers("", digits.DEFAULTS)),
    "mnist": _runs("digits", _layers("--images t10k", digits.DEFAULTS)),
    "scaling": _runs("autoregressive", other_depths(autoregressive.EXPERIMENT)),
    "scaling_rates": _runs(
        "autoregressive", deepest_at_half_the_rate(autoregressive.EXPERIMENT), seeds=(0,)
    ),
    "masked_scaling": _runs("masked", other_depths(masked.EXPERIMENT)),
    "masked_scaling_rates": _runs("masked", masked_transformers_at_twice_the_rate()),
}


def run_study(name: str, folder: Path, jobs: int) -> None:
    r"""Does the missing runs of a study and records them under `results/`.

    ## Running a study

    * `name` is a key of `STUDIES`
    * `folder` receives a folder for each run
    * `jobs` is the number of runs at a time; the processor's threads are divided among them

    Raises `UserError` for the first run that fails, with the last line of its output, and `OSError`
    if a file cannot be written.
    """
    missing = [run for run in STUDIES[name] if not (folder / run.name / "result.json").exists()]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    print(f"{name}: {len(missing)} of {len(STUDIES[name])} runs to do, {jobs} at a time")
    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda run: _start(run, folder, threads), missing)
        for number, run in enumerate(done, 1):
            left = (time.monotonic() - start) / number * (len(missing) - number)
            print(
                f"{run.name} done, {number} of {len(missing)}, about {left:.0f} s left", flush=True
            )
    for run in STUDIES[name]:
        record_run(folder / run.name, RESULTS / name / run.name, name)


def _start(run: StudyRun, folder: Path, threads: int) -> StudyRun:
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
        output = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        raise UserError(f"run {run.name} ended with status {done.returncode}: {' '.join(output)}")
    return run


def record_run(run: Path, folder: Path, study: str) -> None:
    """Copies from the folder of a run to `folder` what its study records."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*RECORDED, *SHOWN_ON_A_PAGE.get((study, folder.name), ())):
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)
    lines = "".join(f"{json.dumps(line)}\n" for line in evaluations(read_metrics(run / METRICS)))
    atomic_write(folder / EVALUATIONS, lines.encode())


def _list() -> Iterator[str]:
    for name, runs in STUDIES.items():
        yield f"{name}: {len(runs)} runs"
        yield from (
            f"  python {shlex.join(run.command(Path('runs') / name / run.name))}" for run in runs
        )


def command(arguments: Sequence[str]) -> None:
    """Runs the command line. Raises `UserError` for a run that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study", description="Do the runs behind the pages of results."
    )
    parser.add_argument("name", nargs="*", help=f"{', '.join(STUDIES)}; by default all")
    parser.add_argument("--list", action="store_true", help="list the runs and start none")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)"
    )
    flags = parser.parse_args(arguments)
    unknown = [name for name in flags.name if name not in STUDIES]
    if unknown:
        parser.error(f"unknown study {unknown[0]!r}; choose {' or '.join(STUDIES)}")
    if flags.jobs < 1:
        parser.error(f"jobs must be at least 1, got {flags.jobs}")
    if flags.list:
        print("\n".join(_list()))
        return
    for name in flags.name or STUDIES:
        run_study(name, flags.runs / name, flags.jobs)
    subprocess.run([sys.executable, "-m", "experiments.report"], cwd=ROOT, check=True)


def main() -> int:
    return run_command(command, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
