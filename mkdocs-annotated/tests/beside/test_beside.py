r"""Shapes and exhibits on the pages of a site, and all that can be wrong with their files."""

from __future__ import annotations

import json
import logging
import re
import struct
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.__main__ import main

SHAPES = "shapes: {folder: data, examples: {shapes/area.py: area.py}}"
AREA = '''
class Array:
    shape = 5, 7


def area():
    r"""The area."""
    x = Array()
    y = Array()  # [B, n]
    return "#", x
'''
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 30, 20)


def mistakes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > 20]


@pytest.fixture
def fails(project, caplog: pytest.LogCaptureFixture):
    """The one line with which a build fails; the good site stays."""

    def build(options: str, *, strict: bool) -> str:
        project.build(options="sources: [shapes]")
        kept = (project.site / "index.html").stat().st_mtime_ns
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(Abort) as error:
            project.build(options=options, strict=strict)
        assert (project.site / "index.html").stat().st_mtime_ns == kept
        found = [*mistakes(caplog), str(error.value)]
        return next(line.strip() for line in found if line.strip())

    return build


@pytest.fixture
def area(project):
    project.write("shapes/area.py", AREA)
    project.write("area.py", 'from shapes.area import area\nSIZES = {"B": 5, "n": 7}\narea()\n')
    project.write(
        "mkdocs.yml",
        f"site_name: P\ntheme: annotated\n"
        f"plugins: [{{annotated: {{sources: [shapes], {SHAPES}}}}}]\n",
    )
    assert main(["trace", "--config-file", str(project.root / "mkdocs.yml")]) == 0
    return project


def test_notes_stand_in_their_lines_unless_the_author_said_the_same(area):
    page = area.build(options=f"sources: [shapes], {SHAPES}") / "shapes" / "area.html"
    html = page.read_text()
    assert html.count("data-note=") == 1
    line = next(line for line in html.split("\n") if re.search(r'id="?L7[" >]', line))
    assert 'data-note="x [B, n]"' in line
    assert re.sub(r"<[^>]*>", "", line).endswith("x = Array()")
    data = json.loads((area.root / "data" / "shapes.area.json").read_text())
    assert data["notes"] == {"7": "x [B, n]", "8": "y [B, n]"}


def test_a_checkout_with_other_line_ends_has_the_same_shapes(area):
    path = area.root / "shapes" / "area.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    page = area.build(options=f"sources: [shapes], {SHAPES}") / "shapes" / "area.html"
    assert 'data-note="x [B, n]"' in page.read_text()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (
            "shapes/area.py",
            lambda text: text + "\n",
            "data/shapes.area.json:1: is stale for shapes/area.py; run mkdocs-annotated trace",
        ),
        (
            "area.py",
            lambda text: text + "\n",
            "data/shapes.area.json:1: is stale for area.py; run mkdocs-annotated trace",
        ),
        (
            "data/shapes.area.json",
            lambda text: None,
            "data/shapes.area.json:1: is missing for shapes/area.py; run mkdocs-annotated trace",
        ),
        (
            "data/shapes.area.json",
            lambda text: text[:40],
            "data/shapes.area.json:1: is no shape data; run mkdocs-annotated trace",
        ),
        (
            "data/shapes.area.json",
            lambda text: "[]",
            "data/shapes.area.json:1: is no shape data; run mkdocs-annotated trace",
        ),
        (
            "data/shapes.gone.json",
            lambda text: "{}",
            "data/shapes.gone.json:1: belongs to no module with an example",
        ),
        (
            "shapes/area.py",
            lambda text: None,
            "plugins.annotated.shapes.examples: no module 'shapes/area.py' among the sources",
        ),
    ],
)
def test_shapes_that_cannot_be_trusted_stop_every_build(
    area, fails, strict: bool, path: str, change, message: str
):
    file = area.root / path
    text = change(file.read_text() if file.is_file() else "")
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)
    assert fails(f"sources: [shapes], {SHAPES}", strict=strict) == message


EXHIBITS = "sources: [shapes], exhibits: exhibits.yml"


@pytest.fixture
def measured(project):
    """A module with a long and a short row, and the files of a run."""
    long = "\n".join(f"    x = {i}" for i in range(30))
    project.write(
        "shapes/m.py",
        f'"""# M"""\n\n\ndef short():\n    """Short."""\n    return 1\n\n\n'
        f'def long():\n    """Long."""\n{long}\n',
    )
    project.write("run/area.svg", '<svg xmlns="x" viewBox="0 0 320.4 160"></svg>')
    (project.root / "run" / "a b.png").write_bytes(PNG)
    project.write("run/area.csv", "corners,area\n3,<b>\n")
    project.write("run/area.md", "| $n$ | area |\n| --- | --- |\n| 3 | <b>1</b> |\n")
    project.write("run/result.json", '{"validation": {"loss": 1.59050280, "steps": 2000}}')
    environment = {"environment": {"command": "python -m x > y", "commit": "53cb839"}}
    project.write("run/settings.json", json.dumps(environment))
    return project


FIGURE = """
- at: shapes/m.py#short
  figure: run/area.svg
  alt: the "area"
  caption: Nears $\\pi r^2$, *slowly*.
  from: run/settings.json
"""


def exhibits(project, text: str) -> str:
    project.write("exhibits.yml", text)
    return (project.build(options=EXHIBITS) / "shapes" / "m.html").read_text()


