r"""
# The command

```
mkdocs-annotated trace [--config-file mkdocs.yml] [MODULE ...]
```

Runs the examples that the configuration names and writes the shapes they made. Everything is
traced before anything is written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mkdocs.config import load_config
from mkdocs.exceptions import MkDocsException

from mkdocs_annotated.beside import shapes
from mkdocs_annotated.beside.trace import run
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.plugin import AnnotatedPlugin
from mkdocs_annotated.source.files import find_modules
from mkdocs_annotated.source.scan import read_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the status: 0, or 2 after one line about what is wrong."""
    parser = argparse.ArgumentParser("mkdocs-annotated", description="Tools of mkdocs-annotated.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "trace",
        help="run the examples and write the shapes shown beside the code",
        description="Run the examples and write the shapes shown beside the code.",
    )
    command.add_argument("--config-file", "-f", default="mkdocs.yml", metavar="FILE")
    command.add_argument("modules", nargs="*", metavar="MODULE", help="all by default")
    options = parser.parse_args(arguments)
    try:
        for line in trace(Path(options.config_file), options.modules):
            print(line)
    except (SourceError, MkDocsException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def trace(config_file: Path, names: Sequence[str]) -> list[str]:
    """
    Traces the named modules, or all that have an example, and returns what was written.

    Raises `MkDocsException` for a wrong configuration, `SourceError` for an example that fails.
    """
    if not config_file.is_file():
        raise MkDocsException(f"no configuration file {str(config_file)!r}")
    config = load_config(str(config_file))
    plugins = [each for each in config.plugins.values() if isinstance(each, AnnotatedPlugin)]
    if not plugins:
        raise MkDocsException(f"{config_file} does not name the plugin annotated")
    plugin = plugins[0]
    plugin.base = config_file.resolve().parent
    folders = plugin.source_folders().values()
    sources = (source for folder in folders for source in find_modules(folder, plugin.base))
    try:
        known = {
            each.source.display_path: each for each in plugin.configured_beside().traced(sources)
        }
    except ValueError as error:
        raise MkDocsException(str(error)) from error
    asked = [Path(os.path.normpath(name)).as_posix() for name in names] or [*known]
    for name in asked:
        if name not in known:
            raise MkDocsException(f"{name} has no example in plugins.annotated.shapes.examples")
    found = []
    for name in asked:
        traced = known[name]
        source = read_source(traced.source.path, name)
        notes = run(
            traced.source.path, source, name, traced.example, traced.example_shown, [*folders]
        )
        found.append((traced, notes))
    for traced, notes in found:
        shapes.write(traced, notes)
    return [f"{traced.data_shown}: {len(notes)} lines" for traced, notes in found]


if __name__ == "__main__":
    sys.exit(main())
