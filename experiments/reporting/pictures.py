r"""
# Pictures

The loss curve of a run and the matrices $W$ that it learned.
"""

import io
import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

FAINT = "#c3d0e3"
COLOURS = ("#33557f", "#b3261e", "#2c6e49", "#8a5a00", "#6b4c9a", "#00707a", "#9a3d6b", "#555555")
# Logged losses in one point of the smoothed curve.
SMOOTHING = 10


@dataclass(frozen=True)
class Curve:
    r"""
    ## What is judged

    * `name` is that of a value of an evaluation, in the unit of the training loss
    * `unit` is written beside the axis
    """

    name: str
    unit: str


NATS_PER_CHARACTER = Curve("nats_per_char", "nats per character")


def loss_curve(metrics: list[dict[str, float]], curve: Curve = NATS_PER_CHARACTER) -> bytes:
    r"""
    ## Loss curve

    Training loss as logged, faint, and its moving mean; validation loss as points, the best one
    with its value. The axis leaves out the first steps, where the loss falls from $\ln$ of the
    vocabulary so fast that it would flatten all that matters.

    * `metrics` are the lines of `metrics.jsonl`
    * `curve` is the value of an evaluation to show

    Returns an SVG.
    """
    figure, axes = _loss_axes(curve)
    training = np.array([(m["step"], m["loss"]) for m in metrics if "loss" in m]).reshape(-1, 2)
    axes.plot(*training.T, color=FAINT, linewidth=0.6)
    if len(training) >= 2 * SMOOTHING:
        # The mean at a step is over the steps before it, as one would see it while training.
        kernel = np.full(SMOOTHING, 1 / SMOOTHING)
        mean = np.convolve(training[:, 1], kernel, mode="valid")
        axes.plot(training[SMOOTHING - 1 :, 0], mean, color=COLOURS[0], label="training")
    validation = _validation(metrics, curve)
    if len(validation):
        step, best = validation[validation[:, 1].argmin()]
        label = f"validation, best {best:.4f} at step {step:.0f}"
        axes.plot(*validation.T, color=COLOURS[1], marker="o", markersize=4, label=label)
    shown = np.concatenate([validation[:, 1], training[len(training) // 20 :, 1]])
    if len(shown):
        margin = 0.05 * (shown.max() - shown.min()) + 1e-3
        axes.set_ylim(shown.min() - margin, shown.max() + margin)
    return _svg(figure, axes)


def compare(runs: dict[str, list[dict[str, float]]], curve: Curve = NATS_PER_CHARACTER) -> bytes:
    r"""
    ## Several runs

    The validation loss of each over the steps.

    * `runs` are the lines of `metrics.jsonl` by the name to show
    * `curve` is the value of an evaluation to show

    Returns an SVG.
    """
    figure, axes = _loss_axes(curve)
    for colour, (name, metrics) in zip(COLOURS, runs.items(), strict=False):
        validation = _validation(metrics, curve)
        label = f"{name}, best {validation[:, 1].min():.4f}"
        axes.plot(*validation.T, color=colour, marker="o", markersize=4, label=label)
    return _svg(figure, axes)


def spatial_matrices(weights: list[NDArray[np.float32]]) -> bytes:
    r"""
    ## The learned $W$

    One panel for each block, first block first. Row $i$ shows how much position $i$ reads from each
    position $j$: red adds, blue subtracts, white ignores. Each panel has its own scale, as the
    blocks differ in size by far; the largest $|W_{ij}|$ is written above it.

    * `weights` are the matrices, `[n, n]` each

    Returns a PNG.
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
        axes.imshow(weight, cmap="RdBu_r", vmin=-largest or -1, vmax=largest or 1)
        axes.set_title(f"block {block + 1}, max {largest:.2g}", fontsize=9)
        axes.tick_params(labelsize=7, length=2)
        axes.set_xlabel("$j$, read", fontsize=8)
        axes.set_ylabel("$i$, written", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _validation(metrics: list[dict[str, float]], curve: Curve) -> NDArray[np.float64]:
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
    buffer = io.BytesIO()
    # Without a fixed salt and without a date, the same curve would give another file each time.
    with mpl.rc_context({"svg.hashsalt": "loss", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
