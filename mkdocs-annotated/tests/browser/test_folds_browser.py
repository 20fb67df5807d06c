r"""Folded lines, wrapped lines and the order of search results in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

pytestmark = pytest.mark.browser

GATE = r'''
r"""The unit of the paper.

# Gates
"""

import math
import cmath


class GatingUnit:
    r"""Multiplies.

    ## Gating unit

    $$s(Z) = Z_1 \odot f(Z_2), \qquad f(Z) = W Z + b \qquad W \in \mathbb{R}^{n \times n} \tag{4}$$
    """

    def forward(
        self,
        z,
        *,
        needle=None,
        last=None,
    ):
        # fold: checks
        if z is None:
            raise ValueError("a haystack")
        # The product, in one line that is far too long for any screen.
        return z * "a line of code that does not fit beside its prose, even on a wide screen" * 2


# fold: helpers
def helper():
    """A helper, see `GatingUnit`."""
    return math.pi
'''
PORT = '''
"""# The port

Eq. 4 again, as `GatingUnit`.
"""

from pkg.gate import GatingUnit
'''
ARGUMENTS = '''
"""# Arguments

* a list that names nothing
"""


def area(radius):
    """The area of a circle.

    * a list in the middle

    Between the lists.

    * `radius` is the width of nothing

    Raises `ValueError` for a needle.
    """
    return 3 * radius**2


def both(radius):
    """Both.

    * `radius` comes before the formula

    $$a = b$$
    """
    return radius
'''
FILES = {
    "pkg/arguments.py": ARGUMENTS.lstrip("\n"),
    "docs/index.md": "# Start\n\nSee Eq. 4, the gating unit.\n",
    "pkg/gate.py": GATE.lstrip("\n"),
    "pkg/a_port.py": PORT.lstrip("\n"),
    "mkdocs.yml": "site_name: Gate\ntheme: annotated\nuse_directory_urls: false\n"
    "plugins: [{annotated: {sources: [pkg]}}]\n",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root: Path = tmp_path_factory.mktemp("folds")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    build(load_config(str(root / "mkdocs.yml"), strict=True))
    return (root / "site/pkg/gate.html").as_uri()


@pytest.fixture
def visit(open_page, address: str) -> Callable[..., object]:
    def visit_page(width: int = 1400, anchor: str = "", **options: object):
        return open_page(address + anchor, width, **options).page

    return visit_page


def shown(page) -> list[int]:
    """Return the numbers of the lines that have a height."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".code b")]
            .filter(b => b.checkVisibility({contentVisibilityAuto: true}))
            .map(b => Number(b.id.slice(1)))"""
    )


ALL = [6, 7, 10, *range(17, 28), 29, 32, 33, 35]
PAPER = [10, 17, 29]


def test_checks_signatures_imports_and_helpers_are_one_line_each(visit):
    page = visit()
    assert shown(page) == PAPER
    texts = [text.strip() for text in page.locator(".fold").all_inner_texts()]
    assert texts == [
        "imports",
        "def forward(self, z, *, needle=None, last=None)",
        "checks",
        "helpers",
    ]
    # Closed folds have no height, and their rows no border.
    assert page.locator(".row.folded").bounding_box()["height"] == 0


def test_nothing_is_folded_without_scripts(visit):
    page = visit(java_script_enabled=False)
    assert shown(page) == ALL
    assert page.locator(".fold").first.is_hidden()


def test_a_click_and_the_keyboard_open_and_close_a_fold(visit):
    page = visit()
    checks = page.locator(".fold", has_text="checks")
    checks.click()
    assert shown(page) == [10, 17, 25, 26, 27, 29]
    assert checks.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Enter")
    assert shown(page) == PAPER
    page.locator(".fold", has_text="helpers").focus()
    page.keyboard.press("Space")
    assert shown(page) == [10, 17, 29, 32, 33, 35]
    assert page.get_by_text("A helper, see").is_visible()


def test_the_arguments_at_the_end_of_a_docstring_are_one_line(open_page, address):
    other = address.replace("gate.html", "arguments.html")
    page = open_page(other, 1400).page
    buttons = page.locator(".prose > .fold")
    assert buttons.all_inner_texts() == ["arguments and errors"]
    hidden = page.get_by_text("is the width of nothing")
    assert not hidden.is_visible()
    for text in ("a list that names nothing", "a list in the middle", "comes before the formula"):
        assert page.get_by_text(text).is_visible()
    buttons.click()
    assert hidden.is_visible()
    assert page.get_by_text("for a needle").is_visible()
    page.get_by_role("button", name="paper").click()
    assert not hidden.is_visible()
    page.get_by_role("button", name="full").click()
    assert hidden.is_visible()
    page.evaluate("localStorage.clear()")
    without = open_page(other, 1400, java_script_enabled=False).page
    assert without.get_by_text("is the width of nothing").is_visible()


def test_line_numbers_stay_true_in_both_depths(visit):
    page = visit()
    count = """() => [...document.querySelectorAll(".code b")]
        .filter(line => !line.closest(".folded"))
        .map(line => [line.id, line.style.getPropertyValue("--n")])"""
    # Every line behind a fold has its own number, and so has every fold.
    numbers = dict(page.evaluate(count))
    assert numbers["L10"] == "10"
    assert numbers["L29"] == "29"
    folds = "[...document.querySelectorAll('.fold')].map(f => f.style.getPropertyValue('--n'))"
    assert page.evaluate(folds) == ["6", "18", "25", "32"]


@pytest.mark.parametrize(
    ("anchor", "line"), [("#L27", 27), ("#L6", 6), ("#L34", 35), ("#helper", 33)]
)
def test_a_link_to_a_folded_line_opens_it(visit, anchor: str, line: int):
    page = visit(anchor=anchor)
    assert line in shown(page)
    top = page.locator(f"#L{line}").bounding_box()["y"]
    assert 0 <= top < 800
    page = visit()
    page.evaluate(f"location.hash = '{anchor}'")
    page.wait_for_function("document.querySelector('.fold[aria-expanded=true]')")
    assert line in shown(page)


def test_find_in_page_and_search_open_a_fold(visit):
    page = visit()
    hidden = "[...document.querySelectorAll('.folded')].map(e => e.getAttribute('hidden'))"
    assert set(page.evaluate(hidden)) == {"until-found"}
    # The browser sends this event before it shows a match.
    page.evaluate("""document.querySelector("#L27").dispatchEvent(new Event("x"));
        document.querySelector("#L27").closest(".folded")
            .dispatchEvent(new Event("beforematch", { bubbles: true }))""")
    assert 27 in shown(page)
    page = visit()
    page.keyboard.press("/")
    page.wait_for_function("window.annotatedIndex")
    page.keyboard.type("a haystack")
    page.locator("#find a").first.click()
    page.wait_for_function("document.querySelector('.fold[aria-expanded=true]')")
    assert 27 in shown(page)


def test_the_switch_shows_all_code_and_is_kept(visit):
    page = visit()
    page.get_by_role("button", name="full").click()
    assert shown(page) == ALL
    assert page.locator(".fold").first.is_hidden()
    page.reload()
    assert shown(page) == ALL
    page.get_by_role("button", name="paper").click()
    assert shown(page) == PAPER
    page.reload()
    assert shown(page) == PAPER
    page.evaluate("localStorage.clear()")


def test_print_shows_all_lines(visit):
    page = visit()
    page.emulate_media(media="print")
    page.wait_for_function("document.querySelector('#L27').checkVisibility()")
    assert shown(page) == ALL
    assert page.locator(".depth").is_hidden()


def test_the_script_moves_nothing_that_was_drawn_before(visit, browser):
    """The page has the same height before and after the script."""
    url = visit().url
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    page.route("**/annotated.js", lambda route: route.abort())
    page.goto(url)
    before = page.evaluate("document.querySelector('.annotated').getBoundingClientRect().bottom")
    page.unroute("**/annotated.js")
    page.goto(url)
    after = page.evaluate("document.querySelector('.annotated').getBoundingClientRect().bottom")
    page.close()
    assert before == after


def test_copied_code_holds_folded_lines(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    row = page.locator(".row", has=page.locator("#L25"))
    row.hover()
    row.get_by_role("button", name="Copy code").click()
    page.wait_for_selector("[aria-label=Copied]")
    text = page.evaluate("navigator.clipboard.readText()")
    lines = GATE.lstrip("\n").split("\n")
    assert text.rstrip("\n") == "\n".join([lines[9], *lines[16:27]])


def test_keys_skip_folded_rows(visit):
    page = visit()
    for _ in range(9):
        page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.className")
    assert "folded" not in focused


@pytest.mark.parametrize("width", [1400, 1280, 801, 390, 360])
def test_long_lines_wrap_with_a_mark_and_one_number(visit, width: int):
    page = visit(width)
    box = """id => {
        const line = document.getElementById(id), text = line.querySelector("span");
        const range = document.createRange();
        range.selectNodeContents(text);
        const right = Math.max(...[...range.getClientRects()].map(r => r.right));
        const lines = Math.round(text.getBoundingClientRect().height /
            parseFloat(getComputedStyle(line).lineHeight));
        const mark = getComputedStyle(text, "::after");
        return [right, line.closest("pre").getBoundingClientRect().right, lines,
            parseFloat(mark.height), parseFloat(getComputedStyle(line).lineHeight)];
    }"""
    right, edge, lines, mark, height = page.evaluate(box, "L29")
    assert right <= edge
    assert lines >= 2
    assert mark == pytest.approx((lines - 1) * height, abs=1)
    assert page.evaluate(box, "L10")[2:4] == [1, 0]


@pytest.mark.parametrize("width", [390, 360])
def test_no_equation_and_no_number_is_cut_on_a_narrow_screen(visit, width: int):
    page = visit(width)
    page.evaluate("document.fonts.ready.then(() => true)")
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".eq")].filter(e => e.scrollWidth > e.clientWidth)
            .map(e => e.textContent)"""
    )
    assert cut == []
    number, parts = page.locator(".no").bounding_box(), page.locator(".eq math").all()
    assert number["x"] + number["width"] <= width
    assert len(parts) == 3
    boxes = [part.bounding_box() for part in parts]
    assert boxes[0]["y"] < boxes[2]["y"]


