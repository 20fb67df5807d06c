r"""Each rule by which prose is paired with code, and the special cases."""

from __future__ import annotations

import textwrap

import pytest
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.parse import Module, parse


def parsed(source: str) -> Module:
    return parse(textwrap.dedent(source).lstrip("\n"), "example.py")


def rows(source: str) -> list[tuple[str, list[int]]]:
    """Return the prose and the line numbers of the code of each row."""
    return [
        ("\n".join(line.text for line in row.prose), [line.number for line in row.code])
        for row in parsed(source).rows
    ]


def test_the_imports_are_beside_the_module_docstring():
    assert rows('"""Head."""\n\nimport a\nimport b\n') == [("Head.", [3, 4])]


def test_a_shebang_is_code_beside_the_module_docstring():
    assert rows('#!/usr/bin/env python3\n# coding: utf-8\n"""Head."""\nx = 1\n') == [
        ("Head.", [1, 2, 4])
    ]


def test_a_licence_above_the_docstring_is_a_row_of_its_own():
    assert rows('# Licence.\n"""Head."""\nx = 1\n') == [("Licence.", []), ("Head.", [3])]


def test_comments_open_rows_at_any_indent():
    found = rows(
        """
        x = 1
        # one
        if x:
            # two
            x = 2
        """
    )
    assert found == [("", [1]), ("one", [3]), ("two", [5])]


def test_comments_open_rows_inside_brackets():
    assert rows("x = [\n    # one\n    1,\n    # two\n    2,\n]\n") == [
        ("", [1]),
        ("one", [3]),
        ("two", [5, 6]),
    ]


def test_consecutive_comment_lines_are_one_comment():
    assert rows("# one\n# two\nx = 1\n# three\n\n# four\ny = 2\n") == [
        ("one\ntwo", [3]),
        ("three", []),
        ("four", [7]),
    ]


def test_a_lone_hash_is_a_paragraph_break():
    assert rows("# one\n#\n# two\nx = 1\n") == [("one\n\ntwo", [4])]


def test_a_comment_of_hashes_alone_opens_a_row_without_prose():
    assert rows("# one\nx = 1\n#\ny = 2\n") == [("one", [2]), ("", [4])]
    assert rows("# one\nx = 1\n#######\n#\ny = 2\n") == [("one", [2]), ("", [5])]


def test_indent_inside_a_comment_is_kept():
    assert rows("# * one\n#     * two\nx = 1\n") == [("* one\n    * two", [3])]


def test_a_docstring_is_beside_its_header_and_decorators():
    found = rows(
        '''
        import a

        @a.b
        @a.c(
            1
        )
        def f(
            x,
        ):
            """Doc."""

            return x
        '''
    )
    assert found == [("", [1]), ("Doc.", [3, 4, 5, 6, 7, 8, 9, 11, 12])]


def test_async_functions_and_classes_are_documented_like_functions():
    assert rows('async def f():\n    """F."""\n    pass\n') == [("F.", [1, 3])]
    assert rows('class A:\n    """A."""\n\n    x = 1\n') == [("A.", [1, 3, 4])]


def test_inline_comments_stay_in_the_code():
    assert rows("x = 1  # [n]\n# prose\ny = 2\n") == [("", [1]), ("prose", [3])]


@pytest.mark.parametrize(
    "directive",
    ["# noqa", "# noqa: E501", "# type: ignore", "# fmt: off", "# pragma: no cover", "#noqa"],
)
def test_directives_are_code(directive: str):
    assert rows(f"# prose\nx = 1\n{directive}\ny = 2\n") == [("prose", [2, 3, 4])]


@pytest.mark.parametrize(
    "comment", ["# !!! note", "# Type: a sentence", "# typed", "# noqable", "# formats: two"]
)
def test_comments_that_resemble_directives_are_prose(comment: str):
    assert rows(f"x = 1\n{comment}\ny = 2\n") == [("", [1]), (comment[2:], [3])]


