r"""Symbols of the paper in equations and in code, and the mistakes in a file of symbols."""

from __future__ import annotations

import logging
import re
import textwrap
from html import unescape
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mkdocs.exceptions import Abort
from mkdocs_annotated.markdown.equations import mark_symbols, symbol_structure
from mkdocs_annotated.markdown.math import to_mathml
from mkdocs_annotated.site.cross_references import CrossReferences
from mkdocs_annotated.site.links import DefinitionIndex, index_module
from mkdocs_annotated.site.symbols import read_symbols
from mkdocs_annotated.source.parse import parse

OPTIONS = "sources: [shapes], symbols: symbols.yml"
GATE = r'''
    r"""
    # Gate

    $$s(Z) = Z_1 \odot f_{W,b}(Z_2)$$
    """


    class Gate:
        r"""$W$ mixes."""

        def __init__(self, weight):
            self.weight = weight

        def forward(self, z):
            r"""`z` is $Z$"""
            weight = self.weight[: len(z)]
            other.weight = dict(weight=weight)
            z1, z2 = z
            return z1 * weight @ z2


    def free(weight):
        return weight
    '''
SYMBOLS = r"""
    W:
      tex: W
      text: the <spatial> weights
      code:
        Gate: [self.weight, weight]
    Z:
      tex: Z
      code: {Gate.forward: z}
    Z1:
      tex: Z_1
      code: {shapes/gate.py::Gate.forward: z1}
    """


def marked(latex: str, *symbols: str) -> list[str]:
    """Return the symbols that are marked in a formula, in order."""
    shapes = {symbol_structure(to_mathml(each, display=False)): each for each in symbols}
    seen: list[str] = []
    plain = to_mathml(latex, display=True)
    html = mark_symbols(f"<p>{plain}</p>", shapes, seen.append)
    assert re.sub(r' data-s="[^"]*"', "", html) == f"<p>{plain}</p>"
    assert html.count("data-s=") == len(seen)
    return seen


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"f_{W,b}(Z) = W Z + b", ["W", "b", "Z", "W", "Z", "b"]),
        (r"\tilde{Z} = s(Z)", [r"\tilde{Z}", "Z"]),
        (r"\hat{Z} Z' Z'' \overline{Z} \underline{Z}", []),
        (r"Z_1 \odot f_{W,b}(Z_2)", ["Z_1", "W", "b"]),
        (r"W_{ij} Z_{jc} + b_i", ["W", "Z", "b"]),
        (r"Z_1^\top + Z^2 + Z^\top + Z_1^n", ["Z_1", "Z", "Z", "Z_1", "n"]),
        (r"\sum_{j=1}^{n} j, \max_{n}, \prod_n^2", ["n", "n", "n"]),
        (r"\underbrace{W Z}_{n}", ["W", "Z", "n"]),
        (r"\frac{W}{\sqrt{n}} \begin{pmatrix} Z & b \end{pmatrix}", ["W", "n", "Z", "b"]),
        (r"{W} \mathrm{W} \mathbf{W} \text{W} \operatorname{W}", ["W"]),
        (r"d_{n} + d", ["d_{n}", "n"]),
    ],
)
def test_a_symbol_is_a_whole_subtree_of_the_formula(latex: str, expected: list[str]):
    assert marked(latex, "W", "Z", "b", "n", "Z_1", r"\tilde{Z}", "d_{n}") == expected


@given(st.text("WZn_^{}'\\ 12<>&=+", max_size=12))
def test_marking_changes_only_attributes_in_any_formula(latex: str):
    try:
        to_mathml(latex, display=True)
    except ValueError:
        return
    assert set(marked(latex, "W", "Z", "Z_1", "n")) <= {"W", "Z", "Z_1", "n"}


@given(st.text("<>/math data-latex=\"a'W&;", max_size=60))
def test_text_that_only_looks_like_a_formula_is_unchanged(text: str):
    html = f'<math data-latex="W">{text}</math>'
    assert mark_symbols(html, {("mi", "W"): "W"}, print) == html


