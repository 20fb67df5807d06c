r"""
# Style and script as served

The style sheet and the scripts of the theme are written to be read: with comments, and one rule
to a line. Readers of a site get the same text without what only an author needs.
"""

from __future__ import annotations

import rcssmin
import rjsmin

SUFFIXES = (".css", ".js")


def minify(name: str, text: str) -> str:
    """The text of a style sheet or script, shorter; other files as they are."""
    if name.endswith(".css"):
        return str(rcssmin.cssmin(text))
    if name.endswith(".js"):
        return str(rjsmin.jsmin(text))
    return text
