r"""Colouring and links do not change a character of the code."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mkdocs_annotated.source.code import Mark, highlight, to_html
from mkdocs_annotated.source.parse import parse

SOURCES = [
    "",
    "x = 1",
    "x = 1\n",
    "\n\n",
    "s = '''\n\n# no comment\n'''\n",
    "\tif x:\n\f\n",
    "x = '<b>&amp;</b>'  # <i>\n",
    "not python at all ??? $$ \x00\n",
    "s = 'a\u2028b\x1c'\n",
]


@pytest.mark.parametrize("source", SOURCES)
def test_tokens_joined_are_the_source(source: str):
    lines = ["".join(token.text for token in line) for line in highlight(source)]
    assert "\n".join(lines) == source.removesuffix("\n")


@given(st.text(max_size=80))
def test_any_text_survives_colouring(source: str):
    source = source.replace("\r", "")
    lines = highlight(source)
    assert "\n".join("".join(t.text for t in line) for line in lines) == source.removesuffix("\n")
    for line in lines:
        column = 0
        for token in line:
            assert token.column == column
            column += len(token.text)
        shown = unescape(re.sub(r"</?i[^>]*>", "", to_html(line)))
        assert shown == "".join(token.text for token in line)


def test_a_string_over_several_lines_is_coloured_as_a_string():
    lines = highlight("x = '''a\nfor b\n'''\n")
    assert [token.kind for token in lines[1]] == ["s"]


def test_names_of_definitions_are_coloured():
    kinds = {token.text: token.kind for token in highlight("class A:\n    def f(self): pass\n")[0]}
    assert kinds["A"] == "nc"


def test_lines_and_definitions_have_addresses(render):
    made = render(
        'import a\n\n\nclass A:\n    """A."""\n\n    def f(self): ...\n\n    def g(self): ...\n'
    )
    for line in (1, 4, 7, 9):
        assert f'<b id="L{line}"' in made.html
    assert '<div class="row" id="A">' in made.html
    assert re.search(r'<b id="L7"[^>]*><wbr id="A.f">', made.html)
    assert re.search(r'<b id="L9"[^>]*><wbr id="A.g">', made.html)


def test_line_numbers_are_set_after_a_gap_and_counted_elsewhere(render):
    made = render("a = 1\nb = 2\n# Prose.\nc = 3\nd = 4\n\n\n\ne = 5\n")
    lines = re.findall(r'<b id="L(\d+)"(?: style="--n:(\d+)")?>', made.html)
    count = 0
    for line, number in lines:
        count = int(number) if number else count + 1
        assert count == int(line)
    assert [line for line, number in lines if number][:2] == ["1", "4"]
    assert sum(1 for _, number in lines if not number) >= 2


def test_a_page_of_two_hundred_lines_is_small(render):
    body = "".join(
        f"    # Row $W_{{{i}}}$ mixes tokens: a weighted sum over positions.\n"
        f"    y{i} = torch.einsum('ij,bjc->bic', self.weight[:n, :n], norm(z{i}))  # [B, n, c]\n"
        f"    z{i} = activation(y{i} + self.bias[:n, None])\n"
        for i in range(66)
    )
    source = f"def f(self, n):\n{body}"
    assert source.count("\n") == 199
    assert len(render(source, dedent=False).html.encode()) < 50_000


def test_rows_without_prose_have_no_empty_paragraph(render):
    made = render('"""Head."""\n\n\ndef f():\n    pass\n')
    assert '<div class="row bare"><pre' in made.html.replace(' id="f"', "")
    assert parse("x = 1\n").rows[0].prose == ()


def test_a_mark_wraps_only_its_name() -> None:
    (line,) = highlight("norm(self.weight, x)")
    marks = [Mark(10, 16, symbol="W"), Mark(0, 4, href="a.html#norm")]
    html = to_html(line, marks)
    assert '<a href="a.html#norm">norm</a>(' in html
    assert '<i data-s="W">weight</i>' in html
    assert unescape(re.sub(r"<[^>]*>", "", html)) == "norm(self.weight, x)"


@given(st.data())
def test_marks_do_not_change_the_text(data: st.DataObject) -> None:
    source = 'def f(a, b): return g(a)["<&>"] + b  # why'
    (line,) = highlight(source)
    edges = sorted(data.draw(st.sets(st.integers(0, len(source)), max_size=8)))
    marks = [Mark(a, b, href="#x") for a, b in zip(edges[::2], edges[1::2], strict=False)]
    assert unescape(re.sub(r"<[^>]*>", "", to_html(line, marks))) == source
