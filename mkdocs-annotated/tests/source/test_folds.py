r"""The lines that a page folds, and the rows that they are in."""

from __future__ import annotations

import textwrap

import pytest
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.blocks import copyable_code
from mkdocs_annotated.source.parse import Module, parse


def parsed(source: str) -> Module:
    return parse(textwrap.dedent(source).lstrip("\n"), "example.py")


def folds(source: str) -> list[tuple[int, int, str]]:
    return [(fold.first, fold.last, fold.label) for fold in parsed(source).folds]


def rows(source: str) -> list[tuple[str, list[int]]]:
    return [
        ("\n".join(line.text for line in row.prose), [line.number for line in row.code])
        for row in parsed(source).rows
    ]


def test_a_fold_reaches_to_the_next_prose_at_its_indent():
    source = """
        def f(x):
            # fold: checks
            if x < 0:
                raise ValueError

            if x > 9:
                # A deeper comment stays in the fold.
                raise TypeError
            # Twice.
            return 2 * x
        """
    assert folds(source) == [(2, 8, "checks")]
    assert rows(source)[0] == ("", [1, 2, 3, 4, 5, 6])
    assert rows(source)[-1] == ("Twice.", [10])


def test_a_fold_ends_with_its_block():
    source = "if a:\n    # fold: setup\n    b = (\n1)\n    c = '''\nx'''\nd = 1\n"
    assert folds(source) == [(2, 6, "setup")]


def test_a_fold_ends_before_the_next_definition_and_the_next_fold():
    source = "# fold: constants\na = 1\n\n# fold: more\nb = 2\n\n\n@c\ndef f(): ...\n"
    assert folds(source) == [(1, 2, "constants"), (4, 5, "more")]


def test_a_fold_above_definitions_holds_them_all_and_begins_a_row():
    source = '''
        def f():
            """F."""
            return 1


        # fold: checks
        def g():
            """G."""


        class H:
            """H."""
        '''
    assert folds(source) == [(6, 12, "checks")]
    assert rows(source) == [("F.", [1, 3]), ("", [6]), ("G.", [7]), ("H.", [11])]


def test_a_fold_below_prose_leaves_the_prose_in_view():
    source = "# Why.\n# fold: checks\ndef g():\n    x = 1\n"
    assert rows(source) == [("Why.", [2]), ("", [3, 4])]
    assert folds(source) == [(2, 4, "checks")]


def test_an_explicit_end_lets_a_fold_hold_prose_and_begins_a_row_behind_it():
    source = """
        x = 1
        # fold: details
        y = 2
        # Prose in the fold.
        z = 3
        # end fold
        after = 4
        """
    assert folds(source) == [(2, 6, "details")]
    assert rows(source) == [("", [1, 2, 3]), ("Prose in the fold.", [5, 6]), ("", [7])]


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("# fold:\nx = 1\n", 1, "label"),
        ("x = 1\n# fold: a\n", 2, "nothing to fold"),
        ("# fold: a\n# Prose.\nx = 1\n", 1, "nothing to fold"),
        ("x = 1\n# end fold\n", 2, "ends no fold"),
        ("if x:\n    # fold: a\n    y = 1\n# end fold\n", 4, "ends no fold"),
        ("# fold: a\nif x:\n    # fold: b\n    y = 1\n", 3, "inside the fold of line 1"),
    ],
)
def test_a_mistake_is_reported_with_its_line(source: str, line: int, words: str):
    with pytest.raises(SourceError) as raised:
        parsed(source)
    assert str(raised.value).startswith(f"example.py:{line}: ")
    assert words in str(raised.value)


def test_a_sentence_and_a_string_are_no_fold():
    assert folds('# Folders of a run.\nx = """\n# fold: a\n"""\ny = 1  # fold: b\n') == []
    assert rows("# unfold: it\nx = 1\n") == [("unfold: it", [2])]


def test_long_parameter_lists_are_folded_to_their_names_and_defaults():
    source = """
        class A:
            def short(self, a: int,
                      b: str = "") -> None: ...


            async def long(
                self,
                a: int,
                /,
                b: dict[str, int] | None = None,
                *rest: object,
                c: tuple[int, ...] = (1,
                    2),
                **more: object,
            ) -> None: ...

            def longer(
                self,
                a_name_of_some_length: int,
                another_name_of_some_length: int,
                *,
                yet_another_name: int = 1,
            ) -> None: ...
        """
    assert folds(source) == [
        (6, 15, "async def long(self, a, /, b=None, *rest, c=(1, 2), **more)"),
        (17, 23, "def longer(self, a_name_of_some_length, …)"),
    ]


def test_parameters_with_prose_are_not_folded():
    assert folds("def f(\n    a,\n    # The second.\n    b,\n    c,\n): ...\n") == []


def test_the_imports_beside_the_docstring_of_a_module_are_folded():
    head = '"""Head."""\n\n'
    assert folds(head + "import a\nfrom b import (\n    c,\n)\n\nx = 1\nimport d\n") == [
        (3, 6, "imports")
    ]
    assert folds(head + "import a\n") == []
    assert folds("import a\nimport b\n") == []
    assert folds(head + "# Prose.\nimport a\nimport b\n") == []


def test_the_author_decides_before_the_rules():
    source = '"""Head."""\n\n# fold: all\nimport a\n\n\ndef f(\n    a,\n    b,\n    c,\n): ...\n'
    assert folds(source) == [(3, 4, "all"), (7, 11, "def f(a, b, c)")]
    source = "# fold: all\ndef f(\n    a,\n    b,\n    c,\n): ...\n"
    assert folds(source) == [(1, 6, "all")]


def test_copied_code_has_all_lines_but_the_marks():
    lines = copyable_code("# fold: a\nx = 1\n# end fold\n").lines
    assert lines == (None, "x = 1", None)


def test_each_fold_is_a_button_and_its_lines(render):
    html = render('r"""Head."""\n\nimport a\nimport b\nx = 1\n').html
    assert (
        '<button class="fold quiet" aria-expanded="false" style="--n:3;--i:0">imports</button>'
        '<span class="folded"><b id="L3" style="--n:3">' in html
    )
    # Hidden lines are not counted, so the next line has its number.
    assert '</b></span><b id="L5" style="--n:5">' in html


def test_the_rows_inside_a_fold_are_marked(render):
    html = render('# fold: a\ndef f():\n    """F."""\n\n\ndef g():\n    """G."""\n').html
    assert html.count('<div class="row folded"') == 2
    assert html.count('<button class="fold') == 1
