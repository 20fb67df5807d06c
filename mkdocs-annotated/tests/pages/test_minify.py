r"""Scripts get shorter without meaning anything else."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from mkdocs_annotated.pages.minify import minify, shorten, slim, unquoted
from mkdocs_annotated.plugin import THEME


def test_own_names_become_short_and_foreign_ones_stay():
    assert shorten("let count=1;document.count(count);") == "let a=1;document.count(a);"
    assert shorten("items.map(item=>item.item)") == "items.map(a=>a.item)"
    assert shorten("f((item)=>g(async(item)=>item));") == "f(a=>g(async(a)=>a));"
    assert shorten("const[first,other]=f(...first);") == "let[a,b]=f(...a);"
    assert shorten("f(true,false,f.true)") == "f(!0,!1,f.true)"


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


PAGE = """<!DOCTYPE html><html><head><title><p>a</p><p></title></head><body><main>
<p>one</p>
<p>two</p><div><p>in</p>

</div><ul>
<li>a</li><li><p>b</p></li>
<li>c<ol><li>d</li></ol></li></ul><blockquote><p>q</p></blockquote><p>e</p> text <p>f</p><em>g</em>
<table><thead><tr><th>h</th>
<th>i</th></tr></thead><tbody><tr><td>j</td><td><p>k</p></td></tr>
<tr><td></td><td>l</td></tr></tbody></table><pre><code>&lt;/p>
&lt;p></code></pre><a href="#x"><p>m</p></a>
<math data-latex="W"><mi data-s="W">W</mi></math> <math data-latex="x^2"><msup><mi>x</mi><mn>2</mn>
</msup></math><math data-latex="xy"><mi>x</mi><mi>y</mi></math></main></body></html>"""


def test_end_tags_go_where_the_next_thing_ends_an_element():
    assert slim("<p>a</p>\n<p>b</p> c <p>d</p></div>") == "<p>a<p>b</p> c <p>d</div>"
    assert slim("<ul>\n<li>a</li>\n<li>b</li>\n</ul>") == "<ul>\n<li>a<li>b</ul>"
    assert slim("<tr><th>a</th></tr></thead><tbody><tr>") == "<tr><th>a<tbody><tr>"
    assert slim("<a><p>a</p></a>") == "<a><p>a</p></a>"
    assert slim("<textarea></p><p></textarea>") == "<textarea></p><p></textarea>"


def test_latex_goes_where_the_text_of_a_formula_is_the_same():
    assert slim('<math data-latex="n"><mi>n</mi></math>') == "<math><mi>n</mi></math>"
    for kept in ("<math data-latex=x^2><msup><mi>x</mi><mn>2</mn></msup></math>", "<math></math>"):
        assert slim(kept) == kept


@pytest.mark.browser
def test_a_slim_page_is_the_same_page_to_a_browser(browser):
    assert len(slim(PAGE)) < len(PAGE) - 100
    page = browser.new_page()
    whole, short = page.evaluate(
        """pages => pages.map(html => {
            const found = new DOMParser().parseFromString(html, "text/html");
            for (const math of found.querySelectorAll("math")) {
                math.dataset.latex ??= math.textContent;
            }
            return found.documentElement.outerHTML.replace(/\\s+(?=<)/g, "");
        })""",
        [PAGE, slim(PAGE)],
    )
    page.close()
    assert whole == short


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
