"""One process or several: the same losses, checkpoints and errors."""

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

from experiments.autoregressive import EXPERIMENT
from experiments.engine import command, devices
from experiments.engine.checkpoint import load_checkpoint
from experiments.engine.devices import (
    check_compiler,
    has_bf16,
    make_fabric,
    mean_over_processes,
    on_rank_zero,
    pick_device,
    pick_precision,
    rank_zero_first,
)
from tests.support.helpers import assert_names, assert_raises
from tests.support.small_runs import (
    ROOT,
    copy_of,
    experiment,
    launch_ranks,
    measured,
    quick,
    small,
    start_main,
    text_file,
)

CPU = torch.device("cpu")
needs_fork_server = pytest.mark.skipif(os.name != "posix", reason="needs a fork server")
ENDS_WITHIN = 60  # seconds, on a busy machine

# ## Devices and precision


def hardware_that(monkeypatch: pytest.MonkeyPatch, multiplies: bool) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: multiplies, raising=False)


def test_bf16_is_chosen_where_the_hardware_multiplies_it(monkeypatch):
    hardware_that(monkeypatch, True)
    assert has_bf16(CPU)
    assert pick_precision("auto", CPU) == "bf16"


def test_bf16_is_not_chosen_where_it_is_emulated(monkeypatch):
    hardware_that(monkeypatch, False)
    assert not has_bf16(CPU)
    assert pick_precision("auto", CPU) == "float32"


def test_bf16_is_not_chosen_on_other_devices():
    assert not has_bf16(torch.device("meta"))


def test_bf16_is_not_chosen_if_the_products_are_wrong(monkeypatch):
    hardware_that(monkeypatch, True)
    right = torch.Tensor.__matmul__
    halves = lambda a, b: right(a, b) / (2 if a.dtype == torch.bfloat16 else 1)  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "__matmul__", halves)
    assert not has_bf16(CPU)


@pytest.mark.parametrize("name", ["float32", "bf16"])
def test_a_precision_is_used_even_if_it_is_slow(name, monkeypatch):
    hardware_that(monkeypatch, False)
    assert pick_precision(name, CPU) == name


def test_by_default_the_device_is_the_gpu_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(None) == CPU
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:77"])
def test_an_unavailable_device_is_refused(name):
    assert_raises(lambda: pick_device(name), ValueError, "device", repr(name))


