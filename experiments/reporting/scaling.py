r"""Perplexity over model size: the points, the fitted power law, the table and the figure.

# Depth scaling

The paper asks whether gMLP improves with size as a Transformer does, for masked language models of
growing depth ([source](../../docs/coverage.yml#depth-scaling)). This study asks the same for small
[autoregressive](../autoregressive.py) and [masked](../masked.py) models. Depth is the only setting
that changes, and every depth is trained at the learning rate of the default depth. The deepest
autoregressive models were also tried at half that rate, and the masked Transformers at twice.
"""

import statistics
from dataclasses import dataclass

import numpy as np

from experiments.reporting.charts import ChartLine, ChartPoint, describe_ends, line_chart, log_axis
from experiments.reporting.records import RunRecord
from experiments.reporting.tables import table_row


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
    """A Markdown table with a row for each layer and depth, the best first and in bold."""
    rows = [
        "| layer | depth | parameters | perplexity | lowest to highest | seeds |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    found = [(point.mean, layer, point) for layer, line in lines.items() for point in line]
    for place, (mean, layer, point) in enumerate(sorted(found, key=lambda each: each[0])):
        cells = [
            layer,
            f"{point.n_layers}",
            f"{point.parameters:,}",
            f"{mean:.3f}",
            f"{min(point.perplexities):.3f} to {max(point.perplexities):.3f}",
            f"{len(point.perplexities)}",
        ]
        rows.append(table_row(cells, bold=place == 0))
    return "\n".join(rows)


def size_ratio(transformer: list[Point], gmlp: list[Point]) -> float:
    r"""How many times the parameters of a gMLP block a Transformer layer has.

    ## Size of a layer

    The parameters outside of the layers are the same at every depth, so the difference between two
    depths is that of their layers.

    Raises `ValueError` for a line with fewer than two depths.
    """
    return _layer_size(transformer) / _layer_size(gmlp)


def _layer_size(line: list[Point]) -> float:
    first, last = line[0], line[-1]
    if first.n_layers == last.n_layers:
        raise ValueError(f"line must have at least 2 depths, got {first.n_layers} only")
    return (last.parameters - first.parameters) / (last.n_layers - first.n_layers)


def scaling_figure(lines: dict[str, list[Point]], of: str, name: str) -> bytes:
    r"""Perplexity over the number of parameters, as an SVG.

    ## Figure

    Both axes are logarithmic, so a power law is a straight line. A band reaches from the lowest to
    the highest seed; the number beside a point is the depth.

    * `lines` are the points by the name of the line
    * `of` names what is predicted, for the label of the axis
    * `name` begins the ids of the file
    """
    all_points = [point for line in lines.values() for point in line]
    perplexities = [each for point in all_points for each in point.perplexities]
    drawn = {
        label: ChartLine(
            [ChartPoint.of(point.parameters, point.perplexities) for point in line],
            colour,
            notes=[f"{point.n_layers}" for point in line],
        )
        for colour, (label, line) in enumerate(lines.items())
    }
    sizes = [point.parameters for point in all_points]
    return line_chart(
        drawn,
        name=name,
        title=f"Perplexity of {of} over the number of parameters, both logarithmic",
        description=describe_ends(drawn) if drawn else "No runs.",
        x_label="parameters; beside a point: layers",
        y_label=f"perplexity of {of}",
        x=log_axis(min(sizes), max(sizes), (1, 2, 5)) if drawn else None,
        y=log_axis(min(perplexities), max(perplexities), TICKS) if drawn else None,
    )


# Perplexities span less than two powers of ten.
TICKS = (1, 2, 3, 4, 5, 6, 8)
