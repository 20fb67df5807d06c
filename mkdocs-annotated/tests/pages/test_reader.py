r"""Search, copy buttons, keys and print in a real browser."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "example"
CIRCLE = (EXAMPLE / "shapes" / "circle.py").read_text()

pytestmark = pytest.mark.browser


def look_for(page, words: str) -> list[str]:
    page.keyboard.press("/")
    page.wait_for_function("window.annotatedIndex")
    page.keyboard.type(words)
    return page.locator("#find a").all_inner_texts()


def test_search_finds_part_of_a_word_on_a_site_opened_from_disk(browser, example_site: Path):
    page = browser.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((example_site / "shapes" / "polygon.html").as_uri())
    assert page.evaluate("window.annotatedIndex") is None
    found = look_for(page, "eturn ath.pi Self")
    assert [text.split("\n") for text in found] == [
        [
            "The circle, line 49",
            r"Returns $A$, in the square of the unit of $r$; backwards, $r = \sqrt{A / \pi}$.",
            "return math.pi * self.radius**2",
        ]
    ]
    assert page.locator("#find code mark").all_inner_texts() == ["eturn", "ath.pi", "self"]
    page.keyboard.press("Enter")
    page.wait_for_url("**/circle.html#L49")
    assert failed == []
    page.close()


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        (r"\sqrt{A", ["The circle, line 48"]),
        ("BESIDE formulas", ["Start"]),
        ("float 53 bits", ["The circle, line 6"]),
        ("no such words", []),
        ("(", None),
        ("[*", []),
    ],
)
def test_a_result_contains_every_word_and_signs_are_literal(visit, words: str, titles):
    page = visit("shapes/index.html").page
    found = look_for(page, words)
    if titles is None:
        assert len(found) > 5
    else:
        assert [text.split("\n")[0] for text in found] == titles
    shown = page.locator("#find [role=status]").inner_text()
    assert shown == f"{len(found)} found"


def test_the_excerpt_of_a_long_text_begins_shortly_before_the_match(visit):
    page = visit("shapes/circle.html").page
    look_for(page, "counterclockwise")
    shown = page.locator("#find span").inner_text()
    assert "counterclockwise" in shown
    assert len(shown) <= 200
    row = page.locator("[id='Circle.corners'] .prose").inner_text().split()
    assert shown.split()[0] in row
    assert shown.split()[0] != row[0]


def test_arrows_move_through_the_results_and_escape_closes(visit):
    page = visit("shapes/circle.html").page
    assert len(look_for(page, "radius")) > 3
    focus = """document.activeElement.tagName +
        [...document.querySelectorAll('#find a')].indexOf(document.activeElement)"""
    steps = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        steps.append(page.evaluate(focus))
    assert steps == ["A0", "A1", "A0", "INPUT-1", "INPUT-1"]
    page.keyboard.press("Escape")
    assert page.locator("#find").is_hidden()
    page.locator("#search").click()
    assert page.locator("#find input").is_visible()
    page.keyboard.type("/jk")
    assert page.locator("#find input").input_value() == "/jk"


def test_a_result_on_the_same_page_goes_to_its_row(visit):
    page = visit("shapes/circle.html").page
    look_for(page, "never by adding")
    page.locator("#find a").click()
    assert page.url.endswith("circle.html#L72")
    assert page.locator("#find").is_hidden()
    assert (
        page.locator(".row:is(:target, :has(> i > :target)) .code b").first.get_attribute("id")
        == "L73"
    )


def pasted(page, button) -> str:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    label = button.get_attribute("aria-label")
    button.click()
    page.wait_for_selector("[aria-label=Copied]")
    text = page.evaluate("navigator.clipboard.readText()")
    page.wait_for_selector(f"[aria-label='{label}']", state="attached")
    return text


def row(page, line: int):
    found = page.locator(".row", has=page.locator(f"#L{line}"))
    found.hover()
    return found


def test_copied_code_is_that_of_the_file(visit):
    page = visit("shapes/circle.html").page
    text = pasted(page, row(page, 73).get_by_label("Copy code"))
    assert text == "\n".join(CIRCLE.split("\n")[72:74]) + "\n"
    assert "cos" in text


def test_notes_beside_the_code_are_not_copied(visit):
    page = visit("shapes/circle.html").page
    page.evaluate(
        """document.getElementById('L73').insertAdjacentHTML(
            'beforeend', '<i class="note" data-note="[n]"></i>')"""
    )
    text = pasted(page, row(page, 73).get_by_label("Copy code"))
    assert "[n]" not in text
    assert "angle" in text


@pytest.mark.parametrize(("line", "name"), [(49, "area"), (73, "corners"), (28, "Circle")])
def test_a_copied_block_has_the_syntax_tree_of_the_source(visit, line: int, name: str):
    page = visit("shapes/circle.html").page
    text = pasted(page, row(page, line).get_by_label("Copy block"))
    wanted = next(n for n in ast.walk(ast.parse(CIRCLE)) if getattr(n, "name", "") == name)
    parsed = ast.parse(text if name == "Circle" else "if 1:\n" + text)
    found = next(n for n in ast.walk(parsed) if getattr(n, "name", "") == name)
    assert ast.dump(found) == ast.dump(wanted)
    assert "# $" not in text


def test_a_formula_is_copied_as_latex(visit):
    page = visit("shapes/polygon.html").page
    page.locator(".eq").first.hover()
    text = pasted(page, page.locator(".eq").first.get_by_label("Copy LaTeX"))
    assert text == r"A = \frac12 \left| \sum_{i=1}^{n} x_i y_{i+1} - x_{i+1} y_i \right|"


def test_the_keyboard_reaches_the_rows_and_their_buttons(visit):
    page = visit("shapes/circle.html").page
    tops = []
    for key in "jjkjj":
        page.keyboard.press(key)
        rows = "[...document.querySelectorAll('.row')]"
        tops.append(page.evaluate(f"{rows}.indexOf(document.activeElement)"))
    assert tops == [0, 1, 0, 1, 2]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.row') !== null")
    page.locator(".row:focus-within").get_by_label("Copy code").focus()
    assert page.evaluate("document.activeElement.ariaLabel") == "Copy code"


def test_the_anchor_of_a_prose_line_goes_to_its_row(visit):
    page = visit("shapes/circle.html#L58").page
    inside = "document.X"
    assert page.evaluate(f"{inside} !== null")
    top, header, shadow = page.evaluate(
        """(() => {
            const row = document.getElementById('L58').closest('.row');
            const bottom = document.querySelector('.top').getBoundingClientRect().bottom;
            return [row.getBoundingClientRect().top, bottom, getComputedStyle(row).boxShadow];
        })()"""
    )
    assert header <= top < 800
    assert "inset" in shadow


def test_every_line_of_a_file_has_an_anchor(visit):
    page = visit("shapes/circle.html").page
    count = CIRCLE.count("\n")
    lines = f"Array.from({{length: {count}}}, (_, i) => 'L' + (i + 1))"
    assert page.evaluate(f"{lines}.filter(id => !document.getElementById(id))") == []
    assert count == 80


def test_without_scripts_there_are_no_controls(visit):
    page = visit("shapes/circle.html", java_script_enabled=False).page
    assert page.locator("#search").is_hidden()
    assert page.locator("#find").is_hidden()
    assert page.locator("button:visible").count() == 0


def test_print_shows_every_line_and_no_buttons(visit):
    page = visit("shapes/circle.html").page
    row(page, 73)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.locator("button:visible").count() == 0
    assert page.locator(".code b:visible").count() == page.locator(".code b").count() == 22
    code = "[...document.querySelectorAll('.code')]"
    assert page.evaluate(f"{code}.filter(e => e.scrollWidth > e.clientWidth).length") == 0


def test_every_line_of_code_is_in_the_pdf(visit, tmp_path: Path):
    pypdf = pytest.importorskip("pypdf", reason="pypdf, which reads the PDF, is not installed")
    page = visit("shapes/circle.html").page
    page.pdf(path=tmp_path / "circle.pdf", format="A5")
    sheets = pypdf.PdfReader(tmp_path / "circle.pdf").pages
    printed = "".join("".join(sheet.extract_text() for sheet in sheets).split())
    shown = page.evaluate("[...document.querySelectorAll('.code b')].map(line => line.textContent)")
    assert len(shown) == 22
    assert [line for line in shown if "".join(line.split()) not in printed] == []
    assert "Copy" not in printed
    # Each line has its number before it.
    numbered = page.evaluate(
        "[...document.querySelectorAll('.code b')].map(e => [e.id, e.textContent])"
    )
    for number, line in numbered:
        assert number[1:] + "".join(line.split()) in printed


@pytest.mark.parametrize("width", [390, 1400])
def test_a_click_on_a_line_number_goes_to_its_line(visit, width: int):
    page = visit("shapes/circle.html", width).page
    line = page.locator("#L73")
    line.click(position={"x": 120, "y": 5})
    assert "#" not in page.url
    line.click(position={"x": 8, "y": 5})
    assert page.url.endswith("#L73")
