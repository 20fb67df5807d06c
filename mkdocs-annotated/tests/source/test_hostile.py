r"""Hostile text in comments, docstrings and code cannot add HTML to a page."""

from __future__ import annotations

import textwrap
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.markup import ALLOWED_SCHEMES
from mkdocs_annotated.markdown.math import to_mathml


def words(text: str) -> set[str]:
    return set(text.split())


# The elements that Markdown, its extensions and the page itself can write.
ELEMENTS = words("a abbr b blockquote br code dd div dl dt em h1 h2 h3 h4 h5 h6 hr i img li")
ELEMENTS |= words("ol p pre section span strong sub sup table tbody td th thead tr ul wbr")
MATH = words("math mrow mi mo mn mtext msub msup msubsup mfrac msqrt mroot mover munder")
MATH |= words("munderover mtable mtr mtd mspace mstyle mpadded mphantom menclose merror")
MATH |= words("semantics annotation mmultiscripts mprescripts none maction")
VOID = words("br hr img input link meta wbr")
HOSTILE = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</pre></code></div></main>",
        "<!-- ",
        "]]>",
        "<![CDATA[",
        "&lt;script&gt;",
        "```",
        "~~~",
        "````python",
        "$$",
        "$x$",
        r"\(",
        "{: onclick=alert(1) }",
        "{: style=background:url(x) }",
        "[a](javascript:alert(1))",
        "[a](java\tscript:alert(1))",
        "![a](data:text/html,x)",
        "<javascript:alert(1)>",
        "[a]: javascript:alert(1)",
        "[a][]",
        "[^1]",
        "[^1]: x",
        "# ",
        "> ",
        "* ",
        "    ",
        "\t",
        "!!! note",
        "| a | b |",
        "| - | - |",
        "---",
        "===",
        "row0123456789abx0",
        "\x02wzxhzdk:0\x03",
        "\x02",
        "\x03",
        "\x0c",
        "\x1b[0m",
        "\u202e",
        "\u2028",
        "\x85",
        "x" * 5000,
        "[" * 400,
        "*" * 300,
        "`",
        '"',
        "'",
        "\\",
    ]
)
LINE = st.lists(HOSTILE | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=5)
TEXT = st.lists(LINE.map(" ".join), min_size=1, max_size=6).map("\n".join)


class Elements(HTMLParser):
    """Collects the elements of a page and checks that they are nested correctly."""

    def __init__(self, html: str, implied: set[str] | None = None) -> None:
        super().__init__()
        self.implied = implied or set()  # elements whose end tag is optional
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.comments: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open[-1] != tag and self.open[-1] in self.implied:
            self.open.pop()
        assert self.open.pop() == tag

    def handle_comment(self, data):
        self.comments.append(data)


def check_harmless(html: str) -> Elements:
    """Check that a page has only known elements, no event handlers and no unsafe addresses."""
    page = Elements(html)
    assert page.open == []
    assert page.comments == []
    for tag, attributes in page.seen:
        assert tag in ELEMENTS | MATH, tag
        for key, value in attributes.items():
            assert not key.startswith("on"), key
            if key in ("href", "src"):
                address = "".join((value or "").split()).lower()
                scheme = address.partition(":")[0] if ":" in address.split("/")[0] else ""
                assert scheme in ALLOWED_SCHEMES or address.startswith("#"), value
    return page


def comment(text: str) -> str:
    # In Python only these end a comment.
    for end in ("\r\n", "\r", "\n"):
        text = text.replace(end, "\n")
    return "\n".join(f"# {line}" for line in text.replace("\0", "").split("\n"))


def docstring(text: str) -> str:
    return '"""\n' + text.replace("\0", "").replace("\\", "\\\\").replace('"', "'") + '\n"""'


def rendered(render, source: str) -> SimpleNamespace | None:
    """Return the page, or `None` if the file is rejected with a line inside it."""
    try:
        page = render(source, dedent=False)
    except SourceError as error:
        if not 1 <= error.line <= source.count("\n") + 2:
            raise AssertionError("the line of the error is outside of the file") from error
        return None
    return None if page.problems else page


properties = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@properties
@given(text=TEXT)
@example("```")
@example("[a](&#106;avascript:alert(1))")
@example("{: onclick=alert(1) }")
@example("<" * 50 + "script>")
def test_comments_cannot_add_html(render, text: str):
    page = rendered(render, comment(text) + "\nx = '</code>'  # <b>\n# the end\n")
    if page:
        check_harmless(page.html)
        assert "the end" in page.rows[-1]


