r"""Exhibits on a page, and the mistakes in their file."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.beside.exhibits import load_exhibits
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.parse import Module, parse

OPTIONS = "sources: [shapes], exhibits: exhibits.yml"
LONG = "\n".join(f"    x = {i}" for i in range(30))
SOURCE = f'''"""# M"""


def short():
    """Short."""
    return 1


def long():
    """Long."""
{LONG}
'''
RUN = {
    "area.svg": '<svg xmlns="x" viewBox="0 0 320.4 160"></svg>',
    "area.csv": "corners,area\n3,<b>\n",
    "area.md": "| $n$ | area |\n| --- | --- |\n| 3 | <b>1</b> |\n",
    "result.json": '{"validation": {"loss": 1.59050280, "steps": 2000}}',
    "settings.json": json.dumps(
        {"environment": {"command": "python -m x > y", "commit": "53cb839"}}
    ),
}
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 30, 20)
FIGURE = """- at: shapes/m.py#short
  figure: run/area.svg
  alt: the "area"
  caption: Nears $\\pi r^2$, *slowly*.
  from: run/settings.json
"""


def write_run(root: Path) -> None:
    (root / "run").mkdir()
    for name, text in RUN.items():
        (root / "run" / name).write_text(text)
    (root / "run" / "drawing.svg").write_text(DRAWING)
    (root / "run" / "a b.png").write_bytes(PNG)


def test_all_kinds_of_exhibits_are_shown_with_their_origin(project):
    project.write("shapes/m.py", SOURCE)
    write_run(project.root)
    origin = "  command: c\n  commit: d\n"
    project.write(
        "exhibits.yml",
        FIGURE
        + FIGURE.replace("#short", "#long")
        + f"- at: shapes/m.py#L6\n  table: run/area.csv\n  caption: A.\n{origin}"
        f"- at: shapes/m.py#short\n  table: run/area.md\n  caption: B.\n{origin}"
        f"- at: shapes/m.py\n  value: run/result.json#validation.loss\n  caption: C.\n{origin}"
        f"- at: shapes/m.py\n  value: run/result.json#validation.steps\n  caption: D.\n{origin}",
    )
    site = project.build(options=OPTIONS)
    html = (site / "shapes" / "m.html").read_text()
    # Below short code, and below the prose of long code.
    assert (
        '</pre><figure class="exhibit"><a href="../exhibits/run/area.svg">'
        '<img src="../exhibits/run/area.svg" alt="the &quot;area&quot;" width="320" height="160" '
        'loading="lazy"></a><figcaption>Nears <math' in html
    )
    assert '<p>Long.</p><figure class="exhibit">' in html
    assert "<em>slowly</em>." in html
    assert "<code>python -m x &gt; y</code> at commit <code>53cb839</code>" in html
    assert (site / "exhibits" / "run" / "area.svg").is_file()
    # Tables and values are text, never HTML.
    assert "<thead><tr><th>corners</th><th>area</th></tr></thead><tbody>" in html
    assert "<td>3</td><td>&lt;b&gt;</td>" in html
    assert "<td>&lt;b&gt;1&lt;/b&gt;</td>" in html
    assert '<data value="1.5905028">1.591</data><figcaption>C.' in html
    assert '<data value="2000">2,000</data><figcaption>D.' in html
    assert html.index("<figcaption>A.") < html.index("<figcaption>B.")


DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 9 9">\n'
    "<title>A circle</title><a href='../shapes/m.py#M'><circle r='4'/></a></svg>"
)


def test_a_drawing_needs_no_caption_and_is_above_the_imports_of_a_module(project):
    project.write("shapes/m.py", f"{SOURCE[:9]}\nimport math\n{SOURCE[9:]}".replace("# M", "# N"))
    project.write("run/circle.svg", DRAWING.replace("#M", "#short"))
    project.write(
        "exhibits.yml",
        "- at: shapes/m.py\n  figure: run/circle.svg\n"
        "- at: shapes/m.py#short\n  figure: run/circle.svg\n  caption: A $c$.\n  commit: d\n"
        "  command: c\n",
    )
    html = (project.build(options=OPTIONS) / "shapes" / "m.html").read_text()
    first, second = html.split('<figure class="exhibit">')[1:]
    assert first.startswith('<svg viewBox="0 0 9 9" class="drawing" role="group"')
    assert '<a href="#short"><circle r="4"/></a></svg></figure><pre class="code"><code><b' in first
    assert "<i>import</i> math" in first
    assert "<figcaption>A <math" in second
    assert "<code>c</code> at commit <code>d</code>" in second


def test_a_link_of_a_drawing_to_nothing_stops_the_build(project, caplog):
    project.write("shapes/m.py", SOURCE)
    project.write("run/circle.svg", DRAWING.replace("m.py", "gone.py"))
    project.write("exhibits.yml", "- at: shapes/m.py\n  figure: run/circle.svg\n")
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        project.build(options=OPTIONS, strict=False)
    assert "run/circle.svg:2: no file ../shapes/gone.py" in caplog.text


def test_a_picture_that_is_on_the_site_is_not_copied_again(project):
    project.write("shapes/m.py", SOURCE)
    write_run(project.root)
    project.write("exhibits.yml", FIGURE.replace("area.svg", "a b.png"))
    site = project.build(options=OPTIONS + ", folders: {results: run}")
    html = (site / "shapes" / "m.html").read_text()
    assert '<img src="../results/a%20b.png"' in html
    assert 'width="30" height="20"' in html
    assert not (site / "exhibits").exists()


def test_a_mistake_stops_every_build_with_one_line_and_keeps_the_site(
    project, caplog: pytest.LogCaptureFixture
):
    project.write("shapes/m.py", SOURCE)
    kept = project.build() / "index.html"
    project.write("exhibits.yml", FIGURE)
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        project.build(options=OPTIONS, strict=False)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("exhibits.yml:2: ")
    assert kept.is_file()
    (project.root / "exhibits.yml").unlink()
    with pytest.raises(Abort):
        project.build(options=OPTIONS)
    assert "plugins.annotated.exhibits: no file 'exhibits.yml'" in caplog.text


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[object]]:
    root = tmp_path_factory.mktemp("exhibits")
    write_run(root)
    modules: dict[str, Module] = {"shapes/m.py": parse(SOURCE, "shapes/m.py")}

    def read(text: str) -> list[object]:
        (root / "exhibits.yml").write_text(text)
        return load_exhibits(root / "exhibits.yml", "exhibits.yml", root, modules)

    return read


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (FIGURE, "- a\n", 1, "`key: value`"),
        ("alt:", "alternative:", 3, "key 'alternative'"),
        ('alt: the "area"', "alt:", 3, "alt text"),
        ("alt:", "figure:", 3, "figure twice"),
        ('  alt: the "area"\n', "", 2, "figure alt"),
        ("  caption: Nears $\\pi r^2$, *slowly*.\n", "", 1, "caption"),
        ("- at: shapes/m.py#short\n  fig", "- fig", 1, "at"),
        ("figure: run/area.svg", "commit: x", 1, "one figure table value"),
        ("alt: the", "table: the", 1, "one figure table value"),
        ("area.svg", "gone.svg", 2, "run/gone.svg"),
        ("m.py#", "gone.py#", 1, "module shapes/gone.py"),
        ("#short", "#shorter", 1, "shapes/m.py shorter"),
        ("settings.json", "no.json", 5, "run/no.json"),
        ("settings.json", "area.csv", 5, "run/area.csv JSON"),
        ("settings", "result", 5, "run/result.json environment.command"),
        ("from: run/settings.json", "command: c", 1, "commit from"),
        ("\\pi", "\\nope", 4, "LaTeX nope"),
        ("figure: run/area.svg", "table: run/settings.json", 2, "settings.json CSV Markdown"),
        ("figure: run/area.svg", "table: run/a b.png", 2, "UTF-8"),
        ("area.svg", "drawing.svg", 3, "drawing <title> alt"),
        ("figure: run/area.svg", "value: run/result.json#a.no", 2, "run/result.json number a.no"),
    ],
)
def test_each_mistake_has_its_line(load, old: str, new: str, line: int, words: str):
    assert old in FIGURE
    with pytest.raises(SourceError) as raised:
        load(FIGURE.replace(old, new))
    message = str(raised.value)
    assert message.startswith(f"exhibits.yml:{line}: ")
    assert all(word in message for word in words.split())
