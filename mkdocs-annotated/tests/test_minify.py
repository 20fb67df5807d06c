r"""Scripts get shorter without meaning anything else."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from mkdocs_annotated.minify import minify, shorten
from mkdocs_annotated.plugin import THEME


def test_own_names_become_short_and_foreign_ones_stay():
    assert shorten("let count=1;document.count(count);") == "let a=1;document.count(a);"
    assert shorten("items.map(item=>item.item)") == "items.map(a=>a.item)"
    assert shorten("f((item)=>g(async(item)=>item));") == "f(a=>g(async(a)=>a));"
    assert shorten("const[first,other]=f(...first);") == "let[a,b]=f(...a);"


def test_keys_of_objects_keep_their_names():
    for script in ("let label=1;f({label});", "let label=1;f({a,label:label});"):
        assert shorten(script) == script


def test_text_keeps_its_words():
    script = "let line='line';f(`line ${line}`,/line/,\"a line\");"
    assert shorten(script) == "let a='line';f(`line ${a}`,/line/,\"a line\");"


def test_a_short_name_that_is_taken_is_not_given_again():
    assert shorten("let name=a;b(name);") == "let c=a;b(c);"


def test_other_files_are_left_alone():
    assert minify("img/a.svg", "<svg>  </svg>") == "<svg>  </svg>"


@pytest.mark.parametrize("path", sorted(THEME.glob("js/*.js")), ids=lambda path: path.name)
def test_scripts_as_served_are_scripts(path, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on the path")
    served = tmp_path / path.name
    served.write_text(minify(path.name, path.read_text()))
    assert subprocess.run([node, "--check", served], check=False).returncode == 0
    assert len(served.read_text()) < 0.7 * path.stat().st_size
