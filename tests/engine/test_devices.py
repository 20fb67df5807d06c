"""One process or many: the same numbers, and the same ends."""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.autoregressive import EXPERIMENT
from experiments.engine import command, devices
from experiments.engine.checkpoint import load_checkpoint
from experiments.engine.devices import (
    BatchSplit,
    check_compiler,
    has_bf16,
    make_fabric,
    mean_over_processes,
    on_rank_zero,
    pick_device,
    pick_precision,
    rank_zero_first,
)
from tests.support.helpers import assert_raises, properties
from tests.support.small_runs import (
    ROOT,
    copy_of,
    experiment,
    launch_ranks,
    measured,
    small,
    text_file,
)

CPU = torch.device("cpu")
needs_fork_server = pytest.mark.skipif(os.name != "posix", reason="needs a fork server")
ENDS_WITHIN = 60  # seconds, on a machine that has much else to do

# ## Shares of a batch

parts = st.integers(1, 5)


@properties
@given(world=parts, accumulate=parts, size=st.integers(1, 7))
def test_every_row_is_read_once_by_one_process_in_one_micro_batch(world, accumulate, size):
    batch = world * accumulate * size
    shares = [BatchSplit(rank, world, accumulate).rows(batch) for rank in range(world)]
    assert all(len(share) == accumulate for share in shares)
    assert all(len(rows) == size for share in shares for rows in share)
    assert sorted(row for share in shares for rows in share for row in rows) == list(range(batch))


@properties
@given(world=parts, accumulate=parts, size=st.integers(1, 7))
def test_what_all_processes_read_at_once_lies_side_by_side(world, accumulate, size):
    batch = world * accumulate * size
    shares = [BatchSplit(rank, world, accumulate).rows(batch) for rank in range(world)]
    together = [row for micro in zip(*shares, strict=True) for rows in micro for row in rows]
    assert together == list(range(batch))


@properties
@given(world=parts, accumulate=parts, batch=st.integers(1, 60))
def test_a_batch_is_shared_equally_or_refused(world, accumulate, batch):
    share = BatchSplit(world - 1, world, accumulate)
    if batch % (world * accumulate) == 0:
        assert sum(map(len, share.rows(batch))) * world == batch
        return
    message = (
        f"batch must be a multiple of {world * accumulate} for {world} processes that accumulate "
        f"{accumulate} micro-batches, got {batch}"
    )
    assert_raises(lambda: share.rows(batch), ValueError, message)


# ## What there is


def hardware_that(monkeypatch: pytest.MonkeyPatch, multiplies: bool) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: multiplies, raising=False)


def test_bf16_is_worth_it_where_the_hardware_multiplies_it(monkeypatch):
    hardware_that(monkeypatch, True)
    assert has_bf16(CPU)
    assert pick_precision("auto", CPU) == "bf16"


def test_bf16_is_not_worth_it_where_it_is_emulated(monkeypatch):
    hardware_that(monkeypatch, False)
    assert not has_bf16(CPU)
    assert pick_precision("auto", CPU) == "float32"


def test_bf16_is_not_worth_it_on_a_device_that_nobody_asked():
    assert not has_bf16(torch.device("meta"))


def test_hardware_whose_products_are_wrong_has_no_bf16(monkeypatch):
    hardware_that(monkeypatch, True)
    right = torch.Tensor.__matmul__
    halves = lambda a, b: right(a, b) / (2 if a.dtype == torch.bfloat16 else 1)  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "__matmul__", halves)
    assert not has_bf16(CPU)


@pytest.mark.parametrize("name", ["float32", "bf16"])
def test_a_precision_that_is_asked_for_is_taken(name, monkeypatch):
    hardware_that(monkeypatch, False)
    assert pick_precision(name, CPU) == name


def test_a_precision_that_there_is_not_is_refused():
    message = "precision must be auto, float32 or bf16, got 'fp8'"
    assert_raises(lambda: pick_precision("fp8", CPU), ValueError, message)


def test_without_a_name_the_device_is_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(None) == CPU
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:77"])
def test_a_device_that_there_is_not_is_refused(name):
    message = f"device must be one that torch has here, got {name!r}"
    assert_raises(lambda: pick_device(name), ValueError, message)


