r"""
# The report of a run

What a run did and found: its result as data, its pictures, and one Markdown page that holds them
together. The site shows the page; any Markdown viewer does too.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.checkpoint import State, load_run_checkpoint
from experiments.pictures import loss_curve, spatial_matrices
from experiments.records import read_metrics, write_json
from experiments.vocabulary import UNKNOWN
from labml_gmlp.storage import write_aside

LOSS_CURVE, SPATIAL_MATRICES = "loss.svg", "spatial.png"
# Where a gMLP model keeps its matrices $W$, by the end of their names.
SPATIAL_WEIGHT = "sgu.projection.weight"
# What may stand in a block of code besides printable characters.
LINES = "\n\t"


def write_report(folder: Path, record: dict[str, Any], state: State, sample: str) -> None:
    r"""
    ## Writing it

    * `folder` is the run's, with its metrics and its best checkpoint
    * `record` is the content of `settings.json`
    * `state` is that after the last step
    * `sample` is generated text
    """
    result = {
        "validation": state.best,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "seconds": round(state.seconds, 1),
    }
    write_json(folder / "result.json", result)
    write_aside(folder / "sample.txt", sample.encode())
    write_aside(folder / LOSS_CURVE, loss_curve(read_metrics(folder / "metrics.jsonl")))
    best = load_run_checkpoint(folder / "best.pt")["model"]
    weights = [best[name].tril() for name in best if _is_matrix(name, best[name])]
    if weights:
        write_aside(folder / SPATIAL_MATRICES, spatial_matrices(weights))
    write_aside(folder / "index.md", page(record, result, sample, bool(weights)).encode())


# Other projections keep diagonals, kernels or several heads under the same name.
def _is_matrix(name: str, weight: Tensor) -> bool:
    return name.endswith(SPATIAL_WEIGHT) and weight.dim() == 2 and len(set(weight.shape)) == 1


def page(record: dict[str, Any], result: dict[str, Any], sample: str, has_spatial: bool) -> str:
    r"""
    ## Page

    * `record` is the content of `settings.json`, `result` that of `result.json`
    * `sample` is generated text
    * `has_spatial` says whether there are matrices $W$ to show

    Returns Markdown.
    """
    settings, where = record["settings"], record["environment"]
    best = result["validation"]
    parts = [
        f"# {settings['layer']} on {_printable(record['corpus']['name'], '')}",
        f"**{best['nats_per_char']:.4f} nats per character** ({best['bits_per_char']:.4f} bits, "
        f"perplexity {best['perplexity']:.3f}) over the whole validation part, at step "
        f"{best['step']} of {settings['steps']}; {result['parameters']:,} parameters, "
        f"{result['seconds']:.0f} s.",
        _fenced(where["command"]),
        "## Loss",
        f"![training and validation loss over the steps]({LOSS_CURVE})",
    ]
    if has_spatial:
        parts += [
            "## What the blocks read",
            "The learned $W$ of each block. Row $i$ shows what position $i$ reads from each "
            "position $j$: red adds, blue subtracts. The upper triangle is the future, which a "
            "causal model does not read.",
            f"![the spatial matrices W, one for each block]({SPATIAL_MATRICES})",
        ]
    parts += [
        "## Sample",
        _fenced(sample),
        "## Settings",
        _table(settings),
        "## Where it ran",
        _table({**where, "corpus SHA-256": record["corpus"]["sha256"]}),
    ]
    return "\n\n".join(parts) + "\n"


# A fence longer than any run of backticks in the text cannot be closed by it.
def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{_printable(text, LINES)}\n{fence}"


# Form feeds and the like occur in source code, and so in samples of it, and even in names of files;
# a page must not hold them.
def _printable(text: str, keep: str) -> str:
    return "".join(c if c.isprintable() or c in keep else UNKNOWN for c in text)


def _table(values: dict[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items() if value != ""]
    return "\n".join(["| name | value |", "| --- | --- |", *rows])


# In a table a bar ends the cell, in code too, unless a backslash stands before it.
def _cell(value: Any) -> str:
    text = _printable(str(value), "").replace("|", r"\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{text}{space}{ticks}"
