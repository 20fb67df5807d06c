r"""Command line: inspect a file of weights, or convert it for another system.

# Command line

    python -m labml_gmlp.weights inspect FILE
    python -m labml_gmlp.weights convert FILE OUT --to timm

`inspect` prints the system that a file comes from, the model it makes, and the name of each weight
there and here. `convert` writes the weights for another system. Both read all
[formats](formats/files.py). Pass what the weights do not record as `-o causal=true` or
`-o image_size=[224,160]`. An error is one line on stderr and exit status 2.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from labml_gmlp import weights
from labml_gmlp.weights.formats import files


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Runs a command.

    * `arguments` are those of the command line by default

    Returns the exit status: 0, or 2 for an invalid file, name or option.
    """
    parser = argparse.ArgumentParser(
        prog="python -m labml_gmlp.weights",
        description="Inspect and convert weights of gMLP models from other systems.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser(
        "inspect", help="print the system, the model and the names of the weights in a file"
    )
    change = commands.add_parser("convert", help="convert a file of weights for another system")
    for command in (show, change):
        command.add_argument(
            "file", help=f"file of weights in one of the formats {', '.join(files.WRITERS)}"
        )
        command.add_argument(
            "--part", help="entry of a checkpoint that holds the weights, such as ema"
        )
        command.add_argument(
            "-o",
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="fact that the weights do not record; the value is JSON or a word",
        )
    change.add_argument("out", help="file to write; its suffix chooses the format")
    change.add_argument(
        "--to",
        required=True,
        help="system to write for: its name or the first word of it, such as timm",
    )
    change.add_argument(
        "--approximate",
        action="store_true",
        help="allow the epsilons of norms and the form of GELU to differ",
    )
    parsed = parser.parse_args(arguments)
    try:
        options = dict(_option(text) for text in parsed.option)
        if parsed.command == "inspect":
            print(report(parsed.file, part=parsed.part, **options))
        else:
            weights.convert(
                parsed.file,
                parsed.out,
                to=parsed.to,
                approximate=parsed.approximate,
                part=parsed.part,
                **options,
            )
    except (ValueError, TypeError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def report(path: str, *, part: str | None = None, **options: Any) -> str:
    r"""Returns a report of a file of weights.

    * `path`, `part` and `options` are those of `weights.load`

    The report has the system, the configuration of the model, and each weight with its name there,
    its shape there and its name here.

    Raises `WeightsError` for a file that is missing or invalid, for weights of no known system or
    that do not match it, and for an unknown or missing option; `ValueError` for sizes that a layer
    rejects.
    """
    state = weights.unwrapped(files.read(path, part=part))
    system = weights.recognise(state)
    config = system.read_config(state, **options)
    table = system.table(config)
    # This also checks that the weights match the system.
    model = system.from_state(state, **options)
    count = sum(p.numel() for p in model.parameters())
    lines = [system.name, f"{count:,} parameters", ""]
    lines += [f"{key:16} {value}" for key, value in config.items() if value is not None]
    if system.options:
        lines += ["", "facts that the weights do not record; pass them with -o:"]
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


# `true`, `3` and `[8, 15]` are JSON; anything else is a string.
def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise weights.WeightsError(f"option must be NAME=VALUE, got {text!r}")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        return name, value
    return name, tuple(parsed) if isinstance(parsed, list) else parsed


if __name__ == "__main__":
    sys.exit(main())
