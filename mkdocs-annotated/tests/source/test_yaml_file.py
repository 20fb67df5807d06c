r"""YAML files: every error names the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.yaml_file import line_of, read_yaml


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "file.yml"


def read(file: Path, content: bytes) -> yaml.MappingNode | None:
    file.write_bytes(content)
    return read_yaml(file, "docs/file.yml", yaml.MappingNode, "`name: address` lines")


def test_each_node_has_its_line(file: Path):
    root = read(file, "# é\na: 1\nb:\n  - 2\n".encode())
    assert root is not None
    lines = [(key.value, line_of(key), line_of(value)) for key, value in root.value]
    assert lines == [("a", 2, 2), ("b", 3, 4)]


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_root(file: Path, content: bytes):
    assert read(file, content) is None


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (b"a: 1\nb: \xff\n", 2, "0xff"),
        (b"a: 1\nb: [\n", 3, "YAML"),
        (b"a: 1\nb: ]\n", 2, "YAML"),
        (b"a: 1\nb: \x07\n", 2, "U+0007"),
        (b"a: *b\n", 1, "YAML"),
        (b"a: 1\n---\nb: 2\n", 2, "YAML"),
        (b"[" * 1_000, 1, "deep"),
        (b"\n- a\n", 2, "`name: address` lines"),
        (b"text", 1, "`name: address` lines"),
    ],
)
def test_an_error_names_the_file_and_the_line(file: Path, content: bytes, line: int, part: str):
    with pytest.raises(SourceError) as raised:
        read(file, content)
    assert str(raised.value).startswith(f"docs/file.yml:{line}: ")
    assert part in raised.value.message


def test_a_missing_file_or_a_folder_is_an_error(tmp_path: Path):
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(SourceError, match=r"^docs/none\.yml:1: .*(No such file|directory)"):
            read_yaml(path, "docs/none.yml", yaml.MappingNode, "lines")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=40)
    | st.text("ab:- []{}&*!|>'\"\n\t#,?", max_size=20).map(str.encode)
)
def test_any_bytes_give_a_node_or_an_error_within_the_file(file: Path, content: bytes):
    line = 1
    try:
        root = read(file, content)
        assert root is None or isinstance(root, yaml.MappingNode)
    except SourceError as error:
        line = error.line
    assert 1 <= line <= content.count(b"\n") + 2
