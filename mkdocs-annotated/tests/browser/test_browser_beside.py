r"""Notes and exhibits in a real browser."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs_annotated.__main__ import main

pytestmark = pytest.mark.browser
LONG = "a_rather_long_name"
SOURCE = f"""
class Array:
    def __init__(self, *shape: int) -> None:
        self.shape = shape


# ## Area
#
# Short code and long code, with a note beside or below.
#
# A few more words, so that the row is as tall as the figure.
def area() -> Array:
    x = Array(5)
    y = Array(5, 7)
    if True:
        {LONG}, {LONG}_2 = Array(7, 7, 7, 7, 7, 7, 7, 7), Array(5, 5, 5, 5, 5, 5, 5)
        z = [Array(5, 7, 7, 7, 7) for {LONG} in range(3) for {LONG}_2 in range(30) if {LONG} > 1][0]
    return z
"""
EXHIBITS = """
- at: shapes/area.py#area
  figure: run/area.svg
  alt: the area
  caption: The area, measured.
  command: python -m measure --with-a-rather-long-flag --and-another-one-behind-it
  commit: 53cb8394f357
"""


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("beside")
    files = {
        "docs/index.md": "# Start\n",
        "shapes/__init__.py": "",
        "shapes/area.py": SOURCE,
        "area.py": 'from shapes.area import area\nSIZES = {"B": 5, "n": 7}\narea()\n',
        "exhibits.yml": EXHIBITS,
        "run/area.svg": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 600">'
        '<path d="M0 0L1200 600" stroke="red"/></svg>',
        "mkdocs.yml": """
            site_name: P
            theme: annotated
            use_directory_urls: false
            plugins:
              - annotated:
                  sources: [shapes]
                  exhibits: exhibits.yml
                  shapes: {folder: data, examples: {shapes/area.py: area.py}}
        """,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    assert main(["trace", "-f", str(root / "mkdocs.yml")]) == 0
    build(load_config(str(root / "mkdocs.yml"), strict=True))
    return (root / "site" / "shapes" / "area.html").as_uri()


@pytest.fixture
def visit(open_page, page_url: str) -> Callable[..., object]:
    return lambda width=1400, **options: open_page(page_url, width, **options).page


# For each note: its box, those of the text in its line, and the right edge of its column.
BOXES = """() => [...document.querySelectorAll(".note")].map(note => {
    const line = note.parentElement;
    const range = document.createRange();
    range.setStartBefore(line.firstChild);
    range.setEndBefore(note);
    const box = r => [r.left, r.top, r.right, r.bottom];
    return {
        note: box(note.getBoundingClientRect()),
        line: box(line.getBoundingClientRect()),
        code: [...range.getClientRects()].map(box),
        edge: line.closest("pre").getBoundingClientRect().right,
        text: getComputedStyle(note, "::after").content,
        cut: note.scrollWidth - note.clientWidth,
    };
})"""


def apart(one: list[float], other: list[float]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("media", ["screen", "print"])
def test_a_note_covers_no_code_and_stays_in_its_column(visit, media: str):
    page = visit()
    page.emulate_media(media=media)
    beside = set()
    for width in (360, 390, 500, 768, 801, 900, 1024, 1200, 1400, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        found = page.evaluate(BOXES)
        assert len(found) >= 5
        for each in found:
            assert each["note"][2] - each["note"][0] > 30
            assert all(apart(each["note"], code) for code in each["code"]), (width, each)
            assert each["note"][2] <= each["edge"], (width, each)
            assert each["cut"] <= 0, (width, each)
            # The line contains its note, so the next line starts below it.
            assert each["note"][3] <= each["line"][3] + 1, (width, each)
            beside.add(each["note"][1] < each["code"][0][3] - 5)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    if media == "screen":
        assert beside == {True, False}


def test_a_note_is_below_code_that_leaves_no_room(visit):
    short, *_, long, _ = visit(390).evaluate(BOXES)
    assert short["note"][1] < short["code"][0][3]
    assert long["note"][1] >= max(box[3] for box in long["code"]) - 2


def test_a_note_gives_the_shape_and_is_not_part_of_the_line(visit):
    page = visit()
    texts = {each["text"] for each in page.evaluate(BOXES)}
    assert '"x [B]"' in texts
    assert '"\N{RIGHTWARDS ARROW} [B, n, n, n, n]"' in texts
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".code b")].map(line => line.textContent)"""
    )
    assert "    y = Array(5, 7)\n" in shown


def test_copied_code_has_no_notes(visit):
    page = visit()
    page.evaluate(
        """() => {
            const area = document.createElement("textarea");
            document.body.append(area);
            const range = document.createRange();
            range.selectNodeContents(document.querySelector(".code b:has(.note)").parentElement);
            getSelection().removeAllRanges();
            getSelection().addRange(range);
        }"""
    )
    page.keyboard.press("Control+c")
    page.locator("textarea").focus()
    page.keyboard.press("Control+v")
    text = page.locator("textarea").input_value()
    assert text.rstrip("\n") == SOURCE[SOURCE.index("def area") :].rstrip("\n")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_note_has_enough_contrast_for_small_text(visit, scheme: str):
    page = visit(color_scheme=scheme)
    colours = page.evaluate(
        """() => {
            const mix = document.createElement("canvas").getContext("2d");
            const rgb = colour => {
                mix.fillStyle = colour;
                mix.fillRect(0, 0, 1, 1);
                return [...mix.getImageData(0, 0, 1, 1).data].slice(0, 3);
            };
            const note = document.querySelector(".note");
            const line = note.parentElement;
            const probe = document.createElement("i");
            probe.style.background = "var(--code)";
            note.after(probe);
            const plain = getComputedStyle(probe).backgroundColor;
            location.hash = line.id;
            return new Promise(done => requestAnimationFrame(() => done([
                rgb(getComputedStyle(note).color),
                rgb(plain),
                rgb(getComputedStyle(note.parentElement).backgroundColor),
            ])));
        }"""
    )
    note, plain, marked = map(luminance, colours)
    assert plain != marked
    for ground in (plain, marked):
        light, dark = max(note, ground), min(note, ground)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: list[int]) -> float:
    parts = [part / 255 for part in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [390, 1400])
def test_an_exhibit_is_below_its_code_and_inside_its_column(visit, width: int):
    page = visit(width)
    figure = page.locator("figure.exhibit")
    box = figure.bounding_box()
    code = page.locator("#L11").locator("xpath=ancestor::pre").bounding_box()
    assert box["y"] >= code["y"] + code["height"] - 1
    assert box["x"] >= code["x"] - 1
    assert box["x"] + box["width"] <= width
    picture = figure.locator("img").bounding_box()
    assert picture["width"] / picture["height"] == pytest.approx(2, rel=0.05)
