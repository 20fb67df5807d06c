r"""The pages of results, rewritten from the recorded runs.

# The pages of results

```
python -m experiments.report
```

Rewrites every table and figure of the pages under `results/`, and the table in the README, from the
[recorded runs](reporting/records.py). The command owns the text between a `begin` and an `end`
mark; the prose around it is written by hand.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments import alignment, digits, masked
from experiments.reporting import scaling
from experiments.reporting.pictures import (
    NATS_PER_CHARACTER,
    Curve,
    compare,
    loss_curve,
    spatial_matrices,
)
from experiments.reporting.records import (
    NAMES,
    RESULTS,
    ROOT,
    Measure,
    RunRecord,
    display_name,
    group_by_layer,
    load_runs,
)
from experiments.reporting.run_page import fenced, read_matrices
from experiments.reporting.tables import (
    provenance_table,
    ranking,
    replace_between,
    results_table,
    sweep_table,
)
from experiments.reporting.toeplitz_fraction import toeplitz_fraction, toeplitz_fraction_of_noise
from labml_gmlp.storage import atomic_write

NATS = Measure("nats_per_char", "nats/char")
ERROR = Measure("error", "wrong, %", 2, 100)
# The content between the marks of a page by name, and its figures by file name.
PageContent = tuple[dict[str, str], dict[str, bytes]]


# ## Tables and figures
def comparison(
    groups: dict[str, list[RunRecord]],
    measure: Measure,
    curve: Curve,
    **columns: Callable[[RunRecord], float],
) -> PageContent:
    """The tables of results, ranking and provenance, and the figure of seed 0's validation loss."""
    runs = [run for group in groups.values() for run in group]
    marks = {
        "results": results_table(groups, measure, columns),
        "order": ranking(groups, measure),
        "provenance": provenance_table(runs, measure),
    }
    curves = {display_name(name): runs[0]["evaluations"] for name, runs in groups.items()}
    return marks, {"comparison.svg": compare(curves, curve)}


def rate_sweep(name: str, defaults: list[RunRecord], measure: Measure) -> dict[str, str]:
    r"""The results at other learning rates, beside those at the default rates.

    * `name` is the study of the other rates
    * `defaults` are the runs at the default rates with the same seeds
    """
    others = load_runs(RESULTS / name)
    return {
        "sweep": sweep_table([*others, *defaults], measure),
        "sweep provenance": provenance_table(others, measure),
    }


def averaging(run: RunRecord) -> str:
    """The layer of a run, and whether its weights are averaged."""
    layer = str(run["settings"]["layer"])
    return f"{layer}, averaged weights" if run["settings"]["ema"] else layer


def toeplitz_table(matrices: dict[int, list[NDArray[np.float32]]]) -> str:
    """The Toeplitz fraction of each block's $W$, a row for each seed and one for noise."""
    fractions = {
        f"seed {seed}": [toeplitz_fraction(torch.from_numpy(w)) for w in found]
        for seed, found in matrices.items()
    }
    first = next(iter(matrices.values()))
    fractions["random"] = [toeplitz_fraction_of_noise(len(w)) for w in first]
    heads = [f"block {k + 1}" for k in range(len(first))]
    rows = [f"| model | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    rows += [
        f"| {name} | {' | '.join(f'{fraction:.0%}' for fraction in found)} |"
        for name, found in fractions.items()
    ]
    return "\n".join(rows)


# ## The pages
#
# Each function makes the content of one page from the runs in its folder.
def tiny_shakespeare_page(folder: Path) -> PageContent:
    """The autoregressive models: results, learning rates, a sample, and one model's matrices."""
    groups = group_by_layer(load_runs(folder))
    marks, figures = comparison(groups, NATS, NATS_PER_CHARACTER)
    marks.update(rate_sweep("rates", [runs[0] for runs in groups.values()], NATS))
    timed_runs = load_runs(RESULTS / "equal_time")
    marks["equal time"] = results_table(group_by_layer(timed_runs, averaging), NATS)
    marks["equal time provenance"] = provenance_table(timed_runs, NATS)
    first = groups["gmlp"][0]
    marks["sample"] = fenced((first["folder"] / "sample.txt").read_text(encoding="utf-8"))
    figures["loss.svg"] = loss_curve(first["metrics"])
    figures["spatial.png"] = spatial_matrices(read_matrices(first["folder"]))
    return marks, figures


