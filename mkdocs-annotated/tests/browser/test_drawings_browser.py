r"""Drawings in a real browser: symbols, links, colours and size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

pytestmark = pytest.mark.browser

SOURCE = r'''
r"""
# Gate

$$Y = W Z \tag{1}$$
"""

import math

weight = math.pi


def forward(z):
    """$Z$ times $W$."""
    return weight * z
'''
SVG = """<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 600 80">
  <title>A gate</title>
  <g data-s="W"><rect width="90" height="60" fill="var(--code, #eee)" stroke="currentColor"/>
    <text font-size="14" x="10" y="30">weights</text></g>
  <a href="../pkg/gate.py#forward"><g data-s="Z"><rect x="200" width="90" height="60" fill="#eee"/>
    <text font-size="14" x="210" y="30">input</text></g></a>
</svg>
"""
FILES = {
    "docs/index.md": "# Start\n",
    "pkg/gate.py": SOURCE.lstrip("\n"),
    "pictures/gate.svg": SVG,
    "symbols.yml": "W: {tex: W, text: weights, code: {pkg/gate.py: weight}}\n"
    "Z: {tex: Z, text: input, code: {forward: z}}\n",
    "exhibits.yml": "- {at: pkg/gate.py, figure: pictures/gate.svg}\n",
    "mkdocs.yml": "site_name: Gate\ntheme: annotated\nuse_directory_urls: false\nplugins:\n"
    "- annotated: {sources: [pkg], symbols: symbols.yml, exhibits: exhibits.yml}\n",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root: Path = tmp_path_factory.mktemp("drawings")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    build(load_config(str(root / "mkdocs.yml"), strict=True))
    return (root / "site/pkg/gate.html").as_uri()


@pytest.fixture
def visit(open_page, address: str) -> Callable[..., object]:
    return lambda width=1400, **options: open_page(address, width, **options).page


def lit(page) -> set[str]:
    found = "[...document.querySelectorAll('main .lit')].map(e => `${e.localName} ${e.dataset.s}`)"
    return set(page.evaluate(found))


FILL = "e => getComputedStyle(e).fill"


def test_a_part_of_a_drawing_and_its_symbol_light_each_other(visit):
    page = visit()
    box = page.locator(".drawing rect").first
    plain = box.evaluate(FILL)
    page.locator(".drawing text").first.hover()
    assert lit(page) == {"g W", "mi W", "i W", "a W"}
    assert box.evaluate(FILL) != plain
    page.locator("h1").hover()
    assert lit(page) == set()
    page.locator("main mi[data-s=W]").first.hover()
    assert lit(page) == {"g W", "mi W", "i W", "a W"}
    assert box.evaluate(FILL) != plain


def test_the_keyboard_reaches_the_links_of_a_drawing(visit):
    page = visit()
    page.locator(".drawing a").focus()
    assert lit(page) == {"g Z", "mi Z", "i Z"}
    page.keyboard.press("Enter")
    assert page.url.endswith("#forward")


def test_a_click_follows_the_link_and_a_second_tap_does(visit):
    page = visit()
    page.locator(".drawing a text").click()
    assert page.url.endswith("#forward")
    page = visit(390, has_touch=True)
    part = page.locator(".drawing a text")
    part.tap()
    assert "g Z" in lit(page)
    assert "#" not in page.url
    part.tap()
    assert page.url.endswith("#forward")


def test_a_drawing_has_the_colours_of_the_theme(visit):
    colours = []
    for scheme in ("light", "dark"):
        text = visit(color_scheme=scheme).locator(".drawing text").first
        colours.append(text.evaluate(FILL))
    assert colours == ["rgb(31, 35, 40)", "rgb(227, 230, 234)"]


@pytest.mark.parametrize("width", [1400, 390, 360])
def test_labels_stay_readable_and_the_page_keeps_its_width(visit, width: int):
    page = visit(width)
    box = page.locator(".drawing").bounding_box()
    assert box["width"] * 14 / 600 >= 9
    assert box["height"] == pytest.approx(box["width"] * 80 / 600, abs=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_drawing_of_a_module_is_above_its_imports(visit):
    page = visit()
    drawing, code = page.locator(".drawing").bounding_box(), page.locator("#L7").bounding_box()
    title = page.locator("h1").bounding_box()
    assert drawing["y"] + drawing["height"] <= code["y"]
    assert drawing["x"] > title["x"] + title["width"]
