"""Settings in a YAML file and its bases."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    kind: Literal["a", "b"] = "a"


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
        ("kind: b", "kind", "b"),
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


def test_a_file_names_others_as_base_and_not_as_config(tmp_path):
    path = config(tmp_path, "config: b.yml")
    assert_raises(lambda: read_config(path, Launch), ValueError, "'config'", path, "line 1")


# ## Bases


def test_a_file_overrides_its_base_wherever_the_base_is_named(tmp_path):
    config(tmp_path, "size: s\nsteps: 7\n", "base.yml")
    path = config(tmp_path, "steps: 9\nbase: base.yml\n")
    assert read(path) == {"size": "s", "steps": 9}


def test_a_later_base_overrides_an_earlier_one(tmp_path):
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
def test_in_a_chain_of_bases_the_nearest_value_wins(tmp_path_factory, layers):
    folder = tmp_path_factory.mktemp("chain")
    want: dict[str, int] = {}
    for k, layer in enumerate(layers):
        lines = [f"{name}: {value}" for name, value in layer.items()]
        base = [f"base: {k - 1}.yml"] if k else []
        config(folder, "\n".join(base + lines), f"{k}.yml")
        want.update(layer)
    assert read(folder / f"{len(layers) - 1}.yml") == want


def test_a_cycle_of_bases_is_named(tmp_path):
    a, b = config(tmp_path, "base: b.yml"), config(tmp_path, "base: ./a.yml", "b.yml")
    again = tmp_path / "." / "a.yml"
    assert_raises(lambda: read(a), ValueError, "base", f"{a} -> {b} -> {again}")
    own = config(tmp_path, "base: own.yml", "own.yml")
    assert_raises(lambda: read(own), ValueError, "base", f"{own} -> {own}")


# ## Errors


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("\nsiz: s", 2, ["unknown", "'siz'"]),
        ("'<<': {}", 1, ["unknown", "'<<'"]),
        ("size: s\nsize: b", 2, ["size", "once"]),
        ("n_layers: 1\nn-layers: 1", 2, ["n-layers", "once"]),
        ("base: []\nbase: []", 2, ["base", "once"]),
        ("base: no.yml", 1, ["base", "a file", "no.yml"]),
        ("base: 3", 1, ["base", "a list of files", 3]),
        ("base: {a: b}", 1, ["base", "a list of files", "a mapping"]),
        ("n_layers: 1.5", 1, ["n_layers", "an integer", 1.5]),
        ("n_layers: true", 1, ["n_layers", "an integer", True]),
        ("n_layers: null", 1, ["n_layers", "an integer", None]),
        ("n_layers: '3'", 1, ["n_layers", "an integer", "'3'"]),
        ("n_layers: [3]", 1, ["n_layers", "an integer", "a list"]),
        ("lr: fast", 1, ["lr", "a number", "'fast'"]),
        ("lr: '1e-3'", 1, ["lr", "a number", "'1e-3'"]),
        ("lr: true", 1, ["lr", "a number", True]),
        ("flip: 1", 1, ["flip", "true or false", 1]),
        ("limit: x", 1, ["limit", "an integer", "'x'"]),
        ("size: no", 1, ["size", "text", False, "quotes"]),
        ("size: {}", 1, ["size", "text", "a mapping"]),
        ("size: 2024-13-45", 1, ["size", "text", "'2024-13-45'"]),
        ("size: !!python/name:os.system", 1, ["size", "text", "python/name:os.system"]),
        ("kind: c", 1, ["kind", "a or b", "'c'"]),
        ("a: [", 1, ["config", "valid YAML"]),
        ("size: s\n---\nsize: b", 2, ["config", "valid YAML"]),
        ("size: *x", 1, ["config", "valid YAML"]),
        ("\t: a", 1, ["config", "valid YAML"]),
    ],
)
def test_bad_content_is_refused_with_its_file_and_line(tmp_path, text, line, parts):
    path = config(tmp_path, text)
    assert_raises(lambda: read(path), ValueError, *parts, path, f"line {line}")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"- a", ["map", "a list"]),
        (b"just a text", ["map", "'just a text'"]),
        (b"size: \xff", ["UTF-8", 6]),
        (b"size: \x00", ["valid YAML"]),
    ],
)
def test_a_file_that_is_no_mapping_of_names_is_refused(tmp_path, content, parts):
    path = tmp_path / "a.yml"
    path.write_bytes(content)
    assert_raises(lambda: read(path), ValueError, "config", *parts, path)


def test_a_missing_file_is_named(tmp_path):
    for path, reason in ((tmp_path / "no.yml", "No such file"), (tmp_path, "Is a directory")):
        assert_raises(lambda path=path: read(path), ValueError, "config", path, reason)


def test_an_error_in_a_base_names_the_base(tmp_path):
    base = config(tmp_path, "size: s\nnone: 1", "base.yml")
    path = config(tmp_path, "base: base.yml")
    assert_raises(lambda: read(path), ValueError, "'none'", base, "line 2")
