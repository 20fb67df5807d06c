"""Metrics, atomic files, environment and tracking."""

import errno
import json
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.engine import run_folder as records
from experiments.engine.run_folder import Metrics, environment, read_metrics, write_json
from experiments.engine.tracking import tracking
from labml_gmlp.storage import atomic_write
from tests.support.helpers import assert_names, properties
from tests.support.small_runs import files

CPU = torch.device("cpu")


def write_steps(path: Path, steps: list[int], before: int = 0) -> None:
    with Metrics(path, before) as metrics:
        for step in steps:
            metrics.write(step=step, loss=step / 10)


def steps_in(path: Path) -> list[float]:
    return [line["step"] for line in read_metrics(path)]


# ## Measurements


def test_a_measurement_is_a_line_of_json_that_is_flushed_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Metrics(path) as metrics:
        metrics.write(step=2, loss=0.1 + 0.2, lr=1e-300)
        # The file is still open, as in a run that is killed.
        assert path.read_text() == '{"step": 2, "loss": 0.30000000000000004, "lr": 1e-300}\n'
        metrics.write(step=4, nats_per_char=1.5)
    assert read_metrics(path) == [
        {"step": 2, "loss": 0.30000000000000004, "lr": 1e-300},
        {"step": 4, "nats_per_char": 1.5},
    ]


@properties
@given(
    steps=st.lists(st.integers(1, 30)).map(sorted), before=st.integers(1, 30), tail=st.text("{x")
)
def test_resuming_keeps_complete_lines_up_to_the_checkpoint(steps, before, tail, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    write_steps(path, steps)
    with path.open("a") as file:
        file.write(tail)
    kept = [step for step in steps if step <= before]
    write_steps(path, [before + 1], before)
    assert steps_in(path) == [*kept, before + 1]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_lines_that_are_kept_are_unchanged(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Metrics(path) as metrics:
        metrics.write(step=1, loss=2.8812096118927, grad_norm=1 / 3)
        whole = path.read_text()
        metrics.write(step=2, loss=1.0)
    Metrics(path, before=1).__exit__()
    assert path.read_text() == whole


def test_a_new_run_removes_old_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2, 3])
    write_steps(path, [1])
    assert steps_in(path) == [1]


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    with Metrics(tmp_path / "metrics.jsonl", before=5):
        assert files(tmp_path) == {"metrics.jsonl": b""}


@pytest.mark.parametrize("cut", [0, 1, 20, 43])
def test_an_incomplete_last_line_is_left_out(cut, tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = '{"step": 2, "seconds": 0.25, "loss": 2.8812}'
    path.write_text('{"step": 1}\n' + line[:cut])
    assert read_metrics(path) == [{"step": 1}]


# ## Atomic writes


def test_an_atomic_write_replaces_the_old_content(tmp_path):
    path = tmp_path / "file"
    for content in (b"old and long", b"new", b""):
        atomic_write(path, content)
        assert files(tmp_path) == {"file": content}


def test_a_temporary_file_left_by_a_kill_is_replaced(tmp_path):
    (tmp_path / "file.new").write_bytes(b"half of an earlier, longer content")
    atomic_write(tmp_path / "file", b"new")
    assert files(tmp_path) == {"file": b"new"}


def test_the_content_is_flushed_before_the_file_is_renamed(tmp_path, monkeypatch):
    flushed: list[tuple[str, bytes]] = []
    path, flush = tmp_path / "file", os.fsync
    atomic_write(path, b"old")

    def fsync(fd: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"  # noqa: PTH112
        flushed.append((kind, path.read_bytes()))
        flush(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(path, b"new")
    if sys.platform == "linux":
        assert flushed == [("file", b"old"), ("folder", b"new")]
    else:
        assert flushed[0][1] == b"old"


def test_a_failed_write_leaves_the_old_content_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        atomic_write(path, b"new")
    assert files(tmp_path) == {"file": b"old"}


def test_json_is_indented_and_not_escaped(tmp_path):
    write_json(tmp_path / "record.json", {"name": "Müller", "step": 3})
    content = (tmp_path / "record.json").read_text(encoding="utf-8")
    assert content == '{\n  "name": "Müller",\n  "step": 3\n}\n'


# ## Environment


def test_the_environment_names_command_versions_and_hardware():
    found = environment(CPU, "python -m this")
    assert list(found) == ["date", "command", "commit", "python", "torch", "hardware"]
    assert found["command"] == "python -m this"
    assert found["torch"].startswith(torch.__version__.partition("+")[0])
    assert found["hardware"].endswith(f"{torch.get_num_threads()} threads")
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize("changes", ["", " M file.py\n"])
def test_the_commit_ends_with_a_plus_if_files_differ(changes, monkeypatch):
    def run(arguments, **_):
        out = "0123456789ab\n" if "rev-parse" in arguments else changes
        return subprocess.CompletedProcess(arguments, 0, stdout=out)

    monkeypatch.setattr(subprocess, "run", run)
    assert records.commit() == "0123456789ab" + ("+" if changes else "")


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")]
)
def test_without_git_the_commit_is_empty(error, monkeypatch):
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert records.commit() == ""


# ## Tracking


def labml_that_breaks(where: str) -> types.SimpleNamespace:
    """* `where` is the first call that raises"""

    def step(name: str) -> None:
        if name == where:
            raise RuntimeError(f"no {name}")

    class Run:
        def __enter__(self) -> None:
            step("enter")

        def __exit__(self, *_: object) -> None:
            step("exit")

    return types.SimpleNamespace(
        lab=types.SimpleNamespace(configure=lambda _: step("configure")),
        experiment=types.SimpleNamespace(
            create=lambda **_: step("create"), configs=lambda _: step("configs"), start=Run
        ),
        tracker=types.SimpleNamespace(save=lambda *_: step("save")),
    )


@pytest.mark.parametrize("where", ["configure", "create", "configs", "enter", "save", "exit"])
def test_an_error_in_labml_is_reported_once_and_the_run_continues(
    where, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "labml", labml_that_breaks(where))
    with tracking(True, "test", tmp_path, {}) as track:
        for i in range(5):
            track(i, {"loss": 1.0})
    printed = capsys.readouterr()
    assert printed.out == ""
    assert_names(printed.err.rstrip("\n"), "labml", f"RuntimeError: no {where}", "metrics.jsonl")


def test_an_error_of_the_run_is_not_hidden_by_tracking(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "labml", labml_that_breaks("exit"))
    with pytest.raises(ZeroDivisionError), tracking(True, "test", tmp_path, {}):
        math.log(1 // 0)
