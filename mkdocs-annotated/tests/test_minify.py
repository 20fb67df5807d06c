r"""Scripts get shorter without meaning anything else."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from mkdocs_annotated.minify import minify, shorten, unquoted
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


def test_declarations_in_a_row_are_one():
    assert shorten("const a=1;const b=2;let[c]=b;f();let d=1;") == "let a=1,b=2,[c]=b;f();let d=1;"
    assert shorten("let a=()=>{f();let b=1;};let c=2;") == "let a=()=>{f();let b=1},c=2;"
    assert shorten("for(let a of b)f(a);let c=1;") == "for(let a of b)f(a);let c=1;"


@pytest.mark.parametrize(
    ("html", "short"),
    [
        ('<a href="b.html#c" tabindex="-1">', "<a href=b.html#c tabindex=-1>"),
        ('<a href="b/" class="x y">', '<a href=b/ class="x y">'),
        ('<mspace width="2em"/>', '<mspace width="2em"/>'),
        ('<img alt="" src="a">', '<img alt="" src=a>'),
        ('<a title="a&quot;b" href="?a=b">', '<a title="a&quot;b" href="?a=b">'),
        ('<!-- <a href="b"> -->', '<!-- <a href="b"> -->'),
        ("<script>'<a href=\"b\">'</script>", "<script>'<a href=\"b\">'</script>"),
        ('&lt;a href="b"&gt; x="y"', '&lt;a href="b"&gt; x="y"'),
    ],
)
def test_pages_lose_only_quotes_that_html_does_not_ask_for(html: str, short: str):
    assert unquoted(html) == short


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
