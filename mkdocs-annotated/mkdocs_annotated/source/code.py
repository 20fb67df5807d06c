r"""Colour code and wrap names in links, without changing a character.

# Coloured code

The lexer reads the whole file, because it would misread a line that begins inside a string. The
result is split into lines afterwards. Tokens keep their columns, so that links and symbols can be
attached to names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from pygments.lexers.python import PythonLexer
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    String,
    _TokenType,
)

# CSS classes by Pygments token type, with Pygments' names, so that code in prose shares the style
# sheet. Types of one colour share a class, so that a string with braces is one element.
KINDS: tuple[tuple[_TokenType, str], ...] = (
    (Keyword.Constant, "m"),
    (Keyword, "k"),
    (Operator.Word, "k"),
    (Name.Function, "nf"),
    (Name.Class, "nc"),
    (Name.Decorator, "nd"),
    (Name.Builtin.Pseudo, ""),
    (Name.Builtin, "nb"),
    (Name.Exception, "nb"),
    (String, "s"),
    (Number, "m"),
    (Comment, "c"),
)
LEXER = PythonLexer(stripnl=False, ensurenl=False)


@dataclass(frozen=True)
class Token:
    """A part of a line; `kind` is its CSS class, or empty for plain text."""

    column: int
    text: str
    kind: str


# A file is shown on its own page and, in part, on pages that compare it.
@functools.lru_cache(maxsize=512)
def highlight(source: str) -> tuple[tuple[Token, ...], ...]:
    r"""Return the tokens of each line; joined, they are the source without line breaks.

    * `source` has `\n` as its only line break

    >>> to_html(highlight("return x")[0])
    '<i>return</i> x'
    """
    lines: list[list[Token]] = [[]]
    column = 0
    for _, token_type, text in LEXER.get_tokens_unprocessed(source):
        kind = _kind(token_type)
        for i, part in enumerate(text.split("\n")):
            if i:
                lines.append([])
                column = 0
            if part:
                _append(lines[-1], Token(column, part, kind))
                column += len(part)
    if lines[-1] == []:
        lines.pop()
    return tuple(map(tuple, lines))


@dataclass(frozen=True)
class Mark:
    r"""A link or a symbol on a name of a line.

    * `column` and `end` count characters from zero; the marks of a line do not overlap
    * `href` is the address of the definition, or empty
    * `symbol` is the id of the paper's symbol that the name stands for, or empty
    """

    column: int
    end: int
    href: str = ""
    symbol: str = ""


def to_html(tokens: tuple[Token, ...], marks: Iterable[Mark] = ()) -> str:
    """Return the HTML of a line, with marked names inside links or `<i data-s>` elements."""
    ordered = sorted(marks, key=lambda mark: mark.column)
    out = []
    for mark, token in _split_at_marks(tokens, ordered):
        text = escape(token.text, quote=False).replace("&gt;", ">")
        # Keywords are the most frequent tokens, so they have no class.
        css_class = "" if token.kind == "k" else f' class="{token.kind}"'
        inner = f"<i{css_class}>{text}</i>" if token.kind else text
        out.append(_wrap(mark, inner) if mark else inner)
    return "".join(out)


def slice_tokens(tokens: tuple[Token, ...], start: int, end: int) -> tuple[Token, ...]:
    """Return the tokens between two columns of a line."""
    return tuple(
        _slice(token, max(start, token.column), min(end, token.column + len(token.text)))
        for token in tokens
        if token.column < end and token.column + len(token.text) > start
    )


def _split_at_marks(
    tokens: tuple[Token, ...], marks: Sequence[Mark]
) -> Iterator[tuple[Mark | None, Token]]:
    """Split tokens where marks begin and end, and yield each piece with its mark."""
    for token in tokens:
        at, end = token.column, token.column + len(token.text)
        for mark in marks:
            if mark.end <= at or mark.column >= end:
                continue
            stop = min(mark.end, end)
            if mark.column > at:
                yield None, _slice(token, at, mark.column)
                at = mark.column
            yield mark, _slice(token, at, stop)
            at = stop
        if at < end:
            yield None, _slice(token, at, end)


def _slice(token: Token, start: int, end: int) -> Token:
    text = token.text[start - token.column : end - token.column]
    return Token(start, text, token.kind)


def _wrap(mark: Mark, inner: str) -> str:
    symbol = f' data-s="{escape(mark.symbol, quote=True)}"' if mark.symbol else ""
    if mark.href:
        return f'<a href="{escape(mark.href, quote=True)}"{symbol}>{inner}</a>'
    return f"<i{symbol}>{inner}</i>"


def _append(line: list[Token], token: Token) -> None:
    """Append a token; join it with tokens of the same kind, across white space, for small pages."""
    if line:
        last = line[-1]
        if last.kind == token.kind:
            line[-1] = Token(last.column, last.text + token.text, last.kind)
            return
        if len(line) > 1 and line[-2].kind == token.kind and last.text.isspace():
            first = line[-2]
            line[-2:] = [Token(first.column, first.text + last.text + token.text, first.kind)]
            return
    line.append(token)


@functools.cache
def _kind(token_type: _TokenType) -> str:
    for family, kind in KINDS:
        if token_type[: len(family)] == family:
            return kind
    return ""
