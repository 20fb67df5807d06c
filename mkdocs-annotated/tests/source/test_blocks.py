r"""Copied code is the author's code without its comments."""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
from pathlib import Path

import pytest
from mkdocs_annotated.source import blocks as module
from mkdocs_annotated.source.blocks import copyable_code, to_script
from mkdocs_annotated.source.scan import DEFINITIONS, read_source

LIBRARY = Path(sysconfig.get_path("stdlib"))
FILES = [
    *sorted(Path(module.__file__).parent.rglob("*.py")),
    *(LIBRARY / f"{name}.py" for name in ("ast", "dataclasses", "inspect", "textwrap", "typing")),
]


def definitions(source: str) -> list[ast.AST]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, DEFINITIONS)]


def parsed(text: str) -> ast.AST:
    """Parse a definition that may be indented."""
    inner = ast.parse("if 1:\n" + text if text[0] in " \t" else text).body
    return inner[0].body[0] if text[0] in " \t" else inner[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_syntax_tree_of_a_copied_block_is_that_of_the_source(path: Path):
    source = read_source(path, path.name)
    found = copyable_code(source)
    wanted = sorted(ast.dump(node) for node in definitions(source))
    assert sorted(ast.dump(parsed(found.text(*span))) for span in found.spans) == wanted
    assert len(wanted) >= 1 or path.name == "__init__.py"


def test_comments_are_removed_and_docstrings_kept():
    found = copyable_code(
        "@cache  # why\n"
        "# between\n"
        "def f(x,\n"
        "      # inside\n"
        "      y):\n"
        '    """Text with a # sign."""\n'
        "    # gone\n"
        '    return "#" + x  # [n]\n'
        "\n"
        "# after\n"
    )
    assert found.spans == ((1, 8),)
    assert found.text(1, 8) == (
        '@cache\ndef f(x,\n      y):\n    """Text with a # sign."""\n    return "#" + x\n'
    )


def test_an_outer_definition_comes_before_its_inner_ones():
    found = copyable_code(
        "class A:\n    def f(self):\n        def g(): pass\n\n    def h(self): pass\n"
    )
    assert found.spans == ((1, 5), (2, 3), (3, 3), (5, 5))


def test_strings_that_resemble_comments_are_kept():
    source = 'x = """\n# no comment\n"""\n'
    assert copyable_code(source).text(1, 3) == source


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="this Python allows no comments in f-strings"
)
def test_a_comment_inside_an_f_string_is_kept():
    source = 'x = f"""{y # shown\n=}"""  # gone\n'
    assert copyable_code(source).text(1, 2) == 'x = f"""{y # shown\n=}"""\n'


def test_the_script_contains_lines_and_spans():
    text = to_script(copyable_code("# a\nx = 1\n\ndef f(): pass"))
    assert text.startswith("annotatedBlocks=")
    assert json.loads(text.removeprefix("annotatedBlocks=")) == [
        [None, "x = 1", "", "def f(): pass"],
        [[4, 4]],
    ]


def test_a_site_has_one_script_for_each_module(example_site: Path):
    circle = (example_site / "shapes" / "circle.html").read_text()
    assert 'data-blocks="circle.blocks.js"' in circle
    assert (example_site / "shapes" / "circle.blocks.js").read_text().startswith("annotatedBlocks")
    start = (example_site / "shapes" / "index.html").read_text()
    assert 'data-blocks="__init__.blocks.js"' in start
    assert (example_site / "shapes" / "__init__.blocks.js").is_file()
