"""Kill a run at any time: it goes on, and ends as if nothing had happened."""

import errno
import functools
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.engine.checkpoint import load_checkpoint, save_checkpoint
from experiments.engine.run_folder import read_metrics
from tests.support.small_runs import (
    command,
    copy_of,
    edit_settings,
    experiment,
    files,
    launch,
    measured,
    small,
    text_file,
)

# Long enough to be killed several times within.
LONGER = {
    "d_model": 32,
    "d_ffn": 64,
    "seq_len": 32,
    "batch": 16,
    "steps": 60,
    "warmup": 5,
    "evaluate_every": 15,
    "save_every": 5,
    "log_every": 1,
}
# With random numbers in each step, averages of the weights, and gradients that are summed up.
KINDS: dict[str, dict[str, Any]] = {
    "plain": LONGER,
    "drawn": {**LONGER, "dropout": 0.1, "ema": 0.9, "accumulate": 2},
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
    """A run of each kind that nobody interrupts, the plain one by the command as it is typed."""

    @functools.cache
    def run_of(kind: str) -> Reference:
        folder, changes = tmp_path_factory.mktemp(kind), KINDS[kind]
        corpus = text_file(folder)
        arguments = small(corpus, folder / "whole", **changes)
        if kind == "plain":
            done = command(*arguments)
            assert done.returncode == 0, done.stderr
        else:
            assert experiment(*arguments) == 0
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


def assert_ended_like(run: Path, reference: Path) -> None:
    assert measured(run) == measured(reference)
    for name in CHECKPOINTS:
        got, want = (load_checkpoint(folder / name) for folder in (run, reference))
        for part in ("identity", "model", "optimizer", "step", "best", "average"):
            assert equal(got[part], want[part]), f"{part} of {name}"
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, reference)]
    assert results[0]["validation"] == results[1]["validation"]
    for name in ("sample.txt", "loss.svg", "spatial.png"):
        if name != "spatial.png" or (reference / name).exists():
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
    """Kills after a random number of steps, a random time into the next one."""
    process = launch(arguments, log)
    # The file is written anew at the start, and may have more lines before that than the run has
    # done steps: then the kill comes while the run still starts.
    wanted = lines_in(run) + generator.randrange(1, 12)
    while process.is_alive() and lines_in(run) < wanted:
        time.sleep(0.0005)
    time.sleep(generator.uniform(0, 0.02))
    process.kill()
    return ended(process, log)


# ## Killed