@properties
@given(text=TEXT)
@example("---\ntitle: <script>\n---")
def test_docstrings_cannot_add_html(render, text: str):
    source = f'{docstring(text)}\n\n\ndef f():\n    r{docstring(text)}\n    return "<script>"\n'
    page = rendered(render, source)
    if page:
        seen = check_harmless(page.html).seen
        assert any(attributes.get("id") == "f" for _, attributes in seen)


@properties
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=60)
)
@example("</span></code></pre><script>alert(1)</script>")
def test_code_cannot_add_html(render, text: str):
    source = f"x = {text!r}\n# {text.splitlines()[0] if text.splitlines() else ''}\n"
    page = rendered(render, source)
    if page:
        assert check_harmless(page.html).seen
        assert "<script" not in page.html


# Python-Markdown takes quadratic time for square brackets: ten seconds for 10,000.
@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000,
        pytest.param("[" * 10_000, marks=pytest.mark.slow),
        pytest.param("[" * 5_000 + "]" * 5_000, marks=pytest.mark.slow),
        "(" * 10_000,
        "<" * 10_000,
        "{" * 10_000,
    ],
    ids=lambda text: f"{text[0]}{len(text)}",
)
def test_thousands_of_brackets_are_shown_as_text(render, text: str):
    page = rendered(render, f"# {text}\nx = 1\n")
    assert page is not None
    check_harmless(page.html)
    shown = "&lt;" if text[0] == "<" else text[0]
    assert page.html.count(shown) >= text.count(text[0])


@pytest.mark.parametrize("mark", ["> ", "* ", "1. "])
def test_deep_nesting_is_an_error_with_its_line(render, mark: str):
    with pytest.raises(SourceError, match=r"^example\.py:2: .*nested"):
        render(f"x = 1\n# {mark * 10_000}x\ny = 1\n")
    check_harmless(render(f"# {mark * 20}x\ny = 1\n").html)


def test_deeply_nested_brackets_in_code_are_an_error_with_a_line(render):
    with pytest.raises(SourceError, match=r"^example\.py:1: .*Python"):
        render("x = " + "(" * 10_000 + ")" * 10_000 + "\n")


def test_a_very_long_line_of_code_stays_one_line(render):
    page = render("x = '" + "y" * 200_000 + "'\n")
    check_harmless(page.html)
    assert page.html.count('<b id="L') == 1


HEAD = '"""\n---\n{front}\n---\n# {title}\n"""\n\n\nclass Überschrift:\n    """<b>x</b>"""\n'


TITLES = [
    ("title: <script>alert(1)</script>", "A"),
    ("title: '\"><script>alert(1)</script>'", "A"),
    ("summary: '\"><script>alert(1)</script>'", "A"),
    ("title: A", "<script>alert(1)</script>"),
    ("title: A", "`</title><script>alert(1)</script>`"),
    ("title: A", "A &lt;script&gt;alert(1)&lt;/script&gt;"),
    ("title: [1, 2]", "A"),
    ("summary: A", "<script>alert(1)</script>"),
    ("summary: A", "`</title><script>alert(1)</script>`"),
    ("title: '</title><script>alert(1)</script>'", "A"),
]


def test_titles_and_summaries_are_text_on_the_whole_site(project):
    """The title of a page is in its head, every menu, the pager and the search index."""
    for i, (front, title) in enumerate(TITLES):
        project.write(f"shapes/bad{i}.py", HEAD.format(front=front, title=title))
    site = project.build()
    assert len(list((site / "shapes").glob("bad*.html"))) == len(TITLES)
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        page = Elements(html.replace("<!DOCTYPE html>", ""), words("li p td th tr thead tbody"))
        assert page.open == []
        scripts = [attributes for tag, attributes in page.seen if tag == "script"]
        assert [each.get("src") for each in scripts if each] == [
            f"{'../' * (len(path.relative_to(site).parts) - 1)}js/annotated.js"
        ] or path.name == "404.html"
        assert "<script>alert" not in html, path
        assert not any(key.startswith("on") for _, keys in page.seen for key in keys)


def test_text_in_the_search_index_is_not_html(project):
    project.write("shapes/bad.py", textwrap.dedent('# <img src=x onerror="alert(1)">\nx = 1\n'))
    index = (project.build() / "search" / "index.js").read_text(encoding="utf-8")
    assert '<img src=x onerror=\\"alert(1)\\">' in index
    reader = (project.site / "js" / "annotated.js").read_text(encoding="utf-8")
    assert "innerHTML" not in reader


@pytest.mark.parametrize("bracket", ["[", "(", "[a"])
def test_a_formula_with_many_open_brackets_is_an_error(bracket):
    with pytest.raises(ValueError, match=r"\b16\b.* brackets .*\b400\b"):
        to_mathml(bracket * 400, display=True)
    assert "<math" in to_mathml("[" * 400 + "a" + "]" * 400, display=True)
