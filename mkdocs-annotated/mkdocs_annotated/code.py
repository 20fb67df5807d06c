r"""
# Colours for code

The whole file is lexed once and split by lines afterwards: a lexer that meets the middle of a
string by itself takes it for code. Tokens stay data, with the column they begin at, because
later layers will want to point at single names in them.
"""

from __future__ import annotations

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
# Text without a class is most of the text, and costs nothing.
KINDS: tuple[tuple[_TokenType, str], ...] = (
    (Keyword.Constant, "kc"),
    (Keyword, "k"),
    (Operator.Word, "k"),
    (Name.Function, "nf"),
    (Name.Class, "nc"),
    (Name.Decorator, "nd"),
    (Name.Builtin.Pseudo, ""),
    (Name.Builtin, "nb"),
    (Name.Exception, "nb"),
    (String.Interpol, "si"),
    (String.Escape, "se"),
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


def to_html(tokens: tuple[Token, ...]) -> str:
    """Tokens of one line as HTML."""
    out = []
    for token in tokens:
        text = escape(token.text, quote=False)
        out.append(f'<span class="{token.kind}">{text}</span>' if token.kind else text)
    return "".join(out)


def _append(line: list[Token], token: Token) -> None:
    """Joins neighbours of one kind, white space between them included, to keep pages small."""
    if line:
        last = line[-1]
        if last.kind == token.kind:
            line[-1] = Token(last.column, last.text + token.text, last.kind)
            return
    line.append(token)


def _kind(token_type: _TokenType) -> str:
    for family, kind in KINDS:
        if token_type[: len(family)] == family:
            return kind
    return ""
