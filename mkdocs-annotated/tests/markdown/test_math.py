r"""LaTeX becomes MathML; code, prices and shell variables do not."""

from __future__ import annotations

import re
import xml.etree.ElementTree as etree

import pytest
from mkdocs_annotated.markdown.math import to_mathml


def formulas(html: str) -> list[str]:
    return re.findall(r'data-latex="([^"]*)"', html)


def prose(render, text: str) -> str:
    made = render("".join(f"# {line}\n" for line in text.split("\n")) + "x = 1\n", dedent=False)
    assert made.problems == []
    return made.rows[0].split("</h1>\n", 1)[-1]


def test_a_formula_keeps_its_latex_and_is_well_formed():
    mathml = to_mathml(r"a < b \text{ \& \"q\"}", display=False)
    element = etree.fromstring(mathml)
    assert element.tag == "math"
    assert element.get("data-latex") == r"a < b \text{ \& \"q\"}"


def test_the_mathml_of_a_known_equation_does_not_change():
    assert to_mathml(r"s(Z) = Z_1 \odot \tilde{Z}", display=True) == (
        r'<math data-latex="s(Z) = Z_1 \odot \tilde{Z}" display="block"><mi>s</mi>'
        '<mo stretchy="false">(</mo><mi>Z</mi><mo stretchy="false">)</mo><mo>=</mo>'
        '<msub><mi>Z</mi><mn>1</mn></msub><mo largeop="false" lspace="0.2222em" rspace="0.2222em">'
        '⊙</mo><mover accent="true"><mi>Z</mi><mo stretchy="false">\u02dc</mo></mover></math>'
    )


def test_only_tags_number_equations():
    source = r"\begin{align} a &= b \\ c &= d \end{align}"
    assert "<mtext>" not in to_mathml(source, display=True)
    assert "<mtext>(7)</mtext>" in to_mathml(source.replace("b ", r"b \tag{7} "), display=True)
    assert "<mtext>(2)</mtext>" in to_mathml(r"x = 1 \tag{2}", display=True)


@pytest.mark.parametrize("name", ["aligned", "align*", "align"])
def test_a_trailing_line_break_adds_no_empty_line(name: str):
    mathml = to_mathml(rf"\begin{{{name}}} a &= b \\ c &= d \\ \end{{{name}}}", display=True)
    assert mathml.count("<mtr>") == 2


@pytest.mark.parametrize(
    ("latex", "reason"),
    [
        (r"\frobnicate x", r"\\frobnicate"),
        (r"\frac{a}", "Expected argument"),
        ("a & b", "may only appear in a table-like environment"),
        ("  ", "empty"),
    ],
)
def test_latex_that_cannot_be_rendered_says_why(latex: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        to_mathml(latex, display=False)


def test_errors_name_the_line_of_the_file(render):
    made = render('r"""\n# T\n\n$$a$$ text\n$b$ and\n$\\nope$\n"""\n# $\\no$\nx = 1\n')
    assert [problem.split(": ", 1)[0] for problem in made.problems] == [
        "example.py:6",
        "example.py:8",
    ]


def test_an_unclosed_display_formula_is_an_error(render):
    made = render('r"""\n# T\n\n$$\na\n\nb$$\n"""\n')
    assert made.problems[0].startswith("example.py:4: ")
    assert "$$" in made.problems[0]


def test_underscores_and_stars_in_formulas_are_not_emphasis(render):
    html = prose(render, r"$a_i b_i$ and $f_*$ and $g_*$")
    assert formulas(html) == ["a_i b_i", "f_*", "g_*"]
    assert "<em>" not in html


def test_a_bar_in_a_formula_does_not_split_a_table_cell(render):
    html = prose(render, "| a | b |\n| - | - |\n| $|x|$ | 2 |")
    assert html.count("<td>") == 2
    assert formulas(html) == ["|x|"]


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 or $10.",
        "US$5, US$10",
        "from $5-$10",
        "`$x$` and `` $y$ ``",
        r"\$x\$",
        "$ x $",
        "set $HOME/bin:$PATH",
        "one $ alone",
        "$10, and `$x$`",
        "    $x$ = 1",
        "```\n$x$\n```",
        "~~~\n$$\n~~~",
    ],
)
def test_dollar_signs_outside_of_formulas_are_text(render, text: str):
    made = render(
        "# T\n#\n" + "".join(f"# {t}\n" for t in text.split("\n")) + "x = 1\n", dedent=False
    )
    assert made.problems == []
    assert "<math" not in made.html
    shown = re.sub(r"<[^>]+>", "", made.rows[0])
    plain = text.replace("\\", "").replace("`", "").replace("~", "")
    assert plain.split() == shown.split()[-len(plain.split()) :]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$n$th of $m$.", ["n", "m"]),
        ("($x$), $y$; $z$!", ["x", "y", "z"]),
        ("$a$\n$b$", ["a", "b"]),
        ("over\n$a +\nb$ lines", ["a + b"]),
        ("*$x$* **$y$** [$z$](http://example.org)", ["x", "y", "z"]),
        ("# Head $h$", ["h"]),
        (r"$\{x \mid x \ne \$\}$", [r"\{x \mid x \ne \$\}"]),
        ("* item $i$\n* item $j$", ["i", "j"]),
        ("a `code` then $x$", ["x"]),
        ("> quoted\n> $$\n> x\n> = y\n> $$", ["x = y"]),
        ("text $$x$$ text", ["x"]),
        ("$$\na\n- b\n$$", ["a - b"]),
        ("* item\n    $$\n    x\n    $$", ["x"]),
    ],
)
def test_formulas_are_found_in_all_kinds_of_prose(render, text: str, expected: list[str]):
    assert formulas(prose(render, text)) == expected


def test_attributes_keep_their_latex(render):
    html = prose(render, '![a $x$ b](a.png "and $y$")')
    assert 'alt="a $x$ b"' in html
    assert 'title="and $y$"' in html


def test_a_display_formula_can_be_focused_and_scrolled(render):
    assert '<span class="eq" tabindex="0"><span><math ' in prose(render, "$$x$$")


def test_a_numbered_equation_has_its_number_as_id(render):
    html = render('r"""# M\n\n$$a \\tag{1}$$\n\n$$b$$\n\n$$c \\tag{A.2 b}$$\n"""\n').html
    assert '<span class="eq" id="eq-1" tabindex="0"><span><math data-latex="a \\tag{1}"' in html
    assert '<span class="eq" tabindex="0"><span><math data-latex="b"' in html
    assert '<span class="eq" id="eq-A.2-b" tabindex="0"><span><math data-latex="c ' in html


def test_each_number_of_aligned_equations_is_an_id(render):
    html = render('r"""$$\\begin{align}a \\tag{1}\\\\ b \\tag{2}\\end{align}$$"""\n').html
    assert '<span class="eq" id="eq-1" tabindex="0"><wbr id="eq-2"><span><math' in html


def test_the_first_equation_with_a_number_has_the_id(render):
    html = render(
        'r"""# M\n\n$$a \\tag{1}$$\n\n$$b \\tag{1}$$\n\n# Eq. 2\n\n$$c \\tag{2}$$\n"""\n'
    ).html
    assert html.count('id="eq-1"') == html.count('id="eq-2"') == 1
    assert html.index('id="eq-1"') < html.index('data-latex="b ')
    assert '<h1 id="eq-2">' in html
