r"""All YAML files that an author writes are read in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mkdocs_annotated.beside.exhibits import load_exhibits
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.site.coverage import read_coverage
from mkdocs_annotated.site.links import read_inventory
from mkdocs_annotated.site.symbols import read_symbols

READERS = {
    "coverage": read_coverage,
    "exhibits": lambda path, shown: load_exhibits(path, shown, path.parent, {}),
    "inventory": read_inventory,
    "symbols": read_symbols,
}


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"a: 1\nb: \xff\n", 2, "UTF-8 0xff"),
        (b"a: 1\nb: ]\n", 2, "YAML"),
        (b"text\n", 1, "must contain"),
        (None, 1, "read"),
    ],
    ids=["bytes", "syntax", "root", "missing"],
)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_file_that_cannot_be_read_is_one_error_line_with_its_name(
    tmp_path: Path, read: Callable[[Path, str], object], content: bytes, line: int, words: str
):
    file = tmp_path / "file.yml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SourceError) as raised:
        read(file, "docs/file.yml")
    message = str(raised.value)
    assert message.startswith(f"docs/file.yml:{line}: ")
    assert all(word in message for word in words.split())
    assert "\n" not in message


@pytest.mark.parametrize("read", [READERS[name] for name in ("exhibits", "inventory", "symbols")])
def test_an_empty_file_is_valid(tmp_path: Path, read: Callable[[Path, str], object]):
    for text in ("", "# nothing yet\n"):
        (tmp_path / "file.yml").write_text(text)
        read(tmp_path / "file.yml", "docs/file.yml")
