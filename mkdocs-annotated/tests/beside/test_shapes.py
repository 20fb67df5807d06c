r"""The command `mkdocs-annotated trace`, the files that it writes, and the notes on the pages."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from mkdocs_annotated.__main__ import main
from mkdocs_annotated.beside.artifacts import ArtifactPaths
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.files import find_modules
from mkdocs_annotated.source.parse import parse
from mkdocs_annotated.source.scan import read_source

OPTIONS = "sources: [shapes], shapes: {folder: data, examples: {shapes/area.py: area.py}}"
AREA = '''
class Array:
    shape = 5, 7


def area():
    r"""The area."""
    x = Array()
    y = Array()  # [B, n]
    return "#", x
'''


@pytest.fixture
def area(project):
    """A project with one module that has an example."""
    project.write("shapes/area.py", AREA)
    project.write("area.py", 'from shapes.area import area\nSIZES = {"B": 5, "n": 7}\narea()\n')
    project.write(
        "mkdocs.yml", f"site_name: P\ntheme: annotated\nplugins: [{{annotated: {{{OPTIONS}}}}}]\n"
    )
    return project


def command(project, *arguments: str) -> int:
    return main(["trace", "--config-file", str(project.root / "mkdocs.yml"), *arguments])


def test_the_command_writes_one_reproducible_file_per_module(area, capsys):
    assert command(area) == 0
    assert capsys.readouterr().out == "data/shapes.area.json: 2 lines\n"
    path = area.root / "data" / "shapes.area.json"
    first = path.read_bytes()
    values = json.loads(first)
    assert values["notes"] == {"7": "x [B, n]", "8": "y [B, n]"}
    assert values["command"] == "mkdocs-annotated trace shapes/area.py"
    assert sorted(values["sha256"]) == ["area.py", "shapes/area.py"]
    assert command(area, "shapes/area.py") == 0
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_failing_example_writes_nothing(area, capsys):
    assert command(area) == 0
    path = area.root / "data" / "shapes.area.json"
    before = path.read_bytes()
    area.write("area.py", "import shapes.area\nraise SystemExit(3)\n")
    capsys.readouterr()
    assert command(area) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: area.py:2: ")
    assert "SystemExit: 3" in error
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("argument", "old", "new", "message"),
    [
        ("shapes/b.py", "", "", "shapes/b.py has no example"),
        ("shapes/area.py", "{shapes/area", "{shapes/b", "no module 'shapes/b.py'"),
        ("shapes/area.py", ": area.py", ": no.py", "no example 'no.py' for shapes/area.py"),
        ("shapes/area.py", "annotated: {", "search: {", "Config"),
    ],
)
def test_the_command_rejects_bad_input_with_one_line(
    area, capsys, argument: str, old: str, new: str, message: str
):
    config = (area.root / "mkdocs.yml").read_text()
    area.write("mkdocs.yml", config.replace(old, new, 1) if old else config)
    if message == "Config":
        area.write("mkdocs.yml", "site_name: P\nplugins: []\n")
        message = "mkdocs.yml does not name the plugin annotated"
    assert command(area, argument) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_configuration_is_named(tmp_path: Path, capsys):
    assert main(["trace", "-f", str(tmp_path / "no.yml")]) == 2
    assert "no.yml" in capsys.readouterr().err


def test_notes_are_on_their_lines_unless_a_comment_gives_the_shape(area):
    assert command(area) == 0
    # A checkout with other line ends has the same shapes.
    path = area.root / "shapes" / "area.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    html = (area.build(options=OPTIONS) / "shapes" / "area.html").read_text()
    assert html.count("data-note=") == 1
    line = html.split('<b id="L7"')[1].split("</b>")[0]
    assert 'data-note="x [B, n]"' in line
    assert re.sub(r"<[^>]*>", "", line).endswith("x = Array()\n")


def test_a_folder_of_examples_mirrors_a_folder_of_modules(area, capsys):
    example = (area.root / "area.py").read_text()
    area.write("shapes/round/disc.py", AREA)
    area.write("examples/area.py", example)
    area.write("examples/round/disc.py", example.replace("shapes.area", "shapes.round.disc"))
    area.write(
        "mkdocs.yml",
        "site_name: P\ntheme: annotated\nplugins: [{annotated: {sources: [shapes], "
        "shapes: {folder: data, examples: {shapes: examples}}}}]\n",
    )
    assert command(area) == 0
    written = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert written == ["data/shapes.area.json", "data/shapes.round.disc.json"]
    values = json.loads((area.root / "data" / "shapes.round.disc.json").read_text())
    assert values["example"] == "examples/round/disc.py"
    area.write("examples/round/gone.py", example)
    assert command(area) != 0
    assert "no module 'shapes/round/gone.py'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        (
            "shapes/area.py",
            lambda text: text + "\n",
            "data/shapes.area.json:1: shapes/area.py trace",
        ),
        ("area.py", lambda text: text + "\n", "data/shapes.area.json:1: area.py trace"),
        (
            "data/shapes.area.json",
            lambda text: None,
            "data/shapes.area.json:1: shapes/area.py trace",
        ),
        ("data/shapes.area.json", lambda text: text[:40], "data/shapes.area.json:1: valid trace"),
        ("data/shapes.area.json", lambda text: "[]", "data/shapes.area.json:1: valid trace"),
        ("data/shapes.gone.json", lambda text: "{}", "data/shapes.gone.json:1: module"),
        ("shapes/area.py", lambda text: None, "plugins.annotated.shapes.examples: shapes/area.py"),
    ],
)
def test_an_invalid_file_of_shapes_is_an_error_with_its_remedy(area, path: str, change, words: str):
    assert command(area) == 0
    file = area.root / path
    text = change(file.read_text() if file.is_file() else "")
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)
    sources = list(find_modules(area.root / "shapes", area.root))
    modules = [(each, parse(read_source(each.path, each.display_path))) for each in sources]
    paths = ArtifactPaths(area.root, "data", {"shapes/area.py": "area.py"})
    with pytest.raises((SourceError, ValueError)) as raised:
        paths.load(modules)
    message = str(raised.value)
    assert message.startswith(words.split()[0])
    assert all(word in message for word in words.split())


@pytest.mark.parametrize("strict", [True, False])
def test_outdated_data_stops_every_build_and_keeps_the_site(area, caplog, strict: bool):
    assert command(area) == 0
    kept = area.build(options=OPTIONS) / "index.html"
    before = kept.stat().st_mtime_ns
    area.write("area.py", (area.root / "area.py").read_text() + "\n")
    with caplog.at_level(logging.WARNING), pytest.raises(Abort):
        area.build(options=OPTIONS, strict=strict)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("data/shapes.area.json:1: ")
    assert kept.stat().st_mtime_ns == before


def test_shapes_examples_and_exhibits_are_watched(area):
    assert command(area) == 0
    area.write("exhibits.yml", "[]\n")
    area.write(
        "mkdocs.yml",
        "site_name: P\ntheme: annotated\n"
        f"plugins: [{{annotated: {{{OPTIONS}, exhibits: exhibits.yml}}}}]\n",
    )
    config = load_config(str(area.root / "mkdocs.yml"))
    config.plugins.on_config(config)
    config.plugins.on_build_error(error=Exception())
    wanted = {str(Path(area.root).resolve() / name) for name in ("data", "area.py", "exhibits.yml")}
    assert wanted <= set(config.watch)
