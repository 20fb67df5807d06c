r"""The coverage map of a paper: its mistakes, and its page."""

from __future__ import annotations

import logging
import re
import textwrap
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.site.coverage import CoverageMap, check, find_tests, read_coverage, render

MAP = r"""
title: The paper
summary: |
  A summary.
entries:
  - id: Eq. 1
    kind: equation
    where: section 2
    says: $A = \pi r^2$
    status: reproduced
    code: [shapes/disc.py#Disc.area, shapes/disc.py]
    tests: [tests/test_disc.py::test_the_area_is_that_of_a_circle]
  - id: Table 3
    kind: table
    where: page 7
    says: |
      Areas of

      large discs.
    status: not reproduced
    why: No large disc was available.
""".lstrip("\n")
DISC = "class Disc:\n    def area(self):\n        pass\n"
TEST = "def test_the_area_is_that_of_a_circle(): ...\nclass TestDisc:\n    def test_b(self): ...\n"
OPTIONS = "sources: [shapes], coverage: docs/map.yml, coverage_page: paper/map.md"


def read(tmp_path: Path, text: str) -> tuple[CoverageMap, list[str]]:
    file = tmp_path / "map.yml"
    file.write_text(textwrap.dedent(text))
    coverage, errors = read_coverage(file, "map.yml")
    return coverage, [str(error) for error in errors]


@pytest.fixture
def covered(project):
    project.write("docs/map.yml", MAP)
    project.write("shapes/disc.py", DISC)
    project.write("tests/test_disc.py", TEST)
    return project


def test_the_page_gives_status_code_and_tests(covered):
    site = covered.build(options=OPTIONS + ', source_url: "https://h/{path}"')
    html = (site / "paper" / "map.html").read_text()
    assert '<h3 id="eq-1">Eq. 1</h3>' in html
    assert "<p><strong>Reproduced</strong> - section 2</p>" in html
    assert 'href="../shapes/disc.html#Disc.area"' in html
    assert "Test: the area is that of a circle" in html
    assert '<a href="https://h/tests/test_disc.py">' in html
    assert "<p>No large disc was available.</p>" in html
    assert re.search(r'<math data-latex="A = \\pi r\^2">', html)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
    assert " ".join(cells) == "Equations 1 0 0 Tables 0 0 1 All 1 0 1"
    assert not (site / "map.yml").exists()


SOURCES = """sources:
  read: Read in the paper.
  by heart: |
    Not read,
    only known.
entries:"""


def with_sources(text: str) -> str:
    text = text.replace("entries:", SOURCES)
    text = text.replace("    status: repr", "    source: read, by heart\n    status: repr")
    return text.replace("    status: not", "    source: read\n    status: not")


def test_each_statement_links_to_the_meaning_of_its_sources(covered):
    covered.write("docs/map.yml", with_sources(MAP))
    site = covered.build(options=OPTIONS)
    html = (site / "paper" / "map.html").read_text()
    assert '<h3 id="source-by-heart">By heart</h3>\n<p>Not read,\nonly known.</p>' in html
    both = '<a href="#source-read">read</a>, <a href="#source-by-heart">by heart</a>'
    assert f"<strong>Reproduced</strong> - section 2 - source: {both}</p>" in html


