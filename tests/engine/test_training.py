"""The training loop: seeds, averages, clipping and errors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.engine import loop
from experiments.engine.checkpoint import load_checkpoint
from experiments.engine.devices import make_fabric
from experiments.engine.experiment import Task, Training
from experiments.engine.loop import (
    check_finite,
    clip_gradient,
    evaluate,
    report_lost_process,
    step_seed,
    train,
)
from experiments.engine.optimiser import make_optimizer
from experiments.engine.order import BatchSplit, micro_batches
from experiments.engine.run_folder import read_metrics
from experiments.engine.settings.errors import UserError
from experiments.engine.state import State
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.small_runs import files

FABRIC = make_fabric(torch.device("cpu"), 1, "ddp", "float32")

# ## Seeds

steps = st.integers(0, 10**6 - 1)
ranks = st.integers(0, 4_000)
runs = st.integers(0, 2**31 - 1)


@properties
@given(a=st.tuples(runs, steps, ranks), b=st.tuples(runs, steps, ranks))
def test_seeds_are_equal_only_for_the_same_run_step_and_process(a, b):
    first, second = step_seed(*a), step_seed(*b)
    assert (first == second) == (a == b)


@properties
@given(seed=runs, step=st.integers(0, 999), rank=st.integers(0, 99))
def test_neighbours_have_different_seeds(seed, step, rank):
    near = {
        step_seed(seed + i, step + j, rank + k)
        for i in range(2)
        for j in range(3)
        for k in range(3)
    }
    assert len(near) == 2 * 3 * 3


def test_torch_accepts_the_largest_seed():
    largest = step_seed(2**31 - 1, 10**9, 10**4)
    assert largest < 2**63
    torch.manual_seed(largest)


# ## Runs of a tiny task


class Noisy(nn.Module):
    """A linear model that records its random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.dropped: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            noise = torch.rand(2)
            self.dropped.append(noise)
            return self.linear(x) * noise
        return self.linear(x)


def batches(first: int, split: BatchSplit) -> Iterator[tuple[Tensor, ...]]:
    for step, rows in micro_batches(first, 4, split):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        yield (x[rows.start : rows.stop],)


def error(model: nn.Module, fabric: Any) -> dict[str, float]:
    model.eval()
    with torch.inference_mode():
        found = model(torch.ones(1, 3)).square().sum().item()
    model.train()
    return {"error": found}


