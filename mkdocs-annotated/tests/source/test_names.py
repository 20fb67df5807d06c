r"""Names in code: their positions, and the scopes that bind them."""

from __future__ import annotations

import keyword
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mkdocs_annotated.source.names import Name, find_names
from mkdocs_annotated.source.scan import read_source


def found(source: str) -> tuple[Name, ...]:
    return find_names(textwrap.dedent(source).lstrip("\n")).occurrences


def binding_scopes(source: str, name: str) -> list[str]:
    return [each.bound_in for each in found(source) if each.dotted == name]


def assert_positions_are_right(source: str) -> int:
    rows = source.split("\n")
    every = find_names(source).occurrences
    for name in every:
        assert rows[name.line - 1][name.column : name.end] == name.text
    return len(every)


LETTERS = st.text("abzßéλжש名", min_size=1, max_size=4).filter(
    lambda text: text.isidentifier() and not keyword.iskeyword(text)
)


@given(st.lists(LETTERS, min_size=4, max_size=4), st.text("aé名𝄞 ", max_size=5))
def test_columns_count_characters_after_any_text(parts: list[str], text: str):
    a, b, c, d = (f"{part}{i}" for i, part in enumerate(parts))
    source = (
        f"import {a}.{b} as {c}; from .{b} import ({d} as {a},\n {b})\n"
        f"class {a}({b}, metaclass={c}): '{text}'; {d} = '{text}', {c}\n"
        f"async def {b}({a}, *{c}, {d}: {a} = '{text}'.{b}, **{b}) -> '{text}': {d}.{a} = {c}\n"
        f"('{text}', lambda {a}: {b}.{c}); f(x='{text}', {a}={d}[{b}])\n"
        f"try: pass\nexcept {a}.{b} as {c}: '{text}'; del {d}\n"
        f"def g():\n  '''{text}\n{text}'''; global {a}, {b}\n"
        f"match {a}:\n  case {{'{text}': {b}, **{c}}}: {d}\n  case ['{text}' as {b}, *{c}]: {d}\n"
    )
    compile(source, "", "exec")
    assert assert_positions_are_right(source) == 45


def test_names_of_the_standard_library_are_at_their_positions():
    total = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[ab]*.py")):
        total += assert_positions_are_right(read_source(path, path.name))
    assert total > 10_000


def test_a_name_after_multibyte_characters_is_found():
    (name,) = [each for each in found("x = 'é名𝄞' + self.w\n") if each.text == "w"]
    assert (name.column, name.end, name.dotted, name.kind) == (17, 18, "self.w", "attribute")


def test_names_have_their_kinds():
    kinds = {
        each.text: each.kind
        for each in found(
            """
            import numpy
            class A:
                def f(self, x):
                    local = x.shape
                    return g(axis=local)
            """
        )
    }
    assert kinds == {
        "numpy": "import",
        "A": "definition",
        "f": "definition",
        "self": "parameter",
        "local": "variable",
        "shape": "attribute",
        "g": "variable",
        "axis": "keyword",
        "x": "variable",
    }


def test_the_scope_of_a_name_is_the_qualified_name_around_it():
    source = "class A:\n    w = 1\n    def f(self):\n        def g(): return w\n"
    assert [(each.scope, each.bound_in) for each in found(source) if each.text == "w"] == [
        ("A", "A"),
        ("A.f.g", "?"),
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\ndef f(): return x\n", ["", ""]),
        ("x = 1\ndef f(x): return x\n", ["", "f", "f"]),
        ("x = 1\ndef f():\n    x = 2\n    return x\n", ["", "f", "f"]),
        ("x = 1\ndef f():\n    global x\n    x = 2\n", ["", "", ""]),
        ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n", ["f"] * 3),
        ("x = 1\n[x for x in y]\n", ["", ".<comprehension>", ".<comprehension>"]),
        ("x = 1\n[x for y in x]\n", ["", "", ""]),
        ("x = 1\nlambda x: x\n", ["", ".<lambda>", ".<lambda>"]),
        ("[(x := y) for y in z]\nx\n", ["", ""]),
        ("class A:\n    x = 1\n    def f(self, y=x): return x\n", ["A", "A", "?"]),
        ("try: pass\nexcept E as x: x\n", ["", ""]),
        ("match y:\n    case [x, *_]: x\n", ["", ""]),
    ],
)
def test_a_name_is_bound_in_the_scope_that_python_finds(source: str, expected: list[str]):
    assert binding_scopes(source, "x") == expected


def test_names_in_an_f_string_are_right_or_missing():
    source = 'n = 1\nprint(f"n {n} {{n}} {n!r:>{n}} é{self.n}")\n'
    count = sum(each.text == "n" for each in find_names(source).occurrences)
    assert_positions_are_right(source)
    assert count == (5 if sys.version_info >= (3, 12) else 1)


def test_an_expression_too_deep_for_python_has_no_names():
    assert len(find_names("x = " + "a + " * 9 + "a\n").occurrences) == 11
    assert find_names("x = " + "a + " * 3000 + "a\n").occurrences == ()