def test_the_parts_of_an_equation_are_beside_each_other_if_they_fit(visit):
    page = visit()
    boxes = [part.bounding_box() for part in page.locator(".eq math").all()]
    assert max(b["y"] for b in boxes) < min(b["y"] + b["height"] for b in boxes)
    assert page.locator(".no").inner_text() == "(4)"


def results(page, query: str) -> list[str]:
    page.fill("#find input", query)
    links = page.locator("#find a").all()
    return [str(link.get_attribute("href")).rpartition("/")[2] for link in links]


def test_search_shows_definitions_first_then_headings_then_prose_then_code(visit):
    page = visit()
    page.keyboard.press("/")
    page.wait_for_function("window.annotatedIndex")
    for query in ("Eq. 4", "eq 4", "equation 4", "Equation (4)", "gating unit", "GatingUnit"):
        assert results(page, query)[0] == "gate.html#GatingUnit", query
    # The class, then the pages that only mention or import it.
    assert results(page, "gatingunit")[:2] == ["gate.html#GatingUnit", "a_port.html#L6"]
    assert results(page, "forward")[0] == "gate.html#GatingUnit.forward"
    # Exact before part: `helper` is the function, `help` only a part of it.
    assert results(page, "helper")[0] == "gate.html#helper"
    # A heading before prose.
    assert results(page, "gates")[0] == "gate.html#L3"
    assert results(page, "start")[0] == "index.html#start"
    assert results(page, "cmath") == ["gate.html#L7"]
    assert results(page, "nowhere") == []
