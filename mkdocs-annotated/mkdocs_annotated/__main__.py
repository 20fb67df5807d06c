r"""The command `mkdocs-annotated`.

# The command

```
mkdocs-annotated trace [--config-file mkdocs.yml] [MODULE ...]
```

Runs the examples of the configuration and writes the shapes that they produce. It writes nothing
unless all examples succeed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mkdocs.config import load_config
from mkdocs.exceptions import MkDocsException

from mkdocs_annotated.beside.shapes import write_notes
from mkdocs_annotated.beside.trace import trace_example
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.plugin import AnnotatedPlugin
from mkdocs_annotated.source.files import find_modules
from mkdocs_annotated.source.scan import read_source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after a one-line error message."""
    parser = argparse.ArgumentParser("mkdocs-annotated", description="Tools of mkdocs-annotated.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "trace",
        help="run the examples and write the shapes shown beside the code",
        description="Run the examples and write the shapes shown beside the code.",
    )
    command.add_argument(
        "--config-file",
        "-f",
        default="mkdocs.yml",
        metavar="FILE",
        help="configuration of MkDocs (default: mkdocs.yml)",
    )
    command.add_argument(
        "modules", nargs="*", metavar="MODULE", help="modules to trace (default: all)"
    )
    options = parser.parse_args(arguments)
    try:
        for line in trace_modules(Path(options.config_file), options.modules):
            print(line)
    except (SourceError, MkDocsException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def trace_modules(config_file: Path, names: Sequence[str]) -> list[str]:
    """Trace modules, write their shapes, and return one line about each file.

    * `names` are paths of modules; if empty, all modules with an example are traced

    Raises `MkDocsException` if the configuration does not exist, is invalid or does not name the
    plugin, or if a module, an example or a source folder does not exist. Raises `SourceError` if a
    file is not valid Python or if `trace_example` raises it.
    """
    if not config_file.is_file():
        raise MkDocsException(f"no configuration file {str(config_file)!r}")
    config = load_config(str(config_file))
    plugins = [each for each in config.plugins.values() if isinstance(each, AnnotatedPlugin)]
    if not plugins:
        raise MkDocsException(f"{config_file} does not name the plugin annotated")
    plugin = plugins[0]
    plugin.base = config_file.resolve().parent
    folders = plugin.config.source_folders(plugin.base).values()
    sources = (source for folder in folders for source in find_modules(folder, plugin.base))
    try:
        traced = plugin.artifact_paths().traced_modules(sources)
    except ValueError as error:
        raise MkDocsException(str(error)) from error
    known = {each.source.display_path: each for each in traced}
    asked = [Path(os.path.normpath(name)).as_posix() for name in names] or [*known]
    for name in asked:
        if name not in known:
            raise MkDocsException(f"{name} has no example in plugins.annotated.shapes.examples")
    found = []
    for name in asked:
        module = known[name]
        notes = trace_example(
            module.source.path,
            read_source(module.source.path, name),
            name,
            module.example,
            module.example_display_path,
            [*folders],
        )
        found.append((module, notes))
    for module, notes in found:
        write_notes(module, notes)
    return [f"{module.data_display_path}: {len(notes)} lines" for module, notes in found]


if __name__ == "__main__":
    sys.exit(main())
