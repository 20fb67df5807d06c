r"""
# Pages, style and script as served

The style sheet and the scripts of the theme are written to be read: with comments, one rule to a
line, and names that say what they hold. Readers of a site get the same without what only an
author needs. This is for the theme's own scripts, each of them one function that shares no name
with another; scripts of a site are served as they are.

Pages lose what HTML does not ask for: the quotes around most attributes, which are a twelfth of a
source page, and the end tags of what ends where the next thing begins. Formulas whose text is their
LaTeX, most of them one letter, lose the second copy.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from string import ascii_letters

import rcssmin
import rjsmin

SUFFIXES = (".css", ".js")
NAME = r"[A-Za-z_$][\w$]*"
# A slash opens a pattern only where a value may begin, elsewhere it divides.
TOKEN = re.compile(
    r"""
    (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' )
    | (?P<template> `(?:\\.|[^`\\])*` )
    | (?P<pattern> (?<=[(,=:\[!&|?{};\n]) / (?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[\n])+ / [a-z]* )
    | (?P<end> ;(?=\}) )
    | (?P<again> ;(?:const|let)(?:[ ]|(?=[\[{])) )
    | (?P<stop> [;\n] )
    | (?P<parameter> (?<![\w$])\([A-Za-z_$][\w$]*\)(?==>) )
    | (?P<property> (?<!\.)\.[A-Za-z_$][\w$]* )
    | (?P<name> (?<![\w$])[A-Za-z_$][\w$]* )
    | (?P<open> [(\[{] )
    | (?P<close> [)\]}] )
    """,
    re.VERBOSE,
)
DECLARED = re.compile(
    rf"\b(?:const|let)(?:[ ]({NAME})|\[([\w$,]*)\])"
    rf"|(?<![\w$])({NAME})=>|\(\[?([\w$,]+)\]?\)=>"
)


# What stands behind a key: the next one, its value, or the head of a method.
KEY = re.compile(r"[,}:]|\([\w$,]*\)\{")


# Nothing in these is an attribute, whatever it looks like.
VERBATIM = r"<!--.*?-->|<(?P<kind>script|style|textarea|title)\b[^>]*>.*?</(?P=kind)\s*>"
START = re.compile(
    rf"""{VERBATIM}|(?P<tag><[a-z][\w-]*(?:\s+[^\s"'=<>/]+(?:="[^"]*")?)+\s*/?>)""",
    re.DOTALL | re.IGNORECASE,
)
# Before a slash that closes an element, a value without quotes would take the slash for its own.
QUOTED = re.compile(r"""="([^\s"'=<>`&]+)"(?!/)""")


# A paragraph ends where one of these begins, and with what it stands in, if that is one of those.
BLOCKS = "blockquote|div|dl|figure|h[1-6]|hr|ol|p|pre|table|ul"
HOLDERS = "blockquote|dd|div|figcaption|li|main|section|td"
# What an element is followed by wherever its end tag may be left out.
FOLLOWED = {
    "p": rf"<(?:{BLOCKS})\b|</(?:{HOLDERS})>",
    "li": r"<li\b|</[ou]l>",
    "t[dh]": r"<t[dh]\b|</tr>",
    "tr": r"<tr\b|</t(?:head|body)>",
    "thead": r"<tbody\b",
    "tbody": r"</table>",
}
SPARE = re.compile(
    "|".join(
        [
            VERBATIM,
            r'<math data-latex="(?P<latex>[^"]*)">(?P<inner>.*?)</math>',
            *(
                rf"(?P<end{i}></{tag}>\s*(?={next}))"
                for i, (tag, next) in enumerate(FOLLOWED.items())
            ),
        ]
    ),
    re.DOTALL,
)


def slim(html: str) -> str:
    """A page without what HTML, or the script of the theme, can do without."""

    def one(found: re.Match[str]) -> str:
        if found["latex"]:
            same = re.sub(r"<[^>]*>", "", found["inner"]) == found["latex"]
            return f"<math>{found['inner']}</math>" if same else found[0]
        return "" if found.lastgroup and found.lastgroup.startswith("end") else found[0]

    return unquoted(SPARE.sub(one, html))


def unquoted(html: str) -> str:
    """A page without the quotes that HTML does not ask for."""
    return START.sub(lambda found: QUOTED.sub(r"=\1", found[0]) if found["tag"] else found[0], html)


def minify(name: str, text: str) -> str:
    """The text of a style sheet or script, shorter; other files as they are."""
    if name.endswith(".css"):
        # `::before` and `::after` are older than their second colon.
        return re.sub(r"::(?=(?:before|after)\b)", ":", str(rcssmin.cssmin(text)))
    if name.endswith(".js"):
        return shorten(str(rjsmin.jsmin(text)))
    return text


def shorten(script: str) -> str:
    """
    Gives short names to what a script declares for itself.

    One name gets the same new name wherever it stands, so that scopes stay as they were. Names
    that are also keys of an object, or look as if they might be, are left alone.
    """
    # In order of appearance, so that a build is reproducible.
    declared = dict.fromkeys(
        name
        for found in DECLARED.finditer(script)
        for name in ",".join(filter(None, found.groups())).split(",")
        if len(name) > 2
    )
    used: set[str] = set()
    keys: set[str] = set()

    def look(name: str, before: str, behind: str) -> str:
        used.add(name)
        if before in ("{{", "{,") and KEY.match(behind):
            keys.add(name)
        return name

    _names(script, look)
    fresh = (name for name in _short_names() if name not in used)
    short = {name: next(fresh) for name in declared if name not in keys}
    short |= {"const": "let", "true": "!0", "false": "!1"}
    return _names(script, lambda name, before, behind: short.get(name, name))


def _names(script: str, change: Callable[[str, str, str], str]) -> str:
    """
    Changes each name that is no property, and drops what is not needed: a semicolon before a brace,
    brackets around the parameter of an arrow, `let` in front of what follows another `let`.

    The change sees the bracket that a name stands in with the character before the name, and all
    that follows it.
    """
    inside = [""]
    declares = [False]  # whether the statement does, in each of these brackets

    def one(found: re.Match[str]) -> str:
        if found["template"]:
            return re.sub(
                r"\$\{([^}]*)\}", lambda inner: f"${{{_names(inner[1], change)}}}", found[0]
            )
        if found["end"]:
            return ""
        if found["parameter"]:  # of an arrow, which needs no brackets around one
            return change(found[0][1:-1], "((", ")")
        if found["again"]:
            joined, declares[-1] = declares[-1], True
            return "," if joined else found[0].replace("const", "let")
        if found["stop"]:
            declares[-1] = False
        if found["open"]:
            inside.append(found[0])
            declares.append(False)
        if found["close"] and len(inside) > 1:
            inside.pop()
            declares.pop()
        if found["name"] in ("const", "let"):
            declares[-1] = True
        if not found["name"]:
            return found[0]
        before = script[: found.start()][-1:] or " "
        return change(found[0], inside[-1] + before, script[found.end() :])

    return TOKEN.sub(one, script)


def _short_names() -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(ascii_letters, repeat=length):
            name = "".join(letters)
            if name not in ("as", "do", "if", "in", "is", "of"):
                yield name
