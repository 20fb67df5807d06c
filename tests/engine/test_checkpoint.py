"""A checkpoint is restored exactly, or it is refused."""

import errno
import hashlib
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.engine import checkpoint
from experiments.engine.checkpoint import (
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    restore_previous,
    save_checkpoint,
)
from experiments.engine.devices import make_fabric
from experiments.engine.optimiser import make_optimizer
from experiments.engine.state import State, best_weights, load_run_checkpoint
from experiments.models.language import LayerSizes, make_model
from labml_gmlp.storage import atomic_write
from tests.support.helpers import assert_names, assert_raises
from tests.support.small_runs import files

FABRIC = make_fabric(torch.device("cpu"), 1, "ddp", "float32")
IDENTITY = {
    "settings": {"lr": 0.1, "steps": 5},
    "data": {"sha256": "ab" * 32, "vocabulary": {"characters": "abc"}},
}
STATE = {
    "identity": IDENTITY,
    "model": {"weight": torch.arange(12.0).reshape(3, 4)},
    "step": 7,
    "best": None,
}


class Code:
    """A pickle that runs code when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def state_of(seed: int, identity: dict[str, Any] = IDENTITY) -> State:
    shape = LayerSizes(d_model=8, d_ffn=12, n_layers=1, seq_len=4)
    model = make_model("gmlp", shape, 5, causal=True, seed=seed)
    optimizer = make_optimizer(model, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    return State(identity, model, optimizer)


def train_a_little(state: State, n: int = 3) -> None:
    for _ in range(n):
        state.optimizer.zero_grad()
        state.model(torch.tensor([[1, 2, 3, 4]])).square().sum().backward()
        state.optimizer.step()
        state.step += 1
        state.average_weights(0.5)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
        )
    except OSError:
        pytest.skip("needs the mount command")
    if mounting.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# ## Saving and loading


def test_a_saved_state_is_loaded_unchanged(saved):
    loaded = load_checkpoint(saved)
    assert torch.equal(loaded["model"].pop("weight"), STATE["model"]["weight"])
    assert loaded == {**STATE, "model": {}}


def test_saving_leaves_one_file_that_torch_can_load(saved):
    assert list(files(saved.parent)) == ["last.pt"]
    assert torch.load(saved, weights_only=True)["step"] == 7


def test_the_file_ends_with_the_checksum_of_the_bytes_before_it(saved):
    content = saved.read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()


def test_a_restored_state_continues_exactly(tmp_path):
    first, second = state_of(seed=0), state_of(seed=1)
    train_a_little(first)
    first.seconds, first.best = 2.5, {"step": 2, "nats_per_char": 1.5}
    first.save(tmp_path / "last.pt", FABRIC)
    second.load(tmp_path / "last.pt")
    assert (second.step, second.seconds, second.best) == (3, 2.5, first.best)
    # Further steps are equal only if AdamW's averages were restored too.
    train_a_little(first)
    train_a_little(second)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.average.keys() == dict(first.model.named_parameters()).keys()
    for name, a in first.average.items():
        assert torch.equal(a, second.average[name])
        assert not torch.equal(a, first.model.get_parameter(name))


def test_the_best_weights_are_the_averages_if_there_are_any(tmp_path):
    state = state_of(seed=0)
    path = tmp_path / "best.pt"
    state.save(path, FABRIC)
    assert best_weights(load_run_checkpoint(path)).keys() == state.model.state_dict().keys()
    train_a_little(state)
    state.save(path, FABRIC)
    found = best_weights(load_run_checkpoint(path))
    assert found.keys() == state.model.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in state.average.items())


# ## The previous checkpoint


def test_the_previous_checkpoint_is_kept(tmp_path):
    state = state_of(seed=0)
    for step in range(3):
        state.step = step
        state.save(tmp_path / "last.pt", FABRIC)
    state.save(tmp_path / "best.pt", FABRIC)
    assert sorted(files(tmp_path)) == ["best.pt", "last.pt", "previous.pt"]
    steps = [load_checkpoint(tmp_path / f"{name}.pt")["step"] for name in ("previous", "last")]
    assert steps == [1, 2]


def test_without_hard_links_the_previous_checkpoint_is_copied(tmp_path, monkeypatch):
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    test_the_previous_checkpoint_is_kept(tmp_path)


def checked(path: Path) -> dict[str, Any]:
    if not path.exists() or path.read_text() != "intact":
        raise CheckpointError(f"{path.name} is damaged")
    return {"path": path}


def run_with(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        (folder / f"{name}.pt").write_text(content)
    return folder


def test_a_run_resumes_from_its_newest_checkpoint(tmp_path, capsys):
    run = run_with(tmp_path, last="intact", previous="damaged")
    path = run / "last.pt"
    assert find_checkpoint(run, checked) == (path, {"path": path})
    assert capsys.readouterr().err == ""


def test_a_run_with_a_damaged_newest_checkpoint_resumes_from_the_previous_one(tmp_path, capsys):
    run = run_with(tmp_path, last="damaged", previous="intact")
    path = run / "previous.pt"
    assert find_checkpoint(run, checked) == (path, {"path": path})
    assert_names(capsys.readouterr().err.rstrip("\n"), "last.pt", "damaged", path)


def test_a_run_with_only_damaged_checkpoints_is_refused(tmp_path):
    run = run_with(tmp_path, last="damaged")
    assert_raises(lambda: find_checkpoint(run, checked), CheckpointError, "last.pt", "damaged")
    run_with(run, previous="damaged")
    assert_raises(lambda: find_checkpoint(run, checked), CheckpointError, "last.pt", "damaged")


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    path.mkdir()
    reason = os.strerror(errno.EISDIR)
    assert_raises(lambda: load_checkpoint(path), CheckpointError, path, reason)


def test_the_previous_checkpoint_replaces_a_damaged_newest_one(tmp_path):
    run = run_with(tmp_path, last="damaged", previous="intact")
    restore_previous(run)
    assert files(run) == {"last.pt": b"intact", "previous.pt": b"intact"}


def test_a_run_without_checkpoints_starts_again(tmp_path):
    assert find_checkpoint(tmp_path, checked) is None


# ## Damage


def refused(path: Path, n_bytes: int) -> None:
    parts = (path, "checksum", f"{n_bytes} bytes")
    assert_raises(lambda: load_checkpoint(path), CheckpointError, *parts)


def test_every_altered_byte_is_found_before_torch_reads_the_file(saved, monkeypatch):
    whole, generator = saved.read_bytes(), random.Random(0)
    monkeypatch.setattr(checkpoint.torch, "load", lambda *_, **__: pytest.fail("was read"))
    places = [0, len(whole) - 1, len(whole) - 64, len(whole) - 65, len(whole) - 66]
    for place in places + generator.sample(range(len(whole)), 200):
        altered = bytearray(whole)
        altered[place] ^= generator.randrange(1, 256)
        saved.write_bytes(altered)
        refused(saved, len(whole))


def test_every_truncation_and_every_addition_is_found(saved):
    whole, generator = saved.read_bytes(), random.Random(1)
    for n in [0, 1, 63, 64, 65, len(whole) - 1, *generator.sample(range(len(whole)), 50)]:
        saved.write_bytes(whole[:n])
        refused(saved, n)
    for extra in (b"\0", b"\n", whole):
        saved.write_bytes(whole + extra)
        refused(saved, len(whole) + len(extra))


def test_a_file_without_a_checksum_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save(STATE, path)
    refused(path, path.stat().st_size)


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    assert_raises(lambda: load_checkpoint(path), CheckpointError, path, "must exist")


def test_code_with_a_valid_checksum_is_refused_and_does_not_run(tmp_path):
    path, trace = tmp_path / "last.pt", tmp_path / "trace"
    save_checkpoint(path, {**STATE, "best": Code(trace)})
    # Without `weights_only`, it runs.
    torch.load(path, weights_only=False)
    assert trace.exists()
    trace.unlink()
    with pytest.raises((CheckpointError, pickle.UnpicklingError)):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "value", "difference"),
    [
        ("settings", {"lr": 0.2, "steps": 5}, "lr=0.1, got one with lr=0.2"),
        ("settings", {"lr": 0.1}, "steps=5, got one with steps=None"),
        ("settings", {**IDENTITY["settings"], "x": 1}, "x=None, got one with x=1"),
        (
            "data",
            {**IDENTITY["data"], "sha256": "cd" * 32},
            f"sha256='{'ab' * 32}', got one with sha256='{'cd' * 32}'",
        ),
        (
            "data",
            {**IDENTITY["data"], "vocabulary": {"characters": "abd"}},
            "vocabulary={'characters': 'abc'}, got one with vocabulary={'characters': 'abd'}",
        ),
        ("data", 5, f"data={IDENTITY['data']!r}, got one with data=5"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(name, value, difference, tmp_path):
    path, state = tmp_path / "last.pt", state_of(seed=0)
    state_of(seed=1, identity={**IDENTITY, name: value}).save(path, FABRIC)
    before = {name: p.clone() for name, p in state.model.state_dict().items()}
    assert_raises(lambda: state.load(path), CheckpointError, path, difference)
    assert state.step == 0
    for parameter, p in state.model.state_dict().items():
        assert torch.equal(p, before[parameter])


# ## A full disk


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_leaves_the_old_file_and_no_partial_one(call, saved, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullFile:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "FullFile":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            full()

    before = saved.read_bytes()
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif call == "replace":
        monkeypatch.setattr(Path, "replace", full)
    else:
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda path, mode: FullFile(opened(path, mode)))
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(saved, {**STATE, "step": 8})
    assert sorted(p.name for p in saved.parent.iterdir()) == ["last.pt"]
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert load_checkpoint(saved)["step"] == 7


def test_a_disk_that_fills_up_at_any_write_is_reported(saved, monkeypatch):
    before, written, allowed = saved.read_bytes(), 0, 0
    write = checkpoint._ChecksumWriter._write

    class FullDisk:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: bytes) -> None:
            nonlocal written
            written += 1
            if written > allowed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.file.write(content)

        def flush(self) -> None:
            self.file.flush()

    def limited(writer: Any, content: bytes) -> None:
        if not isinstance(writer._file, FullDisk):
            writer._file = FullDisk(writer._file)
        write(writer, content)

    monkeypatch.setattr(checkpoint._ChecksumWriter, "_write", limited)
    for allowed in range(1_000):  # noqa: B007
        written = 0
        try:
            save_checkpoint(saved, {**STATE, "step": 8})
        except OSError as e:
            assert e.errno == errno.ENOSPC  # noqa: PT017
        else:
            break
        assert files(saved.parent) == {"last.pt": before}
    assert allowed > 10
    assert load_checkpoint(saved)["step"] == 8


@pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs")
def test_a_real_full_disk_leaves_the_old_file_and_no_partial_one(small_disk):
    path = small_disk / "last.pt"
    save_checkpoint(path, {"step": 7, "weight": torch.zeros(100_000)})
    before = path.read_bytes()
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))):
        save_checkpoint(path, {"step": 8, "weight": torch.zeros(200_000)})
    assert files(small_disk) == {"last.pt": before}
    assert load_checkpoint(path)["step"] == 7


def test_writing_to_a_missing_folder_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "nowhere" / "last.pt", b"")
    assert files(tmp_path) == {}
