r"""
# Lines, comments, docstrings

What `tokenize` and the syntax tree say about each physical line: is it a comment, a docstring,
blank, or code? A `#` inside a string is code, and so is a blank line inside one, which is why no
pattern over lines can do this work.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

from mkdocs_annotated.errors import SourceError


@dataclass(frozen=True)
class Line:
    """One physical line, counted from one, without its end."""

    number: int
    text: str


@dataclass(frozen=True)
class LogicalLine:
    """A logical line: the physical lines it spans, and its string if it is nothing else."""

    first: int
    last: int
    string_token: tokenize.TokenInfo | None = None


@dataclass(frozen=True)
class Docstring:
    """The prose of a docstring, from the source and not from its value."""

    first: int
    last: int
    prose: tuple[Line, ...]
    warnings: tuple[Line, ...]

    @property
    def lines(self) -> range:
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class Scan:
    """All that is known about the lines of one file."""

    source: str
    lines: tuple[Line, ...]
    tree: ast.Module
    block_comments: dict[int, str]  # prose comments on lines of their own
    inline_comments: dict[int, str]  # comments behind code
    blank_lines: frozenset[int]
    logical_lines: dict[int, LogicalLine]  # by each physical line

    def logical_line(self, line: int) -> LogicalLine:
        return self.logical_lines[line]

    def docstring(self, body: list[ast.stmt]) -> Docstring | None:
        """
        The docstring at the head of a body, if it has its lines to itself.

        Joined strings, `"text"; x` and a comment behind the quotes stay code: moving half of a
        line to the left would lose the other half.
        """
        node = body[0] if body else None
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            return None
        if not isinstance(node.value.value, str):
            return None
        logical_line = self.logical_lines[node.lineno]
        token = logical_line.string_token
        behind = self.inline_comments.get(logical_line.last)
        if token is None or (behind is not None and not is_directive(behind, logical_line.last)):
            return None
        prose, notes = _docstring_prose(token)
        return Docstring(logical_line.first, logical_line.last, prose, notes)

    def comment_prose(self, line: int) -> tuple[Line, ...]:
        """The text of the run of comment lines that begins on `line`."""
        found = []
        while line in self.block_comments:
            # `#:` documents an attribute for other tools; a line of `###` is a ruler.
            text = re.sub(r"^#+:?", "", self.block_comments[line])
            found.append(Line(line, text.expandtabs(4).rstrip()))
            line += 1
        return _trim(_dedent(found))


# Comments that speak to a tool and not to the reader.
DIRECTIVE = re.compile(
    r"#\s*(?:noqa\b|nosec\b|pragma\b|type:|fmt:|mypy:|ruff:|isort:|pylint:|pyright:|flake8:|yapf:)",
    re.IGNORECASE,
)
CODING_LINE = re.compile(r"#.*?coding[:=][ \t]*[-\w.]+")
OPENING_QUOTES = re.compile(r"([A-Za-z]*)('''|\"\"\"|'|\")")
LAYOUT_TOKENS = (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
# Python 3.12 splits f-strings into tokens, so that comments inside them appear as comments.
STRING_STARTS = {getattr(tokenize, name, None) for name in ("FSTRING_START", "TSTRING_START")}
STRING_ENDS = {getattr(tokenize, name, None) for name in ("FSTRING_END", "TSTRING_END")}


def is_directive(comment: str, line: int) -> bool:
    if line == 1 and comment.startswith("#!"):
        return True
    if line <= 2 and CODING_LINE.match(comment):
        return True
    # `# Type: the kind of thing` is a sentence, `# type: ignore` is not.
    found = DIRECTIVE.match(comment)
    return bool(found) and not re.match(r"#\s*[A-Z][a-z]", comment)


def read_source(path: Path, shown: str) -> str:
    """The text as Python decodes it: byte-order mark and coding line are honoured."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SourceError(shown, 1, f"cannot be decoded: {error}") from error


