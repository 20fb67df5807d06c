r"""Turn LaTeX in Markdown into MathML while the page is built.

# LaTeX to MathML

`$Z = \sigma(XU)$` is an inline formula, `$$...$$` a display formula. MathML needs no script and no
network, and screen readers can read it. LaTeX that cannot be rendered is an error with file and
line.

Formulas are extracted before any other Markdown rule runs, so `_` in a formula is not emphasis and
`|` does not split a table cell. Code, prices and shell variables are left alone: there must be no
space after the opening dollar sign or before the closing one, and no digit, capital letter or
underscore after the closing one.
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
# The converter's time doubles with each open bracket; 26 take a second.
MAX_OPEN_BRACKETS = 16
NUMBERED = re.compile(r"\\(begin|end)\{(align|gather|equation|multline|alignat|flalign)\}")
OPENING_FENCE = re.compile(r"\s*(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)$")
TAG = re.compile(r"\\tag\*?\{([^{}]*)\}")
EQUATION_ID = re.compile(r' id="(eq-[^"]+)"')
LIST_ITEM = re.compile(r"\s*(?:[*+-]|\d+\.)\s")


def to_mathml(latex: str, *, display: bool) -> str:
    r"""Return a formula as a `<math>` element with its LaTeX in `data-latex`.

    >>> to_mathml("x", display=False)
    '<math data-latex="x"><mi>x</mi></math>'

    Raises `ValueError` if the formula is empty, leaves more than 16 brackets open, or is LaTeX that
    the converter cannot parse.
    """
    latex = latex.strip()
    if not latex:
        raise ValueError("the formula is empty")
    depth = 0
    for bracket in re.findall(r"[\[\](){}]", latex):
        depth = depth + 1 if bracket in "[({" else max(0, depth - 1)
    if depth > MAX_OPEN_BRACKETS:
        raise ValueError(
            f"a formula may leave at most {MAX_OPEN_BRACKETS} brackets open, got {depth}"
        )
    try:
        mathml = CONVERTER.convert_with_local_state(
            _normalise(latex, display=display), displaystyle=display
        )
    except LatexError as error:
        reason = re.sub(r"^\d+:\s*", "", str(error))
        raise ValueError(f"{reason.rstrip('.')} in {' '.join(latex.split())}") from error
    # Without `largeop`, Firefox draws these operators as large as a sum.
    mathml = re.sub(r"<mo([^>]*)>([⊙⊗⊕])</mo>", r'<mo largeop="false"\1>\2</mo>', mathml)
    attribute = html.escape(" ".join(latex.split()), quote=True)
    return mathml.replace("<math", f'<math data-latex="{attribute}"', 1)


def display_parts(latex: str) -> tuple[list[str], str]:
    r"""Return the parts of a display formula between `\qquad`, and its number.

    A page puts the parts beside each other where they fit, and below each other elsewhere. A
    formula keeps its numbers if it has several or if they are inside of braces or environments.

    >>> display_parts(r"a = b, \qquad c = d \tag{2}")
    (['a = b,', 'c = d'], '2')
    """
    number = ""
    tags = list(TAG.finditer(latex))
    if len(tags) == 1 and not _depth(latex[: tags[0].start()]):
        number = tags[0][1]
        latex = latex[: tags[0].start()] + latex[tags[0].end() :]
    parts = [""]
    for piece in re.split(r"(\\qquad(?![A-Za-z]))", latex):
        if piece == r"\qquad" and not _depth("".join(parts)):
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()] or [latex], number


def _depth(latex: str) -> int:
    """Return how many braces, environments and `\\left` are open at the end of LaTeX."""
    found = re.findall(r"\\(?:begin|end|left|right)(?![A-Za-z])|\\.|[{}]", latex)
    opening, closing = (r"\begin", r"\left", "{"), (r"\end", r"\right", "}")
    return sum((each in opening) - (each in closing) for each in found)


def _normalise(latex: str, *, display: bool) -> str:
    """Remove empty lines and automatic equation numbers."""
    # Remove a `\\` before the end of an environment, which would add an empty line.
    latex = re.sub(r"\\\\\s*(?=\\end\{)", " ", latex)
    latex = re.sub(r"(?<!\\)\\\\\s*$", "", latex)
    if r"\tag" not in latex:
        # Do not number equations automatically: the numbers would differ from the paper's.
        return NUMBERED.sub(r"\\\1{\2*}", latex)
    if display and r"\begin{" not in latex:
        return rf"\begin{{equation}}{latex}\end{{equation}}"
    return latex


class MathExtension(Extension):
    """Python-Markdown extension for formulas.

    * `context` is the page that is being rendered; the plugin sets it for each page

    >>> Markdown(extensions=[MathExtension()]).convert("Let $x$.")
    '<p>Let <math data-latex="x"><mi>x</mi></math>.</p>'
    """

    def __init__(self, context: RenderContext | None = None) -> None:
        super().__init__()
        self.context = context or RenderContext()

    def extendMarkdown(self, md: Markdown) -> None:
        sources: dict[str, str] = {}
        md.ESCAPED_CHARS = [*md.ESCAPED_CHARS, "$"]
        # After white space is normalised (30), before fences are extracted (25).
        md.preprocessors.register(_ExtractFormulas(md, self.context, sources), "annotated_math", 28)
        # After headings have their ids (5).
        md.treeprocessors.register(_EquationIds(md), "annotated_equation_ids", 1)
        # Before code highlighting (30), and again after inline patterns (20).
        md.treeprocessors.register(_RestoreSource(md, sources), "annotated_math_blocks", 35)
        md.treeprocessors.register(_RestoreSource(md, sources), "annotated_math_spans", 15)


class _ExtractFormulas(Preprocessor):
    """Replaces formulas with placeholders, which Python-Markdown fills in at the end."""

    def __init__(self, md: Markdown, context: RenderContext, sources: dict[str, str]) -> None:
        super().__init__(md)
        self.markdown = md
        self.context = context
        self.sources = sources

    def run(self, lines: list[str]) -> list[str]:
        out: list[str] = []
        for start, block, prose in _blocks(lines):
            out += self.replace(start, "\n".join(block)).split("\n") if prose else block
        return out

    def replace(self, start: int, text: str) -> str:
        """Replace the formulas of a paragraph that starts at document line `start`."""
        out: list[str] = []
        at = 0
        while at < len(text):
            mark = re.compile(r"\\|`+|\$+").search(text, at)
            if mark is None:
                break
            out.append(text[at : mark.start()])
            at = mark.start()
            end = self.consume(start, text, at, mark[0], out)
            if end == at:
                out.append(mark[0])
                end = mark.end()
            at = end
        return "".join(out) + text[at:]

    def consume(self, start: int, text: str, at: int, mark: str, out: list[str]) -> int:
        """Append the escape, code span or formula at `at` to `out`; return the position after it.

        Return `at` if there is none.
        """
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
                        line, "the formula opened by $$ must be closed by $$ before a blank line"
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
        """Render a formula and return its placeholder."""
        number = ""
        try:
            mathml = to_mathml(latex, display=display)
            if display:
                mathml, number = _in_parts(mathml, latex)
        except ValueError as error:
            lenient = self.context.lenient
            self.context.report(line, f"LaTeX cannot be rendered: {error}", is_warning=lenient)
            if not lenient:
                return ""
            mathml = f"<code>{html.escape(source, quote=False)}</code>"
        if display:
            ids = [f"eq-{found}" for found in map(_slug, TAG.findall(latex)) if found]
            anchors = "".join(f'<wbr id="{each}">' for each in ids[1:])
            first = f' id="{ids[0]}"' if ids else ""
            # A paragraph may contain a span, but no div.
            mathml = f'<span class="eq"{first} tabindex="0">{anchors}{mathml}{number}</span>'
        placeholder = self.markdown.htmlStash.store(mathml)
        self.sources[placeholder] = source
        return placeholder


class _EquationIds(Treeprocessor):
    """Removes the id of an equation if a heading or an earlier equation has it."""

    def __init__(self, md: Markdown) -> None:
        super().__init__(md)
        self.markdown = md

    def run(self, root: etree.Element) -> None:
        taken = {element.get("id") for element in root.iter()}
        blocks = self.markdown.htmlStash.rawHtmlBlocks

        def keep_first(match: re.Match[str]) -> str:
            new = match[1] not in taken
            taken.add(match[1])
            return match[0] if new else ""

        for i, block in enumerate(blocks):
            if isinstance(block, str) and block.startswith('<span class="eq"'):
                blocks[i] = EQUATION_ID.sub(keep_first, block)


class _RestoreSource(Treeprocessor):
    """Puts the LaTeX source back into indented code and attributes."""

    def __init__(self, md: Markdown, sources: dict[str, str]) -> None:
        super().__init__(md)
        self.sources = sources

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            for key, value in element.items():
                element.set(key, HTML_PLACEHOLDER_RE.sub(self.source, value))
            if element.tag == "code" and element.text:
                element.text = AtomicString(HTML_PLACEHOLDER_RE.sub(self.escaped, element.text))

    def source(self, match: re.Match[str]) -> str:
        return self.sources.get(match[0], match[0])

    def escaped(self, match: re.Match[str]) -> str:
        return html.escape(self.source(match), quote=False)


def equation_ids(html: str) -> set[str]:
    """Return the ids of the numbered equations of a page."""
    return {found[1] for found in EQUATION_ID.finditer(html)}


def _in_parts(mathml: str, latex: str) -> tuple[str, str]:
    """Return the parts of a display formula as MathML, and its number as HTML.

    The first part has the LaTeX of the whole formula, the others have none.
    """
    parts, number = display_parts(latex)
    attribute = re.compile(r'data-latex="[^"]*"')
    try:
        converted = [to_mathml(part, display=True) for part in parts]
    except ValueError:  # only the whole is a formula
        converted, number = [mathml], ""
    whole = attribute.findall(mathml)[0]
    first, *others = (attribute.split(part, maxsplit=1) for part in converted)
    mathml = whole.join(first) + "".join('data-latex=""'.join(part) for part in others)
    shown = f"({html.escape(number, quote=False)})"
    return f"<span>{mathml}</span>", f'<span class="no">{shown}</span>' if number else ""


def _slug(tag: str) -> str:
    return re.sub(r"[^\w.-]+", "-", tag).strip("-")


def _unquoted(text: str, at: int, latex: str) -> str:
    """Remove the `>` of a quotation from the lines of a formula."""
    margin = text[text.rfind("\n", 0, at) + 1 : at]
    depth = margin.count(">")
    if depth and not margin.strip("> \t"):
        return re.sub(rf"\n(?:[ \t]*>){{{depth}}}", "\n", latex)
    return latex


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str], bool]]:
    """Yield start, lines and whether they may hold formulas: paragraphs may, fenced code not."""
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
            in_display = False
            while i < len(lines) and lines[i].strip() and fence_end(lines, i) == i:
                # Inline formulas do not continue into the next list item. In a display formula a
                # line may begin with a minus.
                if i > start and not in_display and LIST_ITEM.match(lines[i]):
                    break
                in_display ^= lines[i].count("$$") % 2 == 1
                i += 1
            yield start, lines[start:i], True


def fence_end(lines: list[str], i: int) -> int:
    """Return the line after the fenced block that opens on line `i`, or `i` if none does."""
    opening = OPENING_FENCE.match(lines[i])
    if opening:
        for j in range(i + 1, len(lines)):
            closing = lines[j].strip()
            if closing.startswith(opening["mark"]) and not closing.strip(opening["mark"][0]):
                return j + 1
    return i
