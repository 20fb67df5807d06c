r"""Each line of any Python file belongs to exactly one row."""

from __future__ import annotations

import importlib.util
import re
import sysconfig
import warnings
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.pages import page
from mkdocs_annotated.source.parse import Module, parse
from mkdocs_annotated.source.scan import read_source

LIBRARY = Path(sysconfig.get_path("stdlib"))


def library_files() -> list[Path]:
    return sorted(p for p in LIBRARY.rglob("*.py") if "site-packages" not in p.parts)


def compiles(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "example.py", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def check_every_line_is_in_one_row(module: Module) -> None:
    lines = module.source.split("\n")
    if not lines[-1]:
        lines.pop()
    owned = [n for row in module.rows for n in row.lines]
    assert sorted(owned) == list(range(1, len(lines) + 1))
    shown = [line for row in module.rows for line in row.code]
    assert [line.number for line in shown] == sorted({line.number for line in shown})
    assert all(lines[line.number - 1] == line.text for line in shown)
    prose = {line.number for row in module.rows for line in (*row.prose, *module.front_matter)}
    for n, line in enumerate(lines, start=1):
        hidden = n not in prose and all(n != each.number for each in shown)
        if hidden:
            # Only blank lines, rulers, and the quotes of docstrings are hidden.
            assert not re.search(r"\w", re.sub(r"^\s*[rRuU]*(?='|\")|^---$", "", line)), (n, line)
    for row in module.rows:
        numbers = {line.number for line in (*row.prose, *row.code)}
        assert numbers <= set(row.lines) | {line.number for line in module.front_matter}


class CodeText(HTMLParser):
    """Collects the text of each code line of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[int, str] = {}
        self.current = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        identifier = dict(attrs).get("id") or ""
        if tag == "b" and re.fullmatch(r"L\d+", identifier):
            self.current = int(identifier[1:])
            self.lines[self.current] = ""

    def handle_data(self, data: str) -> None:
        if self.current:
            self.lines[self.current] += data


def check_code_column(module: Module) -> None:
    html = page.assemble(module, RenderedRows(tuple("" for _ in module.rows), ""))
    column = CodeText()
    column.feed(html)
    column.close()
    source = module.source.split("\n")
    expected = {line.number for row in module.rows for line in row.code}
    assert set(column.lines) == expected
    for n, text in column.lines.items():
        assert text.split("\n", 1)[0] == source[n - 1]


def check_file(path: Path, *, colours: bool = True) -> bool:
    try:
        text = read_source(path, path.name)
    except SourceError:
        return False
    if not compiles(text):
        return False
    module = parse(text, path.name)
    check_every_line_is_in_one_row(module)
    if colours:
        check_code_column(module)
    return True


def test_a_sample_of_the_standard_library_is_shown_line_for_line():
    files = library_files()
    sample = files[:: max(1, len(files) // 60)][:60]
    # Colouring takes most of the time.
    assert sum(check_file(path, colours=i % 10 == 0) for i, path in enumerate(sample)) > 40


@pytest.mark.slow
def test_the_whole_standard_library_is_shown_line_for_line():
    assert sum(check_file(path) for path in library_files()) > 1000


@pytest.mark.slow
def test_all_of_an_installed_torch_is_shown_line_for_line():
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        pytest.skip("torch is not installed")
    files = sorted(Path(found.origin).parent.rglob("*.py"))
    assert sum(check_file(path) for path in files) > 1000


PIECES = [
    "# prose",
    "#",
    "###",
    "# noqa",
    "",
    "x = 1",
    "x = 1  # shape",
    '"""doc"""',
    "r'''doc \\beta'''",
    '"""two\n\n# lines"""',
    '"a" "b"',
    "s = '''\n\n# inside\n'''",
    "def f():",
    "def f(  # behind",
    "async def g(a):",
    "class A:",
    "@decorator",
    "@decorator(",
    ")",
    "):",
    "    # indented",
    '    """doc\n    more"""',
    "    return 1",
    "    pass",
    "    def m(self):",
    '        """doc"""  # behind',
    "        return '#'",
    "if x:",
    "try:",
    "except E:",
    "call(",
    "    a,",
    "y = x \\",
    "\f",
    "\tpass",
    'f"""{',
    '}"""',
    "é = 'ü'",
]
programs = st.lists(st.sampled_from(PIECES), max_size=12).map("\n".join)
characters = st.text(alphabet="#\"'\\\n\r\t\f x=1():{}f\x1c\u2028é", max_size=40)


@given(text=st.one_of(programs, characters), end=st.sampled_from(["", "\n", "\n\n", "\r\n"]))
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_no_line_of_a_valid_program_is_lost(text: str, end: str):
    text += end
    # `compile` accepts a backslash before a final "\r\n", but not before "\n".
    assume(compiles(text.replace("\r\n", "\n").replace("\r", "\n")))
    module = parse(text)
    check_every_line_is_in_one_row(module)
    check_code_column(module)


def test_a_syntax_error_has_its_line():
    with pytest.raises(SourceError, match=r"^bad\.py:2: .*Python"):
        parse("x = 1\nx = = 2\n", "bad.py")


def test_an_unknown_coding_is_an_error(tmp_path: Path):
    path = tmp_path / "bad.py"
    path.write_bytes(b"# coding: klingon\n")
    with pytest.raises(SourceError, match=r"^bad\.py:1: .*decode.*klingon"):
        read_source(path, "bad.py")


def test_files_are_read_with_their_coding_and_line_breaks(tmp_path: Path):
    path = tmp_path / "old.py"
    path.write_bytes(b"# -*- coding: latin-1 -*-\r\n# caf\xe9\r\nx = 1")
    module = parse(read_source(path, "old.py"))
    assert [line.text for line in module.rows[1].prose] == ["café"]
    assert [line.text for line in module.rows[1].code] == ["x = 1"]
    path.write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert read_source(path, "old.py") == "x = 1\n"


def test_an_empty_file_is_a_page_without_rows():
    assert parse("").rows == ()
    assert [row.lines for row in parse("\n\n").rows] == [(1, 2)]
