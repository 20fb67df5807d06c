r"""
# LaTeX to MathML

`$Z = \sigma(XU)$` and `$$...$$` become MathML while the page is built, so that equations need no
script, are read by screen readers, and stay in place without a network. LaTeX that cannot be
rendered is a mistake with file and line, never red text on a page.

Formulas are taken out before any other Markdown rule sees them: a `_` in one is no emphasis and
a `|` no table cell. Code is left alone, and so are prices and shell variables: a dollar sign opens
a formula only before ink, and closes one only after ink and not before a digit or a capital.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as etree
from collections.abc import Iterator

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor
from markdown.util import HTML_PLACEHOLDER_RE, AtomicString
from math_core import LatexError, LatexToMathML

from mkdocs_annotated.markdown.context import RenderContext

CONVERTER = LatexToMathML(fancy_error=False)
# The converter takes twice as long for each bracket that stays open: a second at 26.
MAX_OPEN_BRACKETS = 16
NUMBERED = re.compile(r"\\(begin|end)\{(align|gather|equation|multline|alignat|flalign)\}")
OPENING_FENCE = re.compile(r"\s*(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)$")
LIST_ITEM = re.compile(r"\s*(?:[*+-]|\d+\.)\s")


def to_mathml(latex: str, *, display: bool) -> str:
    r"""
    One formula as a `<math>` element that carries its LaTeX in `data-latex`.

    Raises `ValueError` with the reason if it cannot be rendered.
    """
    latex = latex.strip()
    if not latex:
        raise ValueError("the formula is empty")
    depth = 0
    for bracket in re.findall(r"[\[\](){}]", latex):
        depth = depth + 1 if bracket in "[({" else max(0, depth - 1)
    if depth > MAX_OPEN_BRACKETS:
        raise ValueError(
            f"the formula must close all but {MAX_OPEN_BRACKETS} brackets, got {depth} open"
        )
    try:
        mathml = CONVERTER.convert_with_local_state(
            _tidy(latex, display=display), displaystyle=display
        )
    except LatexError as error:
        reason = re.sub(r"^\d+:\s*", "", str(error))
        raise ValueError(f"{reason} In: {' '.join(latex.split())}") from error
    # Firefox draws the circled dot as large as a sum.
    mathml = re.sub(r"<mo([^>]*)>([⊙⊗⊕])</mo>", r'<mo largeop="false"\1>\2</mo>', mathml)
    carried = html.escape(" ".join(latex.split()), quote=True)
    return mathml.replace("<math", f'<math data-latex="{carried}"', 1)


def _tidy(latex: str, *, display: bool) -> str:
    # A `\\` before the end of an environment opens one more, empty line.
    latex = re.sub(r"\\\\\s*(?=\\end\{)", " ", latex)
    latex = re.sub(r"(?<!\\)\\\\\s*$", "", latex)
    if r"\tag" not in latex:
        # Numbers that nobody gave would differ from those of the paper.
        return NUMBERED.sub(r"\\\1{\2*}", latex)
    if display and r"\begin{" not in latex:
        return rf"\begin{{equation}}{latex}\end{{equation}}"
    return latex


class MathExtension(Extension):
    """Formulas in Markdown; `draft` is replaced for each document."""

    def __init__(self, context: RenderContext | None = None) -> None:
        super().__init__()
        self.context = context or RenderContext()

    def extendMarkdown(self, md: Markdown) -> None:
        found: dict[str, str] = {}
        md.ESCAPED_CHARS = [*md.ESCAPED_CHARS, "$"]
        # After white space is made regular (30), before fences are taken out (25).
        md.preprocessors.register(_ExtractFormulas(md, self.context, found), "annotated_math", 28)
        # Before indented code is coloured (30), and after inline patterns (20).
        md.treeprocessors.register(_RestoreSource(md, found), "annotated_math_blocks", 35)
        md.treeprocessors.register(_RestoreSource(md, found), "annotated_math_spans", 15)


class _ExtractFormulas(Preprocessor):
    def __init__(self, md: Markdown, context: RenderContext, found: dict[str, str]) -> None:
        super().__init__(md)
        self.markdown = md
        self.context = context
        self.found = found

    def run(self, lines: list[str]) -> list[str]:
        out: list[str] = []
        for start, block, prose in _blocks(lines):
            out += self.block(start, "\n".join(block)).split("\n") if prose else block
        return out

    def block(self, start: int, text: str) -> str:
        """Replaces the formulas of one paragraph, which starts at line `start`."""
        out: list[str] = []
        at = 0
        while at < len(text):
            mark = re.compile(r"\\|`+|\$+").search(text, at)
            if mark is None:
                break
            out.append(text[at : mark.start()])
            at = mark.start()
            end = self.after(start, text, at, mark[0], out)
            if end == at:
                out.append(mark[0])
                end = mark.end()
            at = end
        return "".join(out) + text[at:]

    def after(self, start: int, text: str, at: int, mark: str, out: list[str]) -> int:
        """Handles what begins at `at`, appends it to `out`, and returns where it ends."""
        if mark == "\\":
            out.append(text[at : at + 2])
            return at + 2
        if mark[0] == "`":
            closing = re.compile(rf"(?<!`){mark}(?!`)").search(text, at + len(mark))
            if closing is None:
                return at
            out.append(text[at : closing.end()])
            return closing.end()
        line = start + text.count("\n", 0, at)
        if mark == "$$":
            closing = re.compile(r"(?<!\\)\$\$").search(text, at + 2)
            if closing is None:
                if not text[text.rfind("\n", 0, at) + 1 : at].strip("> \t"):
                    self.context.report(
                        line, "the formula opened by $$ here is not closed before a blank line"
                    )
                return at
            latex = _unquoted(text, at, text[at + 2 : closing.start()])
            out.append(self.formula(line, latex, text[at : closing.end()], display=True))
            return closing.end()
        if mark == "$":
            inline = re.compile(
                r"\$(?=\S)((?:\\.|[^$\\`])*?(?:\\.|[^$\\`\s]))\$(?![\dA-Z_])", re.DOTALL
            )
            found = inline.match(text, at)
            if found is None:
                return at
            out.append(self.formula(line, found[1], found[0], display=False))
            return found.end()
        return at

    def formula(self, line: int, latex: str, source: str, *, display: bool) -> str:
        try:
            mathml = to_mathml(latex, display=display)
        except ValueError as error:
            lenient = self.context.lenient
            self.context.report(line, f"LaTeX cannot be rendered: {error}", doubt=lenient)
            if not lenient:
                return ""
            mathml = f"<code>{html.escape(source, quote=False)}</code>"
        if display:
            # A span may stand inside a paragraph or a list item, where a div may not.
            mathml = f'<span class="eq" tabindex="0">{mathml}</span>'
        placeholder = self.markdown.htmlStash.store(mathml)
        self.found[placeholder] = source
        return placeholder


class _RestoreSource(Treeprocessor):
    """Indented code and attributes get their dollar signs back."""

    def __init__(self, md: Markdown, found: dict[str, str]) -> None:
        super().__init__(md)
        self.found = found

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            for key, value in element.items():
                element.set(key, HTML_PLACEHOLDER_RE.sub(self.source, value))
            if element.tag == "code" and element.text:
                element.text = AtomicString(HTML_PLACEHOLDER_RE.sub(self.escaped, element.text))

    def source(self, match: re.Match[str]) -> str:
        return self.found.get(match[0], match[0])

    def escaped(self, match: re.Match[str]) -> str:
        return html.escape(self.source(match), quote=False)


def _unquoted(text: str, at: int, latex: str) -> str:
    """Inside a quotation each line of a formula begins with the quotation's own mark."""
    margin = text[text.rfind("\n", 0, at) + 1 : at]
    depth = margin.count(">")
    if depth and not margin.strip("> \t"):
        return re.sub(rf"\n(?:[ \t]*>){{{depth}}}", "\n", latex)
    return latex


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str], bool]]:
    """Paragraphs, and between them fenced code and blank lines, which hold no formulas."""
    i = 0
    while i < len(lines):
        start = i
        end = fence_end(lines, i)
        if end > i:
            yield start, lines[i:end], False
            i = end
        elif not lines[i].strip():
            yield start, [lines[i]], False
            i += 1
        else:
            odd = False  # inside a display formula, where a line may begin with a minus
            while i < len(lines) and lines[i].strip() and fence_end(lines, i) == i:
                # Each item of a list is a block: a formula does not run into the next one.
                if i > start and not odd and LIST_ITEM.match(lines[i]):
                    break
                odd ^= lines[i].count("$$") % 2 == 1
                i += 1
            yield start, lines[start:i], True


def fence_end(lines: list[str], i: int) -> int:
    """The line after the fence that opens on line `i`, or `i` if none does."""
    opening = OPENING_FENCE.match(lines[i])
    if opening:
        for j in range(i + 1, len(lines)):
            closing = lines[j].strip()
            if closing.startswith(opening["mark"]) and not closing.strip(opening["mark"][0]):
                return j + 1
    return i