def test_a_coding_line_counts_only_in_the_first_two_lines():
    assert rows("x = 1\ny = 2\n# coding: why\nz = 3\n")[1] == ("coding: why", [4])


def test_the_first_method_is_beside_the_docstring_of_its_class_and_the_next_opens_a_row():
    found = rows(
        '''
        class A:
            """A."""

            def f(self):
                return 1

            def g(self):
                return 2
        '''
    )
    assert found == [("A.", [1, 3, 4, 5]), ("", [7, 8])]


def test_a_first_method_with_a_docstring_or_behind_a_statement_opens_a_row():
    source = 'class A:\n    """A."""\n{}\n    def f(self):\n        return 1\n'
    assert rows(source.format("    x = 1\n")) == [("A.", [1, 3]), ("", [5, 6])]
    found = rows('class A:\n    """A."""\n    def f(self):\n        """F."""\n')
    assert found == [("A.", [1]), ("F.", [3])]


def test_a_function_without_a_docstring_is_not_beside_the_module_docstring():
    assert rows('"""Head."""\ndef f():\n    pass\n') == [("Head.", []), ("", [2, 3])]


def test_a_comment_above_a_definition_belongs_to_it():
    assert rows('"""Head."""\n\n# About f.\ndef f():\n    pass\n') == [
        ("Head.", []),
        ("About f.", [4, 5]),
    ]


def test_the_statement_after_a_definition_opens_a_row_without_prose():
    assert rows('def f():\n    """F."""\n    return 1\n\n\nx = f()\n') == [
        ("F.", [1, 3]),
        ("", [6]),
    ]


def test_a_function_inside_a_function_stays_in_its_row():
    source = 'def f():\n    """F."""\n\n    def g():\n        pass\n\n    return g\n'
    assert rows(source) == [("F.", [1, 3, 4, 5, 6, 7])]


def test_rows_keep_line_numbers_and_lose_blank_lines_at_their_ends():
    found = parse("\n\n# one\n\n\nx = 1\n\ny = 2\n\n\n# two\nz = 3\n").rows
    assert [[line.number for line in row.code] for row in found] == [[6, 7, 8], [12]]
    assert [row.lines for row in found] == [tuple(range(1, 11)), (11, 12)]


def test_anchors_are_on_the_line_of_the_definition():
    module = parsed(
        '''
        class A:
            """A."""

            @property
            def f(self):
                return 1

            @f.setter
            def f(self, x):
                def inner():
                    pass
        '''
    )
    found = [(a.name, a.line) for row in module.rows for a in row.anchors]
    assert found == [("A", 1), ("A.f", 5), ("A.f.inner", 10)]


def test_definitions_inside_compound_statements_have_anchors():
    module = parsed(
        """
        try:
            import a
        except ImportError:
            def f():
                pass
        else:
            class A:
                pass
        match 1:
            case _:
                def g():
                    pass
        """
    )
    assert [a.name for row in module.rows for a in row.anchors] == ["f", "A", "g"]


def test_the_indent_of_a_row_is_shared_by_all_its_lines():
    source = "def f():\n    # one\n    x = 1\n    if x:\n        # two\n\n        x = '''\nend'''\n"
    assert [row.indent for row in parsed(source).rows] == [0, 4, 0]


def test_the_prose_of_a_docstring_is_its_source_not_its_value():
    module = parsed('def f():\n    r"""$\\beta \\tau$"""\n')
    assert module.rows[0].prose[0].text == r"$\beta \tau$"
    assert module.warnings == ()


def test_an_escape_in_a_docstring_is_a_warning():
    module = parsed('def f():\n    """\n    $\\beta$\n    """\n')
    assert module.rows[0].prose[0].text == r"$\beta$"
    (warning,) = module.warnings
    assert warning.number == 3
    assert warning.text.startswith("\\b is an escape")


def test_a_control_character_in_a_docstring_is_a_warning():
    (warning,) = parse('"""a\x08b"""\n').warnings
    assert "U+0008" in warning.text


