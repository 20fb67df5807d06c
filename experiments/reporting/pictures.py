r"""Figures of runs: loss curves and the learned matrices $W$.

# Pictures
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.reporting.charts import (
    Axis,
    ChartLine,
    ChartPoint,
    describe_ends,
    line_chart,
    linear_axis,
)

GREY = "#7b7b7b"  # can be read on white and on black
# Zero is transparent, so that a matrix suits light and dark pages.
WEIGHTS = LinearSegmentedColormap.from_list(
    "weights", [(0, "#3a7fd0ff"), (0.5, "#3a7fd000"), (0.5, "#dd4a3a00"), (1, "#dd4a3aff")]
)
SMOOTHING = 10  # logged losses in one point of the moving average
MAX_POINTS = 500  # of a training loss; more do not show on a screen

Metrics = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Curve:
    r"""The validation metric that a figure shows.

    * `name` is its key in an evaluation
    * `unit` is the label of the axis
    * `scale` multiplies it, for example 100 for per cent
    """

    name: str
    unit: str
    scale: float = 1.0


NATS_PER_CHARACTER = Curve("nats_per_char", "nats per character")
PER_CENT_WRONG = Curve("error", "wrong, %", 100)


def loss_curve(metrics: Metrics, curve: Curve = NATS_PER_CHARACTER) -> bytes:
    r"""Training and validation loss over the steps of one run, as an SVG.

    ## Loss curve

    The logged training loss is faint, its moving average solid. Dots mark the validation loss, and
    its label gives the best one. The axis is scaled without the first 5 % of the steps, where the
    loss falls so fast that the rest would look flat.

    * `metrics` are the lines of `metrics.jsonl`
    * `curve` is the validation metric, in the unit of the training loss
    """
    lines: dict[str, ChartLine] = {}
    training = [(m["step"], m["loss"]) for m in metrics if "loss" in m]
    every = math.ceil(len(training) / MAX_POINTS)
    if training:
        lines[" logged"] = ChartLine(_points(training[::every]), faint=True)
    if len(training) >= 2 * SMOOTHING:
        # The average at a step covers the steps before it, as one would see it while training.
        ends = range(SMOOTHING, len(training) + 1)
        windows = (training[end - SMOOTHING : end] for end in ends)
        smooth = [(w[-1][0], sum(loss for _, loss in w) / SMOOTHING) for w in windows][::every]
        lines["training"] = ChartLine(_points(smooth), marks=False)
    validation = [(m["step"], m[curve.name]) for m in metrics if curve.name in m]
    description = "No evaluation."
    if validation:
        step, best = min(validation, key=lambda each: each[1])
        lines[f"validation, best {best:.4f}"] = ChartLine(_points(validation), colour=1)
        description = f"The validation loss is best at step {step:.0f}, {best:.4f} {curve.unit}."
    shown = [loss for _, loss in [*validation, *training[len(training) // 20 :]]]
    return line_chart(
        lines,
        name="loss",
        title="Training and validation loss of one run",
        description=description,
        x_label="training step",
        y_label=curve.unit,
        y=_loss_axis(shown) if shown else None,
    )


def compare(
    runs: Mapping[str, Sequence[Metrics]], curve: Curve, name: str, colours: Mapping[str, int]
) -> bytes:
    r"""The validation metric of several models over the steps of training, as an SVG.

    ## Comparison

    A line is the mean over the seeds, the band around it reaches from the lowest to the highest.

    * `runs` are the evaluations of each model by its name, a list for each seed
    * `curve` is the validation metric
    * `name` begins the ids of the file
    * `colours` are the colours of the models by name, indices into `COLOURS`
    """
    lines = {
        model: ChartLine(_over_seeds(seeds, curve), colours.get(model, 0))
        for model, seeds in runs.items()
    }
    lines = {model: line for model, line in lines.items() if line.points}
    return line_chart(
        lines,
        name=name,
        title=f"Validation over training, {curve.unit}",
        description=describe_ends(lines),
        x_label="training step",
        y_label=curve.unit,
    )


# The steps at which all seeds were evaluated.
def _over_seeds(seeds: Sequence[Metrics], curve: Curve) -> list[ChartPoint]:
    found = [
        {m["step"]: curve.scale * m[curve.name] for m in metrics if curve.name in m}
        for metrics in seeds
    ]
    steps = set.intersection(*map(set, found)) if found else set()
    return [ChartPoint.of(step, [values[step] for values in found]) for step in sorted(steps)]


def _points(values: Sequence[tuple[float, float]]) -> list[ChartPoint]:
    return [ChartPoint(x, y, y, y) for x, y in values]


def _loss_axis(values: Sequence[float]) -> Axis:
    margin = 0.05 * (max(values) - min(values)) + 1e-3
    return linear_axis(min(values) - margin, max(values) + margin)


def spatial_matrices(weights: list[NDArray[np.float32]], titles: Sequence[str] = ()) -> bytes:
    r"""The learned matrix $W$ of each block, as a PNG.

    ## The learned $W$

    Row $i$ shows how position $i$ weights each position $j$: red is positive, blue negative, and
    zero has the colour of the page. All matrices have one scale. It ends at the 99th percentile of
    $|W_{ij}|$ without zeros; larger weights have the colour of the end.

    * `weights` are the matrices, `[n, n]` each, first block first
    * `titles` stand above them; by default the number of the block
    """
    columns = min(3, len(weights))
    rows = math.ceil(len(weights) / columns)
    titles = titles or [f"block {k + 1}" for k in range(len(weights))]
    # On a phone the figure is 326 pixels wide, and 16 points are 10 pixels.
    figure = Figure(figsize=(2.2 * columns + 0.9, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    sizes = np.concatenate([np.abs(weight[weight != 0]) for weight in weights])
    bound = float(np.percentile(sizes, 99)) if len(sizes) else 1.0
    for axes in grid.flat[len(weights) :]:
        axes.axis("off")
    for axes, weight, title in zip(grid.flat, weights, titles, strict=False):
        # Without interpolation every pixel has the colour of one entry, and the file is smaller.
        image = axes.imshow(weight, WEIGHTS, vmin=-bound, vmax=bound, interpolation="nearest")
        axes.set_title(title, fontsize=16, color=GREY)
        axes.set_facecolor("none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(GREY)
    grid[0, 0].set_xlabel("$j$", fontsize=16, color=GREY)
    grid[0, 0].set_ylabel("$i$", fontsize=16, color=GREY)
    step = float(f"{0.8 * bound:.0g}")
    scale = figure.colorbar(image, ax=grid, extend="both", aspect=14 * rows, ticks=[-step, 0, step])
    scale.ax.tick_params(labelsize=16, length=3, color=GREY, labelcolor=GREY)
    scale.outline.set_edgecolor(GREY)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, transparent=True, metadata={"Software": None})
    return buffer.getvalue()
