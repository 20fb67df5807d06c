r"""The map of a paper: what it may promise, and what its page says."""

from __future__ import annotations

import logging
import re
import textwrap
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.site.coverage import check, find_tests, load, render

MAP = r"""
title: The paper
summary: |
  What is here.
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
    why: No large disc was at hand.
"""
DISC = "class Disc:\n    def area(self):\n        pass\n"
TEST = "def test_the_area_is_that_of_a_circle(): ...\nclass TestDisc:\n    def test_b(self): ...\n"
OPTIONS = "sources: [shapes], coverage: docs/map.yml, coverage_page: paper/map.md"


def mistakes(text: str) -> list[str]:
    return [str(problem) for problem in load(textwrap.dedent(text).lstrip("\n"), "map.yml")[1]]


@pytest.fixture
def covered(project):
    project.write("docs/map.yml", MAP)
    project.write("shapes/disc.py", DISC)
    project.write("tests/test_disc.py", TEST)
    return project


def test_the_page_names_status_code_and_tests_in_words(covered):
    site = covered.build(options=OPTIONS)
    html = (site / "paper" / "map.html").read_text()
    assert "<h3 id=eq-1>Eq. 1</h3>" in html
    assert "<p><strong>Reproduced</strong> - section 2<" in html
    assert "href=../shapes/disc.html#Disc.area" in html
    assert "Test: the area is that of a circle" in html
    assert "<p>No large disc was at hand.<" in html
    assert re.search(r'<math data-latex="A = \\pi r\^2">', html)
    cells = re.findall(r"<td[^>]*>([^<]*)(?=<)", html)
    assert " ".join(cells) == "Equations 1 0 0 Tables 0 0 1 All 1 0 1"
    assert not (site / "map.yml").exists()


def test_tests_are_linked_where_the_host_is_known(covered):
    site = covered.build(options=OPTIONS + ', source_url: "https://h/{path}"')
    html = (site / "paper" / "map.html").read_text()
    assert "<a href=https://h/tests/test_disc.py>" in html


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#Disc.area", "#Disc.volume", "docs/map.yml:10: shapes/disc.py defines no 'Disc.volume'"),
        ("shapes/disc.py]", "shapes/cube.py]", "docs/map.yml:10: shapes/cube.py has no page"),
        ("::test_the", "::test_an", "docs/map.yml:11: tests/test_disc.py has no test 'test_an_"),
        ("test_disc.py::", "test_cube.py::", "docs/map.yml:11: there is no test file tests/test_c"),
        ("large discs", r"large $\nope$", "docs/map.yml:18: LaTeX cannot be rendered"),
        (r"\pi r^2", r"\nope", "docs/map.yml:8: LaTeX cannot be rendered"),
        ("    why: No large disc was at hand.\n", "", "docs/map.yml:12: Table 3 is not reproduced"),
    ],
)
def test_a_wrong_map_stops_the_build_with_its_line(covered, caplog, old, new, message):
    assert old in MAP
    good = covered.build().joinpath("index.html")
    covered.write("docs/map.yml", MAP.replace(old, new))
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        covered.build(options=OPTIONS)
    found = "\n".join(record.getMessage() for record in caplog.records)
    assert message in found
    assert good.is_file()


def test_a_missing_map_stops_the_build(project, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        project.build(options="sources: [shapes], coverage: nowhere.yml")
    assert "plugins.annotated.coverage: no file 'nowhere.yml'" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("entries: [", "map.yml:1: not YAML"),
        ("[]", "map.yml:1: the map must be `key: value` lines"),
        ("title: a", "map.yml:1: there is no list of `entries`"),
        ("title: [a]\nentries: [{}]", "map.yml:1: `title` must be text"),
        ("entries:\n  - a", "map.yml:2: an entry must be `key: value` lines"),
        ("entries:\n  - id: a", "map.yml:2: this entry has no `kind`"),
        ("entries:\n  - id: a\n    kind: x", "map.yml:3: kind must be one of equation, pseudo"),
        ("entries:\n  - id: a\n    status: x", "map.yml:3: status must be one of reproduced"),
        ("entries:\n  - id: a\n    stauts: x", "map.yml:3: unknown key 'stauts'; known are id"),
        ("entries:\n  - id: a\n    code: x", "map.yml:3: `code` must be a list"),
        ("entries:\n  - id: a b\n  - id: A-B", "map.yml:3: the id 'A-B' is that of line 2"),
        (
            "entries:\n  - id: a\n    status: implemented",
            "map.yml:2: a is implemented, but names no code",
        ),
        (
            "entries:\n  - id: a\n    status: reproduced\n    code: [x]",
            "map.yml:2: a is reproduced, but names no test",
        ),
    ],
)
def test_mistakes_of_form_are_named_with_their_line(text: str, expected: str):
    assert any(found.startswith(expected) for found in mistakes(text)), mistakes(text)


def test_a_good_map_has_no_mistakes():
    assert mistakes(MAP) == []


def test_tests_of_classes_have_the_name_of_their_class(tmp_path: Path):
    file = tmp_path / "test_a.py"
    file.write_text(TEST + "def helper(): ...\nasync def test_c(): ...\n")
    assert find_tests(file, "a") == {
        "test_the_area_is_that_of_a_circle",
        "TestDisc::test_b",
        "test_c",
    }
    assert find_tests(tmp_path / "none.py", "none.py") is None


def test_each_line_of_the_page_knows_its_line_in_the_map():
    found, _ = load(MAP.lstrip("\n"), "map.yml")
    page = render(found, lambda anchor: anchor)
    lines = page.markdown.removesuffix("\n").split("\n")
    assert len(lines) == len(page.lines)
    assert page.lines[lines.index("large discs.")] == 18
    assert page.lines[lines.index("What is here.")] == 3
    assert list(check(found, lambda _: frozenset(["Disc.area"]), Path("nowhere"))) != []