def test_a_strategy_or_a_number_that_there_is_not_is_refused(monkeypatch):
    message = "strategy must be ddp or fsdp, got 'dp'"
    assert_raises(lambda: make_fabric(CPU, 1, "dp", "float32"), ValueError, message)
    message = "devices must be at least 1, got 0"
    assert_raises(lambda: make_fabric(CPU, 0, "ddp", "float32"), ValueError, message)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    message = "devices must be at most the 3 GPUs here, got 4"
    gpu = torch.device("cuda")
    assert_raises(lambda: make_fabric(gpu, 4, "ddp", "float32"), ValueError, message)


def test_one_gpu_by_its_number_is_refused_for_several_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    message = "device must name no single one for 2 processes, got 'cuda:3'"
    gpu = torch.device("cuda:3")
    assert_raises(lambda: make_fabric(gpu, 2, "ddp", "float32"), ValueError, message)


@pytest.mark.parametrize(("rank", "asked"), [("0", []), ("1", [1]), ("2", [])])
def test_each_process_asks_its_own_gpu(rank, asked, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    with contextlib.suppress(ValueError):
        pick_device("cuda")
    assert taken == asked


class TwoProcesses:
    """What is asked of Fabric by process 0 of two."""

    world_size, is_global_zero = 2, True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def broadcast(self, value: Any) -> Any:
        self.told.append(value)
        return value


@pytest.mark.parametrize("error", [OSError(28, "No space"), RuntimeError("no memory"), KeyError()])
def test_whatever_ends_the_first_process_is_told_to_the_others(error):
    fabric = TwoProcesses()

    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        on_rank_zero(fabric, work)  # type: ignore[arg-type]
    assert fabric.told == [(True, None)]


def test_one_of_several_processes_ends_at_once_after_a_mistake_of_our_own(monkeypatch, capsys):
    def run(_: object) -> int:
        raise KeyError("ours")

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(SystemExit):
        command.run_as_main(EXPERIMENT)
    assert ended == [1]
    assert capsys.readouterr().err.endswith("KeyError: 'ours'\n")


def test_one_process_needs_no_strategy_and_no_talk():
    fabric = make_fabric(CPU, 1, "fsdp", "bf16")
    assert (fabric.world_size, fabric.is_global_zero) == (1, True)
    value = torch.tensor(3.0)
    assert mean_over_processes(fabric, value) is value
    assert on_rank_zero(fabric, lambda: 5) == rank_zero_first(fabric, lambda: 5) == 5


def test_without_a_compiler_there_is_nothing_to_compile_with(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda _: None)
    message = "compile must be off where there is no C++ compiler, got compile=True"
    assert_raises(lambda: check_compiler(CPU), ValueError, message)
    check_compiler(torch.device("cuda"))


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
# torch itself uses what it warns of.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses(references, tmp_path):
    run = tmp_path / "run"
    assert experiment(*small(references("one") / "text.txt", run, **EACH, compile=True)) == 0
    # Fused kernels round in other places: a few units of 2**-24 a step.
    assert_close(run, references("one") / "run", 1e-5)


# ## Two processes

EACH: dict[str, Any] = {"log_every": 1}
KINDS: dict[str, dict[str, Any]] = {
    "one": {},
    "one in parts": {"accumulate": 2},
    "one averaged": {"ema": 0.5},
    "one in bf16": {"precision": "bf16"},
    "ddp": {},
    "ddp in parts": {"accumulate": 2},
    "ddp averaged": {"ema": 0.5},
    "ddp in bf16": {"precision": "bf16"},
    "fsdp": {"strategy": "fsdp"},
    "fsdp in parts": {"strategy": "fsdp", "accumulate": 2},
    "fsdp averaged": {"strategy": "fsdp", "ema": 0.5},
}


def ended(processes: list[Any], logs: Path) -> list[int]:
    """The exit status of each process, and none that goes on."""
    limit = time.monotonic() + ENDS_WITHIN
    for process in processes:
        process.join(timeout=max(0, limit - time.monotonic()))
        if process.is_alive():
            for other in processes:
                other.kill()
            pytest.fail(f"goes on: {said(logs)}")
    return [int(process.exitcode) for process in processes]


def said(logs: Path) -> list[str]:
    """What each rank printed, without the last line, which is the tests' own."""
    return [
        re.sub(r"(never )?imported labml\n$", "", path.read_text())
        for path in sorted(logs.iterdir())
    ]


def two(arguments: list[str], folder: Path, **first: int) -> tuple[list[int], list[str]]:
    """The exit status of two processes, and what each said."""
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    status = ended(launch_ranks(arguments, logs, **first), logs)
    return status, said(logs)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with a finished run of each kind and its text."""

    @functools.cache
    def run_of(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind.replace(" ", "_"))
        corpus = text_file(tmp_path_factory.getbasetemp())
        shutil.copy(corpus, folder)
        arguments = small(corpus, folder / "run", **EACH, **KINDS[kind])
        if kind.startswith("one"):
            assert experiment(*arguments) == 0
        else:
            status, texts = two(arguments, folder)
            assert status == [0, 0], texts
        return folder

    return run_of


def assert_close(run: Path, reference: Path, tolerance: float) -> None:
    """* `tolerance` is relative"""
    got, want = measured(run), measured(reference)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a == pytest.approx(b, rel=tolerance)


# Sums over the batch are taken in another order. Each of the 12 steps moves the weights by what was
# rounded to 2**-24 = 6e-8; AdamW divides by the root of the square and so passes it on unchanged.
# Its eps of 1e-8 is all that keeps gradients near zero from turning their sign, hence 1e-5.
FLOAT32 = 1e-5
# A product has 8 bits, so the gradient of each half of a batch is rounded to 2**-9 = 2e-3.
BF16 = 1e-2


@needs_fork_server
@pytest.mark.parametrize(
    ("kind", "same_as", "tolerance"),
    [
        ("ddp", "one", FLOAT32),
        ("ddp in parts", "one", FLOAT32),
        ("ddp averaged", "one averaged", FLOAT32),
        ("fsdp", "one", FLOAT32),
        ("fsdp in parts", "one", FLOAT32),
        ("fsdp averaged", "one averaged", FLOAT32),
        ("one in parts", "one", FLOAT32),
        ("ddp in bf16", "one in bf16", BF16),
    ],
)
def test_the_number_of_processes_changes_the_rounding_only(kind, same_as, tolerance, references):
    assert_close(references(kind) / "run", references(same_as) / "run", tolerance)
    # What is not rounded is the same; nothing was left out, and something was done in another way.
    for name in ("last.pt", "best.pt"):
        got, want = (load_checkpoint(references(k) / "run" / name) for k in (kind, same_as))
        assert got["identity"] == want["identity"]
        assert got["model"].keys() == want["model"].keys()
        assert {n: p.shape for n, p in got["model"].items()} == {
            n: p.shape for n, p in want["model"].items()
        }
        assert (got["average"] is None) == (want["average"] is None)


@needs_fork_server
def test_only_the_first_process_speaks(references):
    first, second = said(references("ddp") / "logs")
    assert "2 processes" in first
    assert "validation: " in first
    assert second == ""


@needs_fork_server
@pytest.mark.parametrize(
    ("saved", "resumed"),
    [
        *[("ddp", "one"), ("fsdp", "one"), ("fsdp averaged", "one averaged")],
        *[("one", "ddp"), ("one", "fsdp"), ("one averaged", "fsdp averaged")],
        *[("ddp", "fsdp"), ("fsdp", "fsdp"), ("ddp averaged", "ddp averaged")],
    ],
)
def test_a_run_goes_on_with_another_number_of_processes(
    saved, resumed, references, tmp_path, capsys
):
    run = copy_of(references(saved) / "run", tmp_path)
    (run / "last.pt").unlink()
    (run / "result.json").unlink()
    assert load_checkpoint(run / "previous.pt")["step"] == 8
    arguments = ["--no-labml", f"--resume={run}", *(f"--strategy={s}" for s in ("ddp", "fsdp"))]
    arguments = arguments[: 3 if "ddp" in resumed else 4]
    if resumed.startswith("one"):
        assert experiment(*arguments, "--devices=1") == 0
    else:
        status, texts = two(arguments, tmp_path)
        assert status == [0, 0], texts
        assert texts[0].count("going on from") == 1
        assert texts[1] == ""
    assert (run / "result.json").exists()
    assert_close(run, references(resumed) / "run", FLOAT32)
    if saved == resumed:
        assert measured(run) == measured(references(resumed) / "run")


# ## What ends one process ends all


def report_once(texts: list[str]) -> str:
    """The one line of what all processes said."""
    lines = [line for text in texts for line in text.splitlines()]
    assert len(lines) == 1, lines
    return lines[0]


@needs_fork_server
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Before the processes know each other, and after.
        ({"lr": -1}, "lr must be above 0, got -1.0"),
        ({"batch": 3}, "batch must be a multiple of 2 for 2 processes .+, got 3"),
        ({"colour": "red"}, "unrecognized arguments: --colour=red .+"),
        ({"seq_len": 1801}, "corpus must have at least 3602 characters .+"),
        ({"layer": "transformer", "n_heads": 3}, "n_heads must divide d_model=16, got 3"),
    ],
)
def test_bad_input_is_told_once_and_ends_all(changes, message, tmp_path):
    run = tmp_path / "run"
    status, texts = two(small(text_file(tmp_path), run, **changes), tmp_path)
    assert status == [2, 2]
    assert re.fullmatch(f".*error: {message}", report_once(texts))
    assert not run.exists()


@needs_fork_server
def test_damaged_checkpoints_are_told_once_and_end_all(references, tmp_path):
    run = copy_of(references("ddp") / "run", tmp_path)
    for name in ("last.pt", "previous.pt"):
        (run / name).write_bytes(b"damaged")
    status, texts = two(["--no-labml", f"--resume={run}"], tmp_path)
    assert status == [2, 2]
    assert "last.pt must match its checksum" in report_once(texts)


@needs_fork_server
def test_a_loss_that_is_no_number_is_told_once_and_ends_all(tmp_path):
    changes = {"lr": 1e30, "warmup": 0, "steps": 4}
    status, texts = two(small(text_file(tmp_path), tmp_path / "run", **changes), tmp_path)
    assert status == [2, 2]
    assert "".join(texts).count("error: lr must be small enough to train, got ") == 1
    assert texts[1] == ""


@needs_fork_server
@pytest.mark.parametrize("flush", [1, 5, 9])
def test_a_disk_that_is_full_for_the_first_process_ends_all(flush, references, tmp_path):
    corpus, run = references("ddp") / "text.txt", tmp_path / "run"
    arguments = small(corpus, run, **EACH)
    status, texts = two(arguments, tmp_path, full_from_flush=flush)
    assert status == [2, 2], texts
    assert "".join(texts).count("No space left on device") == 1
    assert not list(run.glob("*.new"))
    again = arguments if flush == 1 else ["--no-labml", f"--resume={run}"]
    status, texts = two(again, tmp_path)
    assert status == [0, 0], texts
    assert measured(run) == measured(references("ddp") / "run")


@needs_fork_server
def test_when_the_first_process_dies_the_other_says_how_to_go_on(references, tmp_path):
    run = tmp_path / "run"
    arguments = small(references("ddp") / "text.txt", run, **EACH)
    # The second checkpoint: one is there, and is to become the one before.
    status, texts = two(arguments, tmp_path, die_at_flush=9)
    assert status == [-signal.SIGKILL, 2], texts
    assert re.fullmatch(
        rf"error: process 1 of 2 lost another one at step \d+; --resume {re.escape(str(run))} "
        rf"goes on from the last checkpoint\n",
        texts[1],
    )
    status, texts = two(["--no-labml", f"--resume={run}"], tmp_path)
    assert status == [0, 0], texts
    assert measured(run) == measured(references("ddp") / "run")


# ## As it is typed


def typed(*start: str, arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *start, "experiments.autoregressive", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="finds its processes in /proc")
def test_when_another_process_is_killed_the_run_ends_and_says_how_to_go_on(references, tmp_path):
    corpus, run = references("ddp") / "text.txt", tmp_path / "run"
    long = small(corpus, run, **EACH, devices=2, steps=2_000, save_every=5, evaluate_every=500)
    process = typed(arguments=long)
    metrics = run / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or len(metrics.read_bytes()) < 2_000):
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [child] = [int(pid) for pid in children]
    os.kill(child, signal.SIGKILL)
    out, err = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode not in (0, None)
    assert out == ""
    assert re.fullmatch(
        rf"error: process 0 of 2 lost another one at step \d+; --resume {re.escape(str(run))} "
        rf"goes on from the last checkpoint",
        err.splitlines()[-1],
    )
    assert load_checkpoint(run / "last.pt")["step"] >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="needs torchrun")
def test_torchrun_starts_the_processes_too(references, tmp_path):
    run = tmp_path / "run"
    arguments = small(references("ddp") / "text.txt", run, **EACH)
    process = typed(
        # Without the dashes, torchrun takes --run for the beginning of an option of its own.
        *("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"),
        arguments=arguments,
    )
    out, err = process.communicate(timeout=2 * ENDS_WITHIN)
    assert process.returncode == 0, err
    assert out.startswith("validation: ")
    assert out.count("validation: ") == 1
    assert measured(run) == measured(references("ddp") / "run")
