r"""The page of one run: its result as data, its figures, and a Markdown page that shows both.

# The page of a run

The site includes the page, and any Markdown viewer can show it.
"""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from experiments.engine.checkpoint import BEST
from experiments.engine.run_folder import read_metrics, write_json
from experiments.engine.state import State, best_weights, load_run_checkpoint
from experiments.reporting.pictures import Curve, loss_curve, spatial_matrices
from labml_gmlp import SpatialProjection
from labml_gmlp.storage import atomic_write

LOSS_CURVE, SPATIAL_MATRICES = "loss.svg", "spatial.png"
# The matrices as numbers, from which the figure can be redrawn.
SPATIAL_NUMBERS = "spatial.npz"
# White space that is allowed in a code block.
LINES = "\n\t"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def write_run(
    folder: Path,
    record: dict[str, Any],
    state: State,
    *,
    title: str,
    headline: str,
    curve: Curve,
    parts: Sequence[str] = (),
) -> None:
    r"""Writes the report of a run into its folder: `result.json`, the loss curve and the page.

    ## Writing

    * `folder` is the folder of the run; it holds `metrics.jsonl`
    * `record` is the content of `settings.json`
    * `state` is the state after the last step
    * `title` and `headline` are Markdown: what was run, and the result
    * `curve` is the validation metric drawn beside the training loss
    * `parts` are further Markdown paragraphs
    """
    result = {
        "validation": state.best,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "seconds": round(state.seconds, 1),
    }
    write_json(folder / "result.json", result)
    atomic_write(folder / LOSS_CURVE, loss_curve(read_metrics(folder / "metrics.jsonl"), curve))
    atomic_write(folder / "index.md", page(record, result, title, headline, parts).encode())


def page(
    record: dict[str, Any],
    result: dict[str, Any],
    title: str,
    headline: str,
    parts: Sequence[str] = (),
) -> str:
    r"""The Markdown page of a run.

    ## Page

    * `record` is the content of `settings.json`, `result` the content of `result.json`
    * `title`, `headline` and `parts` are Markdown
    """
    data = {f"data, {name}": _short(value) for name, value in record["data"].items()}
    written = [
        f"# {printable(title, '')}",
        f"{headline}, at step {result['validation']['step']} of {record['settings']['steps']}; "
        f"{result['parameters']:,} parameters, {result['seconds']:.0f} s.",
        fenced(record["environment"]["command"]),
        "## Loss",
        f"![training and validation loss over the steps]({LOSS_CURVE})",
        *parts,
        "## Settings",
        _table(record["settings"]),
        "## Where it ran",
        _table({**record["environment"], **record["launch"], **data}),
    ]
    return "\n\n".join(written) + "\n"


def matrices(
    folder: Path, model: nn.Module, checkpoint: dict[str, Any], *, causal: bool
) -> list[str]:
    r"""Draws the learned $W$ of each block that has one free matrix, and describes the figure.

    ## Spatial matrices

    * `folder` receives the figure and the matrices
    * `model` identifies the weights that are spatial matrices
    * `checkpoint` holds the best weights
    * `causal` leaves out the upper triangle, which a causal model does not use

    Returns Markdown paragraphs; an empty list if no block has such a matrix.
    """
    best = best_weights(checkpoint)
    # Other projections have a `weight` too: diagonals or kernels.
    found = [
        best[f"{name}.weight"]
        for name, part in model.named_modules()
        if isinstance(part, SpatialProjection)
    ]
    if not found:
        return []
    numbers = [(weight.tril() if causal else weight).numpy() for weight in found]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, *numbers)
    atomic_write(folder / SPATIAL_NUMBERS, buffer.getvalue())
    atomic_write(folder / SPATIAL_MATRICES, spatial_matrices(numbers))
    future = " The upper triangle would read the future; a causal model does not use it."
    return [
        "## Spatial matrices",
        "The learned $W$ of each block. Row $i$ shows how position $i$ weights each "
        f"position $j$: red is positive, blue negative.{future if causal else ''}",
        f"![the spatial matrices W, one for each block]({SPATIAL_MATRICES})",
    ]


def read_matrices(folder: Path) -> list[NDArray[np.float32]]:
    """The spatial matrices recorded in the folder of a run, first block first."""
    with np.load(folder / SPATIAL_NUMBERS) as numbers:
        return [numbers[name] for name in numbers.files]


def plain_report(
    title: Callable[[dict[str, Any]], str],
    describe: Callable[[dict[str, Any], dict[str, float]], str],
    curve: Curve,
) -> Callable[[Path, dict[str, Any], State, Fabric], None]:
    r"""The `finish` function of an experiment: writes the page of the run and prints the result.

    ## Finishing a run

    * `title` makes the title from the record of the run
    * `describe` describes the best evaluation in one line, from the record and the evaluation
    * `curve` is the validation metric drawn beside the training loss
    """

    def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
        best = load_run_checkpoint(folder / BEST)
        description = describe(record, best["best"])
        write_run(
            folder,
            record,
            state,
            title=title(record),
            headline=f"**{description}**",
            curve=curve,
            parts=matrices(folder, state.model, best, causal=False),
        )
        print(f"validation: {description} at step {best['best']['step']}\n\nrun: {folder}")

    return finish


# A vocabulary may be long; the page shows its name only.
def _short(value: Any) -> Any:
    return value.get("name", "") if isinstance(value, dict) else value


def fenced(text: str) -> str:
    """The text as a Markdown code block, in a fence longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{printable(text, LINES)}\n{fence}"


def printable(text: str, keep: str) -> str:
    """The text with control characters replaced, except those in `keep`.

    Source code holds form feeds, so samples of a model trained on it may too; file names can.
    """
    return "".join(c if c.isprintable() or c in keep else REPLACEMENT for c in text)


def _table(values: dict[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items() if value != ""]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])


# In a table `|` ends a cell, even inside code, unless escaped.
def _cell(value: Any) -> str:
    text = printable(str(value), "").replace("|", r"\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{text}{space}{ticks}"
