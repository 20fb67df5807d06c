r"""Symbols: which trees of an equation they are, which names of the code, and what a build says."""

from __future__ import annotations

import logging
import re
from html import unescape
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mkdocs.exceptions import Abort
from mkdocs_annotated.markdown.equations import mark_symbols, symbol_structure
from mkdocs_annotated.markdown.math import to_mathml

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
    """The symbols of a formula, each with the text it covers."""
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
def test_a_symbol_is_its_tree_and_neither_less_nor_more(latex: str, expected: list[str]):
    assert marked(latex, "W", "Z", "b", "n", "Z_1", r"\tilde{Z}", "d_{n}") == expected


@given(st.text("WZn_^{}'\\ 12<>&=+", max_size=12))
def test_marks_change_nothing_but_attributes_in_any_formula(latex: str):
    try:
        to_mathml(latex, display=True)
    except ValueError:
        return
    assert set(marked(latex, "W", "Z", "Z_1", "n")) <= {"W", "Z", "Z_1", "n"}


@given(st.text("<>/math data-latex=\"a'W&;", max_size=60))
def test_text_that_only_looks_like_a_formula_is_left_alone(text: str):
    html = f'<math data-latex="W">{text}</math>'
    assert mark_symbols(html, {("mi", "W"): "W"}, print) == html


@pytest.mark.parametrize("latex", ["WZ", "W + 1", "f(x)", "{W Z}"])
def test_more_than_one_letter_is_no_symbol(latex: str):
    assert symbol_structure(to_mathml(latex, display=False)) is None


def parts(html: str) -> list[tuple[str, int, str]]:
    """The marked names of the code: symbol, line, text."""
    found = []
    for number, line in re.findall(r"<b id=L(\d+)[^>]*>(.*?)\n</b>", html):
        for symbol, inner in re.findall(r"data-s=(\w+)[^>]*>(.*?)</(?:a|i)>", line):
            found.append((symbol, int(number), unescape(re.sub(r"<[^>]*>", "", inner))))
    return found


def test_code_is_marked_by_its_names_within_the_scope(project: SimpleNamespace):
    project.write("shapes/gate.py", GATE)
    project.write("symbols.yml", SYMBOLS)
    html = (project.build(options=OPTIONS) / "shapes/gate.html").read_text()
    assert parts(html) == [
        *[("W", 11, "weight"), ("W", 12, "weight"), ("W", 12, "weight"), ("Z", 14, "z")],
        *[("W", 16, "weight"), ("W", 16, "weight"), ("Z", 16, "z"), ("W", 17, "weight")],
        *[("Z1", 18, "z1"), ("Z", 18, "z"), ("Z1", 19, "z1"), ("W", 19, "weight")],
    ]
    equations = "".join(re.findall("<math.*?</math>", html.split("<main")[1]))
    assert re.findall(r"data-s=(\w+)", equations) == ["Z", "Z1", "W", "W", "Z"]


def test_the_legend_lists_the_symbols_of_the_page_and_of_no_other(project: SimpleNamespace):
    project.write("shapes/gate.py", GATE)
    project.write("symbols.yml", SYMBOLS)
    project.write("docs/index.md", "# Start\n\nHere is $Z$.\n")
    site = project.build(options=OPTIONS)
    legend = re.findall(r"<button data-s=(\w+)>", (site / "shapes/gate.html").read_text())
    assert legend == ["W", "Z", "Z1"]
    assert "<span>the &lt;spatial&gt; weights</span>" in (site / "shapes/gate.html").read_text()
    assert re.findall(r"<button data-s=(\w+)>", (site / "index.html").read_text()) == ["Z"]
    other = (site / "shapes/index.html").read_text()
    assert "toc symbols" in (site / "index.html").read_text()
    assert "toc symbols" not in other


def test_the_narrower_scope_wins_where_two_symbols_share_a_letter(project: SimpleNamespace):
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
    prose = re.findall(
        r"<mi data-s=(\w+)>", "".join(re.findall("<math.*?</math>", html.split("<main")[1]))
    )
    assert prose == ["wide", "narrow", "wide"]
    assert [symbol for symbol, *_ in parts(html)] == ["narrow", "narrow", "wide", "wide"]


