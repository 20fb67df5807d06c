r"""Classify the lines of a Python file: block comment, docstring, blank line or code.

# Lines, comments and docstrings

Lines are classified by `tokenize` and the syntax tree. A pattern for single lines would fail: a `#`
or a blank line inside a string is code.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings, simplefilter

from mkdocs_annotated.errors import SourceError


@dataclass(frozen=True)
class Line:
    """A physical line without its line break; `number` counts from one."""

    number: int
    text: str


@dataclass(frozen=True)
class LogicalLine:
    """The physical lines of a statement; `string_token` is set if it is only a string."""

    first: int
    last: int
    string_token: tokenize.TokenInfo | None = None


@dataclass(frozen=True)
class Docstring:
    """The source text of a docstring, and the warnings about it."""

    first: int
    last: int
    prose: tuple[Line, ...]
    warnings: tuple[Line, ...]

    @property
    def lines(self) -> range:
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class ScannedSource:
    r"""A Python file with its lines classified.

    * `source` is the text with `\n` as its only line break, and `tree` its syntax tree
    * `block_comments` and `inline_comments` hold comments by line; directives are not block
      comments
    * `fold_marks` holds the label of each comment that begins a fold, and `END_FOLD` for each that
      ends one
    * `blank_lines` are the blank lines outside of strings
    * `logical_lines` holds the logical line of each physical line
    """

    source: str
    lines: tuple[Line, ...]
    tree: ast.Module
    block_comments: dict[int, str]
    inline_comments: dict[int, str]
    fold_marks: dict[int, str]
    blank_lines: frozenset[int]
    logical_lines: dict[int, LogicalLine]

    def logical_line(self, line: int) -> LogicalLine:
        return self.logical_lines[line]

    def docstring(self, body: list[ast.stmt]) -> Docstring | None:
        """Return the docstring of a body, or `None` if it shares a line with code.

        Concatenated strings, `"text"; x` and a comment after the quotes stay code, because half a
        line cannot move to the prose.
        """
        node = body[0] if body else None
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            return None
        if not isinstance(node.value.value, str):
            return None
        logical_line = self.logical_lines[node.lineno]
        token = logical_line.string_token
        last = logical_line.last
        comment = self.inline_comments.get(last)
        if token is None or (comment is not None and not is_directive(comment, last)):
            return None
        prose, warnings = _docstring_prose(token)
        return Docstring(logical_line.first, last, prose, warnings)

    def comment_prose(self, line: int) -> tuple[Line, ...]:
        """Return the text of the block comment that begins on `line`."""
        prose = []
        while line in self.block_comments:
            # `#:` documents an attribute for Sphinx; `###` is a ruler.
            text = re.sub(r"^#+:?", "", self.block_comments[line])
            prose.append(Line(line, text.expandtabs(4).rstrip()))
            line += 1
        return _trim(_dedent(prose))


DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Comments for tools.
DIRECTIVE = re.compile(
    r"#\s*(?:noqa\b|nosec\b|pragma\b|type:|fmt:|mypy:|ruff:|isort:|pylint:|pyright:|flake8:|yapf:)",
    re.IGNORECASE,
)
FOLD = re.compile(r"#\s*(?:fold:(?P<label>.*)|end fold)$")
END_FOLD = "\n"  # no label
CODING_LINE = re.compile(r"#.*?coding[:=][ \t]*[-\w.]+")
OPENING_QUOTES = re.compile(r"([A-Za-z]*)('''|\"\"\"|'|\")")
LAYOUT_TOKENS = (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
# Python 3.12 splits f-strings into tokens, so comments inside them are comment tokens.
STRING_STARTS = {getattr(tokenize, name, None) for name in ("FSTRING_START", "TSTRING_START")}
STRING_ENDS = {getattr(tokenize, name, None) for name in ("FSTRING_END", "TSTRING_END")}


def is_directive(comment: str, line: int) -> bool:
    """Return whether a comment is meant for a tool: a shebang, a coding line or `# noqa`."""
    if line == 1 and comment.startswith("#!"):
        return True
    if line <= 2 and CODING_LINE.match(comment):
        return True
    if FOLD.match(comment):
        return True
    # `# Type: the kind of thing` is a sentence, `# type: ignore` is not.
    return bool(DIRECTIVE.match(comment)) and not re.match(r"#\s*[A-Z][a-z]", comment)


def definition_span(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, int]:
    """Return the first and last line of a definition, decorators included."""
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return first, node.end_lineno or node.lineno


def read_source(path: Path, display_path: str) -> str:
    """Return the text of a Python file, decoded by its byte-order mark or coding line.

    Raises `SourceError` if the coding is unknown or the bytes do not fit it.
    """
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SourceError(display_path, 1, f"cannot decode the file: {error}") from error


def source_tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    """Return the tokens of a Python file."""
    # Before Python 3.12 `tokenize` needs a line break at the end of the file.
    ended = source if source.endswith("\n") else source + "\n"
    return tokenize.generate_tokens(io.StringIO(ended).readline)


def scan(text: str, path: str) -> ScannedSource:
    """Classify the lines of a Python file.

    Raises `SourceError` for a syntax error, a null byte, or brackets nested too deeply to parse.
    """
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        with catch_warnings():
            # `_docstring_prose` reports invalid escapes with their lines.
            simplefilter("ignore")
            tree = ast.parse(source)
        tokens = list(source_tokens(source))
    except SyntaxError as error:
        raise SourceError(path, error.lineno or 1, f"invalid Python: {error.msg}") from error
    except tokenize.TokenError as error:
        raise SourceError(path, error.args[1][0], f"invalid Python: {error.args[0]}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(path, 1, f"invalid Python: {error}") from error
    # `splitlines` would also split at form feeds inside strings.
    texts = source.split("\n")
    if not texts[-1]:
        texts.pop()
    lines = tuple(Line(i, text) for i, text in enumerate(texts, start=1))
    return _classify(source, lines, tree, tokens)


def _classify(
    source: str, lines: tuple[Line, ...], tree: ast.Module, tokens: list[tokenize.TokenInfo]
) -> ScannedSource:
    block_comments: dict[int, str] = {}
    inline_comments: dict[int, str] = {}
    fold_marks: dict[int, str] = {}
    continued: set[int] = set()  # lines that begin inside a string
    logical_lines: dict[int, LogicalLine] = {}
    current: list[tokenize.TokenInfo] = []
    open_strings: list[int] = []
    for token in tokens:
        row, column = token.start
        if token.type in STRING_STARTS:
            open_strings.append(row)
        elif token.type in STRING_ENDS:
            continued.update(range(open_strings.pop() + 1, token.end[0] + 1))
        elif token.type == tokenize.STRING:
            continued.update(range(row + 1, token.end[0] + 1))
        if token.type == tokenize.COMMENT:
            if not open_strings and lines[row - 1].text[:column].strip():
                inline_comments[row] = token.string
            elif not open_strings and not is_directive(token.string, row):
                block_comments[row] = token.string
            elif not open_strings and (fold := FOLD.match(token.string)):
                label = fold["label"]
                fold_marks[row] = END_FOLD if label is None else label.strip()
        elif token.type == tokenize.NEWLINE:
            if current:
                _add_logical_line(logical_lines, current, row, lines)
            current = []
        elif token.type not in LAYOUT_TOKENS:
            current.append(token)
    blank_lines = frozenset(
        line.number for line in lines if not line.text.strip() and line.number not in continued
    )
    return ScannedSource(
        source=source,
        lines=lines,
        tree=tree,
        block_comments=block_comments,
        inline_comments=inline_comments,
        fold_marks=fold_marks,
        blank_lines=blank_lines,
        logical_lines=logical_lines,
    )


def _add_logical_line(
    logical_lines: dict[int, LogicalLine],
    tokens: list[tokenize.TokenInfo],
    last: int,
    lines: tuple[Line, ...],
) -> None:
    first = tokens[0].start[0]
    string_token = None
    if len(tokens) == 1 and tokens[0].type == tokenize.STRING:
        token = tokens[0]
        margin = lines[first - 1].text[: token.start[1]]
        if token.end[0] == last and not margin.strip():
            string_token = token
    logical_line = LogicalLine(first, last, string_token)
    for n in range(first, last + 1):
        logical_lines[n] = logical_line


def _docstring_prose(token: tokenize.TokenInfo) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Return the text of a docstring and its warnings."""
    opening = OPENING_QUOTES.match(token.string)
    if opening is None:  # every string token begins with quotes
        raise AssertionError(token.string)
    quotes = len(opening[2])
    body = token.string[opening.end() : -quotes].split("\n")
    raw = "r" in opening[1].lower()
    warnings = []
    prose = []
    for n, text in enumerate(body, start=token.start[0]):
        escape = None if raw else re.search(r"(?<!\\)(?:\\\\)*\\[^\\\"'\n]", text)
        if escape:
            message = f'{escape[0][-2:]} is an escape in this docstring; make it raw with r"""'
            warnings.append(Line(n, message))
        for character in text:
            if unicodedata.category(character) == "Cc" and character not in "\t\f":
                warnings.append(Line(n, f"control character U+{ord(character):04X} in a docstring"))
        # Use the source, not the value, in which `\b` is a backspace. Resolve only an escaped
        # backslash, quote or line break.
        plain = text if raw else re.sub(r"\\([\\\"']|$)", r"\1", text)
        prose.append(Line(n, plain.expandtabs().replace("\f", " ")))
    first = Line(prose[0].number, prose[0].text.lstrip())
    return _trim([first, *_dedent(prose[1:])]), tuple(warnings)


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
