r"""
# Pictures

The loss curve of a run and the matrices $W$ that it learned.
"""

import io
import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

TRAINING, VALIDATION = "#9db4d3", "#b3261e"
# Logged losses in one point of the smoothed curve.
SMOOTHING = 10


def loss_curve(metrics: list[dict[str, float]]) -> bytes:
    r"""
    ## Loss curve

    Training loss as logged, faint, and its moving mean; validation loss as points, the best one
    with its value. The axis leaves out the first steps, where the loss falls from $\ln$ of the
    vocabulary so fast that it would flatten all that matters.

    * `metrics` are the lines of `metrics.jsonl`

    Returns an SVG.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    training = np.array([(m["step"], m["loss"]) for m in metrics if "loss" in m]).reshape(-1, 2)
    axes.plot(*training.T, color=TRAINING, linewidth=0.6, alpha=0.7)
    if len(training) >= 2 * SMOOTHING:
        # The mean at a step is over the steps before it, as one would see it while training.
        kernel = np.full(SMOOTHING, 1 / SMOOTHING)
        mean = np.convolve(training[:, 1], kernel, mode="valid")
        axes.plot(training[SMOOTHING - 1 :, 0], mean, color="#33557f", label="training")
    validation = [(m["step"], m["nats_per_char"]) for m in metrics if "nats_per_char" in m]
    if validation:
        step, best = min(validation, key=lambda point: point[1])
        axes.plot(
            *zip(*validation, strict=True),
            color=VALIDATION,
            marker="o",
            markersize=4,
            label=f"validation, best {best:.4f} at step {step:.0f}",
        )
    shown = [value for _, value in validation] + list(training[len(training) // 20 :, 1])
    if shown:
        low, high = min(shown), max(shown)
        axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
    axes.set_xlabel("step")
    axes.set_ylabel("nats per character")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    buffer = io.BytesIO()
    # Without these the same curve would give another file each time.
    with mpl.rc_context({"svg.hashsalt": "loss", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def spatial_matrices(weights: list[Tensor]) -> bytes:
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
        largest = float(weight.abs().max())
        axes.imshow(weight.numpy(), cmap="RdBu_r", vmin=-largest or -1, vmax=largest or 1)
        axes.set_title(f"block {block + 1}, max {largest:.2g}", fontsize=9)
        axes.tick_params(labelsize=7, length=2)
        axes.set_xlabel("$j$, read", fontsize=8)
        axes.set_ylabel("$i$, written", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