@needs_fork_server
@pytest.mark.parametrize(
    ("kind", "seed", "n_kills"),
    [
        *[("plain", 0, 7), ("drawn", 1, 7), ("bf16", 2, 5)],
        *(pytest.param(kind, 3, 30, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_a_run_killed_at_random_ends_like_the_one_that_was_not(
    kind, seed, n_kills, references, tmp_path
):
    reference = references(kind)
    generator, run, log = random.Random(seed), tmp_path / "run", tmp_path / "log"
    first, again = small(reference.corpus, run, **reference.changes), resuming(run)
    exits = [killed_at_random(first, run, log, generator)]
    while exits[-1] != 0 and len(exits) < n_kills:
        exits.append(killed_at_random(again, run, log, generator))
        # At no instant is there half a checkpoint.
        for path in run.glob("*.pt"):
            load_checkpoint(path)
    assert exits.count(-signal.SIGKILL) >= min(n_kills, 4)
    assert ended(launch(again, log), log) == 0
    assert_ended_like(run, reference.folder)


# The flushes of a fresh run are those of settings.json (1, 2), metrics.jsonl (3, 4) and then of the
# checkpoints; for each, first of the file and then of its folder. A resumed run begins with
# metrics.jsonl (1, 2), and from step 5 its checkpoints are of 10 (3, 4), of 15 the best (5, 6) and
# the last (7, 8).
@needs_fork_server
@pytest.mark.parametrize("kind", ["drawn"])
def test_a_run_killed_in_the_middle_of_a_write_ends_like_the_one_that_was_not(
    kind, references, tmp_path
):
    reference = references(kind)
    run, log = tmp_path / "run", tmp_path / "log"
    first, again = small(reference.corpus, run, **reference.changes), resuming(run)
    assert ended(launch(first, log, die_at_flush=5), log) == -signal.SIGKILL
    assert not list(run.glob("*.pt"))
    steps = []
    # Half a first checkpoint; a whole one; half of the metrics; ...
    for flush in (3, 4, 1, 2, 6, 7, 5, 8, 3, 4):
        assert ended(launch(again, log, die_at_flush=flush), log) == -signal.SIGKILL
        if (run / "last.pt").exists():
            steps.append(load_checkpoint(run / "last.pt")["step"])
    assert steps == [5, 5, 5, 10, 15, 20, 30, 30, 35]
    assert ended(launch(again, log), log) == 0
    assert_ended_like(run, reference.folder)


@needs_fork_server
@pytest.mark.parametrize("flush", [3, 4, 7, 11])
def test_a_run_killed_while_it_writes_its_report_writes_it_again(flush, reference, tmp_path):
    run, log = copy_of(reference.folder, tmp_path), tmp_path / "log"
    for name in ("result.json", "sample.txt", "loss.svg", "spatial.png", "index.md"):
        (run / name).unlink()
    again = resuming(run)
    assert ended(launch(again, log, die_at_flush=flush), log) == -signal.SIGKILL
    assert ended(launch(again, log), log) == 0
    assert_ended_like(run, reference.folder)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["drawn", "bf16"])
def test_a_run_with_a_damaged_last_checkpoint_goes_on_from_the_one_before(
    kind, references, tmp_path, capsys
):
    reference = references(kind)
    run = copy_of(reference.folder, tmp_path)
    damage(run / "last.pt")
    assert load_checkpoint(run / "previous.pt")["step"] == 55
    capsys.readouterr()
    assert experiment(*resuming(run)) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        f"checkpoint {run / 'last.pt'} must match its checksum, got "
        f"{(reference.folder / 'last.pt').stat().st_size} bytes that do not: it was cut short or "
        f"altered; going on from {run / 'previous.pt'}"
    )
    assert_ended_like(run, reference.folder)


# When a run goes on, the first to be renamed is the metrics. Before that, what was damaged is
# replaced; and then a checkpoint is saved: the last becomes the one before, the new one the last.
@needs_fork_server
@pytest.mark.parametrize("rename", [1, 2, 3, 4, 5])
def test_after_a_damaged_checkpoint_no_kill_leaves_a_run_without_one(rename, reference, tmp_path):
    run, log = copy_of(reference.folder, tmp_path), tmp_path / "log"
    damage(run / "last.pt")
    killed = launch(resuming(run), log, die_at_rename=rename)
    assert ended(killed, log) == -signal.SIGKILL
    assert load_checkpoint(run / "previous.pt")["step"] == 55
    assert ended(launch(resuming(run), log), log) == 0
    assert_ended_like(run, reference.folder)


@pytest.mark.parametrize("flush", [7, 10, 22])
def test_a_run_that_a_full_disk_ended_goes_on_when_there_is_room(
    flush, reference, tmp_path, monkeypatch, capsys
):
    run, fsync, count = tmp_path / "run", os.fsync, itertools.count(1)

    def full(fd: int) -> None:
        if next(count) >= flush:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert experiment(*small(reference.corpus, run, **LONGER)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("error: ")
    assert printed.err.splitlines()[-1].endswith(os.strerror(errno.ENOSPC))
    assert not list(run.glob("*.new"))
    assert experiment("--no-labml", "--resume", run) == 0
    assert_ended_like(run, reference.folder)


def test_a_run_stopped_from_the_keyboard_says_how_to_go_on(
    reference, tmp_path, monkeypatch, capsys
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("experiments.autoregressive.evaluate", interrupted)
        assert experiment(*small(reference.corpus, run, **LONGER)) == 130
    assert f"--resume {run} " in capsys.readouterr().err.splitlines()[-1]
    assert load_checkpoint(run / "last.pt")["step"] == 10
    assert experiment("--no-labml", "--resume", run) == 0
    assert_ended_like(run, reference.folder)


# ## Finished


def test_resuming_a_finished_run_writes_the_report_again_and_changes_nothing(
    reference, tmp_path, capsys
):
    run = copy_of(reference.folder, tmp_path)
    before = files(run)
    report = ("result.json", "sample.txt", "loss.svg", "spatial.png", "index.md")
    for name in report:
        (run / name).unlink()
    written = {name: (run / name).stat().st_mtime_ns for name in ("last.pt", "best.pt")}
    # Flags that say what is so already are no change.
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


# ## What belongs to another run


def refuses(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of the refusal; the run is left as it was."""
    before = files(run)
    assert experiment("--no-labml", f"--resume={run}", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert files(run) == before
    return printed.err.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--clip=0.5", "clip must stay 1.0 when {run} is resumed, got 0.5"),
        ("--steps=61", "steps must stay 60 when {run} is resumed, got 61"),
        ("--layer=transformer", "layer must stay 'gmlp' when {run} is resumed, got 'transformer'"),
        ("--corpus=python", "corpus must stay {corpus!r} when {run} is resumed, got 'python'"),
        ("--seed=1", "seed must stay 0 when {run} is resumed, got 1"),
    ],
)
def test_a_changed_flag_is_refused_by_name(flag, message, reference, capsys):
    want = message.format(run=reference.folder, corpus=str(reference.corpus))
    assert refuses(reference.folder, capsys, flag) == want


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 64}, "d_model=64, got one with d_model=32"),
        ({"steps": 100}, "steps=100, got one with steps=60"),
        ({"seed": 7}, "seed=7, got one with seed=0"),
        ({"weight_decay": 0.0}, "weight_decay=0.0, got one with weight_decay=0.1"),
    ],
)
def test_settings_that_were_edited_are_refused_by_name(
    changes, message, reference, tmp_path, capsys
):
    run = copy_of(reference.folder, tmp_path)
    edit_settings(run, **changes)
    want = f"checkpoint {run / 'last.pt'} must be of this run with {message}"
    assert refuses(run, capsys) == want


@pytest.mark.parametrize("change", ["one letter", "one more", "only in validation"])
def test_a_text_that_changed_is_refused(change, reference, tmp_path, capsys):
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
    message = refuses(run, capsys)
    assert message.startswith(f"checkpoint {run / 'last.pt'} must be of this run with sha256='")
    assert checkpoint["identity"]["data"]["sha256"] in message


# ## settings.json


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not JSON", b"\xff\xfe", b"[]", b"null", b"3", b"{}", b'{"settings": 5}'],
)
def test_settings_that_are_no_settings_are_not_resumed(content, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    (run / "settings.json").write_bytes(content)
    assert "settings" in refuses(run, capsys)


@pytest.mark.parametrize("part", ["settings", "data", "launch", "environment"])
def test_a_record_without_one_of_its_parts_is_not_resumed(part, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    record = json.loads((run / "settings.json").read_text())
    del record[part]
    (run / "settings.json").write_text(json.dumps(record))
    message = refuses(run, capsys)
    assert "settings.json" in message
    assert part in message


def test_missing_and_unknown_settings_are_named(reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    record = json.loads((run / "settings.json").read_text())
    record["settings"]["colour"] = record["settings"].pop("d_model")
    (run / "settings.json").write_text(json.dumps(record))
    message = refuses(run, capsys)
    assert "unknown ['colour'], missing ['d_model']" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("d_model", "16"), ("d_model", 16.5), ("batch", 2.5), ("lr", "fast"), ("lr", -1)],
        *[("corpus", 5), ("layer", ["gmlp"]), ("d_ffn", 33)],
        *[("ema", 1), ("dropout", "0.1"), ("n_tokens", 2.0)],
    ],
)
def test_a_setting_of_a_wrong_type_or_range_is_named(name, value, reference, tmp_path, capsys):
    run = copy_of(reference.folder, tmp_path)
    # Without a checkpoint, nothing else contradicts it.
    for checkpoint in CHECKPOINTS:
        (run / checkpoint).unlink()
    edit_settings(run, **{name: value})
    message = refuses(run, capsys)
    assert message.startswith(f"{name} must ")
    assert message.endswith(f"got {value!r}")