def scan(text: str, path: str) -> Scan:
    """Raises `SourceError` for text that is not Python."""
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        with warnings.catch_warnings():
            # Doubtful escapes are reported by us, with their place.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        # Before Python 3.12 a last line without an end could lose its statement's end as well.
        ended = source if source.endswith("\n") else source + "\n"
        tokens = list(tokenize.generate_tokens(io.StringIO(ended).readline))
    except SyntaxError as error:
        raise SourceError(path, error.lineno or 1, f"not Python: {error.msg}") from error
    except tokenize.TokenError as error:
        raise SourceError(path, error.args[1][0], f"not Python: {error.args[0]}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(path, 1, f"not Python: {error}") from error
    # Only "\n" ends a line here: `splitlines` would also split at form feeds inside strings.
    texts = source.split("\n")
    if not texts[-1]:
        texts.pop()
    lines = tuple(Line(i, text) for i, text in enumerate(texts, start=1))
    return _classify(source, lines, tree, tokens)


def _classify(
    source: str, lines: tuple[Line, ...], tree: ast.Module, tokens: list[tokenize.TokenInfo]
) -> Scan:
    block_comments: dict[int, str] = {}
    inline_comments: dict[int, str] = {}
    inside: set[int] = set()  # lines that continue a string
    logical_lines: dict[int, LogicalLine] = {}
    current: list[tokenize.TokenInfo] = []
    open_strings: list[int] = []
    for token in tokens:
        row, column = token.start
        if token.type in STRING_STARTS:
            open_strings.append(row)
        elif token.type in STRING_ENDS:
            inside.update(range(open_strings.pop() + 1, token.end[0] + 1))
        elif token.type == tokenize.STRING:
            inside.update(range(row + 1, token.end[0] + 1))
        if token.type == tokenize.COMMENT:
            if not open_strings and lines[row - 1].text[:column].strip():
                inline_comments[row] = token.string
            elif not open_strings and not is_directive(token.string, row):
                block_comments[row] = token.string
        elif token.type == tokenize.NEWLINE:
            if current:
                _add_statement(logical_lines, current, row, lines)
            current = []
        elif token.type not in LAYOUT_TOKENS:
            current.append(token)
    blank_lines = frozenset(
        line.number for line in lines if not line.text.strip() and line.number not in inside
    )
    return Scan(source, lines, tree, block_comments, inline_comments, blank_lines, logical_lines)


def _add_statement(
    logical_lines: dict[int, LogicalLine],
    tokens: list[tokenize.TokenInfo],
    last: int,
    lines: tuple[Line, ...],
) -> None:
    first = tokens[0].start[0]
    lone = None
    if len(tokens) == 1 and tokens[0].type == tokenize.STRING:
        token = tokens[0]
        margin = lines[first - 1].text[: token.start[1]]
        if token.end[0] == last and not margin.strip():
            lone = token
    logical_line = LogicalLine(first, last, lone)
    for n in range(first, last + 1):
        logical_lines[n] = logical_line


def _docstring_prose(token: tokenize.TokenInfo) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    opening = OPENING_QUOTES.match(token.string)
    if opening is None:  # a string token always begins with its quotes
        raise AssertionError(token.string)
    quotes = len(opening[2])
    body = token.string[opening.end() : -quotes].split("\n")
    raw = "r" in opening[1].lower()
    notes = []
    found = []
    for n, text in enumerate(body, start=token.start[0]):
        doubtful = None if raw else re.search(r"(?<!\\)(?:\\\\)*\\[^\\\"'\n]", text)
        if doubtful:
            notes.append(Line(n, f'{doubtful[0][-2:]} in a docstring that is not raw; write r"""'))
        for character in text:
            if unicodedata.category(character) == "Cc" and character not in "\t\f":
                notes.append(Line(n, f"control character U+{ord(character):04X} in a docstring"))
        # The source is what the author sees, and the value would hold a backspace for `\b`;
        # only a backslash before a backslash, a quote or a line's end is one in both.
        plain = text if raw else re.sub(r"\\([\\\"']|$)", r"\1", text)
        found.append(Line(n, plain.expandtabs().replace("\f", " ")))
    first = Line(found[0].number, found[0].text.lstrip())
    return _trim([first, *_dedent(found[1:])]), tuple(notes)


def _dedent(lines: list[Line]) -> list[Line]:
    margins = [len(line.text) - len(line.text.lstrip()) for line in lines if line.text.strip()]
    margin = min(margins, default=0)
    return [Line(line.number, line.text[margin:]) for line in lines]


def _trim(lines: list[Line]) -> tuple[Line, ...]:
    while lines and not lines[0].text.strip():
        lines = lines[1:]
    while lines and not lines[-1].text.strip():
        lines = lines[:-1]
    return tuple(lines)