def test_a_link_to_an_entry_of_the_map_leads_to_its_page(covered):
    covered.write("docs/map.yml", MAP)
    covered.write("docs/index.md", "# Start\n\n[source](map.yml#eq-1)\n")
    covered.write("shapes/disc.py", '"""Discs ([source](../docs/map.yml#eq-1))."""\n' + DISC)
    site = covered.build(options=OPTIONS)
    assert 'href="paper/map.html#eq-1"' in (site / "index.html").read_text()
    assert 'href="../paper/map.html#eq-1"' in (site / "shapes" / "disc.html").read_text()


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        pytest.param(
            {
                "#Disc.area": "#Disc.volume",
                "shapes/disc.py]": "shapes/cube.py, shapes/disc.py]",
                "test_disc.py::test_the": "test_cube.py::test_the",
            },
            ["10: shapes/disc.py defines no 'Disc.volume'", "10: shapes/cube.py", "11: no test"],
            id="names",
        ),
        pytest.param(
            {"::test_the": "::test_an"},
            ["11: tests/test_disc.py has no test 'test_an_"],
            id="test",
        ),
        pytest.param(
            {r"\pi r^2": r"\nope", "large discs": r"large $\nope$"},
            ["8: LaTeX", "18: LaTeX"],
            id="LaTeX",
        ),
        pytest.param(
            {"    why: No large disc was available.\n": ""},
            ["12: Table 3 is not reproduced"],
            id="reason",
        ),
    ],
)
def test_all_mistakes_of_a_map_stop_the_build_with_their_lines(
    covered, caplog, changes: dict[str, str], messages: list[str]
):
    good = covered.build().joinpath("index.html")
    text = MAP
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    covered.write("docs/map.yml", text)
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        covered.build(options=OPTIONS)
    for message in messages:
        assert f"docs/map.yml:{message}" in caplog.text
    assert good.is_file()


def test_a_missing_map_stops_the_build(project, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        project.build(options="sources: [shapes], coverage: nowhere.yml")
    assert "plugins.annotated.coverage: no file 'nowhere.yml'" in caplog.text


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "`entries`"),
        ("title: a", 1, "`entries`"),
        ("? [a]\n: b", 2, "unknown key"),
        ("title: [a]\nentries: [{}]", 1, "`title` text"),
        ("entries:\n  - a", 2, "`key: value`"),
        ("entries:\n  - id: a", 2, "`kind`"),
        ("entries:\n  - id: a\n    kind: x", 3, "kind equation pseudo-code 'x'"),
        ("entries:\n  - id: a\n    status: x", 3, "status reproduced 'x'"),
        ("entries:\n  - id: a\n    stauts: x", 3, "'stauts' id"),
        ("entries:\n  - id: a\n    code: x", 3, "`code` list"),
        ("entries:\n  - id: a b\n  - id: A-B", 3, "'A-B' 2"),
        ("sources: x\nentries:\n  - id: a", 1, "`sources` `key: value`"),
        ("sources: {b: c}\nentries:\n  - id: a", 3, "a must name a source"),
        ("sources: {b: c}\nentries:\n  - id: a\n    source: b, d", 4, "source b 'd'"),
        ("entries:\n  - id: a\n    source: d", 3, "source none 'd'"),
        ("entries:\n  - id: a\n    status: implemented", 2, "a implemented code"),
        ("entries:\n  - id: a\n    status: reproduced\n    code: [x]", 2, "a reproduced test"),
    ],
)
def test_each_malformed_entry_of_a_map_is_an_error_with_its_line(
    tmp_path: Path, text: str, line: int, words: str
):
    _, errors = read(tmp_path, text)
    assert any(
        error.startswith(f"map.yml:{line}: ") and all(word in error for word in words.split())
        for error in errors
    ), errors


def test_tests_of_classes_have_the_name_of_their_class(tmp_path: Path):
    file = tmp_path / "test_a.py"
    file.write_text(TEST + "def helper(): ...\nasync def test_c(): ...\n")
    assert find_tests(file, "a") == {
        "test_the_area_is_that_of_a_circle",
        "TestDisc::test_b",
        "test_c",
    }
    assert find_tests(tmp_path / "none.py", "none.py") is None


def test_each_line_of_the_page_has_its_line_of_the_map(tmp_path: Path):
    coverage, errors = read(tmp_path, with_sources(MAP))
    assert errors == []
    page = render(coverage, lambda anchor: anchor)
    lines = page.markdown.removesuffix("\n").split("\n")
    assert len(lines) == len(page.lines)
    assert page.lines[lines.index("only known.")] == 8
    assert page.lines[lines.index("large discs.")] == 24
    assert page.lines[lines.index("A summary.")] == 3
    assert list(check(coverage, lambda _: frozenset(["Disc.area"]), Path("nowhere"))) != []
