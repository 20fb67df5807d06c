r"""The table that compares two sources, and the errors of the block that asks for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.markdown.difference import definition_lines, make_side, render_table
from mkdocs_annotated.source.parse import parse

LEFT = '''
class Left:
    """
    Adds.
    """

    @property
    def add(self, x):
        # The sum.
        total = x + self.one  # [n]

        return total


def scale(x):
    return x * 2
'''
RIGHT = '''
def add(x, y):
    """
    Adds.
    """
    total = x + y
    check("# no comment", total)
    return total
'''
BOTH = "shapes/left.py#Left.add\nshapes/right.py#add"


def page(block: str = BOTH, before: str = "") -> str:
    return f"# A page\n\n{before}```difference\n{block}\n```\n\nEnd.\n"


@pytest.fixture
def two(project):
    project.write("shapes/left.py", LEFT)
    project.write("shapes/right.py", RIGHT)
    return project


def table(two, block: str = BOTH) -> str:
    two.write("docs/deep/pair.md", page(block))
    html = (two.build() / "deep/pair.html").read_text()
    found = re.search(r'<table class="diff">.*?</table>', html, re.DOTALL)
    assert found
    assert "<p>End." in html
    return found[0]


def cell_texts(table: str) -> list[list[str]]:
    """Return the text of the cells of each row, without line numbers."""
    rows = re.sub(r"<thead>.*?<tbody", "<tbody", table, flags=re.DOTALL).split("<tr")[1:]
    return [
        [
            re.sub(r"<[^>]*>|</?\w*$", "", re.sub(r"<a [^>]*>.*?</a> ", "", cell))
            for cell in row.split("<td>")[1:]
        ]
        for row in rows
    ]


def test_the_table_shows_the_code_of_both_sources_without_prose(two):
    assert cell_texts(table(two)) == [
        ["@property", ""],
        ["def add(self, x):", "def add(x, y):"],
        ["    total = x + self.one", "    total = x + y"],
        ["", '    check("# no comment", total)'],
        ["    return total", "    return total"],
    ]


def test_changed_lines_have_a_sign_and_marked_words(two):
    rows = table(two).split("<tr")[2:]
    signs = [re.findall(r">\s*(\d+) (.)</a>", row) for row in rows]
    assert signs == [
        [("6", "-")],
        [("7", "-"), ("1", "+")],
        [("9", "-"), ("5", "+")],
        [("6", "+")],
        [("11", " "), ("7", " ")],
    ]
    assert [row.startswith(' class="x">') for row in rows] == [True, True, True, True, False]
    assert re.findall(r"<mark>(.*?)</mark>", rows[1]) == ["self", "x", "x", "y"]
    assert re.findall(r"<mark>(.*?)</mark>", rows[2]) == ["self.one", "y"]


def test_headers_and_line_numbers_link_to_the_pages(two):
    html = table(two)
    assert (
        '<th>- <a href="../shapes/left.html#Left.add"><code>Left.add</code> shapes/left.py' in html
    )
    assert '<th>+ <a href="../shapes/right.html#add">' in html
    assert '<a href="../shapes/left.html#L9">   9 -</a>' in html


def test_whole_files_and_prose_can_be_compared(two):
    whole = cell_texts(table(two, "shapes/left.py\nshapes/right.py"))
    assert ["class Left:", ""] in whole
    assert any("return x * 2" in row[0] for row in whole)
    kept = cell_texts(table(two, f"{BOTH}\nwith: prose"))
    assert ["    # The sum.", ""] in kept or any("# The sum." in row[0] for row in kept)
    assert any("x + self.one  # [n]" in row[0] for row in kept)
    assert any('"""' in row[1] for row in kept)


def test_a_source_compared_with_itself_has_no_changed_line(two):
    html = table(two, "shapes/left.py#Left\nshapes/left.py#Left")
    assert 'class="x"' not in html
    assert "<mark>" not in html
    assert all(left == right for left, right in cell_texts(html))


