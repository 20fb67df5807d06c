r"""Recorded runs: the data behind the pages of results.

# Recorded runs

A study is a folder under `results/` with a folder for each run, which holds:

* `settings.json`: settings, launch, environment and data, as the run wrote them
* `result.json`: the best evaluation, the number of parameters and the training time
* `evaluations.jsonl`: every evaluation of the run, a line each
* `metrics.jsonl`, `spatial.npz`, `sample.txt`: only where a page shows them
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from experiments.engine.run_folder import read_metrics

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
EVALUATIONS, METRICS = "evaluations.jsonl", "metrics.jsonl"

# The name of each layer on a page, in the order of the tables.
NAMES = {
    "gmlp": "gMLP",
    "amlp": "aMLP",
    "toeplitz": "gMLP, Toeplitz $W$",
    "convolution": "gMLP, convolution",
    "linear": "linear gate",
    "additive": "additive gate",
    "multiplicative": "multiplicative gate",
    "mixer": "MLP-Mixer",
    "transformer": "Transformer",
}

# The colour of each layer in every chart: an index into the colours of charts.py.
COLOURS = {
    "gmlp": 0,
    "transformer": 1,
    "toeplitz": 2,
    "convolution": 3,
    "linear": 3,
    "mixer": 3,
    "amlp": 4,
    "additive": 4,
    "multiplicative": 5,
}

# The settings, launch, environment, validation, parameters, seconds, evaluations, metrics and
# folder of a run.
RunRecord = dict[str, Any]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Measure:
    r"""The value by which runs are compared; lower is better.

    ## Measure

    * `name` is its key in an evaluation
    * `unit` is the heading of its column
    * `digits` is the number of decimals
    * `scale` multiplies it, for example 100 for per cent
    """

    name: str
    unit: str
    digits: int = 3
    scale: float = 1.0

    def of(self, run: RunRecord) -> float:
        """The best value of a run."""
        return self.scale * float(run["validation"][self.name])

    def format(self, value: float) -> str:
        """The value with the measure's number of decimals."""
        return f"{value:.{self.digits}f}"


def load_runs(folder: Path) -> list[RunRecord]:
    """The records of all runs in `folder`, sorted by name.

    `metrics` is empty where the training metrics were not recorded.
    """
    runs = []
    for path in sorted(folder.glob("*/result.json")):
        record = json.loads((path.parent / "settings.json").read_text(encoding="utf-8"))
        result = json.loads(path.read_text(encoding="utf-8"))
        metrics = path.parent / METRICS
        runs.append(
            {
                **record,
                **result,
                "evaluations": read_metrics(path.parent / EVALUATIONS),
                "metrics": read_metrics(metrics) if metrics.exists() else [],
                "folder": path.parent,
            }
        )
    return runs


def evaluations(metrics: Iterable[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """The lines of `metrics.jsonl` that hold an evaluation and not a training step."""
    return [line for line in metrics if "loss" not in line]


def group_by(runs: Iterable[RunRecord], key: Callable[[RunRecord], K]) -> dict[K, list[RunRecord]]:
    """The runs grouped by their `key`."""
    groups: dict[K, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def group_by_layer(
    runs: Iterable[RunRecord],
    key: Callable[[RunRecord], str] = lambda run: run["settings"]["layer"],
) -> dict[str, list[RunRecord]]:
    """The runs grouped by layer, in the order of `NAMES`.

    `key` may add to the name of the layer after a comma: `gmlp, d_model=64`.
    """
    order = list(NAMES)
    groups = group_by(runs, key)
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0].split(",")[0])))


def display_name(group: str) -> str:
    """The name of a group as a page shows it: `gmlp, d_model=64` is `gMLP, d_model=64`."""
    layer, comma, rest = group.partition(",")
    return NAMES[layer] + comma + rest
