r"""The line tracer, on arrays that have only a shape, and the names of their sizes."""

from __future__ import annotations

import gc
import sys
import textwrap
from pathlib import Path

import pytest
from mkdocs_annotated.beside.sizes import SizeNames
from mkdocs_annotated.beside.trace import trace_example
from mkdocs_annotated.errors import SourceError

ARRAYS = """
class Array:
    def __init__(self, *shape):
        self.shape = shape
    def t(self):
        return Array(*self.shape[::-1])
"""
SIZES = '{"B": 5, "n": 7, "d_ffn": 26}'


@pytest.fixture
def traced(tmp_path: Path):
    """Return the notes of a module that an example runs."""

    def trace(source: str, example: str, sizes: str = SIZES) -> dict[int, str]:
        package = tmp_path / "made"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        (package / "arrays.py").write_text(ARRAYS)
        text = "from made.arrays import Array\n" + textwrap.dedent(source).lstrip("\n")
        module = package / "module.py"
        module.write_text(text)
        script = tmp_path / "example.py"
        head = f"from made.arrays import Array\nimport made.module as m\nSIZES = {sizes}\n"
        script.write_text(head + textwrap.dedent(example).lstrip("\n"))
        return trace_example(module, text, "made/module.py", script, "example.py", [package])

    return trace


def test_names_attributes_tuples_and_results_get_their_shapes(traced):
    found = traced(
        """
        class Layer:
            def __init__(self):
                self.weight = Array(7, 7)
            def __call__(self, x):
                z1, (z2, _) = Array(5, 13), (Array(5), 3)
                y: Array = x
                k = 1
                y, self.last = y, z1
                return y
        """,
        "m.Layer()(Array(5, 7))",
    )
    assert found == {
        4: "self.weight [n, n]",
        6: "z1 [B, d_ffn/2]  z2 [B]",
        7: "y [B, n]",
        9: "y [B, n]  self.last [B, d_ffn/2]",
        10: "-> [B, n]",
    }


def test_a_module_is_traced_while_it_is_imported(traced):
    assert traced("TABLE = Array(7, 5)\n", "") == {2: "TABLE [n, B]"}


def test_a_note_is_on_the_last_line_of_its_statement(traced):
    source = """
    def f(x):
        y = max(
            x,
            x,
            key=id,
        )
        return (
            y
        )
    """
    assert traced(source, "m.f(Array(5))") == {7: "y [B]", 10: "-> [B]"}


def test_calls_inside_calls_keep_their_own_lines(traced):
    source = """
    def inner(x):
        x = x.t()
        return x

    def outer(x):
        x = inner(inner(x).t())
        return x
    """
    assert traced(source, "m.outer(Array(5, 7))") == {
        3: "x [n, B]",
        4: "-> [n, B]",
        7: "x [n, B]",
        8: "-> [n, B]",
    }


def test_a_line_shows_at_most_two_shapes(traced):
    source = """
    def f(k):
        x = Array(k)
        if k > 5:
            f(k - 1)
        return x
    """
    assert traced(source, "m.f(6)") == {3: "x [6] or [B]", 6: "-> [B] or [6]"}
    assert traced(source, "m.f(9)")[3] == "x [9] or [8] or ..."


def test_a_frame_does_not_inherit_from_an_earlier_one(traced):
    # The frame of the second call often has the address of the first frame.
    source = """
    def first():
        x = Array(5)
        raise ValueError

    def second(x):
        x
        return None
    """
    example = """
    for _ in range(50):
        try:
            m.first()
        except ValueError:
            pass
        m.second(Array(7))
    """
    assert traced(source, example) == {3: "x [B]"}


def test_an_exception_prevents_the_assignment(traced):
    source = """
    def fail(x):
        raise ValueError

    def f(x):
        y = Array(5)
        try:
            y = fail(x)
        except ValueError:
            k = 1
        try:
            return fail(x)
        except ValueError:
            return Array(7)
    """
    assert traced(source, "m.f(Array(26))") == {6: "y [B]", 14: "-> [n]"}


def test_generators_show_what_they_yield_and_what_they_are_sent(traced):
    source = """
    def g():
        got = Array(26)
        got = yield Array(5)
        yield got
        last = Array(7)

    def f():
        it = g()
        first = next(it)
        second = it.send(Array(7, 7))
        list(it)
    """
    assert traced(source, "m.f()") == {
        3: "got [d_ffn]",
        4: "got [n, n]  -> [B]",
        5: "-> [n, n]",
        6: "last [n]",
        10: "first [B]",
        11: "second [n, n]",
    }


def test_coroutines_show_awaited_results(traced):
    source = """
    import asyncio

    async def part():
        await asyncio.sleep(0)
        return Array(5)

    async def whole():
        x = Array(7)
        x = await part()
        async for y in parts():
            x = y
        return await part()

    async def parts():
        for k in (7, 7):
            await asyncio.sleep(0)
            yield Array(k, 5)
    """
    # Not with `asyncio.run`: an earlier browser test may have left an event loop running.
    example = """
c = m.whole()
try:
    while True:
        c.send(None)
except StopIteration:
    pass
"""
    assert traced(source, example) == {
        6: "-> [B]",
        9: "x [n]",
        10: "x [B]",
        11: "y [n, B]",
        12: "x [n, B]",
        13: "-> [B]",
    }


