r"""The search index as data, without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.site import search
from mkdocs_annotated.source.scan import Line

EXAMPLE = Path(__file__).parents[1] / "example"


def loaded(script: str) -> list:
    assert script.startswith("annotatedIndex=")
    return json.loads(script.removeprefix("annotatedIndex="))


def test_the_text_of_a_page_is_its_visible_text_with_formulas_as_latex():
    html = '<p>A <em>very</em>\nlow $5 <math data-latex="a &lt; b"><mi>a</mi></math></p><p>x</p>'
    assert search.plain_text(html) == "A very low $5 $a < b$ x"
    display = '<span class="eq"><math data-latex="Z" display="block"><mi>Z</mi></math></span>'
    assert search.plain_text(display) == "$$Z$$"


def test_block_elements_separate_words_and_inline_elements_do_not():
    assert search.plain_text("<table><tr><td>a</td><td>b</td></tr></table>") == "a b"
    assert search.plain_text("un<b>broken</b>") == "unbroken"


def test_an_ordinary_page_has_one_entry_per_section():
    html = '<p>Before.</p><h1 id="one">One</h1><p>First.</p><h2 id="two">Two</h2><p>Second.</p>'
    assert [(e.anchor, e.prose) for e in search.section_entries(html)] == [
        ("", "Before."),
        ("one", "One First."),
        ("two", "Two Second."),
    ]


def test_a_row_holds_its_prose_and_its_code_with_line_numbers(render):
    page = render(
        '''
        def f(x):
            """Twice $x$."""
            return x + x

        # Alone.
        '''
    )
    found = search.row_entries(page.module, RenderedRows(page.rows, page.tail))
    assert [entry.prose for entry in found] == ["example Twice $x$.", "Alone."]
    assert found[0].anchor == "L2"
    assert found[0].code == (Line(1, "def f(x):"), Line(3, "    return x + x"))
    assert found[1] == search.SearchEntry("L5", "Alone.")


def test_footnotes_are_in_the_index(render):
    page = render("# Text.[^a]\n#\n# [^a]: The small print.\nx = 1\n")
    found = search.row_entries(page.module, RenderedRows(page.rows, page.tail))
    assert found[-1].anchor == "fn:a"
    assert "The small print." in found[-1].prose


def test_the_index_is_a_script_that_sets_one_global():
    entry = search.SearchEntry("L3", 'says "</script>"', (Line(3, "x = 1"), Line(4, "  ")))
    page = search.SearchPage("a/b.html", "A", (entry,))
    assert loaded(search.index_script([page])) == [
        ["a/b.html", "A", [["L3", 'says "</script>"', [[3, "x = 1"]]]]]
    ]


def test_the_index_can_hold_lone_surrogates():
    page = search.SearchPage("a", "A", (search.SearchEntry("", "\ud800 \u2028"),))
    assert loaded(search.index_script([page]))[0][2][0][1] == "? \u2028"


def test_each_line_of_each_source_is_in_the_index_of_a_site(example_site: Path):
    pages = {
        address: SimpleNamespace(title=title, rows=rows)
        for address, title, rows in loaded((example_site / search.ADDRESS).read_text())
    }
    assert pages["index.html"].rows[0][0] == "shapes"
    assert pages["measured/area.html"].rows
    circle = pages["shapes/circle.html"]
    assert circle.title == "The circle"
    lines = dict(line for _, _, code, *_ in circle.rows for line in code)
    source = (EXAMPLE / "shapes" / "circle.py").read_text().split("\n")
    assert len(lines) == 19
    assert {n: source[n - 1] for n in lines} == lines
    assert lines[80] == "UNIT = Circle(1.0)  # the unit circle"


def test_every_anchor_in_the_index_exists(example_site: Path):
    checked = 0
    for address, _, rows in loaded((example_site / search.ADDRESS).read_text()):
        html = (example_site / address).read_text()
        for anchor, *_ in rows:
            checked += 1
            assert not anchor or f'id="{anchor}"' in html, (
                address,
                anchor,
            )
    assert checked > 10
