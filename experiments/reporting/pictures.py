r"""Figures of runs: loss curves and the learned matrices $W$.

# Pictures

The same data gives the same file, byte for byte, on one machine.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

FAINT = "#c3d0e3"
COLOURS = ("#33557f", "#b3261e", "#2c6e49", "#8a5a00", "#6b4c9a", "#00707a", "#9a3d6b", "#555555")
SMOOTHING = 10  # logged losses in one point of the moving average

Metrics = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Curve:
    r"""The validation metric that a figure shows.

    * `name` is its key in an evaluation, in the unit of the training loss
    * `unit` is the label of the axis
    """

    name: str
    unit: str


NATS_PER_CHARACTER = Curve("nats_per_char", "nats per character")


def loss_curve(metrics: Metrics, curve: Curve = NATS_PER_CHARACTER) -> bytes:
    r"""Training and validation loss over the steps of one run, as an SVG.

    ## Loss curve

    The logged training loss is faint, its moving average solid. Points mark the validation loss,
    and the legend gives the best one. The axis is scaled without the first 5 % of the steps, where
    the loss falls so fast that the rest would look flat.

    * `metrics` are the lines of `metrics.jsonl`
    * `curve` is the validation metric
    """
    figure, axes = _loss_axes(curve)
    training = np.array([(m["step"], m["loss"]) for m in metrics if "loss" in m]).reshape(-1, 2)
    axes.plot(*training.T, color=FAINT, linewidth=0.6)
    if len(training) >= 2 * SMOOTHING:
        # The average at a step covers the steps before it, as one would see it while training.
        kernel = np.full(SMOOTHING, 1 / SMOOTHING)
        mean = np.convolve(training[:, 1], kernel, mode="valid")
        axes.plot(training[SMOOTHING - 1 :, 0], mean, color=COLOURS[0], label="training")
    validation = _validation(metrics, curve)
    if len(validation):
        step, best = validation[validation[:, 1].argmin()]
        label = f"validation, best {best:.4f} at step {step:.0f}"
        axes.plot(*validation.T, color=COLOURS[1], marker="o", markersize=4, label=label)
    visible = np.concatenate([validation[:, 1], training[len(training) // 20 :, 1]])
    if len(visible):
        margin = 0.05 * (visible.max() - visible.min()) + 1e-3
        axes.set_ylim(visible.min() - margin, visible.max() + margin)
    return _svg(figure, axes)


def compare(runs: Mapping[str, Metrics], curve: Curve = NATS_PER_CHARACTER) -> bytes:
    r"""The validation loss of several runs over their steps, as an SVG.

    ## Comparison

    * `runs` are the evaluations of each run, by the name in the legend
    * `curve` is the validation metric
    """
    figure, axes = _loss_axes(curve)
    for colour, (name, metrics) in zip(COLOURS, runs.items(), strict=False):
        validation = _validation(metrics, curve)
        label = f"{name}, best {validation[:, 1].min():.4f}"
        axes.plot(*validation.T, color=colour, marker="o", markersize=4, label=label)
    return _svg(figure, axes)


def spatial_matrices(weights: list[NDArray[np.float32]]) -> bytes:
    r"""The learned matrix $W$ of each block, as a PNG.

    ## The learned $W$

    Row $i$ shows how position $i$ weights each position $j$: red is positive, blue negative, white
    zero. The scale differs between blocks by an order of magnitude, so each panel has its own; the
    title gives the largest $|W_{ij}|$.

    * `weights` are the matrices, `[n, n]` each, first block first
    """
    columns = min(4, len(weights))
    rows = math.ceil(len(weights) / columns)
    figure = Figure(figsize=(2.3 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for block, weight in enumerate(weights):
        axes = grid.flat[block]
        axes.axis("on")
        largest = float(np.abs(weight).max())
        bound = largest or 1
        # Without interpolation every pixel has the colour of one entry, and the file is smaller.
        axes.imshow(weight, cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
        axes.set_title(f"block {block + 1}, max {largest:.2g}", fontsize=9)
        axes.tick_params(labelsize=7, length=2)
        axes.set_xlabel("$j$, read", fontsize=8)
        axes.set_ylabel("$i$, written", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _validation(metrics: Metrics, curve: Curve) -> NDArray[np.float64]:
    points = [(m["step"], m[curve.name]) for m in metrics if curve.name in m]
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _loss_axes(curve: Curve) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("step")
    axes.set_ylabel(curve.unit)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure, axes: Axes) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return to_svg(figure, "loss")


def to_svg(figure: Figure, salt: str) -> bytes:
    """The figure as an SVG without random identifiers and without a date, so it is reproducible."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
