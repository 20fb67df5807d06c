r"""
# The report

```
python -m experiments.report
```

Rewrites every table and picture of the results pages, and the table of the README, from the data of
the runs under `results/`. What stands between a `begin` and an `end` mark belongs to
this command; the prose around it is written by hand.
"""

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
from experiments.reporting.run_page import fenced, read_matrices
from experiments.reporting.tables import (
    NAMES,
    Measure,
    Run,
    describe_order,
    grouped,
    load_runs,
    name_of,
    provenance_table,
    replace_between,
    results_table,
    sweep_table,
)
from experiments.reporting.toeplitz_fraction import toeplitz_fraction, toeplitz_fraction_of_noise
from labml_gmlp.storage import atomic_write

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"

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
        "order": describe_order(groups, measure),
        "provenance": provenance_table(runs, measure),
    }
    curves = {name_of(group): group_runs[0]["metrics"] for group, group_runs in groups.items()}
    return marks, {"comparison.svg": compare(curves, curve)}


def sweep(name: str, defaults: list[Run], measure: Measure) -> dict[str, str]:
    r"""
    ### A sweep of rates

    * `name` is the study of the rates beside the defaults
    * `defaults` are the runs at the default rates with the same seeds
    """
    others = load_runs(RESULTS / name)
    return {
        "sweep": sweep_table([*others, *defaults], measure),
        "sweep provenance": provenance_table(others, measure),
    }


def tiny_shakespeare(folder: Path) -> Page:
    r"""
    ### Tiny Shakespeare

    The results of the autoregressive experiment, its sweep of rates, a sample, and what the blocks
    of one model read.
    """
    groups = grouped(load_runs(folder))
    marks, pictures = common(groups, NATS, NATS_PER_CHARACTER)
    marks.update(sweep("rates", [runs[0] for runs in groups.values()], NATS))
    timed_runs = load_runs(RESULTS / "equal_time")
    marks["equal time"] = results_table(grouped(timed_runs, averaging), NATS)
    marks["equal time provenance"] = provenance_table(timed_runs, NATS)
    first = groups["gmlp"][0]
    marks["sample"] = fenced((first["folder"] / "sample.txt").read_text(encoding="utf-8"))
    pictures["loss.svg"] = loss_curve(first["metrics"])
    pictures["spatial.png"] = spatial_matrices(read_matrices(first["folder"]))
    return marks, pictures


def averaging(run: Run) -> str:
    """The layer of a run, and whether its weights were averaged."""
    layer = str(run["settings"]["layer"])
    return f"{layer}, averaged weights" if run["settings"]["ema"] else layer


def masked_text(folder: Path) -> Page:
    r"""
    ### Masked language models

    The gates of the ablation, and how Toeplitz the matrices of the model with free ones became.
    """
    groups = grouped(load_runs(folder))
    marks, pictures = common(
        groups, NATS, masked.CURVE, perplexity=lambda run: float(run["validation"]["perplexity"])
    )
    swept = {run["settings"]["layer"] for run in load_runs(RESULTS / "masked_rates")}
    first = [runs[0] for layer, runs in groups.items() if layer in swept]
    marks.update(sweep("masked_rates", first, NATS))
    found = {run["settings"]["seed"]: read_matrices(run["folder"]) for run in groups["gmlp"]}
    marks["toeplitz"] = toeplitz_table(found)
    pictures["spatial.png"] = spatial_matrices(found[0])
    return marks, pictures


def toeplitz_table(matrices: dict[int, list[NDArray[np.float32]]]) -> str:
    """The Toeplitz share of each block's $W$, a row for each seed, and of noise of that size."""
    shares = {
        f"seed {seed}": [toeplitz_fraction(torch.from_numpy(w)) for w in found]
        for seed, found in matrices.items()
    }
    first = next(iter(matrices.values()))
    shares["noise"] = [toeplitz_fraction_of_noise(len(w)) for w in first]
    heads = [f"block {k + 1}" for k in range(len(first))]
    rows = [f"| model | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    rows += [
        f"| {name} | {' | '.join(f'{share:.0%}' for share in found)} |"
        for name, found in shares.items()
    ]
    return "\n".join(rows)


ERROR = Measure("error", "wrong, %", 2, 100)


def two_spans(folder: Path) -> Page:
    """### Alignment of two spans"""
    return common(grouped(load_runs(folder)), ERROR, alignment.CURVE)


def images_of_digits(folder: Path) -> Page:
    """### Digits, of scikit-learn and of MNIST"""
    runs = {name: grouped(load_runs(RESULTS / name)) for name in ("digits", "mnist")}
    marks, pictures = common(runs["digits"], ERROR, digits.CURVE)
    mnist, curves = common(runs["mnist"], ERROR, digits.CURVE)
    marks.update({f"mnist {name}": content for name, content in mnist.items()})
    return marks, {**pictures, "mnist.svg": curves["comparison.svg"]}


def depths(_: Path) -> Page:
    """### Depth scaling of autoregressive and of masked models"""
    marks, picture = depths_of("scaling", "tiny_shakespeare", "the next character", {})
    faster = {"Transformer, twice the rate": load_runs(RESULTS / "masked_scaling_rates")}
    hidden, masked_picture = depths_of("masked_scaling", "masked", "a hidden character", faster)
    marks.update({f"masked {name}": content for name, content in hidden.items()})
    deepest = {run["folder"].name for run in load_runs(RESULTS / "scaling_rates")}
    same = [run for run in load_runs(RESULTS / "scaling") if run["folder"].name in deepest]
    marks.update(sweep("scaling_rates", same, NATS))
    return marks, {"scaling.svg": picture, "masked.svg": masked_picture}


def depths_of(
    study: str, default: str, of: str, more: dict[str, list[Run]]
) -> tuple[dict[str, str], bytes]:
    r"""
    * `study` has the runs of other depths, `default` those of the default depth
    * `of` says of what the perplexity is
    * `more` are runs of one layer for a line of their own, by its name
    """
    others = load_runs(RESULTS / study)
    known = grouped(load_runs(RESULTS / default))
    runs = [*others, *known["gmlp"], *known["transformer"]]
    lines = {NAMES[layer]: line for layer, line in scaling.points(runs).items()}
    for name, others_of_it in more.items():
        [lines[name]] = scaling.points(others_of_it).values()
    slopes = [f"{name} {scaling.exponent(line):.3f}" for name, line in lines.items()]
    marks = {
        "results": scaling.table(lines),
        "slopes": f"Exponents of the fitted power laws: {', '.join(slopes)}.",
        "provenance": provenance_table([*others, *itertools.chain(*more.values())], NATS),
    }
    return marks, scaling.picture(lines, of)


PAGES: dict[str, Callable[[Path], Page]] = {
    "tiny_shakespeare": tiny_shakespeare,
    "masked": masked_text,
    "alignment": two_spans,
    "scaling": depths,
    "digits": images_of_digits,
}


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
            atomic_write(path, content)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
