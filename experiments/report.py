r"""
# The report

```
python -m experiments.report
```

Rewrites every table and picture of the results pages, and the table of the README, from the data of
the runs under `experiments/results/`. What stands between a `begin` and an `end` mark belongs to
this command; the prose around it is written by hand.
"""

import itertools
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.pictures import (
    NATS_PER_CHARACTER,
    Curve,
    compare,
    loss_curve,
    spatial_matrices,
)
from experiments.records import read_metrics
from experiments.run_page import fenced, read_matrices
from labml_gmlp.storage import write_aside

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
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


def grouped(
    runs: Iterable[Run], key: Callable[[Run], str] = lambda run: run["settings"]["layer"]
) -> dict[str, list[Run]]:
    """The runs by their `key`, those of a layer's seeds together, in the order of `NAMES`."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    order = list(NAMES)
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


def order_in_words(groups: dict[str, list[Run]], measure: Measure) -> str:
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


def sweep_table(lines: list[dict[str, Any]], measure: Measure) -> str:
    """Validation loss against the peak rate, a row for each layer."""
    rates = sorted({line["lr"] for line in lines})
    rows = [
        "| model | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "| --- |" + " --- |" * len(rates),
    ]
    for layer in sorted({line["layer"] for line in lines}, key=list(NAMES).index):
        found = {line["lr"]: line[measure.name] for line in lines if line["layer"] == layer}
        best = min(found.values())
        cells = [
            f"{'**' if found[rate] == best else ''}{found[rate]:.4f}"
            f"{'**' if found[rate] == best else ''}"
            if rate in found
            else ""
            for rate in rates
        ]
        rows.append(f"| {NAMES[layer]} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def replace_between(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of `name`. Raises `ValueError` without the marks."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(rf"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"text must have {begin} and {end} once each")
    return pattern.sub(lambda _: f"\n{content}\n\n", text)


# ## The pages
#
# Each gives the content of its marks, and its pictures, from the runs in its folder.
NATS = Measure("nats_per_char", "nats/char")
Page = tuple[dict[str, str], dict[str, bytes]]


def common(
    groups: dict[str, list[Run]], measure: Measure, curve: Curve, **more: Callable[[Run], float]
) -> Page:
    """What each page has: the results, their order, where they come from, and the curves."""
    runs = [run for group in groups.values() for run in group]
    marks = {
        "results": results_table(groups, measure, more),
        "order": order_in_words(groups, measure),
        "provenance": provenance_table(runs, measure),
    }
    curves = {name_of(group): group_runs[0]["metrics"] for group, group_runs in groups.items()}
    return marks, {"comparison.svg": compare(curves, curve)}


def tiny_shakespeare(folder: Path) -> Page:
    r"""
    ### Tiny Shakespeare

    The results of the autoregressive experiment, its sweep of rates, a sample, and what the blocks
    of one model read.
    """
    groups = grouped(load_runs(folder))
    marks, pictures = common(groups, NATS, NATS_PER_CHARACTER)
    sweep = (folder / "sweep.jsonl").read_text(encoding="utf-8").splitlines()
    marks["sweep"] = sweep_table([json.loads(line) for line in sweep], NATS)
    first = groups["gmlp"][0]
    marks["sample"] = fenced((first["folder"] / "sample.txt").read_text(encoding="utf-8"))
    pictures["loss.svg"] = loss_curve(first["metrics"])
    pictures["spatial.png"] = spatial_matrices(read_matrices(first["folder"]))
    return marks, pictures


PAGES: dict[str, Callable[[Path], Page]] = {"tiny_shakespeare": tiny_shakespeare}


def report() -> dict[Path, bytes]:
    """All files that this command writes, with what they should hold."""
    files: dict[Path, bytes] = {}
    for name, make in PAGES.items():
        folder = RESULTS / name
        marks, pictures = make(folder)
        files[folder / "index.md"] = _filled(folder / "index.md", marks)
        files.update({folder / picture: content for picture, content in pictures.items()})
    shakespeare, _ = PAGES["tiny_shakespeare"](RESULTS / "tiny_shakespeare")
    marks = {"results": f"{shakespeare['results']}\n\n{shakespeare['order']}"}
    files[ROOT / "README.md"] = _filled(ROOT / "README.md", marks)
    return files


def _filled(path: Path, marks: dict[str, str]) -> bytes:
    text = path.read_text(encoding="utf-8")
    for name, content in marks.items():
        text = replace_between(text, name, content)
    return text.encode()


def main() -> int:
    for path, content in report().items():
        if not path.exists() or path.read_bytes() != content:
            write_aside(path, content)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
