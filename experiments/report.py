r"""
# The summary of results

```
python -m experiments.report
```

Rewrites the tables and the picture of the results page, and the table of the README, from the data
of the runs under `experiments/results/`. What stands between a `begin` and an `end` mark belongs to
this command; the prose around it is written by hand.
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from experiments.pictures import compare
from experiments.records import read_metrics
from labml_gmlp.storage import write_aside

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
NAMES = {"gmlp": "gMLP", "transformer": "Transformer"}


def load_runs(folder: Path) -> list[dict[str, Any]]:
    """All runs in `folder`, each as its settings, environment, result and metrics."""
    runs = []
    for path in sorted(folder.glob("*/result.json")):
        record = json.loads((path.parent / "settings.json").read_text(encoding="utf-8"))
        result = json.loads(path.read_text(encoding="utf-8"))
        metrics = read_metrics(path.parent / "metrics.jsonl")
        runs.append({**record, **result, "metrics": metrics})
    return runs


def results_table(runs: list[dict[str, Any]]) -> str:
    r"""
    ## A row for each layer

    The mean over the seeds, and the lowest and highest of them; parameters and the mean time.
    """
    rows = [
        "| layer | nats/char | lowest to highest | bits/char | parameters | time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for layer in sorted({run["settings"]["layer"] for run in runs}):
        mine = [run for run in runs if run["settings"]["layer"] == layer]
        nats = [run["validation"]["nats_per_char"] for run in mine]
        bits = statistics.mean(run["validation"]["bits_per_char"] for run in mine)
        seconds = statistics.mean(run["seconds"] for run in mine)
        rows.append(
            f"| {NAMES[layer]} | **{statistics.mean(nats):.3f}** "
            f"| {min(nats):.3f} to {max(nats):.3f} | {bits:.3f} "
            f"| {mine[0]['parameters']:,} | {seconds:.0f} s |"
        )
    return "\n".join([*rows, "", comparison(runs)])


def comparison(runs: list[dict[str, Any]]) -> str:
    """The difference of the two layers in a sentence, and whether their seeds overlap."""
    nats: dict[str, list[float]] = {layer: [] for layer in NAMES}
    for run in runs:
        nats[run["settings"]["layer"]].append(run["validation"]["nats_per_char"])
    low, high = sorted(nats, key=lambda layer: statistics.mean(nats[layer]))
    difference = statistics.mean(nats[high]) - statistics.mean(nats[low])
    apart = max(nats[low]) < min(nats[high])
    return (
        f"{NAMES[low]} is lower by {difference:.3f} nats per character; the seeds "
        f"{'do not overlap' if apart else 'overlap'}."
    )


def provenance_table(runs: list[dict[str, Any]]) -> str:
    """The command, commit and date of each run, and where it ran."""
    rows = ["| command | nats/char | commit | date | hardware |", "| --- | --- | --- | --- | --- |"]
    for run in runs:
        where = run["environment"]
        rows.append(
            f"| `{where['command']}` | {run['validation']['nats_per_char']:.4f} "
            f"| {where['commit']} | {where['date'][:10]} | {where['hardware']} |"
        )
    return "\n".join(rows)


def sweep_table(lines: list[dict[str, Any]]) -> str:
    """Validation loss against the peak rate, a row for each layer."""
    rates = sorted({line["lr"] for line in lines})
    rows = [
        "| layer | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "| --- |" + " --- |" * len(rates),
    ]
    for layer in sorted({line["layer"] for line in lines}):
        found = {line["lr"]: line["nats_per_char"] for line in lines if line["layer"] == layer}
        best = min(found.values())
        marks = {nats: "**" if nats == best else "" for nats in found.values()}
        cells = [
            f"{marks[found[rate]]}{found[rate]:.4f}{marks[found[rate]]}" if rate in found else ""
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


def summary() -> dict[Path, bytes]:
    """All files that this command writes, with what they should hold."""
    folder = RESULTS / "tiny_shakespeare"
    runs = load_runs(folder)
    sweep = [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]
    page, readme = RESULTS / "index.md", ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    text = replace_between(text, "results", results_table(runs))
    text = replace_between(text, "sweep", sweep_table(sweep))
    text = replace_between(text, "provenance", provenance_table(runs))
    first = {run["settings"]["layer"]: run["metrics"] for run in reversed(runs)}
    return {
        page: text.encode(),
        readme: replace_between(
            readme.read_text(encoding="utf-8"), "results", results_table(runs)
        ).encode(),
        folder / "comparison.svg": compare({NAMES[layer]: m for layer, m in sorted(first.items())}),
    }


def main() -> int:
    for path, content in summary().items():
        if not path.exists() or path.read_bytes() != content:
            write_aside(path, content)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