@pytest.mark.parametrize("latex", ["WZ", "W + 1", "f(x)", "{W Z}"])
def test_more_than_one_letter_is_not_a_symbol(latex: str):
    assert symbol_structure(to_mathml(latex, display=False)) is None


def code_symbols(html: str) -> list[tuple[str, int, str]]:
    """Return symbol, line and text of each marked name in the code."""
    found = []
    for number, line in re.findall(r'<b id="L(\d+)"[^>]*>(.*?)\n</span>', html):
        for symbol, inner in re.findall(r'data-s="(\w+)"[^>]*>(.*?)</(?:a|i)>', line):
            found.append((symbol, int(number), unescape(re.sub(r"<[^>]*>", "", inner))))
    return found


def equation_symbols(html: str) -> list[str]:
    equations = "".join(re.findall("<math.*?</math>", html.split("<main")[1]))
    return re.findall(r'data-s="(\w+)"', equations)


def legend(html: str) -> list[str]:
    return re.findall(r'<button data-s="(\w+)">', html)


def test_a_site_marks_symbols_in_code_and_equations_and_lists_them_in_a_legend(project):
    project.write("shapes/gate.py", GATE)
    project.write("symbols.yml", SYMBOLS)
    project.write("docs/index.md", "# Start\n\nHere is $Z$.\n")
    site = project.build(options=OPTIONS)
    gate, start, other = (
        (site / path).read_text()
        for path in ("shapes/gate.html", "index.html", "shapes/index.html")
    )
    assert code_symbols(gate) == [
        *[("W", 11, "weight"), ("W", 12, "weight"), ("W", 12, "weight"), ("Z", 14, "z")],
        *[("W", 16, "weight"), ("W", 16, "weight"), ("Z", 16, "z"), ("W", 17, "weight")],
        *[("Z1", 18, "z1"), ("Z", 18, "z"), ("Z1", 19, "z1"), ("W", 19, "weight")],
    ]
    assert equation_symbols(gate) == ["Z", "Z1", "W", "W", "Z"]
    assert legend(gate) == ["W", "Z", "Z1"]
    assert "<span>the &lt;spatial&gt; weights</span>" in gate
    assert legend(start) == ["Z"]
    assert "toc symbols" not in other


def test_the_narrower_scope_wins_if_two_symbols_share_a_letter(project: SimpleNamespace):
    project.write(
        "shapes/two.py",
        'class A:\n    r"""$V$"""\n\n    def f(self, v):\n        r"""$V$"""\n        return v\n\n'
        "    def g(self, v):\n        # $V$ again\n        return v\n",
    )
    project.write(
        "symbols.yml",
        "wide: {tex: V, code: {A: v}}\n"
        "narrow: {tex: V, code: {A.f: v}, equations: shapes/two.py::A.f}\n",
    )
    html = (project.build(options=OPTIONS) / "shapes/two.html").read_text()
    assert equation_symbols(html) == ["wide", "narrow", "wide"]
    symbols = [symbol for symbol, *_ in code_symbols(html)]
    assert symbols == ["narrow", "narrow", "wide", "wide"]


GOOD = "{tex: W, code: {Gate: weight}}"


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory):
    """The mistakes in a file of symbols, for a site with `GATE` and a second function `free`."""
    sources = {
        "shapes/gate.py": textwrap.dedent(GATE).lstrip("\n"),
        "shapes/more.py": "def free(): ...\n",
    }
    modules = [
        index_module(parse(text, path), path[:-3].replace("/", "."), f"{path[:-3]}.md", path)
        for path, text in sources.items()
    ]
    file = tmp_path_factory.mktemp("symbols") / "symbols.yml"
    equations = "".join(
        to_mathml(latex, display=False) for latex in (r"s(Z) = Z_1 \odot f_{W,b}(Z_2)", "W", "Z")
    )

    def find(text: str) -> list[str]:
        file.write_text(text + "\n")
        table = read_symbols(file, "symbols.yml")
        table.find_in_code(modules, ["docs/index.md"])
        references = CrossReferences(modules, DefinitionIndex(modules, {}), table)
        references.mark_symbols("shapes/gate.md", "shapes/gate.py", equations)
        return [str(error) for error in table.all_errors()]

    return find


