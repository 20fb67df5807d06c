r"""The pages of results, rewritten from the recorded runs.

# The pages of results

```
python -m experiments.report
```

Rewrites every answer, table and figure of the pages under `results/`, and the main result in the
README and on the start page, from the [recorded runs](reporting/records.py). The command owns the
text between a `begin` and an `end` mark; the prose around it is written by hand.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments import alignment, masked
from experiments.engine.experiment import Training
from experiments.engine.settings.types import from_dict
from experiments.reporting import answers, scaling
from experiments.reporting.pictures import (
    NATS_PER_CHARACTER,
    PER_CENT_WRONG,
    Curve,
    compare,
    loss_curve,
    spatial_matrices,
)
from experiments.reporting.records import (
    COLOURS,
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
    folded_provenance,
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
    name: str,
    **columns: Callable[[RunRecord], float],
) -> PageContent:
    """The tables of results, ranking and provenance, and the figure of all seeds over the steps."""
    runs = [run for group in groups.values() for run in group]
    marks = {
        "results": results_table(groups, measure, columns),
        "order": ranking(groups, measure),
        "provenance": folded_provenance(runs, measure),
    }
    seeds = {
        display_name(group): [run["evaluations"] for run in same] for group, same in groups.items()
    }
    colours = {display_name(group): COLOURS[group.partition(",")[0]] for group in groups}
    return marks, {"comparison.svg": compare(seeds, curve, name, colours)}


def rate_sweep(name: str, defaults: list[RunRecord], measure: Measure) -> dict[str, str]:
    r"""The results at other learning rates, beside those at the default rates.

    * `name` is the study of the other rates
    * `defaults` are the runs at the default rates with the same seeds
    """
    others = load_runs(RESULTS / name)
    return {
        "sweep": sweep_table([*others, *defaults], measure),
        "sweep provenance": folded_provenance(others, measure),
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
    rows = [f"| model | {' | '.join(heads)} |", "| --- |" + " --: |" * len(heads)]
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
    marks, figures = comparison(groups, NATS, NATS_PER_CHARACTER, folder.name)
    marks["answer"] = answers.autoregressive(groups, NATS)
    marks.update(rate_sweep("rates", [runs[0] for runs in groups.values()], NATS))
    timed_runs = load_runs(RESULTS / "equal_time")
    marks["equal time"] = results_table(group_by_layer(timed_runs, averaging), NATS)
    marks["equal time provenance"] = folded_provenance(timed_runs, NATS)
    first = groups["gmlp"][0]
    marks["sample"] = fenced((first["folder"] / "sample.txt").read_text(encoding="utf-8"))
    figures["loss.svg"] = loss_curve(first["metrics"])
    figures["spatial.png"] = spatial_matrices(read_matrices(first["folder"]))
    return marks, figures


def masked_page(folder: Path) -> PageContent:
    """The masked models: the gates of the ablation, and how close $W$ comes to Toeplitz."""
    groups = group_by_layer(load_runs(folder))
    perplexity = Measure("perplexity", "perplexity")
    marks, figures = comparison(groups, NATS, masked.CURVE, folder.name, perplexity=perplexity.of)
    marks["answer"] = answers.gates(groups, NATS)
    swept = {run["settings"]["layer"] for run in load_runs(RESULTS / "masked_rates")}
    defaults = [runs[0] for layer, runs in groups.items() if layer in swept]
    marks.update(rate_sweep("masked_rates", defaults, NATS))
    matrices = {run["settings"]["seed"]: read_matrices(run["folder"]) for run in groups["gmlp"]}
    marks["toeplitz"] = toeplitz_table(matrices)
    found = [toeplitz_fraction(torch.from_numpy(w)) for each in matrices.values() for w in each]
    noise = toeplitz_fraction_of_noise(len(matrices[0][0]))
    marks["toeplitz answer"] = answers.toeplitz(found, noise)
    figures["spatial.png"] = spatial_matrices(matrices[0])
    return marks, figures


def alignment_page(folder: Path) -> PageContent:
    """Alignment of two spans."""
    groups = group_by_layer(load_runs(folder))
    marks, figures = comparison(groups, ERROR, PER_CENT_WRONG, folder.name)
    [settings, _] = from_dict(
        (alignment.AlignmentSettings, Training), groups["gmlp"][0]["settings"]
    )
    guess = ERROR.scale * alignment.random_baseline(settings)
    return {**marks, "answer": answers.alignment(groups, ERROR, guess)}, figures


def digits_page(folder: Path) -> PageContent:
    """Digits of scikit-learn and of MNIST."""
    groups = group_by_layer(load_runs(folder))
    marks, figures = comparison(groups, ERROR, PER_CENT_WRONG, folder.name)
    mnist_groups = group_by_layer(load_runs(RESULTS / "mnist"))
    mnist, curves = comparison(mnist_groups, ERROR, PER_CENT_WRONG, "mnist")
    marks.update({f"mnist {name}": content for name, content in mnist.items()})
    marks["answer"] = answers.digits(groups, mnist_groups, ERROR)
    return marks, {**figures, "mnist.svg": curves["comparison.svg"]}


def scaling_page(folder: Path) -> PageContent:
    """Depth scaling of autoregressive and masked models."""
    lines = scaling_lines(folder, "tiny_shakespeare")
    masked_runs = RESULTS / "masked_scaling"
    masked_lines = scaling_lines(masked_runs, "masked")
    twice = load_runs(RESULTS / "masked_scaling_rates")
    [masked_lines["Transformer, twice the rate"]] = scaling.points(twice).values()
    deepest = {run["folder"].name for run in load_runs(RESULTS / "scaling_rates")}
    runs, masked_others = load_runs(folder), [*load_runs(masked_runs), *twice]
    sizes = [
        scaling.size_ratio(each["Transformer"], each["gMLP"]) for each in (lines, masked_lines)
    ]
    marks = {
        "answer": answers.depth(lines),
        "sizes": answers.layer_sizes(*sizes),
        **scaling_tables(lines, runs),
        **{f"masked {k}": v for k, v in scaling_tables(masked_lines, masked_others).items()},
        **rate_sweep("scaling_rates", [r for r in runs if r["folder"].name in deepest], NATS),
    }
    return marks, {
        "scaling.svg": scaling.scaling_figure(lines, "the next character", "scaling"),
        "masked.svg": scaling.scaling_figure(masked_lines, "a masked character", "masked-scaling"),
    }


def scaling_lines(folder: Path, default: str) -> dict[str, list[scaling.Point]]:
    r"""The points of gMLP and the Transformer by name.

    * `folder` has the runs of the other depths
    * `default` is the study with the runs of the default depth
    """
    known = group_by_layer(load_runs(RESULTS / default))
    runs = [*load_runs(folder), *known["gmlp"], *known["transformer"]]
    return {NAMES[layer]: line for layer, line in scaling.points(runs).items()}


def scaling_tables(lines: dict[str, list[scaling.Point]], runs: list[RunRecord]) -> dict[str, str]:
    """The tables of one task: perplexities, fitted exponents, and the provenance of `runs`."""
    slopes = [f"{name} {scaling.exponent(line):.3f}" for name, line in lines.items()]
    return {
        "results": scaling.scaling_table(lines),
        "slopes": f"Exponents of the fitted power laws: {', '.join(slopes)}.",
        "provenance": folded_provenance(runs, NATS),
    }


PAGES: dict[str, Callable[[Path], PageContent]] = {
    "tiny_shakespeare": tiny_shakespeare_page,
    "masked": masked_page,
    "alignment": alignment_page,
    "scaling": scaling_page,
    "digits": digits_page,
}


# ## The page of all results
#
# Each question, its page, the name of the page, and the mark that holds the answer there.
QUESTIONS = (
    (
        "Does gMLP work as an autoregressive language model?",
        *("tiny_shakespeare", "Tiny Shakespeare", "answer"),
    ),
    ("Which gate is best?", "masked", "Masked language models", "answer"),
    (
        "Do the learned matrices become Toeplitz?",
        *("masked", "Toeplitz fractions", "toeplitz answer"),
    ),
    ("Does attention help?", "alignment", "Alignment of two spans", "answer"),
    (
        "Does gMLP improve with size as a Transformer does?",
        *("scaling", "Depth scaling", "answer"),
    ),
    ("How does gMLP do on small images?", "digits", "Digits", "answer"),
)


def all_answers(marks: dict[str, dict[str, str]]) -> str:
    """Each question with its answer and a link to its page; `marks` are those of the pages."""
    return "\n\n".join(
        f"## {question}\n\n{marks[page][name]} More: [{title}]({page}/index.md)."
        for question, page, title, name in QUESTIONS
    )


# ## The command
def report() -> dict[Path, bytes]:
    """The content of every file that this command writes, by path."""
    files: dict[Path, bytes] = {}
    marks: dict[str, dict[str, str]] = {}
    for name, page in PAGES.items():
        folder = RESULTS / name
        marks[name], figures = page(folder)
        files[folder / "index.md"] = _filled(folder / "index.md", marks[name])
        files.update({folder / figure: content for figure, content in figures.items()})
    files[RESULTS / "index.md"] = _filled(RESULTS / "index.md", {"answers": all_answers(marks)})
    shown = marks["tiny_shakespeare"]
    answer = {"answer": shown["answer"]}
    readme = {**answer, "results": f"{shown['results']}\n\n{shown['order']}"}
    files[ROOT / "README.md"] = _filled(ROOT / "README.md", readme)
    files[ROOT / "docs" / "index.md"] = _filled(ROOT / "docs" / "index.md", answer)
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
