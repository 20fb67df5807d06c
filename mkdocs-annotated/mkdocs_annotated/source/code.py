r"""
# Colours for code

The whole file is lexed once and split by lines afterwards: a lexer that meets the middle of a
string by itself takes it for code. Tokens stay data, with the column they begin at, because
later layers will want to point at single names in them.
"""

from __future__ import annotations

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

# The class names are those of Pygments, so that one style sheet serves code in prose as well.
# Text without a class is most of the text, and costs nothing; keywords, the most frequent kind, are
# elements without a class. Kinds of one colour are one kind, so that a string with braces in it
# stays one element.
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
    """A stretch of one line; `column` counts characters from zero, `kind` may be empty."""

    column: int
    text: str
    kind: str


def highlight(source: str) -> tuple[tuple[Token, ...], ...]:
    r"""
    The tokens of each line, without line ends; joined they are `source` again.

    * `source` has `\n` as its only line end
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
    r"""
    A name in a line that is more than text.

    * `column` and `end` count characters from zero; marks of one line do not overlap
    * `href` is where the name is defined, `symbol` the sign of the paper it stands for; either may
      be empty
    """

    column: int
    end: int
    href: str = ""
    symbol: str = ""


def to_html(tokens: tuple[Token, ...], marks: Iterable[Mark] = ()) -> str:
    """Tokens of one line as HTML, with the marks around their names."""
    edges = sorted(marks, key=lambda mark: mark.column)
    out = []
    for mark, token in _cut(tokens, edges):
        text = escape(token.text, quote=False).replace("&gt;", ">")  # which needs no escape
        name = "" if token.kind == "k" else f' class="{token.kind}"'
        inner = f"<i{name}>{text}</i>" if token.kind else text
        out.append(_around(mark, inner) if mark else inner)
    return "".join(out)


def slice_tokens(tokens: tuple[Token, ...], start: int, end: int) -> tuple[Token, ...]:
    """What lies between two columns of a line."""
    return tuple(
        _piece(token, max(start, token.column), min(end, token.column + len(token.text)))
        for token in tokens
        if token.column < end and token.column + len(token.text) > start
    )


def _cut(tokens: tuple[Token, ...], marks: Sequence[Mark]) -> Iterator[tuple[Mark | None, Token]]:
    """Tokens cut where a mark begins or ends, each piece with the mark it lies in."""
    for token in tokens:
        at, end = token.column, token.column + len(token.text)
        for mark in marks:
            if mark.end <= at or mark.column >= end:
                continue
            stop = min(mark.end, end)
            if mark.column > at:
                yield None, _piece(token, at, mark.column)
                at = mark.column
            yield mark, _piece(token, at, stop)
            at = stop
        if at < end:
            yield None, _piece(token, at, end)


def _piece(token: Token, start: int, end: int) -> Token:
    text = token.text[start - token.column : end - token.column]
    return Token(start, text, token.kind)


def _around(mark: Mark, inner: str) -> str:
    symbol = f' data-s="{escape(mark.symbol, quote=True)}"' if mark.symbol else ""
    if mark.href:
        return f'<a href="{escape(mark.href, quote=True)}"{symbol}>{inner}</a>'
    return f"<i{symbol}>{inner}</i>"


def _append(line: list[Token], token: Token) -> None:
    """Joins neighbours of one kind, white space between them included, to keep pages small."""
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


def _kind(token_type: _TokenType) -> str:
    for family, kind in KINDS:
        if token_type[: len(family)] == family:
            return kind
    return ""
