r"""Drawings: what is refused, and what becomes part of a page."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.drawing import Drawing, read_drawing

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
  class="drawing" viewBox="0 0 320 60" role="img" aria-labelledby="t d">
  <title id="t">The circle &amp; its area</title>
  <desc id="d">A circle.</desc>
  <defs>
    <marker id="tip"><path d="M0 0L4 2L0 4z"/></marker>
    <g id="dot"><circle r="2"/></g>
  </defs>
  <g data-s="R"><rect width="9" height="9" fill="var(--code, #eee)"/></g>
  <use xlink:href="#dot"/>
  <path d="M0 0L9 9" marker-end="url(#tip)"/>
  <a href="../shapes/m.py#eq-1"><text font-size="14">A <tspan>= 1</tspan></text></a>
</svg>
"""
SYMBOLS = "R:\n  tex: r\n  code: {shapes/m.py: r}\n"
MODULE = 'r"""# M\n\n$$A = \\pi r^2 \\tag{1}$$\n\n![](../figures/circle.svg)\n"""\nr = 1\n'
OPTIONS = "sources: [shapes], symbols: symbols.yml, folders: {figures: figures}"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Drawing | None]:
    def read_text(text: str) -> Drawing | None:
        (tmp_path / "circle.svg").write_text(text, encoding="utf-8")
        return read_drawing(tmp_path / "circle.svg", "circle.svg")

    return read_text


def written(drawing: Drawing | None, number: int = 1) -> str:
    assert drawing
    return drawing.html(number, lambda url, line: f"{line}:{url}")


def test_a_picture_without_the_class_is_not_a_drawing(read, tmp_path: Path):
    assert read(SVG.replace('class="drawing"', 'class="drawings"')) is None
    assert read("<svg>not even <well> formed") is None
    (tmp_path / "a.png").write_bytes(b'<svg class="drawing">')
    assert read_drawing(tmp_path / "a.png", "a.png") is None


def test_the_title_becomes_the_text_alternative_and_no_tooltip(read):
    html = written(read(SVG))
    assert html.startswith('<svg viewBox="0 0 320 60" class="drawing" role="group"')
    assert 'aria-label="The circle &amp; its area" aria-describedby="drawing1-d"' in html
    assert '<desc id="drawing1-d">A circle.</desc>' in html
    assert "<title" not in html


def test_a_drawing_without_links_is_a_picture(read):
    assert ' role="img"' in written(read(re.sub(r"</?a\b[^>]*>", "", SVG)))


def test_ids_and_their_uses_differ_between_the_drawings_of_a_page(read):
    drawing = read(SVG)
    for number in (1, 2):
        html = written(drawing, number)
        ids = re.findall(r'\bid="([^"]*)"', html)
        assert ids == [f"drawing{number}-{name}" for name in ("d", "tip", "dot")]
        assert f'href="#drawing{number}-dot"' in html
        assert f'marker-end="url(#drawing{number}-tip)"' in html


def test_links_are_resolved_with_their_line_and_text_keeps_its_spaces(read):
    html = written(read(SVG))
    text = '<text font-size="14">A <tspan>= 1</tspan></text>'
    assert f'<a href="12:../shapes/m.py#eq-1">{text}</a>' in html


def test_a_wide_drawing_scrolls_where_its_labels_would_be_too_small(read):
    assert "min-width" not in written(read(SVG))
    wide = written(read(SVG.replace("0 0 320 60", "0 0 700 60")))
    assert wide.startswith('<span class="scroll"><svg style="min-width:475px"')


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("<defs>", "<script/><defs>", 5, "<script>"),
        ("<defs>", "<style>a{}</style><defs>", 5, "<style>"),
        ("<defs>", "<foreignObject/><defs>", 5, "<foreignObject>"),
        ("<defs>", '<image href="#a"/><defs>', 5, "<image>"),
        ("<defs>", '<animate attributeName="href"/><defs>', 5, "<animate>"),
        ("<use ", '<use onclick="a()" ', 10, "onclick"),
        ("<use ", '<use ONLOAD="a()" ', 10, "onload"),
        ('"#dot"', '"other.svg#dot"', 10, "other.svg#dot"),
        ('"#dot"', '"https://a.b/c#dot"', 10, "https://a.b/c#dot"),
        ("url(#tip)", "url( 'https://a.b/c' )", 11, "another file"),
        ("../shapes/m.py#eq-1", "java&#10;script:alert(1)", 12, "not allowed"),
        ("../shapes/m.py#eq-1", "data:text/html,a", 12, "data:text/html,a"),
        ("</defs>", "", 13, "not well-formed XML"),
        (' viewBox="0 0 320 60"', "", 1, "viewBox"),
        ("0 0 320 60", "0 0 320", 1, "viewBox"),
        ('<title id="t">The circle &amp; its area</title>', "", 1, "<title>"),
        ("<svg", '<!DOCTYPE svg [<!ENTITY a "b">]>\n<svg', 1, "document type"),
        ("<use", "<g>" * 60 + "<use", 10, "nested too deeply"),
    ],
)
def test_what_is_no_drawing_is_refused_with_its_line(read, old: str, new: str, line: int, words):
    assert old in SVG
    with pytest.raises(SourceError) as raised:
        read(SVG.replace(old, new, 1))
    assert str(raised.value).startswith(f"circle.svg:{line}: ")
    assert words in str(raised.value)


def build(project, svg: str = SVG) -> str:
    project.write("shapes/m.py", MODULE)
    project.write("symbols.yml", SYMBOLS)
    project.write("figures/circle.svg", svg)
    project.write("docs/index.md", "# Start\n\n![x](../figures/circle.svg)\n")
    return (project.build(options=OPTIONS) / "shapes" / "m.html").read_text()


def test_a_drawing_in_prose_is_part_of_the_page(project):
    html = build(project)
    assert '<p><svg viewBox="0 0 320 60" class="drawing"' in html
    assert '<a href="#eq-1"><text' in html
    assert '<button data-s="R">' in html
    assert "<img" not in html
    start = (project.site / "index.html").read_text()
    assert '<a href="shapes/m.html#eq-1"><text' in start
    assert '<button data-s="R">' in start


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#eq-1", "#eq-2", "figures/circle.svg:12: no anchor #eq-2 on the page shapes/m.md"),
        ("m.py", "n.py", "figures/circle.svg:12: no file ../shapes/n.py"),
        ('data-s="R"', 'data-s="Q"', "figures/circle.svg:9: no symbol Q in symbols.yml"),
        ("<use ", '<use onclick="a()" ', "figures/circle.svg:10: the attribute onclick"),
    ],
)
def test_a_strict_build_fails_with_the_line_in_the_drawing(
    project, caplog: pytest.LogCaptureFixture, old: str, new: str, message: str
):
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        build(project, SVG.replace(old, new))
    assert message in caplog.text
