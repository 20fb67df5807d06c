r"""One or two sentences that describe a page to search engines and in previews of links.

# The summary of a page
"""

from __future__ import annotations

import re
from html import unescape

# Search engines show about this many characters.
LONGEST = 160


def first_sentences(html: str, longest: int = LONGEST) -> str:
    r"""Return the first sentences of the first paragraph that contains text, without formatting.

    A first sentence of more than `longest` characters is cut after a word.

    >>> first_sentences("<p><img></p><p>A <em>disc</em>. Its area is the rest.</p>", 20)
    'A disc.'
    """
    for paragraph in re.findall(r"<p\b[^>]*>(.*?)</p>", html, re.DOTALL):
        text = " ".join(unescape(re.sub(r"<[^>]*>", "", paragraph)).split())
        if text:
            return _shorten(text, longest)
    return ""


def _shorten(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    ends = [match.end() for match in re.finditer(r"[.!?](?= )", text[: longest + 1])]
    if ends:
        return text[: ends[-1]]
    return text[:longest].rsplit(" ", 1)[0].rstrip(",;:") + "\N{HORIZONTAL ELLIPSIS}"