def test_escaped_quotes_and_backslashes_are_resolved_without_a_warning():
    module = parse('"""a \\\\ b \\"c\\" \\\nd"""\n')
    assert [line.text for line in module.rows[0].prose] == ['a \\ b "c" ', "d"]
    assert module.warnings == ()


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    "a" "b"\n',
        'def f():\n    "doc"; x = 1\n',
        'def f(): "doc"\n',
        'def f():\n    ("doc")\n',
        'def f():\n    "doc" \\\n\n',
        'def f():\n    "doc"  # not about the string\n',
        '"a" "b"\n',
        'def f():\n    b"doc"\n',
        'def f():\n    f"doc"\n',
    ],
)
def test_strings_that_share_a_line_with_code_stay_code(source: str):
    (row,) = parse(source).rows
    assert row.prose == ()
    code = "\n".join(line.text for line in row.code)
    assert code == source.rstrip("\n")


def test_a_docstring_with_a_directive_after_it_is_prose():
    assert rows('"""Head."""  # noqa: D400\nx = 1\n') == [("Head.", [2])]


def test_a_hash_and_blank_lines_inside_a_string_are_code():
    assert rows("x = '''\n\n# no comment\n\n'''\n") == [("", [1, 2, 3, 4, 5])]


def test_a_comment_inside_an_f_string_is_code():
    source = 'x = f"""{\n    # why\n    1}"""\n'
    try:
        compile(source, "example.py", "exec")
    except SyntaxError:
        pytest.skip("this Python allows no comments in f-strings")
    assert rows(source) == [("", [1, 2, 3])]


def test_comments_among_decorators_and_before_a_docstring_have_rows_without_code():
    found = rows(
        '''
        @a
        # one
        @b
        def f():
            # two
            """Doc."""
            return 1
        '''
    )
    assert found == [("one", []), ("two", []), ("Doc.", [1, 3, 4, 7])]


def test_comments_among_parameters_are_beside_the_parameters():
    found = rows(
        '''
        def f(
            # one
            a,
            # two
            b,
        ):
            """Doc."""
            return a
        '''
    )
    assert found == [("Doc.", [1]), ("one", [3]), ("two", [5, 6, 8])]


def test_form_feeds_and_tabs_are_kept():
    source = "x = 1\n\f\nif x:\n\ty = '\f'\n"
    (row,) = parse(source).rows
    assert "\n".join(line.text for line in row.code) + "\n" == source


def test_front_matter_is_not_prose():
    module = parsed('"""\n---\ntitle: T\n---\n\nHead.\n"""\n')
    assert [line.text for line in module.front_matter] == ["title: T"]
    assert [line.text for line in module.rows[0].prose] == ["Head."]


def test_front_matter_without_an_end_is_an_error():
    with pytest.raises(SourceError, match=r"^example\.py:2: .*front matter.* ---"):
        parsed('"""\n---\ntitle: T\n"""\n')


def test_a_heading_below_the_first_paragraph_is_shown_above_it(render):
    page = render(
        '''
        """Rings of circles.

        # Rings

        More.
        """


        def ring():
            """
            A ring.
            Of two lines.

            ## Ring

            $$x$$
            """
        '''
    )
    assert [line.text for line in page.module.rows[0].prose] == [
        *("# Rings", "", "Rings of circles.", "", "More.")
    ]
    assert [line.number for line in page.module.rows[0].prose] == [3, 2, 1, 4, 5]
    texts = [line.text for line in page.module.rows[1].prose]
    assert texts[:4] == ["## Ring", "", "A ring.", "Of two lines."]
    assert page.doc.title == "Rings"


@pytest.mark.parametrize("first", ["# A", "* a", "- a", "1. a", "> a", "$$a$$", "| a |", "```"])
def test_a_docstring_that_begins_otherwise_is_shown_as_it_is(render, first):
    page = render(f'r"""{first}\n\n# B\n{first if first == "```" else ""}\n"""\n', dedent=False)
    assert page.module.rows[0].prose[0].text == first
