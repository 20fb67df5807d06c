r"""
# From the command line

    python -m labml_gmlp.weights inspect FILE
    python -m labml_gmlp.weights convert FILE OUT --to timm

The first says whose weights are in a file, what model they make and what each is called here; the
second writes them for another system. Both read all [formats](formats/files.py), and what stands in
no weight is given as `-o causal=true` or `-o image_size=[224,160]`. What goes wrong takes one line
on stderr and ends with status 2.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from labml_gmlp import weights
from labml_gmlp.weights.formats import files


def main(arguments: Sequence[str] | None = None) -> int:
    r"""
    Returns the exit status: 0, or 2 where a file, a name or an option is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m labml_gmlp.weights", description=_TEXT)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("inspect", help="say whose weights these are, and what they make")
    change = commands.add_parser("convert", help="write weights for another system")
    for command in (show, change):
        command.add_argument("file", help="weights in any format")
        command.add_argument("--part", help="the entry of a checkpoint that holds the weights")
        command.add_argument(
            "-o",
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="what stands in no weight; the value in JSON",
        )
    change.add_argument("out", help="the file to write; its ending says which format")
    change.add_argument("--to", required=True, help="the system that shall read it")
    change.add_argument(
        "--approximate", action="store_true", help="let constants of norms and GELU differ there"
    )
    given = parser.parse_args(arguments)
    try:
        options = dict(_option(text) for text in given.option)
        if given.command == "inspect":
            print(report(given.file, part=given.part, **options))
        else:
            weights.convert(
                given.file,
                given.out,
                to=given.to,
                approximate=given.approximate,
                part=given.part,
                **options,
            )
    # One sentence is what these were written for; a traceback would bury it.
    except (ValueError, TypeError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def report(path: str, *, part: str | None = None, **options: Any) -> str:
    r"""
    ## What a file holds

    Returns the system, what is true of the model, and each weight: its name and shape there, and
    its name here.

    Raises `WeightsError` as `weights.load` does, as weights that do not fit are no model.
    """
    state = weights.unwrapped(files.read(path, part=part))
    system = weights.recognise(state)
    config = system.read_config(state, **options)
    table = system.table(config)
    # Reading them is how to know that they fit.
    model = system.model(state, **options)
    count = sum(p.numel() for p in model.parameters())
    lines = [system.name, f"{count:,} parameters", ""]
    lines += [f"{key:16} {value}" for key, value in config.items() if value is not None]
    if system.options:
        lines += ["", "not in the weights, to be given with -o:"]
        lines += [f"{name:16} {meaning}" for name, meaning in system.options.items()]
    if system.notes:
        lines += ["", system.notes]
    rows = [("there", "shape", "here")]
    for _, ours, theirs in table.names():
        if theirs in state:
            rows.append((theirs, str(list(state[theirs].shape)), ours))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += ["", *(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows)]
    return "\n".join(lines)


# `true`, `3` and `[8, 15]` are JSON; anything else is a word.
def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise weights.WeightsError(f"option must be NAME=VALUE, got {text!r}")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        return name, value
    return name, tuple(parsed) if isinstance(parsed, list) else parsed


_TEXT = "Read and convert weights of gMLP models from other systems."

if __name__ == "__main__":
    sys.exit(main())
