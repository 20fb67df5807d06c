r"""Symbols and links in a real browser."""

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

$$s(Z) = Z_1 \odot f_{W,b}(\tilde{Z}), \quad f_{W,b}(Z)_{ic} = \sum_j W_{ij} Z_{jc} + b_i$$
"""


class Gate:
    r"""
    $W$ is the `Gate.weight`, and `forward` uses it. `\mathrm{W}` is text, $\mathrm{W}$ is not $W$.
    """

    def __init__(self, weight, bias):
        self.weight = weight
        self.bias = bias

    def forward(self, z):
        # $Z$ times $W$
        weight = self.weight[: len(z)]
        other.weight = "weight"  # weight
        return weight @ z + self.bias
'''
SYMBOLS = r"""
W: {tex: W, text: mixes tokens, code: {Gate: [self.weight, weight]}}
Z: {tex: Z, text: input, code: {Gate.forward: z}}
b: {tex: b, code: {Gate: [self.bias, bias]}}
"""
LIT = '[...document.querySelectorAll(".lit")].filter(e => e.closest("main"))'


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root: Path = tmp_path_factory.mktemp("symbols")
    for folder in ("docs", "pkg"):
        (root / folder).mkdir()
    (root / "docs/index.md").write_text("# Start\n")
    (root / "pkg/gate.py").write_text(SOURCE.lstrip("\n"))
    (root / "symbols.yml").write_text(SYMBOLS)
    (root / "mkdocs.yml").write_text(
        "site_name: Gate\ntheme: annotated\nuse_directory_urls: false\n"
        "plugins: [{annotated: {sources: [pkg], symbols: symbols.yml}}]\n"
    )
    build(load_config(str(root / "mkdocs.yml"), strict=True))
    return (root / "site/pkg/gate.html").as_uri()


@pytest.fixture
def visit(open_page, address: str) -> Callable[..., object]:
    return lambda width=1400, **options: open_page(address, width, **options).page


def lit(page) -> list[tuple[str, str]]:
    """Return what is highlighted, in order: the tag in an equation or the line of the code."""
    found = page.evaluate(
        f"""{LIT}.map(e => {{
            const line = e.closest(".code b");
            return [line ? line.id : e.tagName, e.textContent];
        }})"""
    )
    return [tuple(each) for each in found]


W = ("mi", "W")
WEIGHTS = [
    *[W, W, W, W, W, ("L13", "weight"), ("L14", "weight"), ("L14", "weight")],
    *[W, ("L19", "weight"), ("L19", "weight"), ("L21", "weight")],
]


def test_hovering_w_highlights_each_w_and_each_weight_and_nothing_else(visit):
    page = visit()
    assert lit(page) == []
    for i in (0, 3, 5):
        page.locator("main mi[data-s=W]").nth(i).hover()
        assert lit(page) == WEIGHTS
    page.locator("h1").hover()
    assert lit(page) == []


def test_hovering_weight_in_the_code_highlights_the_same(visit):
    page = visit()
    for i in (0, 3, 5):
        page.locator(".code b [data-s=W]").nth(i).hover()
        assert lit(page) == WEIGHTS
    page.locator(".code b [data-s=b]").first.hover()
    assert [text for _, text in lit(page)] == ["b"] * 3 + ["bias"] * 4


def test_z_with_a_tilde_or_a_number_is_not_highlighted(visit):
    page = visit()
    page.locator("main mi[data-s=Z]").first.hover()
    mi = ("mi", "Z")
    assert lit(page) == [mi, mi, mi, ("L17", "z"), mi, ("L19", "z"), ("L21", "z")]


def test_only_the_background_changes(visit):
    page = visit()
    styles = """e => { const s = getComputedStyle(e); const r = e.getBoundingClientRect();
        return [s.color, s.outlineStyle, s.textDecorationLine, r.x, r.y, r.width, r.height] }"""
    mark = page.locator("main mi[data-s=W]").first
    before, dark = mark.evaluate(styles), mark.evaluate("e => getComputedStyle(e).backgroundColor")
    mark.hover()
    assert mark.evaluate(styles) == before
    assert mark.evaluate("e => getComputedStyle(e).backgroundColor") != dark


def test_a_click_pins_a_symbol_and_escape_clears_it(visit):
    page = visit()
    page.locator("main mi[data-s=W]").first.click()
    page.locator("h1").hover()
    assert lit(page) == WEIGHTS
    # The symbol under the pointer takes precedence over the pinned one.
    page.locator("main mi[data-s=Z]").first.hover()
    assert ("mi", "W") not in lit(page)
    page.locator("h1").hover()
    assert lit(page) == WEIGHTS
    page.keyboard.press("Escape")
    assert lit(page) == []


def test_a_tap_on_a_linked_name_pins_it_and_a_second_tap_unpins_it(visit):
    page = visit(390, has_touch=True)
    name = page.locator(".code b a[data-s=W]").first
    assert name.get_attribute("href") == "#L14"
    name.tap()
    assert lit(page) == WEIGHTS
    assert "#" not in page.url
    name.tap()
    assert lit(page) == []


def test_the_legend_works_by_keyboard(visit):
    page = visit()
    summary = page.locator(".symbols summary")
    summary.focus()
    page.keyboard.press("Enter")
    buttons = page.locator(".symbols button")
    assert buttons.all_text_contents() == ["Wmixes tokens", "Zinput", "b"]
    page.keyboard.press("Tab")
    assert lit(page) == WEIGHTS
    page.keyboard.press("Tab")
    assert {text for _, text in lit(page)} == {"Z", "z"}
    page.keyboard.press("Enter")
    assert buttons.nth(1).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Escape")
    assert lit(page) == []
    assert buttons.nth(1).get_attribute("aria-pressed") == "false"
    assert page.evaluate("document.activeElement.textContent").endswith("Symbols")
    assert buttons.first.is_hidden()


def test_links_in_code_are_neither_underlined_nor_tab_stops(visit):
    page = visit()
    links = page.locator(".code b a")
    assert links.count() == 2
    assert {each.get_attribute("tabindex") for each in links.all()} == {"-1"}
    line = "e => getComputedStyle(e).textDecorationColor"
    link = links.first
    assert link.evaluate(line) == "rgba(0, 0, 0, 0)"
    color = "e => getComputedStyle(e).color"
    assert link.evaluate(color) == page.locator(".code b").nth(3).evaluate(color)
    link.hover()
    assert link.evaluate(line) != "rgba(0, 0, 0, 0)"
    link.click()
    assert page.url.endswith("#L14")


def test_a_symbol_has_a_tooltip(visit):
    page = visit()
    page.locator("main mi[data-s=W]").first.hover()
    assert page.locator("main").get_attribute("title") == "mixes tokens"
    page.locator("h1").hover()
    assert page.locator("main").get_attribute("title") == ""


def test_without_scripts_there_is_no_legend_and_no_highlight(visit):
    page = visit(java_script_enabled=False)
    assert page.locator(".symbols").is_hidden()
    assert page.locator(".lit").count() == 0
    assert page.locator("#L19").count() == 1


def test_the_open_legend_is_inside_the_screen_at_every_width(visit):
    page = visit()
    page.locator(".symbols summary").click()
    for width in (360, 390, 800, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        box = page.locator(".symbols ul").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
