"""Settings in a file, and files that start from others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.engine.launch import Launch
from experiments.engine.settings.config_file import read_config
from tests.support.helpers import assert_raises, properties


@dataclass(frozen=True)
class Settings:
    size: str = "ti"
    lr: float = 1e-3
    n_layers: int = 30
    flip: bool = True
    limit: int | None = None
    folder: Path = Path("data")


@dataclass(frozen=True)
class Training:
    steps: int = 10


def config(folder: Path, text: str, name: str = "a.yml") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read(path: Path) -> dict[str, Any]:
    return read_config(path, Settings, Training)


# ## Values


def test_names_are_those_of_the_flags_of_all_classes(tmp_path):
    path = config(tmp_path, "size: s\nn-layers: 3\nsteps: 7\n")
    assert read(path) == {"size": "s", "n_layers": 3, "steps": 7}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("lr: 0.5", "lr", 0.5),
        ("lr: 1", "lr", 1.0),
        ("lr: 1e-3", "lr", 1e-3),
        ("lr: 1.0e-3", "lr", 1e-3),
        ("flip: false", "flip", False),
        ("flip: yes", "flip", True),
        ("limit: null", "limit", None),
        ("limit:", "limit", None),
        ("limit: 5", "limit", 5),
        ("size: '1'", "size", "1"),
        ("size: ''", "size", ""),
        ("folder: some/where", "folder", Path("some/where")),
        ("n_layers: 1_000", "n_layers", 1000),
    ],
)
def test_a_value_has_the_type_of_its_flag(tmp_path, text, name, value):
    found = read(config(tmp_path, text))
    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_changes_nothing(tmp_path, text):
    assert read(config(tmp_path, text)) == {}


def test_a_file_that_is_asked_for_in_a_file_is_a_base_and_no_config(tmp_path):
    path = config(tmp_path, "config: b.yml")
    message = f"name must be that of a flag, got 'config' in {path}, line 1"
    assert_raises(lambda: read_config(path, Launch), ValueError, message)


# ## Bases


def test_a_file_is_stronger_than_its_base_wherever_the_base_is_named(tmp_path):
    config(tmp_path, "size: s\nsteps: 7\n", "base.yml")
    path = config(tmp_path, "steps: 9\nbase: base.yml\n")
    assert read(path) == {"size": "s", "steps": 9}


def test_of_several_bases_the_later_one_is_stronger(tmp_path):
    config(tmp_path, "size: one\nsteps: 1\nlr: 1", "one.yml")
    config(tmp_path, "size: two\nsteps: 2", "two.yml")
    path = config(tmp_path, "base: [one.yml, two.yml]\nsize: own")
    assert read(path) == {"size": "own", "steps": 2, "lr": 1.0}


def test_a_base_is_relative_to_the_file_that_names_it(tmp_path):
    config(tmp_path, "size: deep", "x/y/deep.yml")
    config(tmp_path, "base: y/deep.yml\nsteps: 3", "x/middle.yml")
    assert read(config(tmp_path, "base: x/middle.yml")) == {"size": "deep", "steps": 3}


def test_two_bases_may_share_a_base(tmp_path):
    config(tmp_path, "size: s", "root.yml")
    config(tmp_path, "base: root.yml", "one.yml")
    config(tmp_path, "base: root.yml", "two.yml")
    assert read(config(tmp_path, "base: [one.yml, two.yml]")) == {"size": "s"}


@properties
@given(
    layers=st.lists(
        st.dictionaries(st.sampled_from(["n_layers", "steps", "limit"]), st.integers(0, 9)),
        min_size=1,
        max_size=5,
    )
)
def test_a_chain_of_bases_is_the_union_with_the_nearest_on_top(tmp_path_factory, layers):
    folder = tmp_path_factory.mktemp("chain")
    want: dict[str, int] = {}
    for k, layer in enumerate(layers):
        lines = [f"{name}: {value}" for name, value in layer.items()]
        base = [f"base: {k - 1}.yml"] if k else []
        config(folder, "\n".join(base + lines), f"{k}.yml")
        want.update(layer)
    assert read(folder / f"{len(layers) - 1}.yml") == want


def test_a_circle_of_bases_is_named(tmp_path):
    a, b = config(tmp_path, "base: b.yml"), config(tmp_path, "base: ./a.yml", "b.yml")
    again = tmp_path / "." / "a.yml"
    message = f"base must not lead back to the file, got {a} -> {b} -> {again}"
    assert_raises(lambda: read(a), ValueError, message)
    own = config(tmp_path, "base: own.yml", "own.yml")
    message = f"base must not lead back to the file, got {own} -> {own}"
    assert_raises(lambda: read(own), ValueError, message)


# ## What will not do


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nsiz: s", "name must be that of a flag, got 'siz' in {}, line 2"),
        ("'<<': {{}}", "name must be that of a flag, got '<<' in {}, line 1"),
        ("size: s\nsize: b", "size must stand once, got it again in {}, line 2"),
        ("n_layers: 1\nn-layers: 1", "n-layers must stand once, got it again in {}, line 2"),
        ("base: []\nbase: []", "base must stand once, got it again in {}, line 2"),
        ("base: no.yml", "base must be a file, got {folder}/no.yml in {}, line 1"),
        ("base: 3", "base must be a file or a list of files, got 3 in {}, line 1"),
        (
            "base: {{a: b}}",
            "base must be a file or a list of files, got 'a mapping' in {}, line 1",
        ),
        ("n_layers: 1.5", "n_layers must be of type int, got 1.5 in {}, line 1"),
        ("n_layers: true", "n_layers must be of type int, got True in {}, line 1"),
        ("n_layers: null", "n_layers must be of type int, got None in {}, line 1"),
        ("n_layers: '3'", "n_layers must be of type int, got '3' in {}, line 1"),
        ("n_layers: [3]", "n_layers must be of type int, got 'a list' in {}, line 1"),
        ("lr: fast", "lr must be of type float, got 'fast' in {}, line 1"),
        ("lr: true", "lr must be of type float, got True in {}, line 1"),
        ("flip: 1", "flip must be of type bool, got 1 in {}, line 1"),
        ("limit: x", "limit must be of type int, got 'x' in {}, line 1"),
        ("size: no", "size must be of type str, got False in {}, line 1; a text may need quotes"),
        ("size: {{}}", "size must be of type str, got 'a mapping' in {}, line 1"),
        ("size: 2024-13-45", "size must be a value, got '2024-13-45' in {}, line 1"),
        (
            "size: !!python/name:os.system",
            "size must be of type str, got 'tag:yaml.org,2002:python/name:os.system' in {}, line 1",
        ),
        ("- a", "config must be names and values, got 'a list' in {}"),
        ("just a text", "config must be names and values, got 'just a text' in {}"),
    ],
)
def test_what_will_not_do_is_told_with_its_line(tmp_path, text, message):
    path = config(tmp_path, text.format())
    assert_raises(lambda: read(path), ValueError, message.format(path, folder=tmp_path))


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "size: s\n---\nsize: b", "size: *x", "\t: a"])
def test_what_is_not_yaml_is_told_in_one_line_with_its_place(tmp_path, text):
    path = config(tmp_path, text)
    with pytest.raises(ValueError, match=r"^config must be YAML, got .* in .*a\.yml, line \d+$"):
        read(path)


def test_what_is_not_text_is_told_with_its_file(tmp_path):
    path = tmp_path / "a.yml"
    path.write_bytes(b"size: \xff")
    message = f"config must be UTF-8 text, got other bytes in {path}"
    assert_raises(lambda: read(path), ValueError, message)
    path.write_bytes(b"size: \x00")
    with pytest.raises(ValueError, match=r"^config must be YAML, got .* in .*a\.yml$"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    message = f"config must be a file, got {tmp_path / 'no.yml'}: No such file or directory"
    assert_raises(lambda: read(tmp_path / "no.yml"), ValueError, message)
    message = f"config must be a file, got {tmp_path}: Is a directory"
    assert_raises(lambda: read(tmp_path), ValueError, message)


def test_an_error_in_a_base_names_the_base(tmp_path):
    base = config(tmp_path, "size: s\nnone: 1", "base.yml")
    path = config(tmp_path, "base: base.yml")
    message = f"name must be that of a flag, got 'none' in {base}, line 2"
    assert_raises(lambda: read(path), ValueError, message)
