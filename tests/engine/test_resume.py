"""A run that is killed at any time resumes, and ends exactly like one that is not."""

import errno
import functools
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.engine.checkpoint import load_checkpoint, save_checkpoint
from experiments.engine.run_folder import read_metrics
from tests.support.helpers import assert_names
from tests.support.small_runs import (
    copy_of,
    edit_settings,
    experiment,
    files,
    launch,
    measured,
    quick,
    small,
    text_file,
)

# Enough steps to be killed several times.
LONGER = {
    "d_model": 16,
    "d_ffn": 32,
    "seq_len": 16,
    "batch": 4,
    "steps": 60,
    "warmup": 5,
    "evaluate_every": 15,
    "save_every": 5,
    "log_every": 1,
}
# With everything that a step or a checkpoint may depend on: random numbers, averages of the
# weights, accumulated gradients; and in another precision.
KINDS: dict[str, dict[str, Any]] = {
    "plain": LONGER,
    "full": {**LONGER, "dropout": 0.1, "ema": 0.9, "accumulate": 2},
    "bf16": {**LONGER, "precision": "bf16", "layer": "transformer"},
}

CHECKPOINTS = ("last.pt", "previous.pt", "best.pt")

needs_fork_server = pytest.mark.skipif(os.name != "posix", reason="needs a fork server")


@dataclass
class Reference:
    folder: Path
    corpus: Path
    changes: dict[str, Any]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reference]:
    """An uninterrupted run of each kind; the plain one writes the whole report."""

    @functools.cache
    def run_of(kind: str) -> Reference:
        folder, changes = tmp_path_factory.mktemp(kind), KINDS[kind]
        corpus = text_file(folder)
        runs = experiment if kind == "plain" else quick
        assert runs(*small(corpus, folder / "whole", **changes)) == 0
        return Reference(folder / "whole", corpus, changes)

    return run_of


@pytest.fixture(scope="module")
def reference(references: Callable[[str], Reference]) -> Reference:
    return references("plain")


