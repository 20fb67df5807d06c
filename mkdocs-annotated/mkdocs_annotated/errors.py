r"""`SourceError`, a mistake in a file that the author of the site wrote.

# Errors with file and line

Every other module of the renderer may import this one. Modules that do not import MkDocs raise
`SourceError`, and the [plugin](plugin.py) turns it into MkDocs' `PluginError`.
"""

from __future__ import annotations


class SourceError(Exception):
    r"""A mistake in a source file, printed as `path:line: message` so that editors can jump to it.

    * `path` is the file, relative to the configuration file
    * `line` counts from one
    * `message` says which rule is broken and by which value

    >>> print(SourceError("shapes/circle.py", 3, "the formula is empty"))
    shapes/circle.py:3: the formula is empty
    """

    def __init__(self, path: str, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line
        self.message = message
