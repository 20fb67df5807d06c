r"""
# The report of a run

What a run did and found: its result as data, its pictures, and one Markdown page that holds them
together. The site shows the page; any Markdown viewer does too.
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
from experiments.text.vocabulary import UNKNOWN
from labml_gmlp import SpatialProjection
from labml_gmlp.storage import atomic_write

LOSS_CURVE, SPATIAL_MATRICES = "loss.svg", "spatial.png"
# The matrices as numbers, from which the picture can be drawn again.
SPATIAL_NUMBERS = "spatial.npz"
# What may stand in a block of code besides printable characters.
LINES = "\n\t"


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
    r"""
    ## Writing it

    * `folder` is the run's, with its metrics
    * `record` is the content of `settings.json`
    * `state` is that after the last step
    * `title` and `headline` say what was run and what came out, in Markdown
    * `curve` is what is drawn beside the training loss
    * `parts` are further paragraphs in Markdown
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
    r"""
    ## Page

    * `record` is the content of `settings.json`, `result` that of `result.json`
    * `title`, `headline` and `parts` are Markdown

    Returns Markdown.
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
    r"""
    ## What the blocks read

    Draws the learned $W$ of each block, where it is one free matrix.

    * `folder` receives the picture
    * `model` is the run's, which knows what each of its weights is
    * `checkpoint` is that of the run with its best weights
    * `causal` hides the triangle that a causal model does not read

    Returns the paragraphs about it, none if there is nothing to draw.
    """
    best = best_weights(checkpoint)
    # Other projections keep diagonals, kernels or several heads under the same name.
    found = [
        best[f"{name}.weight"]
        for name, part in model.named_modules()
        if isinstance(part, SpatialProjection) and part.weight.dim() == 2
    ]
    if not found:
        return []
    numbers = [(weight.tril() if causal else weight).numpy() for weight in found]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, *numbers)
    atomic_write(folder / SPATIAL_NUMBERS, buffer.getvalue())
    atomic_write(folder / SPATIAL_MATRICES, spatial_matrices(numbers))
    future = " The upper triangle is the future, which a causal model does not read."
    return [
        "## What the blocks read",
        "The learned $W$ of each block. Row $i$ shows what position $i$ reads from each "
        f"position $j$: red adds, blue subtracts.{future if causal else ''}",
        f"![the spatial matrices W, one for each block]({SPATIAL_MATRICES})",
    ]


def read_matrices(folder: Path) -> list[NDArray[np.float32]]:
    """The matrices that a run wrote, first block first."""
    with np.load(folder / SPATIAL_NUMBERS) as numbers:
        return [numbers[name] for name in numbers.files]


def plain_report(
    title: Callable[[dict[str, Any]], str],
    describe: Callable[[dict[str, Any], dict[str, float]], str],
    curve: Curve,
) -> Callable[[Path, dict[str, Any], State, Fabric], None]:
    r"""
    ## The report of most experiments

    * `title` names a run by its record
    * `describe` writes its best evaluation in a line, from the record and the evaluation
    * `curve` is what is drawn beside the training loss

    Returns what an experiment does at the end: it writes the report, with the matrices of the best
    weights, and prints the result.
    """

    def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
        best = load_run_checkpoint(folder / BEST)
        words = describe(record, best["best"])
        write_run(
            folder,
            record,
            state,
            title=title(record),
            headline=f"**{words}**",
            curve=curve,
            parts=matrices(folder, state.model, best, causal=False),
        )
        print(f"validation: {words} at step {best['best']['step']}\n\nrun: {folder}")

    return finish


# A vocabulary has as many entries as it has; the page says its name.
def _short(value: Any) -> Any:
    return value.get("name", "") if isinstance(value, dict) else value


# A fence longer than any run of backticks in the text cannot be closed by it.
def fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{printable(text, LINES)}\n{fence}"


# Form feeds and the like occur in source code, and so in samples of it, and even in names of files;
# a page must not hold them.
def printable(text: str, keep: str) -> str:
    return "".join(c if c.isprintable() or c in keep else UNKNOWN for c in text)


def _table(values: dict[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items() if value != ""]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])


# In a table a bar ends the cell, in code too, unless a backslash stands before it.
def _cell(value: Any) -> str:
    text = printable(str(value), "").replace("|", r"\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{text}{space}{ticks}"
