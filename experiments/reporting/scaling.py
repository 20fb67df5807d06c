r"""Perplexity over model size: the points, the fitted power law, the table and the figure.

# Depth scaling

The paper asks whether gMLP improves with size as a Transformer does, for masked language models of
growing depth (from memory). This study asks the same for small
[autoregressive](../autoregressive.py) and [masked](../masked.py) models. Depth is the only setting
that changes, and every depth is trained at the learning rate of the default depth. The deepest
autoregressive models were also tried at half that rate, and the masked Transformers at twice.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.reporting.pictures import COLOURS, to_svg
from experiments.reporting.records import RunRecord


@dataclass(frozen=True)
class Point:
    r"""The perplexities of one layer at one depth.

    * `n_layers` is the depth
    * `parameters` is the number of parameters
    * `perplexities` has the best validation perplexity of each seed
    """

    n_layers: int
    parameters: int
    perplexities: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.perplexities)


def points(runs: list[RunRecord]) -> dict[str, list[Point]]:
    """The points of each layer, smallest model first."""
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
    r"""The exponent $\alpha$ of a power law fitted to the points.

    ## Exponent

    $$\ln \text{perplexity} \approx \alpha_0 - \alpha \ln N$$

    for $N$ parameters, by least squares on the means over the seeds.

    Raises `ValueError` for fewer than two model sizes.
    """
    sizes = np.log([point.parameters for point in line])
    if len(set(sizes.tolist())) < 2:
        raise ValueError(f"line must have at least 2 model sizes, got {len(set(sizes.tolist()))}")
    centred = sizes - sizes.mean()
    logs = np.log([point.mean for point in line])
    return float(-(centred * logs).sum() / (centred**2).sum())


def scaling_table(lines: dict[str, list[Point]]) -> str:
    """A Markdown table with a row for each layer and depth: mean, lowest and highest perplexity."""
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


def scaling_figure(lines: dict[str, list[Point]], of: str) -> bytes:
    r"""Perplexity over the number of parameters, as an SVG.

    ## Figure

    Both axes are logarithmic, so a power law is a straight line. Error bars reach from the lowest
    to the highest seed.

    * `lines` are the points by the name in the legend
    * `of` names what is predicted, for the label of the axis
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
    # The axes span less than a decade, where powers of ten would give a single tick.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1e6:g} M"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f"{p:g}"))
    if lines:
        all_points = [point for line in lines.values() for point in line]
        axes.set_xticks(_ticks([point.parameters for point in all_points], (1, 2, 3, 5, 7)))
        axes.set_yticks(_ticks([point.mean for point in all_points], range(1, 10)))
        axes.legend(frameon=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return to_svg(figure, "scaling")


# Ticks at `steps` times a power of ten, from below the lowest value to above the highest.
def _ticks(values: Sequence[float], steps: Iterable[int]) -> list[float]:
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    first = max((k for k, tick in enumerate(ticks) if tick <= low), default=0)
    last = min((k for k, tick in enumerate(ticks) if tick >= high), default=len(ticks) - 1)
    return ticks[first : last + 1]
