r"""Layout, fonts, addresses and copying in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "example"
PAGES = ["index.html", "shapes/index.html", "shapes/circle.html", "shapes/polygon.html"]
PAGES += ["pairs.html", "measured/area.html", "404.html"]
SOURCES = {"shapes/index.html": "__init__", "shapes/circle.html": "circle"}
SOURCES["shapes/polygon.html"] = "polygon"
WIDTHS = [360, 390, 768, 1024, 1400, 1920]

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("path", PAGES)
def test_no_request_leaves_the_origin_and_nothing_is_logged(visit, origin: str, path: str):
    seen = visit(path)
    seen.page.evaluate("document.fonts.ready.then(() => true)")
    assert any(url.endswith(".css") for url in seen.requests)
    assert [url for url in seen.requests if not url.startswith(origin)] == []
    assert seen.errors == []


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_the_screen(visit, path: str):
    page = visit(path).page
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", SOURCES)
def test_each_code_line_is_the_line_of_the_source(visit, path: str):
    found = visit(path).page.evaluate(
        """() => [...document.querySelectorAll(".code b")].map(line => {
            return [Number(line.id.slice(1)), line.textContent];
        })"""
    )
    lines = (EXAMPLE / "shapes" / f"{SOURCES[path]}.py").read_text().split("\n")
    assert len(found) >= 2
    for line, text in found:
        assert text == lines[line - 1] + "\n"


@pytest.mark.parametrize("width", [390, 1400])
def test_anchors_are_scrolled_to_below_the_header(visit, width: int):
    page = visit("shapes/circle.html", width).page
    page.evaluate("document.fonts.ready.then(() => true)")
    for target in ("L74", "Circle.corners", "Circle.area", "the-circle"):
        top, header = page.evaluate(
            """id => {
                location.hash = id;
                const bottom = document.querySelector(".top").getBoundingClientRect().bottom;
                return [document.getElementById(id).getBoundingClientRect().top, bottom];
            }""",
            target,
        )
        assert header <= top < 800, target


def test_formulas_use_only_the_shipped_font(visit):
    for path in ("index.html", "shapes/circle.html", "shapes/polygon.html"):
        seen = visit(path)
        seen.page.evaluate("document.fonts.ready.then(() => true)")
        session = seen.context.new_cdp_session(seen.page)
        session.send("DOM.enable")
        session.send("CSS.enable")
        root = session.send("DOM.getDocument")["root"]["nodeId"]
        selector = "math :is(mi, mn, mo, mtext)"
        query = {"nodeId": root, "selector": selector}
        nodes = session.send("DOM.querySelectorAll", query)["nodeIds"]
        texts = seen.page.locator(selector).all_text_contents()
        assert len(nodes) == len(texts) >= 10
        # The font depends on the characters alone, so one node per text is enough.
        for node in dict(zip(texts, nodes, strict=True)).values():
            fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
            assert fonts
            assert all(font["isCustomFont"] for font in fonts), fonts
        session.detach()


def test_a_radical_is_wider_than_its_content(visit):
    inner, outer = visit("shapes/circle.html").page.evaluate(
        """() => {
            const root = document.querySelector("msqrt");
            const range = document.createRange();
            range.selectNodeContents(root);
            const inner = [...root.children].map(e => e.getBoundingClientRect());
            const left = Math.min(...inner.map(r => r.left));
            const right = Math.max(...inner.map(r => r.right));
            return [right - left, root.getBoundingClientRect().width];
        }"""
    )
    assert outer > inner + 4


def test_pages_read_without_scripts(visit):
    page = visit("shapes/circle.html", java_script_enabled=False).page
    assert page.locator("h1").inner_text() == "The circle"
    assert "return math.pi * self.radius**2" in page.locator("main").inner_text()
    assert page.locator("#theme").is_hidden()
    page.locator("#nav summary").first.click()
    assert page.locator("#nav a", has_text="The polygon").is_visible()


def test_the_menu_of_a_narrow_screen_opens_without_scripts(visit):
    page = visit("shapes/circle.html", 390, java_script_enabled=False).page
    assert page.locator("#nav a", has_text="Start").is_hidden()
    page.locator(".menu-button").click()
    assert page.locator("#nav a", has_text="Start").is_visible()


def test_the_chosen_theme_is_kept(visit):
    page = visit("index.html", color_scheme="dark").page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.locator("#theme").click()
    light = page.evaluate(background)
    assert light == "rgb(255, 255, 255)" != dark
    page.reload()
    assert page.evaluate(background) == light
    page.evaluate("localStorage.clear()")


def copied(page, selector: str) -> str:
    page.evaluate(
        """selector => {
            const area = document.createElement("textarea");
            document.body.append(area);
            const range = document.createRange();
            range.selectNodeContents(document.querySelector(selector));
            getSelection().removeAllRanges();
            getSelection().addRange(range);
        }""",
        selector,
    )
    page.keyboard.press("Control+c")
    page.locator("textarea").focus()
    page.keyboard.press("Control+v")
    return page.locator("textarea").input_value()


def test_copied_formulas_are_latex(visit):
    text = copied(visit("shapes/polygon.html").page, ".prose")
    assert "Corners $(x_i, y_i)$, joined in their order." in text
    assert r"$$A = \frac12 \left| \sum_{i=1}^{n} x_i y_{i+1} - x_{i+1} y_i \right|$$" in text


def test_copied_code_has_no_line_numbers(visit):
    text = copied(visit("shapes/polygon.html").page, ".code")
    lines = (EXAMPLE / "shapes" / "polygon.py").read_text().split("\n")
    assert text.rstrip("\n") == "\n".join(lines[8:11])


def test_a_short_piece_of_code_stays_beside_a_long_text(visit):
    page = visit("shapes/circle.html").page
    page.set_viewport_size({"width": 1400, "height": 300})
    page.evaluate("document.getElementById('Circle.corners').scrollIntoView()")
    page.mouse.wheel(0, 150)
    page.wait_for_function("scrollY > 0")
    top = page.evaluate("document.getElementById('L51').closest('pre').getBoundingClientRect().top")
    assert 40 <= top <= 60


def test_a_site_works_from_disk(browser, example_site: Path):
    page = browser.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((example_site / "index.html").as_uri())
    page.locator("main a", has_text="circle").click()
    assert page.title() == "The circle - Shapes, annotated"
    assert page.evaluate("document.fonts.ready.then(fonts => [...fonts].map(f => f.status))") == [
        "loaded"
    ]
    assert failed == []
    page.close()
