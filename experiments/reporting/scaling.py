r"""
# Scaling

Does gMLP get better with size as a Transformer does? The paper asks it of masked language models
whose depth grows (from memory). This is the same question, small:
[autoregressive](../autoregressive.py) and [masked](../masked.py) language models of several depths,
all else as it is there. All use the rate of the default depth. The deepest that predict the next
character were tried at half of it too, and the masked Transformers at twice.

`variants` are the runs, and the functions here make a table and a picture of what they found.
"""

import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.engine.experiment import Experiment
from experiments.reporting.pictures import COLOURS

# A layer of the Transformer has about half as many parameters again, so that fewer of them make the
# same size.
DEPTHS: dict[str, dict[str, tuple[int, ...]]] = {
    "autoregressive": {"gmlp": (2, 4, 7, 14), "transformer": (1, 2, 4, 8)},
    "masked": {"gmlp": (2, 3, 6, 12), "transformer": (1, 2, 4)},
}


def variants(experiment: Experiment) -> dict[str, str]:
    r"""
    ## The runs

    The flags of each, by its name. Those of the default depth are in the experiment's own study.

    * `experiment` is one that `DEPTHS` names
    """
    return {
        f"{layer}-{depth}": f"--layer {layer} --n-layers {depth}"
        for layer, depths in DEPTHS[experiment.name].items()
        for depth in depths
        if depth != experiment.defaults[layer][0].n_layers
    }


def masked_transformers_at_twice_the_rate() -> dict[str, str]:
    """The flags of each, by its name. Fewer than four layers learn faster at that rate."""
    return {
        f"transformer-{depth}": f"--layer transformer --n-layers {depth} --lr 0.002"
        for depth in DEPTHS["masked"]["transformer"]
    }


def deepest_at_half_the_rate(experiment: Experiment) -> dict[str, str]:
    """The flags of the deepest model of each layer, by its name, at half its default rate."""
    return {
        f"{layer}-{depths[-1]}": f"--layer {layer} --n-layers {depths[-1]} "
        f"--lr {experiment.defaults[layer][1].lr / 2:g}"
        for layer, depths in DEPTHS[experiment.name].items()
    }


@dataclass(frozen=True)
class Point:
    r"""
    ## A point

    What the runs of one layer and depth found.

    * `n_layers` is the depth
    * `parameters` is the number of parameters
    * `perplexities` are the best of each run, one for each seed
    """

    n_layers: int
    parameters: int
    perplexities: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.perplexities)


def points(runs: list[dict[str, Any]]) -> dict[str, list[Point]]:
    r"""
    ## Collecting

    * `runs` have their `settings`, their `parameters` and their best `validation`

    Returns the points of each layer, the smallest first.
    """
    groups: dict[tuple[str, int, int], list[float]] = {}
    for run in runs:
        settings = run["settings"]
        key = (settings["layer"], settings["n_layers"], run["parameters"])
        groups.setdefault(key, []).append(run["validation"]["perplexity"])
    found: dict[str, list[Point]] = {}
    for (layer, n_layers, parameters), perplexities in sorted(groups.items()):
        found.setdefault(layer, []).append(Point(n_layers, parameters, tuple(perplexities)))
    return found


def exponent(line: list[Point]) -> float:
    r"""
    ## The slope

    $$\ln \text{perplexity} \approx \alpha_0 - \alpha \ln N$$

    for $N$ parameters, fitted by least squares to the means.

    Returns $\alpha$.

    Raises `ValueError` for fewer than two sizes.
    """
    sizes = np.log([point.parameters for point in line])
    if len(set(sizes.tolist())) < 2:
        raise ValueError(f"line must have points of at least 2 sizes, got {len(line)} of 1")
    centred = sizes - sizes.mean()
    logs = np.log([point.mean for point in line])
    return float(-(centred * logs).sum() / (centred**2).sum())


def table(lines: dict[str, list[Point]]) -> str:
    """A row for each layer and depth, in Markdown: the mean, the lowest and the highest seed."""
    rows = [
        "| layer | depth | parameters | perplexity | lowest to highest | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {layer} | {point.n_layers} | {point.parameters:,} | {point.mean:.3f} "
        f"| {min(point.perplexities):.3f} to {max(point.perplexities):.3f} "
        f"| {len(point.perplexities)} |"
        for layer, line in lines.items()
        for point in line
    ]
    return "\n".join(rows)


def picture(lines: dict[str, list[Point]], of: str) -> bytes:
    r"""
    ## Picture

    Perplexity against the number of parameters, both on logarithmic axes, where a power law is a
    straight line. A bar reaches from the lowest to the highest seed.

    * `lines` are the points by the name to show
    * `of` says of what the perplexity is

    Returns an SVG.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    for colour, (name, line) in zip(COLOURS, lines.items(), strict=False):
        means = [point.mean for point in line]
        bars = [
            [point.mean - min(point.perplexities) for point in line],
            [max(point.perplexities) - point.mean for point in line],
        ]
        axes.errorbar(
            [point.parameters for point in line],
            means,
            bars,
            color=colour,
            marker="o",
            markersize=4,
            capsize=3,
            label=name,
        )
        for point in line:
            axes.annotate(
                f"{point.n_layers}",
                (point.parameters, point.mean),
                textcoords="offset points",
                xytext=(4, 5),
                color=colour,
                fontsize=8,
            )
    axes.set_xlabel("parameters (beside the points: layers)")
    axes.set_ylabel(f"perplexity of {of}")
    # Numbers as one writes them: powers of ten would leave one mark on so short an axis.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1e6:g} M"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f"{p:g}"))
    if lines:
        every = [point for line in lines.values() for point in line]
        axes.set_xticks(_marks([point.parameters for point in every], (1, 2, 3, 5, 7)))
        axes.set_yticks(_marks([point.mean for point in every], range(1, 10)))
        axes.legend(frameon=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    # Without a fixed salt and without a date, the same points would give another file each time.
    with mpl.rc_context({"svg.hashsalt": "scaling", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


# Round numbers, `steps` times a power of ten, from below the lowest to above the highest value.
def _marks(values: Sequence[float], steps: Iterable[int]) -> list[float]:
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [step * 10.0**power for power in powers for step in steps]
    first = max((k for k, mark in enumerate(marks) if mark <= low), default=0)
    last = min((k for k, mark in enumerate(marks) if mark >= high), default=len(marks) - 1)
    return marks[first : last + 1]