def test_a_figure_stands_below_short_code_with_its_origin(measured):
    html = exhibits(measured, FIGURE)
    assert (
        "</pre><figure class=exhibit><a href=../exhibits/run/area.svg>"
        '<img src=../exhibits/run/area.svg alt="the &quot;area&quot;" width=320 height=160 '
        "loading=lazy></a><figcaption>Nears <math" in html
    )
    assert "<em>slowly</em>." in html
    assert "<code>python -m x &gt; y</code> at commit <code>53cb839</code>" in html
    assert (measured.site / "exhibits" / "run" / "area.svg").is_file()


def test_a_figure_stands_below_the_prose_where_the_code_is_long(measured):
    html = exhibits(measured, FIGURE.replace("#short", "#long"))
    assert "<p>Long.<figure class=exhibit>" in html


def test_a_picture_that_is_on_the_site_is_not_added_again(measured):
    measured.write("exhibits.yml", FIGURE.replace("area.svg", "a b.png"))
    site = measured.build(options=EXHIBITS + ", folders: {results: run}")
    html = (site / "shapes" / "m.html").read_text()
    assert "<img src=../results/a%20b.png" in html
    assert "width=30 height=20" in html
    assert not (site / "exhibits").exists()


def test_tables_and_values_come_from_their_files_as_text(measured):
    origin = "  command: c\n  commit: d\n"
    html = exhibits(
        measured,
        f"- at: shapes/m.py#L6\n  table: run/area.csv\n  caption: A.\n{origin}"
        f"- at: shapes/m.py#short\n  table: run/area.md\n  caption: B.\n{origin}"
        f"- at: shapes/m.py\n  value: run/result.json#validation.loss\n  caption: C.\n{origin}"
        f"- at: shapes/m.py\n  value: run/result.json#validation.steps\n  caption: D.\n{origin}",
    )
    assert "<thead><tr><th>corners<th>area<tbody>" in html
    assert "<td>3<td>&lt;b&gt;<" in html
    assert "<td>&lt;b&gt;1&lt;/b&gt;<" in html
    assert "<data value=1.5905028>1.591</data><figcaption>C." in html
    assert "<data value=2000>2,000</data><figcaption>D." in html
    assert html.index("<figcaption>A.") < html.index("<figcaption>B.")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- at:", "- {", "exhibits.yml:2: is not YAML"),
        (FIGURE, "a: b\n", "exhibits.yml:1: must be a list of exhibits"),
        (FIGURE, "- a\n", "exhibits.yml:1: an exhibit must be `key: value` lines"),
        ("alt:", "alternative:", "exhibits.yml:3: unknown key 'alternative'"),
        ('alt: the "area"', "alt:", "exhibits.yml:3: alt must be a text"),
        ("alt:", "figure:", "exhibits.yml:3: figure is given twice"),
        ('  alt: the "area"\n', "", "exhibits.yml:2: a figure needs alt, what it shows in words"),
        (
            "  caption: Nears $\\pi r^2$, *slowly*.\n",
            "",
            "exhibits.yml:1: an exhibit needs caption",
        ),
        ("- at: shapes/m.py#short\n  fig", "- fig", "exhibits.yml:1: an exhibit needs at"),
        ("figure: run/area.svg", "commit: x", "exhibits.yml:1: an exhibit needs one of figure,"),
        ("alt: the", "table: the", "exhibits.yml:1: an exhibit needs one of figure, table, value"),
        ("area.svg", "gone.svg", "exhibits.yml:2: there is no file run/gone.svg"),
        ("m.py#", "gone.py#", "exhibits.yml:1: there is no module shapes/gone.py among the"),
        ("#short", "#shorter", "exhibits.yml:1: shapes/m.py has no shorter"),
        ("settings.json", "no.json", "exhibits.yml:5: there is no file run/no.json"),
        ("settings.json", "area.csv", "exhibits.yml:5: run/area.csv is not JSON"),
        ("settings", "result", "exhibits.yml:5: run/result.json has no environment.command"),
        ("from: run/settings.json", "command: c", "exhibits.yml:1: an exhibit needs commit, or fr"),
        ("\\pi", "\\nope", "exhibits.yml:4: LaTeX cannot be rendered"),
        ("figure: run/area.svg", "table: run/settings.json", "exhibits.yml:2: settings.json must"),
        (
            "figure: run/area.svg",
            "value: run/result.json#validation.no",
            "exhibits.yml:2: run/result.json has no number at validation.no",
        ),
    ],
)
def test_a_mistake_in_the_list_is_named_with_its_line(
    measured, fails, old: str, new: str, message: str
):
    text = FIGURE.lstrip()
    assert old.lstrip("\n") in text
    measured.write("exhibits.yml", text.replace(old.lstrip("\n"), new))
    assert fails(EXHIBITS, strict=False).startswith(message)


def test_a_list_that_is_not_there_is_a_wrong_option(measured, fails):
    assert fails(EXHIBITS, strict=True).startswith("plugins.annotated.exhibits: no file")


def test_an_empty_list_shows_nothing(measured):
    assert "<figure" not in exhibits(measured, "\n")


def test_what_stands_beside_the_code_is_watched(area):
    from mkdocs.config import load_config

    area.write("exhibits.yml", "[]\n")
    options = f"{EXHIBITS}, {SHAPES}"
    area.write(
        "mkdocs.yml", f"site_name: P\ntheme: annotated\nplugins: [{{annotated: {{{options}}}}}]\n"
    )
    config = load_config(str(area.root / "mkdocs.yml"))
    config.plugins.on_config(config)
    config.plugins.on_build_error(error=Exception())
    wanted = {str(Path(area.root).resolve() / name) for name in ("data", "area.py", "exhibits.yml")}
    assert wanted <= set(config.watch)
