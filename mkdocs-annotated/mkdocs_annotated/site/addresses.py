r"""Turn links between files into links between pages, and file paths into URLs on a code host.

# Addresses
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

FOLDER_PAGES = ("index.md", "README.md", "__init__.py")
# `HEAD` is the default branch on both.
FILE_ON_HOST = {
    "github.com": "/blob/HEAD/{path}",
    "gitlab.com": "/-/blob/HEAD/{path}",
}


def link_resolver(uris: Mapping[str, str], uri: str, path: str | None) -> Callable[[str], str]:
    """Return a function that turns a link between files into a link between pages.

    `[encoder](encoder.py)` and `[results](../results/digits.md)` work in an editor and on a code
    host. The returned function makes them work on the site. It leaves all other links unchanged.

    * `uris` maps the absolute path of a file to the URI of its page
    * `uri` is the page that contains the links
    * `path` is the file of that page, or `None` if it was generated
    """

    def resolve(url: str) -> str:
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

    return resolve


def code_host_url(pattern: str, repository: str, path: str) -> str:
    """Return the URL of a file on a code host, or an empty string if it is unknown.

    * `pattern` contains `{path}` and `{line}`; if empty, the pattern of GitHub or GitLab is used
    * `repository` is the URL of the repository
    """
    repository = repository.removesuffix("/")
    if not pattern and repository:
        host = urlsplit(repository).hostname or ""
        pattern = repository + FILE_ON_HOST[host] if host in FILE_ON_HOST else ""
    return pattern.replace("{path}", quote(path)).replace("{line}", "1")