def masked_page(folder: Path) -> PageContent:
    """The masked models: the gates of the ablation, and how close $W$ comes to Toeplitz."""
    groups = group_by_layer(load_runs(folder))
    marks, figures = comparison(
        groups, NATS, masked.CURVE, perplexity=lambda run: float(run["validation"]["perplexity"])
    )
    swept = {run["settings"]["layer"] for run in load_runs(RESULTS / "masked_rates")}
    defaults = [runs[0] for layer, runs in groups.items() if layer in swept]
    marks.update(rate_sweep("masked_rates", defaults, NATS))
    matrices = {run["settings"]["seed"]: read_matrices(run["folder"]) for run in groups["gmlp"]}
    marks["toeplitz"] = toeplitz_table(matrices)
    figures["spatial.png"] = spatial_matrices(matrices[0])
    return marks, figures


def alignment_page(folder: Path) -> PageContent:
    """Alignment of two spans."""
    return comparison(group_by_layer(load_runs(folder)), ERROR, alignment.CURVE)


def digits_page(folder: Path) -> PageContent:
    """Digits of scikit-learn and of MNIST."""
    marks, figures = comparison(group_by_layer(load_runs(folder)), ERROR, digits.CURVE)
    mnist, curves = comparison(group_by_layer(load_runs(RESULTS / "mnist")), ERROR, digits.CURVE)
    marks.update({f"mnist {name}": content for name, content in mnist.items()})
    return marks, {**figures, "mnist.svg": curves["comparison.svg"]}


def scaling_page(folder: Path) -> PageContent:
    """Depth scaling of autoregressive and masked models."""
    marks, figure = scaling_part(folder, "tiny_shakespeare", "the next character", {})
    faster = {"Transformer, twice the rate": load_runs(RESULTS / "masked_scaling_rates")}
    masked_marks, masked_figure = scaling_part(
        RESULTS / "masked_scaling", "masked", "a masked character", faster
    )
    marks.update({f"masked {name}": content for name, content in masked_marks.items()})
    deepest = {run["folder"].name for run in load_runs(RESULTS / "scaling_rates")}
    defaults = [run for run in load_runs(folder) if run["folder"].name in deepest]
    marks.update(rate_sweep("scaling_rates", defaults, NATS))
    return marks, {"scaling.svg": figure, "masked.svg": masked_figure}


def scaling_part(
    folder: Path, default: str, of: str, extra: dict[str, list[RunRecord]]
) -> tuple[dict[str, str], bytes]:
    r"""The tables and the figure of depth scaling for one task.

    * `folder` has the runs of the other depths
    * `default` is the study with the runs of the default depth
    * `of` names what the models predict
    * `extra` are further lines of the figure by name, each the runs of one layer
    """
    others = load_runs(folder)
    known = group_by_layer(load_runs(RESULTS / default))
    runs = [*others, *known["gmlp"], *known["transformer"]]
    lines = {NAMES[layer]: line for layer, line in scaling.points(runs).items()}
    for name, extra_runs in extra.items():
        [lines[name]] = scaling.points(extra_runs).values()
    slopes = [f"{name} {scaling.exponent(line):.3f}" for name, line in lines.items()]
    marks = {
        "results": scaling.scaling_table(lines),
        "slopes": f"Exponents of the fitted power laws: {', '.join(slopes)}.",
        "provenance": provenance_table([*others, *itertools.chain(*extra.values())], NATS),
    }
    return marks, scaling.scaling_figure(lines, of)


PAGES: dict[str, Callable[[Path], PageContent]] = {
    "tiny_shakespeare": tiny_shakespeare_page,
    "masked": masked_page,
    "alignment": alignment_page,
    "scaling": scaling_page,
    "digits": digits_page,
}


# ## The command
def report() -> dict[Path, bytes]:
    """The content of every file that this command writes, by path."""
    files: dict[Path, bytes] = {}
    for name, page in PAGES.items():
        folder = RESULTS / name
        marks, figures = page(folder)
        files[folder / "index.md"] = _filled(folder / "index.md", marks)
        files.update({folder / figure: content for figure, content in figures.items()})
        if name == "tiny_shakespeare":
            readme = {"results": f"{marks['results']}\n\n{marks['order']}"}
            files[ROOT / "README.md"] = _filled(ROOT / "README.md", readme)
    return files


def _filled(path: Path, marks: dict[str, str]) -> bytes:
    text = path.read_text(encoding="utf-8")
    for name, content in marks.items():
        text = replace_between(text, name, content)
    return text.encode()


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m experiments.report",
        description="Rewrite the pages of results from the recorded runs.",
    ).parse_args()
    for path, content in report().items():
        if not path.exists() or path.read_bytes() != content:
            atomic_write(path, content)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