def equal(a: Any, b: Any) -> bool:
    """Bit for bit, through dicts and lists of tensors."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    return a == b


def assert_equal_runs(run: Path, reference: Path, report: Sequence[str] = ()) -> None:
    """Metrics, checkpoints, results and the named files of the report are equal bit for bit."""
    assert measured(run) == measured(reference)
    for name in CHECKPOINTS:
        got, want = (load_checkpoint(folder / name) for folder in (run, reference))
        for part in ("identity", "model", "optimizer", "step", "best", "average"):
            assert equal(got[part], want[part]), f"{part} of {name}"
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, reference)]
    assert results[0]["validation"] == results[1]["validation"]
    for name in report:
        assert (run / name).read_bytes() == (reference / name).read_bytes()
    assert not list(run.glob("*.new"))


def resuming(run: Path) -> list[str]:
    return ["--no-labml", f"--resume={run}"]


def lines_in(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def ended(process: Any, log: Path) -> int:
    process.join(timeout=60)
    assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
    return int(process.exitcode)


def killed_at_random(arguments: list[str], run: Path, log: Path, generator: random.Random) -> int:
    """Kills a run after a random number of steps, a random time into the next one."""
    process = launch(arguments, log)
    # A resumed run first removes lines that are newer than its checkpoint. If it has not done so
    # yet, the kill comes during its start.
    wanted = lines_in(run) + generator.randrange(1, 12)
    while process.is_alive() and lines_in(run) < wanted:
        time.sleep(0.0005)
    time.sleep(generator.uniform(0, 0.02))
    process.kill()
    return ended(process, log)


# ## Kills


@needs_fork_server
@pytest.mark.parametrize(
    ("kind", "seed", "n_kills"),
    [
        *[("plain", 0, 4), ("full", 1, 7), ("bf16", 2, 4)],
        *(pytest.param(kind, 3, 30, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_a_run_killed_at_random_ends_like_one_that_was_not(
    kind, seed, n_kills, references, tmp_path
):
    reference = references(kind)
    generator, run, log = random.Random(seed), tmp_path / "run", tmp_path / "log"
    first, again = small(reference.corpus, run, **reference.changes), resuming(run)
    exits = [killed_at_random(first, run, log, generator)]
    while exits[-1] != 0 and len(exits) < n_kills:
        exits.append(killed_at_random(again, run, log, generator))
        # Every checkpoint is complete at every instant.
        for path in run.glob("*.pt"):
            load_checkpoint(path)
    assert exits.count(-signal.SIGKILL) >= min(n_kills, 4)
    assert ended(launch(again, log), log) == 0
    assert_equal_runs(run, reference.folder)


# The flushes of a new run are those of settings.json (1, 2), metrics.jsonl (3, 4) and the
# checkpoints, each first of the file and then of its folder. A resumed run starts with
# metrics.jsonl (1, 2). From step 5, the next checkpoints are that of step 10 (3, 4), and of step 15
# the best (5, 6) and the newest (7, 8).
@needs_fork_server
def test_a_run_killed_in_the_middle_of_a_write_ends_like_one_that_was_not(references, tmp_path):
    reference = references("full")
    run, log = tmp_path / "run", tmp_path / "log"
    first, again = small(reference.corpus, run, **reference.changes), resuming(run)
    assert ended(launch(first, log, die_at_flush=5), log) == -signal.SIGKILL
    assert not list(run.glob("*.pt"))
    steps = []
    # The first kill leaves half of a first checkpoint, the second a complete one, the third half of
    # the metrics, and so on.
    for flush in (3, 4, 1, 2, 6, 7, 5, 8, 3, 4):
        assert ended(launch(again, log, die_at_flush=flush), log) == -signal.SIGKILL
        if (run / "last.pt").exists():
            steps.append(load_checkpoint(run / "last.pt")["step"])
    assert steps == [5, 5, 5, 10, 15, 20, 30, 30, 35]
    assert ended(launch(again, log), log) == 0
    assert_equal_runs(run, reference.folder)


REPORT = ("result.json", "sample.txt", "loss.svg", "spatial.png", "index.md")


# Flushes 1 and 2 are of metrics.jsonl; then come the sample, the pictures, the result and the page.
@needs_fork_server
def test_a_run_killed_while_it_writes_its_report_writes_it_again(reference, tmp_path):
    run, log = copy_of(reference.folder, tmp_path), tmp_path / "log"
    for name in REPORT:
        (run / name).unlink()
    again = resuming(run)
    for flush in (3, 4, 7, 11):
        killed = launch(again, log, die_at_flush=flush, report=True)
        assert ended(killed, log) == -signal.SIGKILL
    assert not (run / "index.md").exists()
    assert ended(launch(again, log, report=True), log) == 0
    assert_equal_runs(run, reference.folder, REPORT)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["full", "bf16"])
def test_a_run_with_a_damaged_checkpoint_resumes_from_the_previous_one(
    kind, references, tmp_path, capsys
):
    reference = references(kind)
    run = copy_of(reference.folder, tmp_path)
    damage(run / "last.pt")
    assert load_checkpoint(run / "previous.pt")["step"] == 55
    capsys.readouterr()
    assert quick(*resuming(run)) == 0
    line = capsys.readouterr().err.splitlines()[0]
    assert_names(line, run / "last.pt", "checksum", run / "previous.pt")
    assert_equal_runs(run, reference.folder)


# A resumed run with a damaged newest checkpoint renames, in order: the previous checkpoint to the
# newest one, the metrics, and for the next checkpoint the newest to the previous and the new one to
# the newest.
@needs_fork_server
@pytest.mark.parametrize("rename", [1, 2, 3, 4, 5])
def test_after_a_damaged_checkpoint_no_kill_leaves_a_run_without_one(rename, reference, tmp_path):
    run, log = copy_of(reference.folder, tmp_path), tmp_path / "log"
    damage(run / "last.pt")
    killed = launch(resuming(run), log, die_at_rename=rename)
    assert ended(killed, log) == -signal.SIGKILL
    assert load_checkpoint(run / "previous.pt")["step"] == 55
    assert ended(launch(resuming(run), log), log) == 0
    assert_equal_runs(run, reference.folder)


@pytest.mark.parametrize("flush", [7, 10, 22])
def test_a_run_that_ended_on_a_full_disk_resumes_when_there_is_room(
    flush, reference, tmp_path, monkeypatch, capsys
):
    run, fsync, count = tmp_path / "run", os.fsync, itertools.count(1)

    def full(fd: int) -> None:
        if next(count) >= flush:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert quick(*small(reference.corpus, run, **LONGER)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert_names(printed.err.splitlines()[-1], "error", os.strerror(errno.ENOSPC))
    assert not list(run.glob("*.new"))
    assert quick("--no-labml", "--resume", run) == 0
    assert_equal_runs(run, reference.folder)


def test_a_run_stopped_from_the_keyboard_says_how_to_resume(
    reference, tmp_path, monkeypatch, capsys
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("experiments.autoregressive.evaluate", interrupted)
        assert quick(*small(reference.corpus, run, **LONGER)) == 130
    assert f"--resume {run} " in capsys.readouterr().err.splitlines()[-1]
    assert load_checkpoint(run / "last.pt")["step"] == 10
    assert quick("--no-labml", "--resume", run) == 0
    assert_equal_runs(run, reference.folder)


# ## Finished runs


def test_resuming_a_finished_run_writes_the_report_again_and_nothing_else(
    reference, tmp_path, capsys
):
    run = copy_of(reference.folder, tmp_path)
    before = files(run)
    for name in REPORT:
        (run / name).unlink()
    written = {name: (run / name).stat().st_mtime_ns for name in ("last.pt", "best.pt")}
    # Flags may repeat the settings.
    settings = ["--steps=60", f"--corpus={reference.corpus}", "--layer=gmlp"]
    assert experiment("--no-labml", f"--resume={run}", *settings) == 0
    assert files(run) == before
    assert written == {name: (run / name).stat().st_mtime_ns for name in written}
    assert capsys.readouterr().out.startswith("validation: ")


def test_the_time_of_all_launches_is_added_up(reference):
    lines = [m["seconds"] for m in read_metrics(reference.folder / "metrics.jsonl") if "loss" in m]
    assert lines == sorted(lines)
    seconds = load_checkpoint(reference.folder / "last.pt")["seconds"]
    assert lines[-1] == pytest.approx(seconds, abs=1e-3)


# ## Checkpoints of another run


def refuses(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a refused run, whose files must not change."""
    before = files(run)
    assert quick("--no-labml", f"--resume={run}", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert files(run) == before
    return printed.err.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("flag", "present"),
    [("--clip=0.5", 1.0), ("--steps=61", 60), ("--layer=transformer", "gmlp"), ("--seed=1", 0)],
)
def test_a_changed_flag_is_refused_by_name(flag, present, reference, capsys):
    name, value = flag[2:].split("=")
    message = refuses(reference.folder, capsys, flag)
    assert_names(message, name, repr(present), reference.folder, value)


