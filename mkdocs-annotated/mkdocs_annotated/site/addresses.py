r"""
# From files to addresses

Links as an author writes them, between files, and as a reader needs them, between pages.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

FOLDER_PAGES = ("index.md", "README.md", "__init__.py")
# On both, HEAD is the branch that a visitor sees first.
FILE_ON_HOST = {
    "github.com": "/blob/HEAD/{path}",
    "gitlab.com": "/-/blob/HEAD/{path}",
}


def linker(uris: Mapping[str, str], uri: str, path: str | None) -> Callable[[str], str]:
    """
    Turns links between files on disk into links between pages.

    `[encoder](encoder.py)` and `[results](../results/digits.md)` are right where
    the file is read in an editor or on a code host; here the same words lead to the page.

    * `uris` are the pages by the absolute path of their file
    * `uri` is the page with the links, and `path` its file, if it has one
    """

    def link(url: str) -> str:
        parts = urlsplit(url)
        if path is None or parts.scheme or parts.netloc or not parts.path:
            return url
        if parts.path.startswith("/"):
            return url
        target = Path(os.path.normpath(Path(path).parent / unquote(parts.path)))
        candidates = [str(each) for each in (target, *(target / n for n in FOLDER_PAGES))]
        found = next((uris[each] for each in candidates if each in uris), None)
        if found is None:
            return url
        relative = posixpath.relpath(found, posixpath.dirname(uri) or ".")
        return urlunsplit(("", "", quote(relative), parts.query, parts.fragment))

    return link


def on_code_host(pattern: str, repository: str, path: str) -> str:
    """
    Where a file stands on a code host; empty if that is not known.

    * `pattern` has `{path}` and `{line}` in it; empty takes that of the host of `repository`
    """
    repository = repository.removesuffix("/")
    if not pattern and repository:
        host = urlsplit(repository).hostname or ""
        pattern = repository + FILE_ON_HOST[host] if host in FILE_ON_HOST else ""
    return pattern.replace("{path}", quote(path)).replace("{line}", "1")