def test_a_file_without_mistakes_has_no_problems(errors):
    assert errors(textwrap.dedent(SYMBOLS)) == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"W: {GOOD}\nQ: {{tex: Q, code: {{Gate: z}}}}", 2, "equation Q"),
        ("W:\n  tex: W", 1, "W `code`"),
        ("W: {tex: W, code: {}}", 1, "code W"),
        ("W:\n  code: {Gate: weight}", 1, "W `tex`"),
        ("W: 3", 1, "W `tex` `code`"),
        ("W:\n  tex: W\n  colour: red\n  code: {Gate: weight}", 3, "key colour tex"),
        (f"W: {GOOD}\nW: {GOOD}", 2, "W twice"),
        (f"W W: {GOOD}", 1, "id letter"),
        ("W:\n  code: {Gate: weight}\n  tex:\n  - W\n  - \\nonsense", 5, "LaTeX nonsense"),
        ("W:\n  tex: [W, W Z]\n  code: {Gate: weight}", 2, "W Z more than one symbol"),
        ("W:\n  tex: {a: b}\n  code: {Gate: weight}", 2, "text list"),
        ("W:\n  tex: W\n  code:\n    Door: x", 4, "class function Door"),
        ("W:\n  tex: W\n  code:\n    Gate:\n    - no", 5, "name no Gate"),
        ("W:\n  tex: W\n  code:\n    shapes/b.py: x", 4, "file folder shapes/b.py"),
        ("W:\n  tex: W\n  code:\n    shapes/gate.py::Gate.b: x", 4, "class Gate.b"),
        ("W:\n  tex: W\n  code: Gate", 3, "`scope: name`"),
        ("W:\n  tex: W\n  code:\n    free: weight", 4, "2 free shapes/gate.py::free"),
        (f"W: {GOOD}\nZ: {{tex: Z, code: {{Gate: [z, weight]}}}}", 2, "weight Gate already W"),
        (f"W: {GOOD}\nZ: {{tex: W, code: {{Gate: z}}}}", 2, "W already shapes/gate.py"),
        ("W:\n  tex: W\n  equations: no.md\n  code: {Gate: weight}", 3, "file folder no.md"),
    ],
)
def test_each_mistake_has_its_line(errors, text: str, line: int, words: str):
    found = errors(text)
    assert any(
        each.startswith(f"symbols.yml:{line}: ") and all(word in each for word in words.split())
        for each in found
    ), found


def test_a_mistake_fails_the_strict_build_and_is_reported_once(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    project.write("shapes/gate.py", GATE)
    project.write("symbols.yml", "W:\n  tex: W\n  code:\n    Gate: no\n")
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        project.build(options=OPTIONS)
    reported = [each for each in caplog.messages if "symbols.yml" in each]
    assert [each.split(" ")[1] for each in reported] == ["symbols.yml:4:"]
    assert not (project.site / "index.html").exists()


def test_a_missing_file_of_symbols_stops_the_build(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(Abort):
        project.build(options=OPTIONS)
    assert [message.split(" ")[0] for message in caplog.messages] == ["symbols.yml:1:"]


def test_a_link_to_a_missing_anchor_fails_the_strict_build(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    project.write(
        "shapes/a.py", 'r"""\n# A\n\n[f](#f), [g](#g) and [B](b.py#B.g).\n"""\n\n\ndef f(): ...\n'
    )
    project.write("shapes/b.py", "class B:\n    def f(self): ...\n")
    with pytest.raises(Abort):
        project.build()
    found = [each.removeprefix("mkdocs_annotated: ") for each in caplog.messages if "#" in each]
    assert [each.split(" ")[0] for each in found] == ["shapes/a.py:4:"] * 2
    assert "#g" in found[0]
    assert "#B.g" in found[1]
    assert "shapes/b.md" in found[1]