def test_loops_and_with_show_what_they_bind_on_entry(traced):
    source = """
    import contextlib

    def f(parts):
        x = Array(7)
        for x in parts:
            y = x
        with contextlib.nullcontext(y) as z:
            z = Array(26)
        while (w := parts.pop()).shape == (7,):
            pass
        return x
    """
    assert traced(source, "m.f([Array(5), Array(5)])") == {
        5: "x [n]",
        6: "x [B]",
        7: "y [B]",
        8: "z [B]",
        9: "z [d_ffn]",
        10: "w [B]",
        12: "-> [B]",
    }


def test_a_loop_that_never_enters_binds_nothing(traced):
    source = """
    def f(parts):
        x = Array(7)
        for x in parts:
            pass
    """
    assert traced(source, "m.f([])") == {3: "x [n]"}


def test_names_inside_comprehensions_and_lambdas_are_not_assigned(traced):
    source = """
    def f(parts):
        x = [x.t() for x in parts][0]
        y = sum(
            len(y.shape) for y in parts
        )
        z = (lambda z: z.t())(x)
        return [x, z]
    """
    assert traced(source, "m.f([Array(5, 7)])") == {
        3: "x [n, B]",
        7: "z [B, n]",
        8: "-> [n, B], [B, n]",
    }


def test_other_threads_are_not_watched(traced):
    source = """
    def f():
        x = Array(5)
    """
    example = """
    import threading
    thread = threading.Thread(target=m.f)
    thread.start()
    thread.join()
    """
    assert traced(source, example) == {}


def test_other_files_are_not_watched(traced):
    assert traced("def f(x):\n    return x.t().shape\n", "m.f(Array(5, 7))") == {}


def test_objects_without_a_readable_shape_are_ignored(traced):
    source = """
    class Odd:
        @property
        def shape(self):
            raise RuntimeError

    class Circle:
        shape = "round"

    def f():
        a, b, c = Odd(), Circle(), Circle
        return a
    """
    assert traced(source, "m.f()") == {}


def test_the_previous_tracer_and_imports_are_restored(traced):
    def tracer(frame, event, arg):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        traced("x = 1\n", "")
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert not any(name.startswith("made") for name in sys.modules)
    gc.collect()


@pytest.mark.parametrize(
    ("example", "sizes", "line", "words"),
    [
        ("1 / 0", SIZES, 4, "ZeroDivisionError division by zero"),
        ("x = = 1", SIZES, 4, "SyntaxError invalid syntax"),
        ("m.f(Array(5))", "None", 1, "SIZES"),
        ("m.f(Array(5))", '{"B": 5, "h": 5}', 3, "B h 5 SIZES"),
        ("m.f(Array(5))", '{"B": 0}', 3, "SIZES 'B' 0"),
        (
            "m.f(Array(6))",
            '{"n": 12, "B": 2, "h": 3}',
            3,
            "line 3 x 6 n/2 SIZES",
        ),
    ],
)
def test_a_mistake_in_an_example_has_its_line(
    traced, example: str, sizes: str, line: int, words: str
):
    with pytest.raises(SourceError) as raised:
        traced("def f(x):\n    x = x\n", example, sizes)
    message = str(raised.value)
    assert message.startswith(f"example.py:{line}: ")
    assert all(word in message for word in words.split())


def test_an_example_must_run_its_module(tmp_path: Path):
    (tmp_path / "made").mkdir()
    module = tmp_path / "made" / "module.py"
    module.write_text("x = 1\n")
    script = tmp_path / "example.py"
    script.write_text("SIZES = {}\n")
    with pytest.raises(SourceError, match=r"^example\.py:1: .*made/module\.py$"):
        trace_example(
            module, "x = 1\n", "made/module.py", script, "example.py", [tmp_path / "made"]
        )


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (7, "n"),
        (13, "d_ffn/2"),
        (14, "2 n"),
        (21, "3 n"),
        (35, "B n"),
        (9, "d_model/n_heads"),
        (1, "1"),
        (0, "0"),
        (11, "11"),
        ("?", "?"),
    ],
)
def test_a_size_is_written_as_a_name_or_an_expression(size: object, name: str):
    sizes = {"B": 5, "n": 7, "d_ffn": 26, "d_model": 36, "n_heads": 4}
    assert SizeNames(sizes).format_size(size) == name


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        ({"n": 5, "d": 10}, 5, "5 is n or d/2"),
        ({"n": 5, "d": 10}, 10, "10 is d or 2 n"),
        ({"B": 2, "n": 7}, 14, "14 is 2 n or B n"),
        ({"B": 4, "d": 12, "h": 3}, 4, "4 is B or d/h"),
    ],
)
def test_a_size_with_two_expressions_is_an_error(names: dict[str, int], size: int, message: str):
    with pytest.raises(ValueError, match=f"^{message};"):
        SizeNames(names).format_size(size)


def test_a_named_size_is_not_ambiguous():
    assert SizeNames({"B": 2, "n": 7, "d_ffn": 10}).format_shape((2, 7, 5)) == "[B, n, d_ffn/2]"
    assert SizeNames({"seq_len": 7, "seq_len + 1": 8}).format_shape([8]) == "[seq_len + 1]"
    assert SizeNames({"B": 2, "d_model": 6}).format_size(6) == "d_model"