@pytest.mark.parametrize(
    ("name", "value", "present"),
    [("d_model", 64, 16), ("steps", 100, 60), ("seed", 7, 0), ("weight_decay", 0.0, 0.1)],
)
def test_edited_settings_are_refused_by_name(name, value, present, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    edit_settings(run, **{name: value})
    parts = (run / "last.pt", f"{name}={value}", f"{name}={present}")
    assert_names(refuses(run, capsys), *parts)


@pytest.mark.parametrize("change", ["one letter", "one more", "only in validation"])
def test_a_changed_text_is_refused(change, reference, tmp_path, capsys):
    text = reference.corpus.read_text()
    other = {
        "one letter": text.replace("cat", "cap", 1),
        "one more": text + " ",
        "only in validation": text[:-1] + "!",
    }[change]
    path = text_file(tmp_path, other)
    run = copy_of(reference.folder, tmp_path)
    edit_settings(run, corpus=str(path))
    checkpoint = load_checkpoint(run / "last.pt")
    checkpoint["identity"]["settings"]["corpus"] = str(path)
    checkpoint["identity"]["data"]["name"] = str(path)
    save_checkpoint(run / "last.pt", checkpoint)
    sha256 = checkpoint["identity"]["data"]["sha256"]
    assert_names(refuses(run, capsys), run / "last.pt", f"sha256={sha256!r}")


# ## settings.json


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not JSON", b"\xff\xfe", b"[]", b"null", b"3", b"{}", b'{"settings": 5}'],
)
def test_a_damaged_settings_file_is_refused(content, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    (run / "settings.json").write_bytes(content)
    assert_names(refuses(run, capsys), run / "settings.json")


def edit_record(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((run / "settings.json").read_text())
    edit(record)
    (run / "settings.json").write_text(json.dumps(record))


@pytest.mark.parametrize("part", ["settings", "data", "launch", "environment"])
def test_a_record_without_one_of_its_parts_is_refused(part, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    edit_record(run, lambda record: record.pop(part))
    assert_names(refuses(run, capsys), run / "settings.json", part)


def test_missing_and_unknown_settings_are_listed(reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    edit_record(run, lambda record: edit_names(record["settings"]))
    assert_names(refuses(run, capsys), "unknown ['colour']", "missing ['d_model']")


def edit_names(settings: dict[str, Any]) -> None:
    settings["colour"] = settings.pop("d_model")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *[("settings", "d_model", value) for value in ("16", 16.5, True)],
        *[("settings", "lr", value) for value in ("fast", -1.0)],
        *[("settings", "corpus", 5), ("settings", "layer", ["gmlp"]), ("settings", "d_ffn", 33)],
        *[("settings", "ema", 1.0), ("settings", "dropout", "0.1"), ("settings", "n_tokens", 2.0)],
        *[("launch", "devices", "2"), ("launch", "devices", 0), ("launch", "accumulate", 1.5)],
        *[("launch", "strategy", "dp"), ("launch", "precision", 16), ("launch", "compile", "no")],
    ],
)
def test_a_value_of_a_wrong_type_or_range_is_named(part, name, value, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    # Without a checkpoint, nothing else contradicts the value.
    for checkpoint in CHECKPOINTS:
        (run / checkpoint).unlink()
    edit_record(run, lambda record: record[part].update({name: value}))
    message = refuses(run, capsys)
    assert message.startswith(f"{name} must ")
    assert_names(message, repr(value))
    if (name, value) == ("devices", "2"):
        assert_names(message, "an integer", run / "settings.json")