GOOD = "{tex: W, code: {Gate: weight}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"W: {GOOD}\nQ: {{tex: Q, code: {{Gate: z}}}}",
            "2: no equation of the site has the symbol Q",
        ),
        ("W:\n  tex: W", "1: W has no `code`"),
        ("W: {tex: W, code: {}}", "1: no code of the site has the symbol W"),
        ("W:\n  code: {Gate: weight}", "1: W has no `tex`"),
        ("W: 3", "1: W needs `tex` and `code`"),
        (
            "W:\n  tex: W\n  colour: red\n  code: {Gate: weight}",
            "3: the key colour is not one of tex,",
        ),
        (f"W: {GOOD}\nW: {GOOD}", "2: the symbol W stands here twice"),
        (f"W W: {GOOD}", "1: the id of a symbol must be a letter, then"),
        (
            "W:\n  code: {Gate: weight}\n  tex:\n  - W\n  - \\nonsense",
            "5: LaTeX cannot be rendered:",
        ),
        ("W:\n  tex: [W, W Z]\n  code: {Gate: weight}", "2: W Z is more than one symbol"),
        ("W:\n  tex: {a: b}\n  code: {Gate: weight}", "2: here must be a text or a list of texts"),
        ("W:\n  tex: W\n  code:\n    Door: x", "4: there is no class or function Door"),
        ("W:\n  tex: W\n  code:\n    Gate:\n    - no", "5: there is no name no in Gate"),
        (
            "W:\n  tex: W\n  code:\n    shapes/b.py: x",
            "4: there is no file or folder shapes/b.py on",
        ),
        (
            "W:\n  tex: W\n  code:\n    shapes/gate.py::Gate.b: x",
            "4: there is no class or function",
        ),
        ("W:\n  tex: W\n  code: Gate", "3: code is `scope: name` or `scope: [names]`"),
        (
            "W:\n  tex: W\n  code:\n    free: weight",
            "4: free stands in 2 files; write shapes/gate.py::",
        ),
        (
            f"W: {GOOD}\nZ: {{tex: Z, code: {{Gate: [z, weight]}}}}",
            "2: weight in Gate is W already",
        ),
        (f"W: {GOOD}\nZ: {{tex: W, code: {{Gate: z}}}}", "2: W is W already in"),
        (
            "W:\n  tex: W\n  equations: no.md\n  code: {Gate: weight}",
            "3: there is no file or folder no.md",
        ),
        ("- W", "1: a file of symbols holds one `id:` after another"),
        ("W: ]", "1: this is not YAML"),
    ],
)
def test_each_mistake_is_reported_with_its_line(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture, text: str, message: str
):
    project.write("shapes/gate.py", GATE)
    project.write("shapes/more.py", "def free(): ...\n")
    project.write("symbols.yml", "").write_text(text + "\n")
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        project.build(options=OPTIONS)
    assert any(f"symbols.yml:{message}" in each for each in caplog.messages), caplog.messages
    assert not (project.site / "index.html").exists()


def test_a_mistake_is_reported_once(project: SimpleNamespace, caplog: pytest.LogCaptureFixture):
    project.write("shapes/gate.py", GATE)
    project.write("symbols.yml", "W:\n  tex: W\n  code:\n    Gate: no\n")
    with pytest.raises(Abort):
        project.build(options=OPTIONS)
    ours = [each for each in caplog.messages if "symbols.yml" in each]
    assert ours == ["mkdocs_annotated: symbols.yml:4: there is no name no in Gate"]


def test_a_file_of_symbols_that_is_missing_stops_the_build(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(Abort):
        project.build(options=OPTIONS)
    assert caplog.messages == ["symbols.yml:1: this file of symbols cannot be read"]


def test_a_link_to_an_unknown_place_of_a_page_fails_the_strict_build(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    project.write(
        "shapes/a.py", 'r"""\n# A\n\n[f](#f), [g](#g) and [B](b.py#B.g).\n"""\n\n\ndef f(): ...\n'
    )
    project.write("shapes/b.py", "class B:\n    def f(self): ...\n")
    with pytest.raises(Abort):
        project.build()
    found = [each.removeprefix("mkdocs_annotated: ") for each in caplog.messages if "#" in each]
    assert found == [
        "shapes/a.py:4: there is no #g on this page",
        "shapes/a.py:4: there is no #B.g on the page shapes/b.md",
    ]
