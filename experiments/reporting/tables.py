r"""Markdown tables that compare recorded runs.

# Tables
"""

import itertools
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

from experiments.reporting.records import (
    NAMES,
    Measure,
    RunRecord,
    display_name,
    group_by,
    group_by_layer,
)


def results_table(
    groups: dict[str, list[RunRecord]],
    measure: Measure,
    columns: dict[str, Callable[[RunRecord], float]] | None = None,
) -> str:
    r"""A row for each group: mean, lowest and highest seed, parameters and mean time.

    ## Results

    The rows are sorted by their mean; the best is first and in bold.

    * `groups` are the runs by name, one run for each seed
    * `measure` is the value compared
    * `columns` adds columns: the mean of a function of the run, with three decimals
    """
    columns = columns or {}
    heads = [measure.unit, "lowest to highest", *columns, "parameters", "seeds", "time"]
    rows = [f"| model | {' | '.join(heads)} |", "| --- |" + " --: |" * len(heads)]
    for place, group in enumerate(sorted_by_mean(groups, measure)):
        runs = groups[group]
        found = [measure.of(run) for run in runs]
        cells = [
            display_name(group),
            measure.format(statistics.mean(found)),
            f"{measure.format(min(found))} to {measure.format(max(found))}",
            *(f"{statistics.mean(map(value, runs)):.3f}" for value in columns.values()),
            f"{runs[0]['parameters']:,}",
            f"{len(runs)}",
            f"{statistics.mean(run['seconds'] for run in runs):.0f} s",
        ]
        rows.append(table_row(cells, bold=place == 0))
    return "\n".join(rows)


def table_row(cells: Sequence[str], *, bold: bool = False) -> str:
    """A row of a Markdown table, in bold or not."""
    return "| " + " | ".join(f"**{cell}**" if bold else cell for cell in cells) + " |"


def sorted_by_mean(groups: Mapping[str, list[RunRecord]], measure: Measure) -> list[str]:
    """The names of the groups, the lowest mean first."""
    return sorted(groups, key=lambda group: statistics.mean(map(measure.of, groups[group])))


def ranking(groups: dict[str, list[RunRecord]], measure: Measure) -> str:
    """The groups ordered by mean, and whether the seeds of neighbours overlap."""
    found = {group: [measure.of(run) for run in runs] for group, runs in groups.items()}
    order = sorted_by_mean(groups, measure)
    text = display_name(order[0])
    for low, high in itertools.pairwise(order):
        separate = max(found[low]) < min(found[high])
        text += f" {'<' if separate else '~'} {display_name(high)}"
    return (
        f"From low to high: {text}. `<`: every seed on the left beats every seed on the right; "
        f"`~`: only the means differ."
    )


def provenance_table(runs: list[RunRecord], measure: Measure) -> str:
    """The command, result, precision, commit, date and hardware of each run."""
    rows = [
        f"| command | {measure.unit} | precision | commit | date | hardware |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        environment = run["environment"]
        value = f"{measure.of(run):.{measure.digits + 1}f}"
        cells = [
            value,
            run["launch"]["precision"],
            environment["commit"],
            environment["date"][:10],
            environment["hardware"],
        ]
        rows.append(f"| `{environment['command']}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def folded_provenance(runs: list[RunRecord], measure: Measure) -> str:
    """The provenance of the runs, folded under one line that says how many they are."""
    return (
        f'<details markdown="1">\n<summary>Command, commit and machine of each of the {len(runs)} '
        f"runs</summary>\n\n{provenance_table(runs, measure)}\n\n</details>"
    )


def sweep_table(runs: list[RunRecord], measure: Measure) -> str:
    """The measure at each peak learning rate, a row for each layer, the best value in bold."""
    rates = sorted({run["settings"]["lr"] for run in runs})
    rows = [
        "| model | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "| --- |" + " --: |" * len(rates),
    ]
    for layer, layer_runs in group_by_layer(runs).items():
        by_rate = group_by(layer_runs, lambda run: run["settings"]["lr"])
        found = {rate: statistics.mean(map(measure.of, same)) for rate, same in by_rate.items()}
        best = min(found, key=found.__getitem__)
        cells = {rate: f"{value:.{measure.digits + 1}f}" for rate, value in found.items()}
        cells[best] = f"**{cells[best]}**"
        rows.append(f"| {NAMES[layer]} | " + " | ".join(cells.get(r, "") for r in rates) + " |")
    return "\n".join(rows)


def replace_between(text: str, name: str, content: str) -> str:
    """The text with `content` between its `begin` and `end` marks of that name.

    Raises `ValueError` if the marks do not occur exactly once.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(rf"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"text must contain {begin} and {end} exactly once")
    return pattern.sub(lambda _: f"\n{content}\n\n", text)