def trained(
    folder: Path,
    training: Training,
    *,
    accumulate: int = 1,
    resume: bool = False,
    evaluation: Callable[[nn.Module, Any], dict[str, float]] = error,
) -> tuple[Noisy, State]:
    torch.manual_seed(0)
    model = Noisy()
    task = Task(
        model=model,
        data={},
        about="noise",
        batches=batches,
        loss=lambda model, batch: (model(batch[0]) - 1).square().mean(),
        evaluate=evaluation,
        monitor="error",
        describe=str,
    )
    wrapped = FABRIC.setup_module(model)
    optimizer = make_optimizer(model, lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
    state = State({}, model, optimizer)
    if resume:
        state.load(folder / "last.pt")
    stepper: Any = FABRIC.setup_optimizers(optimizer)
    train(task, training, state, wrapped, stepper, FABRIC, accumulate, folder, lambda *_: None)
    return model, state


def training_of(n: int, **changes: Any) -> Training:
    every = {"evaluate_every": n, "save_every": 1, "log_every": 1}
    return Training(**{"batch": 4, "steps": n, "warmup": 0, **every, **changes})


def test_the_time_includes_the_wait_for_the_device(tmp_path, monkeypatch):
    clock = [0.0]

    def wait(_: Any, value: Tensor) -> Tensor:
        clock[0] += 5
        return value

    monkeypatch.setattr(loop, "mean_over_processes", wait)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    _, state = trained(tmp_path, training_of(4, log_every=2, save_every=4))
    assert state.seconds == 10


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_micro_batch_draws_new_numbers_and_each_run_the_same_ones(accumulate, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    torch.manual_seed(77)
    first, _ = trained(tmp_path / "a", training_of(5), accumulate=accumulate)
    torch.manual_seed(78)
    again, _ = trained(tmp_path / "b", training_of(5), accumulate=accumulate)
    drawn = [tuple(noise.tolist()) for noise in first.dropped]
    assert len(set(drawn)) == len(drawn) == 5 * accumulate
    assert drawn == [tuple(noise.tolist()) for noise in again.dropped]
    other, _ = trained(tmp_path / "b", training_of(5, seed=1), accumulate=accumulate)
    assert not set(drawn) & {tuple(noise.tolist()) for noise in other.dropped}


def test_a_resumed_run_draws_the_same_numbers(tmp_path):
    class Stopped(Exception):
        pass

    def stops(model: nn.Module, fabric: Any) -> dict[str, float]:
        raise Stopped

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    training = training_of(9, evaluate_every=5, ema=0.8)
    whole, end = trained(tmp_path / "whole", training)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", training, evaluation=stops)
    assert load_checkpoint(tmp_path / "parts" / "last.pt")["step"] == 4
    rest, resumed = trained(tmp_path / "parts", training, resume=True)
    assert [n.tolist() for n in rest.dropped] == [n.tolist() for n in whole.dropped[4:]]
    for name, p in whole.named_parameters():
        assert torch.equal(p, rest.get_parameter(name))
        assert torch.equal(end.average[name], resumed.average[name])


# ## Averages


@properties
@given(decay=st.floats(0.01, 0.999), n=st.integers(1, 30), seed=seeds)
def test_the_average_equals_the_equation(decay, n, seed):
    generator = np.random.default_rng(seed)
    model = nn.Linear(3, 2).double()
    state = State({}, model, torch.optim.AdamW(model.parameters()))
    want: dict[str, np.ndarray] = {}
    for t in range(1, n + 1):
        for name, p in model.named_parameters():
            value = generator.standard_normal(p.shape)
            p.data.copy_(torch.from_numpy(value))
            d = min(decay, (1 + t) / (10 + t))
            want[name] = value if t == 1 else d * want[name] + (1 - d) * value
        state.step = t
        state.average_weights(decay)
    for name, value in want.items():
        np.testing.assert_allclose(state.average[name].numpy(), value, rtol=0, atol=1e-12)


def averaged_state() -> State:
    model = nn.Linear(3, 1)
    state = State({}, model, torch.optim.AdamW(model.parameters()))
    state.average = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    return state


def test_the_weights_are_restored_after_the_averages_even_after_an_error():
    state = averaged_state()
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}

    def fails() -> None:
        with state.averaged():
            assert all(not p.any() for p in state.model.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    for name, p in state.model.named_parameters():
        assert torch.equal(p, before[name])
        assert not state.average[name].any()
        # The optimizer still holds the same tensors.
        assert any(p is q for q in state.optimizer.param_groups[0]["params"])


def test_both_the_averages_and_the_weights_are_evaluated():
    state = averaged_state()
    task = Task(
        model=state.model,
        data={},
        about="",
        batches=batches,
        loss=lambda model, batch: batch[0].sum(),
        evaluate=error,
        monitor="error",
        describe=str,
    )
    itself = error(state.model, FABRIC)["error"]
    assert itself > 0
    assert evaluate(task, state, state.model, FABRIC) == {"error": 0.0, "last_error": itself}
    state.average = None
    assert evaluate(task, state, state.model, FABRIC) == {"error": itself}


# ## Clipping


@properties
@given(seed=seeds, largest=st.floats(0.01, 100.0))
def test_clipping_shortens_the_gradient_and_keeps_its_direction(seed, largest):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2).double()
    gradient = [torch.randn_like(p) for p in model.parameters()]
    for p, g in zip(model.parameters(), gradient, strict=True):
        p.grad = g.clone()
    norm = np.sqrt(sum((g.numpy() ** 2).sum() for g in gradient))
    assert clip_gradient(model, largest).item() == pytest.approx(norm, rel=1e-12)
    # torch adds 1e-6 to the norm that it divides by.
    scale = min(1.0, largest / (norm + 1e-6))
    for p, g in zip(model.parameters(), gradient, strict=True):
        torch.testing.assert_close(p.grad, g * scale, rtol=1e-12, atol=1e-12)


# ## Errors


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_names_the_learning_rate(value):
    values = {"loss": 1.0, "error": value}
    parts = ("lr", f"error={value}", "step 7", "lr=0.25")
    assert_raises(lambda: check_finite(values, Training(lr=0.25), 7), UserError, *parts)
    check_finite({"loss": -1e300}, Training(), 7)


def test_an_evaluation_that_is_not_finite_is_not_saved(tmp_path):
    assert_raises(
        lambda: trained(tmp_path, training_of(2), evaluation=lambda *_: {"error": float("nan")}),
        UserError,
        *("lr", "error=nan", "step 2"),
    )
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    assert "best.pt" not in files(tmp_path)
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


class Fabrics:
    """The part of Fabric that `report_lost_process` uses."""

    global_rank = 1

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size


@pytest.mark.parametrize(
    ("world", "text", "lost"),
    [
        (2, "[../gloo/transport/tcp/pair.cc:525] Read error [::1]: Connection reset", True),
        (2, "NCCL error: unhandled system error", True),
        (2, "Connection closed by peer", True),
        (2, "shape '[2]' is invalid for input of size 3", False),
        (2, "CUDA out of memory", False),
        (1, "Connection closed by peer", False),
    ],
)
def test_only_communication_errors_mean_a_lost_process(world, text, lost):
    state = averaged_state()
    state.step = 6

    def run() -> None:
        with report_lost_process(Fabrics(world), state, Path("runs/a")):  # type: ignore[arg-type]
            raise RuntimeError(text)

    if lost:
        assert_raises(run, UserError, "process 1 of 2", "step 7", "--resume runs/a")
    else:
        assert_raises(run, RuntimeError, text)


def test_other_errors_pass_through():
    with (
        pytest.raises(KeyError, match="gloo"),
        report_lost_process(Fabrics(2), averaged_state(), Path()),  # type: ignore[arg-type]
    ):
        raise KeyError("gloo")