def test_a_search_finds_code_only_on_its_own_page(two):
    two.write("docs/pair.md", page())
    index = (two.build() / "search/index.js").read_text()
    assert "End." in index
    assert index.count("self.one") == 1


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("shapes/left.py", r"7: .*difference.* 2 .*\b1\b"),
        (f"{BOTH}\nshapes/left.py", r"7: .*difference.* 2 .*\b3\b"),
        ("", r"7: .*difference.* 2 .*\b0\b"),
        (f"{BOTH}\nwith: shapes", r"7: .*difference.* 2 .*\b3\b"),
        (f"{BOTH}\nwith: prose\nwith: prose", r"7: .*difference.* 'with: prose' .*\b2\b"),
        ("shapes/left.py\nshapes/no.py", r"9: .*shapes/no\.py"),
        ("\nshapes/left.py#Left.no\nshapes/right.py", r"9: .*shapes/left\.py .*\bLeft\.no\b"),
        ("shapes/left.py#add\nshapes/right.py", r"8: .*shapes/left\.py .*\badd\b"),
    ],
)
def test_an_invalid_block_is_an_error_with_its_line(two, caplog, block, message):
    two.write("docs/pair.md", page(block, before="$$\nx\n$$\n\n"))
    with pytest.raises(Abort, match="Aborted"):
        two.build()
    assert re.search(rf"docs/pair\.md:{message}", caplog.text)


def test_errors_below_a_block_keep_their_lines(two, caplog):
    two.write("docs/pair.md", page() + "\n$$\\nope$$\n")
    with pytest.raises(Abort):
        two.build()
    assert "docs/pair.md:10: LaTeX" in caplog.text


def test_a_block_in_a_module_is_an_error(two, caplog):
    two.write("shapes/third.py", f'"""\n# Third\n\n```difference\n{BOTH}\n```\n"""\n')
    with pytest.raises(Abort):
        two.build()
    assert "shapes/third.py:4: a difference" in caplog.text


def test_a_block_inside_another_fence_is_text(two):
    two.write("docs/pair.md", f"# A\n\n````\n{page('nothing')}````\n\n    ```difference\n    ```\n")
    html = (two.build() / "pair.html").read_text()
    assert 'class="diff"' not in html
    assert html.count("```difference") == 2


def test_the_table_changes_with_its_sources(two):
    before = table(two)
    source = two.root / "shapes" / "left.py"
    source.write_text(source.read_text().replace("self.one", "self.two"))
    after = table(two)
    assert "self.two" not in before
    assert "self.two" in after.replace("<mark>", "")


def test_definitions_are_found_inside_blocks_with_their_decorators():
    source = "if a:\n    class B:\n        @c\n        def d(self):\n            pass\nx = 1\n"
    assert definition_lines(source, "B") == (2, 5)
    assert definition_lines(source, "B.d") == (3, 5)
    assert definition_lines(source, "d") is None
    assert definition_lines(source, "x") is None


def test_code_is_escaped():
    module = parse("x = '<b>' if 1 < 2 & 3 else \"<i>\"\n", "a.py")
    one = make_side("a.py", "", (module, "a.html"))
    html = render_table(one, one)
    assert "<b>" not in html
    assert html.count("&lt;b>") == 2


REAL_FILES = sorted(Path(__file__).parent.glob("../../mkdocs_annotated/*/*.py"))[::3]


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_every_code_line_of_a_real_file_is_compared(path):
    module = parse(path.read_text(), path.name)
    lines = make_side(path.name, "", (module, "")).lines
    coded = [line for row in module.rows for line in row.code if line.text.strip()]
    assert {line.number for line in lines} <= {line.number for line in coded}
    missing = {line.number for line in coded} - {line.number for line in lines}
    texts = module.source.split("\n")
    assert all(texts[n - 1].lstrip().startswith("#") for n in missing)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1400])
def test_the_sides_of_a_row_are_stacked_on_narrow_screens(visit, width):
    page = visit("pairs.html", width, java_script_enabled=False).page
    columns, stacked = page.locator("table.diff").nth(1), width == 390
    for row in columns.locator("tbody tr").all():
        cells = row.locator("td").all()
        seen = [cell for cell in cells if cell.is_visible()]
        boxes = [cell.bounding_box() for cell in seen]
        if row.get_attribute("class") != "x":
            assert len(seen) == (1 if stacked else 2)
        elif stacked and len(seen) == 2:
            assert boxes[0]["y"] < boxes[1]["y"]
            assert boxes[0]["x"] == boxes[1]["x"]
        elif len(seen) == 2:
            assert boxes[0]["y"] == boxes[1]["y"]
            assert boxes[0]["x"] < boxes[1]["x"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
