r"""Each rule of pairing, and each trap met on the way."""

from __future__ import annotations

import textwrap

import pytest
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.parse import Module, parse


def parsed(source: str) -> Module:
    return parse(textwrap.dedent(source).lstrip("\n"), "example.py")


def rows(source: str) -> list[tuple[str, list[int]]]:
    """Prose and line numbers of the code, row by row."""
    return [
        ("\n".join(line.text for line in row.prose), [line.number for line in row.code])
        for row in parsed(source).rows
    ]


def test_the_module_docstring_is_the_first_row_and_keeps_the_imports():
    assert rows('"""Head."""\n\nimport a\nimport b\n') == [("Head.", [3, 4])]


def test_a_shebang_joins_the_module_docstring_as_code():
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


def test_comments_that_follow_each_other_are_one():
    assert rows("# one\n# two\nx = 1\n# three\n\n# four\ny = 2\n") == [
        ("one\ntwo", [3]),
        ("three", []),
        ("four", [7]),
    ]


def test_a_lone_hash_is_a_paragraph_break():
    assert rows("# one\n#\n# two\nx = 1\n") == [("one\n\ntwo", [4])]


def test_only_hashes_end_a_row_and_leave_the_prose_empty():
    assert rows("# one\nx = 1\n#\ny = 2\n") == [("one", [2]), ("", [4])]
    assert rows("# one\nx = 1\n#######\n#\ny = 2\n") == [("one", [2]), ("", [5])]


def test_indent_inside_a_comment_is_kept():
    assert rows("# * one\n#     * two\nx = 1\n") == [("* one\n    * two", [3])]


def test_a_docstring_stands_beside_its_header_and_decorators():
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


def test_an_async_function_and_a_class_are_documented_alike():
    assert rows('async def f():\n    """F."""\n    pass\n') == [("F.", [1, 3])]
    assert rows('class A:\n    """A."""\n\n    x = 1\n') == [("A.", [1, 3, 4])]


def test_comments_behind_code_stay_in_the_code():
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
def test_what_only_looks_like_a_directive_is_prose(comment: str):
    assert rows(f"x = 1\n{comment}\ny = 2\n") == [("", [1]), (comment[2:], [3])]


def test_a_coding_line_counts_only_at_the_head():
    assert rows("x = 1\ny = 2\n# coding: why\nz = 3\n")[1] == ("coding: why", [4])


def test_a_method_without_docstring_leaves_the_prose_above():
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
    assert found == [("A.", [1]), ("", [4, 5, 6, 7, 8])]


def test_a_function_without_docstring_is_not_paired_with_the_module():
    assert rows('"""Head."""\ndef f():\n    pass\n') == [("Head.", []), ("", [2, 3])]


def test_a_comment_above_a_definition_belongs_to_it():
    assert rows('"""Head."""\n\n# About f.\ndef f():\n    pass\n') == [
        ("Head.", []),
        ("About f.", [4, 5]),
    ]


def test_the_statement_after_a_definition_leaves_its_prose():
    assert rows('def f():\n    """F."""\n    return 1\n\n\nx = f()\n') == [
        ("F.", [1, 3]),
        ("", [6]),
    ]


def test_a_function_inside_a_function_stays_in_its_row():
    source = 'def f():\n    """F."""\n\n    def g():\n        pass\n\n    return g\n'
    assert rows(source) == [("F.", [1, 3, 4, 5, 6, 7])]


def test_line_numbers_are_those_of_the_file_and_blank_ends_are_trimmed():
    found = parse("\n\n# one\n\n\nx = 1\n\ny = 2\n\n\n# two\nz = 3\n").rows
    assert [[line.number for line in row.code] for row in found] == [[6, 7, 8], [12]]
    assert [row.lines for row in found] == [tuple(range(1, 11)), (11, 12)]


def test_names_are_anchors_where_their_definition_begins():
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


def test_definitions_behind_conditions_have_names():
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


def test_the_indent_of_a_row_is_that_of_all_its_lines():
    source = "def f():\n    # one\n    x = 1\n    if x:\n        # two\n\n        x = '''\nend'''\n"
    assert [row.indent for row in parsed(source).rows] == [0, 4, 0]


# The traps.


def test_docstrings_come_from_the_source_and_not_from_their_value():
    module = parsed('def f():\n    r"""$\\beta \\tau$"""\n')
    assert module.rows[0].prose[0].text == r"$\beta \tau$"
    assert module.warnings == ()


def test_a_docstring_that_should_be_raw_is_noted():
    module = parsed('def f():\n    """\n    $\\beta$\n    """\n')
    assert module.rows[0].prose[0].text == r"$\beta$"
    assert [(note.number, note.text) for note in module.warnings] == [
        (3, '\\b in a docstring that is not raw; write r"""')
    ]


def test_a_control_character_in_a_docstring_is_noted():
    notes = parse('"""a\x08b"""\n').warnings
    assert [note.text for note in notes] == ["control character U+0008 in a docstring"]


def test_escapes_that_mean_themselves_are_resolved_without_a_note():
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
def test_strings_without_lines_of_their_own_stay_code(source: str):
    (row,) = parse(source).rows
    assert row.prose == ()
    code = "\n".join(line.text for line in row.code)
    assert code == source.rstrip("\n")


def test_a_directive_behind_a_docstring_does_not_make_it_code():
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


def test_comments_among_decorators_and_before_a_docstring_have_no_code():
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


def test_comments_among_parameters_take_the_parameters():
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


def test_front_matter_is_taken_out_of_the_prose():
    module = parsed('"""\n---\ntitle: T\n---\n\nHead.\n"""\n')
    assert [line.text for line in module.front_matter] == ["title: T"]
    assert [line.text for line in module.rows[0].prose] == ["Head."]


def test_front_matter_without_an_end_is_an_error():
    with pytest.raises(SourceError, match=r"^example\.py:2: the front matter .* no closing ---"):
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
