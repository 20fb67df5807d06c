r"""Prose is joined into one document and split again, and HTML in it cannot run."""

from __future__ import annotations

import re

import pytest
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.prose import join_rows, plain_text, split_rows
from mkdocs_annotated.source.parse import parse


def test_each_row_gets_its_own_html(render):
    made = render('"""\n# Head\n"""\nx = 1\n# one\ny = 2\n#\nz = 3\n')
    assert made.rows == ('<h1 id="head">Head</h1>', "<p>one</p>", "")


def test_footnotes_are_below_the_last_row(render):
    made = render('"""\n# Head[^1]\n"""\n# one\nx = 1\n#\n# [^1]: A note.\n')
    assert 'id="fn:1"' in made.tail
    assert "A note." in made.tail
    assert 'href="#fn:1"' in made.rows[0]


def test_the_first_heading_is_the_title(render):
    made = render('"""\nText.\n\n### The *circle* $C$\n\n## Second\n"""\n')
    assert made.doc.title == "The circle C"
    assert '<h1 id="the-circle-c">' in made.rows[0]
    assert '<h2 id="second">' in made.rows[0]


def test_the_name_of_a_module_without_a_heading_is_the_title(render):
    made = render('"""Text."""\nx = 1\n')
    assert made.doc.title == "example"
    assert made.rows[0].startswith('<h1 id="example"><code>example</code></h1>')


def test_a_heading_inside_a_fence_is_not_the_title(render):
    made = render('"""\n```\n# no\n```\n\n## Yes\n"""\n')
    assert made.doc.title == "Yes"


def test_the_plain_text_of_a_heading_has_no_markup():
    assert plain_text(r"## `f` and [*g*](g.py): $\beta$ ##") == "f and g: beta"


@pytest.mark.parametrize(
    "prose",
    [
        "* one\n#     * two",
        "> quoted",
        "| a |\n# | - |\n# | b |",
        "1. one",
        "!!! note\n#     Text.",
        "Term\n# {: .x }",
        "[a]: http://example.org",
        "```\n# x\n# ```",
        "    code",
        "***",
        "Text\n# ====",
        "\\",
        "`open",
        "<!-- open",
        "<div>",
        "<b>",
        "**open",
    ],
)
def test_no_row_changes_the_next(render, prose: str):
    made = render(f"# {prose}\nx = 1\n# next\ny = 2\n", dedent=False)
    assert made.rows[1] == "<p>next</p>"


def test_an_unclosed_fence_is_an_error_with_its_line():
    module = parse("x = 1\n# Text.\n#\n# ```python\n# y\nz = 1\n# ```\n")
    with pytest.raises(SourceError, match=r"^a\.py:4: .*code fence"):
        join_rows(module, "a", "a.py")


def test_a_missing_marker_is_an_error_with_the_line_of_its_row():
    module = parse("# one\nx = 1\n# two\ny = 2\n")
    doc = join_rows(module, "a", "a.py")
    whole = "".join(f"<p>{doc.marker}x{i}</p>" for i in range(3))
    assert split_rows(whole, doc).rows == ("", "")
    with pytest.raises(SourceError, match=r"^a\.py:1: .*Markdown"):
        split_rows(whole.replace(f"<p>{doc.marker}x1</p>", ""), doc)
    with pytest.raises(SourceError, match=r"^a\.py:3: .*Markdown"):
        split_rows(whole.replace(f"<p>{doc.marker}x2</p>", ""), doc)


def test_unbalanced_html_is_an_error(render):
    with pytest.raises(SourceError, match=r"^example\.py:1: .*HTML"):
        render("# a <b>b\nx = 1\n# next\ny = 2\n", trusted=True)


def test_doctests_are_code_not_quotations(render):
    made = render('"""\nText:\n>>> f(1)\n2\n\nMore.\n"""\n')
    assert "<pre><code>&gt;&gt;&gt; f(1)\n2\n</code></pre>" in made.rows[0]
    assert "<blockquote>" not in made.rows[0]
    assert made.rows[0].endswith("<p>More.</p>")


