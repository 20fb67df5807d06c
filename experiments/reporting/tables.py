r"""
# Tables

The runs of a study, and the tables that compare them: of each model the mean over its seeds with
the lowest and the highest, and where the numbers come from.
"""

import itertools
import json
import re
import statistics
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from experiments.engine.run_folder import read_metrics

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

# A run: its settings, launch, environment, validation, parameters, seconds, metrics and folder.
Run = dict[str, Any]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Measure:
    r"""
    ## What a study is judged by

    * `name` is that of a value of an evaluation, lower is better
    * `unit` heads its column
    * `digits` are those behind the point
    * `scale` multiplies it, as for percent
    """

    name: str
    unit: str
    digits: int = 3
    scale: float = 1.0

    def of(self, run: Run) -> float:
        return self.scale * float(run["validation"][self.name])

    def show(self, value: float) -> str:
        return f"{value:.{self.digits}f}"


def load_runs(folder: Path) -> list[Run]:
    """All runs in `folder`."""
    runs = []
    for path in sorted(folder.glob("*/result.json")):
        record = json.loads((path.parent / "settings.json").read_text(encoding="utf-8"))
        result = json.loads(path.read_text(encoding="utf-8"))
        metrics = read_metrics(path.parent / "metrics.jsonl")
        runs.append({**record, **result, "metrics": metrics, "folder": path.parent})
    return runs


def grouped_by(runs: Iterable[Run], key: Callable[[Run], K]) -> dict[K, list[Run]]:
    """The runs by their `key`."""
    groups: dict[K, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def grouped(
    runs: Iterable[Run], key: Callable[[Run], str] = lambda run: run["settings"]["layer"]
) -> dict[str, list[Run]]:
    """The runs by their `key`, those of a layer's seeds together, in the order of `NAMES`."""
    order = list(NAMES)
    groups = grouped_by(runs, key)
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0].split(",")[0])))


def name_of(group: str) -> str:
    """What a reader calls it: `gmlp, d_model=64` is `gMLP, d_model=64`."""
    layer, comma, rest = group.partition(",")
    return NAMES[layer] + comma + rest


def results_table(
    groups: dict[str, list[Run]],
    measure: Measure,
    more: dict[str, Callable[[Run], float]] | None = None,
) -> str:
    r"""
    ## A row for each group

    The mean over the seeds, and the lowest and highest of them; parameters and the mean time.

    * `groups` are runs by their name
    * `measure` is what counts
    * `more` are further columns, of which the mean is shown with three digits
    """
    more = more or {}
    heads = [measure.unit, "lowest to highest", *more, "parameters", "seeds", "time"]
    rows = [f"| model | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for group, runs in groups.items():
        found = [measure.of(run) for run in runs]
        cells = [
            f"**{measure.show(statistics.mean(found))}**",
            f"{measure.show(min(found))} to {measure.show(max(found))}",
            *(f"{statistics.mean(map(value, runs)):.3f}" for value in more.values()),
            f"{runs[0]['parameters']:,}",
            f"{len(runs)}",
            f"{statistics.mean(run['seconds'] for run in runs):.0f} s",
        ]
        rows.append(f"| {name_of(group)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def describe_order(groups: dict[str, list[Run]], measure: Measure) -> str:
    """The groups from the lowest mean to the highest, and which neighbours' seeds overlap."""
    found = {group: [measure.of(run) for run in runs] for group, runs in groups.items()}
    order = sorted(found, key=lambda group: statistics.mean(found[group]))
    text = name_of(order[0])
    for low, high in itertools.pairwise(order):
        apart = max(found[low]) < min(found[high])
        text += f" {'<' if apart else '~'} {name_of(high)}"
    return (
        f"From low to high: {text}. At a < every seed of the left is below every seed of the "
        f"right; at a ~ only the means are."
    )


def provenance_table(runs: list[Run], measure: Measure) -> str:
    """The command, commit and date of each run, and where it ran."""
    rows = [
        f"| command | {measure.unit} | precision | commit | date | hardware |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        where = run["environment"]
        value = f"{measure.of(run):.{measure.digits + 1}f}"
        cells = [value, run["launch"]["precision"], where["commit"], where["date"][:10]]
        rows.append(f"| `{where['command']}` | {' | '.join(cells)} | {where['hardware']} |")
    return "\n".join(rows)


def sweep_table(runs: list[Run], measure: Measure) -> str:
    """The measure against the peak rate, the mean where there are several seeds, by layer."""
    rates = sorted({run["settings"]["lr"] for run in runs})
    rows = [
        "| model | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "| --- |" + " --- |" * len(rates),
    ]
    for layer, mine in grouped(runs).items():
        at_rate = grouped_by(mine, lambda run: run["settings"]["lr"])
        found = {rate: statistics.mean(map(measure.of, same)) for rate, same in at_rate.items()}
        best = min(found, key=found.__getitem__)
        shown = {rate: f"{value:.{measure.digits + 1}f}" for rate, value in found.items()}
        shown[best] = f"**{shown[best]}**"
        rows.append(f"| {NAMES[layer]} | " + " | ".join(shown.get(r, "") for r in rates) + " |")
    return "\n".join(rows)


def replace_between(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of `name`. Raises `ValueError` without the marks."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(rf"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"text must have {begin} and {end} once each")
    return pattern.sub(lambda _: f"\n{content}\n\n", text)