def test_unknown_names_and_numbers_out_of_range_are_refused(monkeypatch):
    bf16: Any = "fp8"
    assert_raises(lambda: pick_precision(bf16, CPU), ValueError, "precision", "float32", "'fp8'")
    assert_raises(
        lambda: make_fabric(CPU, 1, "dp", "float32"), ValueError, "strategy", "ddp or fsdp", "'dp'"
    )
    assert_raises(lambda: make_fabric(CPU, 0, "ddp", "float32"), ValueError, "devices", 1, 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    gpu, one = torch.device("cuda"), torch.device("cuda:2")
    assert_raises(lambda: make_fabric(gpu, 4, "ddp", "float32"), ValueError, "devices", 3, 4)
    assert_raises(
        lambda: make_fabric(one, 2, "ddp", "float32"), ValueError, "device", 2, "'cuda:2'"
    )


@pytest.mark.parametrize(("rank", "asked"), [("0", []), ("1", [1]), ("2", [])])
def test_each_process_tests_its_own_gpu(rank, asked, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    with contextlib.suppress(ValueError):
        pick_device("cuda")
    assert taken == asked


class TwoProcesses:
    """The part of Fabric that process 0 of two uses."""

    world_size, is_global_zero = 2, True

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def broadcast(self, value: Any) -> Any:
        self.sent.append(value)
        return value


@pytest.mark.parametrize("error", [OSError(28, "No space"), RuntimeError("no memory"), KeyError()])
def test_an_error_of_process_0_is_sent_to_the_others(error):
    fabric = TwoProcesses()

    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        on_rank_zero(fabric, work)  # type: ignore[arg-type]
    assert fabric.sent == [(True, None)]


def test_one_of_several_processes_exits_at_once_after_a_bug(monkeypatch, capsys):
    def run(_: object) -> int:
        raise KeyError("bug")

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(SystemExit):
        command.run_as_main(EXPERIMENT)
    assert ended == [1]
    assert capsys.readouterr().err.endswith("KeyError: 'bug'\n")


def test_one_process_needs_no_strategy_and_no_communication():
    fabric = make_fabric(CPU, 1, "fsdp", "bf16")
    assert (fabric.world_size, fabric.is_global_zero) == (1, True)
    value = torch.tensor(3.0)
    assert mean_over_processes(fabric, value) is value
    assert on_rank_zero(fabric, lambda: 5) == rank_zero_first(fabric, lambda: 5) == 5


def test_compile_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda _: None)
    assert_raises(lambda: check_compiler(CPU), ValueError, "compile", "C++", True)
    check_compiler(torch.device("cuda"))


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
# torch itself calls the function that it warns about.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses(references, tmp_path):
    run = tmp_path / "run"
    assert experiment(*small(references("one") / "text.txt", run, **EACH, compile=True)) == 0
    # Fused kernels round in other places: a few units of 2**-24 a step.
    assert_close(run, references("one") / "run", 1e-5)


# ## Two processes

EACH: dict[str, Any] = {"log_every": 1}
# Micro-batches and averages together, with everything that a checkpoint can hold.
FULL: dict[str, Any] = {"accumulate": 2, "ema": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "one": {},
    "one, accumulating": {"accumulate": 2},
    "one, averaged": {"ema": 0.5},
    "one, bf16": {"precision": "bf16"},
    "ddp": {},
    "ddp, full": FULL,
    "ddp, bf16": {"precision": "bf16"},
    "fsdp": {"strategy": "fsdp"},
    "fsdp, full": {"strategy": "fsdp", **FULL},
}


def ended(processes: list[Any], logs: Path) -> list[int]:
    """Waits for the processes and returns their exit statuses."""
    limit = time.monotonic() + ENDS_WITHIN
    for process in processes:
        process.join(timeout=max(0, limit - time.monotonic()))
        if process.is_alive():
            for other in processes:
                other.kill()
            pytest.fail(f"still running: {output(logs)}")
    return [int(process.exitcode) for process in processes]


def output(logs: Path) -> list[str]:
    """The output of each rank, without the last line, which `launch` adds."""
    return [
        re.sub(r"(never )?imported labml\n$", "", path.read_text())
        for path in sorted(logs.iterdir())
    ]


def two(arguments: list[str], folder: Path, **first: int) -> tuple[list[int], list[str]]:
    """Runs the command in two processes. Returns their exit statuses and outputs."""
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    status = ended(launch_ranks(arguments, logs, **first), logs)
    return status, output(logs)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a finished run of a kind, with its text."""

    @functools.cache
    def run_of(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(re.sub(r"\W+", "_", kind))
        corpus = text_file(tmp_path_factory.getbasetemp())
        shutil.copy(corpus, folder)
        arguments = small(corpus, folder / "run", **EACH, **KINDS[kind])
        if kind.startswith("one"):
            assert quick(*arguments) == 0
        else:
            status, texts = two(arguments, folder)
            assert status == [0, 0], texts
        return folder

    return run_of


def assert_close(run: Path, reference: Path, tolerance: float) -> None:
    """Compares all metrics, with a relative tolerance."""
    got, want = measured(run), measured(reference)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a == pytest.approx(b, rel=tolerance)


# Sums over the batch have another order. Each of the 12 steps moves the weights by gradients
# rounded to 2**-24 = 6e-8; AdamW divides by the root of the square, which keeps the relative error.
# Its eps of 1e-8 is all that keeps gradients near zero from changing sign, hence 1e-5.
FLOAT32 = 1e-5
# A product has 8 bits, so the gradient of each half of a batch is rounded to 2**-9 = 2e-3.
BF16 = 1e-2


@needs_fork_server
@pytest.mark.parametrize(
    ("kind", "same_as", "tolerance"),
    [
        ("ddp", "one", FLOAT32),
        ("ddp, full", "one, averaged", FLOAT32),
        ("fsdp", "one", FLOAT32),
        ("fsdp, full", "one, averaged", FLOAT32),
        ("one, accumulating", "one", FLOAT32),
        ("ddp, bf16", "one, bf16", BF16),
    ],
)
def test_the_number_of_processes_affects_rounding_only(kind, same_as, tolerance, references):
    assert_close(references(kind) / "run", references(same_as) / "run", tolerance)
    for name in ("last.pt", "best.pt"):
        got, want = (load_checkpoint(references(k) / "run" / name) for k in (kind, same_as))
        assert got["identity"] == want["identity"]
        assert got["model"].keys() == want["model"].keys()
        assert {n: p.shape for n, p in got["model"].items()} == {
            n: p.shape for n, p in want["model"].items()
        }
        assert (got["average"] is None) == (want["average"] is None)


@needs_fork_server
def test_only_process_0_prints(references):
    first, second = output(references("ddp") / "logs")
    assert "2 processes" in first
    assert "validation: " in first
    assert second == ""


@needs_fork_server
@pytest.mark.parametrize(
    ("saved", "resumed", "strategy"),
    [
        *[("ddp, full", "one, averaged", "ddp"), ("fsdp, full", "one, averaged", "ddp")],
        *[("one", "ddp", "ddp"), ("one, averaged", "fsdp, full", "fsdp")],
        *[("ddp, full", "ddp, full", "ddp"), ("fsdp, full", "fsdp, full", "fsdp")],
        ("ddp", "fsdp", "fsdp"),
    ],
)
def test_a_run_resumes_with_another_number_of_processes(
    saved, resumed, strategy, references, tmp_path
):
    run = copy_of(references(saved) / "run", tmp_path)
    (run / "last.pt").unlink()
    (run / "result.json").unlink()
    assert load_checkpoint(run / "previous.pt")["step"] == 8
    arguments = ["--no-labml", f"--resume={run}", f"--strategy={strategy}"]
    if resumed.startswith("one"):
        assert quick(*arguments, "--devices=1") == 0
    else:
        status, texts = two(arguments, tmp_path)
        assert status == [0, 0], texts
        assert texts[0].count("resuming from") == 1
        assert texts[1] == ""
    assert (run / "result.json").exists()
    assert_close(run, references(resumed) / "run", FLOAT32)
    if saved == resumed:
        assert measured(run) == measured(references(resumed) / "run")


# ## An error in one process ends all


def only_line(texts: list[str]) -> str:
    """The only line of the outputs."""
    lines = [line for text in texts for line in text.splitlines()]
    assert len(lines) == 1, lines
    return lines[0]


@needs_fork_server
@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        # Before the processes are connected, and after.
        ({"batch": 3}, ["batch", 2, "2 processes", 3]),
        ({"colour": "red"}, ["--colour=red"]),
        ({"seq_len": 1801}, ["corpus", 3602]),
        ({"layer": "transformer", "n_heads": 3}, ["n_heads", "d_model=16", 3]),
    ],
)
def test_bad_input_is_reported_once_and_ends_all(changes, parts, tmp_path):
    run = tmp_path / "run"
    status, texts = two(small(text_file(tmp_path), run, **changes), tmp_path)
    assert status == [2, 2]
    assert_names(only_line(texts), "error", *parts)
    assert not run.exists()


@needs_fork_server
def test_damaged_checkpoints_are_reported_once_and_end_all(references, tmp_path):
    run = copy_of(references("ddp") / "run", tmp_path)
    for name in ("last.pt", "previous.pt"):
        (run / name).write_bytes(b"damaged")
    status, texts = two(["--no-labml", f"--resume={run}"], tmp_path)
    assert status == [2, 2]
    assert_names(only_line(texts), "error", run / "last.pt", "checksum")


@needs_fork_server
def test_a_loss_that_is_not_finite_is_reported_once_and_ends_all(tmp_path):
    changes = {"lr": 1e30, "warmup": 0, "steps": 4}
    status, texts = two(small(text_file(tmp_path), tmp_path / "run", **changes), tmp_path)
    assert status == [2, 2]
    assert texts[0].count("error: lr ") == 1
    assert texts[1] == ""


@needs_fork_server
@pytest.mark.parametrize("flush", [1, 5, 9])
def test_a_full_disk_of_process_0_ends_all(flush, references, tmp_path):
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
def test_when_process_0_dies_the_other_says_how_to_resume(references, tmp_path):
    run = tmp_path / "run"
    arguments = small(references("ddp") / "text.txt", run, **EACH)
    # While the second checkpoint is written, and the first is to become the previous one.
    status, texts = two(arguments, tmp_path, die_at_flush=9)
    assert status == [-signal.SIGKILL, 2], texts
    assert_names(only_line(texts[1:]), "error", "process 1 of 2", f"--resume {run}")
    status, texts = two(["--no-labml", f"--resume={run}"], tmp_path)
    assert status == [0, 0], texts
    assert measured(run) == measured(references("ddp") / "run")


# ## The command starts other processes


@pytest.mark.skipif(sys.platform != "linux", reason="finds its processes in /proc")
def test_when_another_process_is_killed_the_run_ends_and_says_how_to_resume(references, tmp_path):
    corpus, run = references("ddp") / "text.txt", tmp_path / "run"
    long = small(corpus, run, **EACH, devices=2, steps=2_000, save_every=5, evaluate_every=500)
    out, err = tmp_path / "out", tmp_path / "err"
    process = start_main(long, out, err)
    metrics = run / "metrics.jsonl"
    while process.is_alive() and (not metrics.exists() or len(metrics.read_bytes()) < 2_000):
        time.sleep(0.01)
    # Fabric has started it, as a new interpreter.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [child] = [int(pid) for pid in children]
    os.kill(child, signal.SIGKILL)
    process.join(timeout=ENDS_WITHIN)
    assert process.exitcode not in (0, None)
    assert out.read_text() == ""
    last = err.read_text().splitlines()[-1]
    assert_names(last, "error", "process 0 of 2", f"--resume {run}")
    assert load_checkpoint(run / "last.pt")["step"] >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="needs torchrun")
def test_torchrun_can_start_the_processes(references, tmp_path):
    run = tmp_path / "run"
    arguments = small(references("ddp") / "text.txt", run, **EACH)
    # Without the dashes, torchrun takes --run for an abbreviation of its own option.
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--")
    done = subprocess.run(
        [sys.executable, *torchrun, "experiments.autoregressive", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=2 * ENDS_WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("validation: ")
    assert done.stdout.count("validation: ") == 1
    assert measured(run) == measured(references("ddp") / "run")