def test_an_indented_doctest_keeps_its_indent(render):
    made = render('"""\nText.\n\n    >>> f(1)\n    2\n\nMore.\n"""\n', dedent=False)
    assert "<pre><code>&gt;&gt;&gt; f(1)\n2\n</code></pre>" in made.rows[0]
    assert made.rows[0].endswith("<p>More.</p>")


def test_a_list_may_follow_a_line_of_text(render):
    made = render('"""\nText:\n* one\n* two\n\nA line\n- b in a list\n"""\n')
    assert made.rows[0].count("<ul>") == 2
    assert made.rows[0].count("<li>") == 3


@pytest.mark.parametrize(
    "text",
    ["* one\n  still one\n* two", "* one\nlazy\n* two", "    code\n    * x", "2. is no list"],
)
def test_lists_stay_whole(render, text: str):
    made = render(f'r"""\n# T\n\n{text}\n"""\n', dedent=False)
    assert "<li>\n<p>" not in made.rows[0]
    assert made.rows[0].count("<ul>") == (1 if text.startswith("*") else 0)
    assert ("<code>* x" in made.rows[0]) is False


def test_a_list_inside_an_admonition_may_follow_its_text(render):
    made = render('"""\n# T\n\n!!! note\n    Text:\n    * one\n"""\n')
    assert "<li>one</li>" in made.rows[0]


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <b onclick='alert(1)'>b</b>",
    "<!-- x --><svg/onload=alert(1)>",
    "</div></div><script>alert(1)</script>",
    "&lt;script&gt;",
    "`<script>`",
    "<style>*{display:none}</style>",
    "<iframe src=//example.org>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_html_in_comments_is_shown_as_text(render, text: str):
    made = render(f'# {text}\nx = "{text}"  # {text}\n', dedent=False)
    tags = set(re.findall(r"<(\w+)", made.html))
    assert tags <= {"div", "p", "pre", "code", "b", "i", "a", "h1", "wbr", "span"}
    assert not re.search(r"<[^>]*\son\w+=", made.html)
    assert made.problems == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[x](javascript:alert(1))", "javascript:alert(1)"),
        ("[x](java&#115;cript:alert(1))", "cript:alert(1)"),
        ("[x](<java script:alert(1)>)", "script:alert(1)"),
        ("![x](data:text/html,1)", "data:text/html,1"),
        ("[x][r]\n#\n# [r]: vbscript:x", "vbscript:x"),
        ("text\n# {: onclick=alert(1) }", "onclick"),
        ("text\n# {: style=background:url(//x) }", "style"),
    ],
)
def test_addresses_and_attributes_that_run_scripts_are_errors(render, text: str, value: str):
    made = render(f"x = 1\n# {text}\ny = 2\n", dedent=False)
    assert len(made.problems) == 1
    assert made.problems[0].startswith("example.py:2: ")
    assert value in made.problems[0]


def test_trusted_html_is_kept(render):
    assert "<b>b</b>" in render("# a <b>b</b>\nx = 1\n", trusted=True).rows[0]


def test_a_definition_takes_its_id_from_a_heading(render):
    made = render(
        'def gelu():\n    """\n    ## gelu\n    """\n\n\nclass B:\n    """\n    ## gelu\n    """\n'
    )
    ids = re.findall(r'id="([^"]+)"', made.html)
    assert sorted(ids) == sorted(set(ids))
    assert '<div class="row" id="gelu">' in made.html
    assert "gelu_1" in ids


def test_the_empty_corner_of_a_table_is_no_heading(render):
    made = render("# | | a | $b$ |\n# | --- | --- | --- |\n# | c | d | |\nx = 1\n")
    cells = re.findall(r"<(t[hd])>", made.rows[0])
    assert cells == ["td", "th", "th", "td", "td", "td"]


def test_tables_scroll_inside_themselves(render):
    made = render("# | a | b |\n# | - | - |\n# | 1 | 2 |\nx = 1\n")
    assert '<div class="scroll" tabindex="0"><table>' in re.sub(r">\s+<", "><", made.rows[0])
