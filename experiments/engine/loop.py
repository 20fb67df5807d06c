r"""The training loop of all experiments.

# Training loop

An experiment provides its model, data, loss and evaluation as a [Task](experiment.py#Task). The
rest is here.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.checkpoint import BEST, LAST
from experiments.engine.devices import mean_over_processes
from experiments.engine.experiment import Task, Training
from experiments.engine.optimiser import learning_rate
from experiments.engine.order import BatchSplit
from experiments.engine.progress import Progress
from experiments.engine.run_folder import Metrics
from experiments.engine.settings.errors import UserError, report_once
from experiments.engine.sharding import full_tensor
from experiments.engine.state import State
from experiments.engine.tracking import Track


def train(
    task: Task,
    training: Training,
    state: State,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    accumulate: int,
    folder: Path,
    track: Track,
) -> None:
    r"""Trains from `state.step` to the last step.

    ## The loop

    Each step sets the learning rate, computes the gradient and updates the weights; some steps
    also log, evaluate or save.

    * `state` holds the bare model and optimizer
    * `model` and `optimizer` are Fabric's wrappers around them
    * `accumulate` is the number of micro-batches in a step
    * `folder` is the run's folder
    * `track` gets the values that `metrics.jsonl` gets

    Raises `UserError` if another process has died, or if an evaluation, or the loss of a step that
    is logged or saved, is not finite; that step is then neither logged nor saved. Raises `OSError`
    if a file cannot be written.
    """
    split = BatchSplit(fabric.global_rank, fabric.world_size, accumulate)
    batches = task.batches(state.step, split)
    first = fabric.is_global_zero
    metrics = Metrics(folder / "metrics.jsonl", before=state.step) if first else None
    progress = Progress(state.step, training.steps, visible=first)

    def write(values: dict[str, float], **more: float) -> None:
        if metrics is not None:
            metrics.write(step=state.step, **more, **values)
            track(state.step, values)

    with metrics or contextlib.nullcontext(), progress, report_lost_process(fabric, state, folder):
        while state.step < training.steps:
            began = time.perf_counter()
            lr = learning_rate(
                state.step, peak=training.lr, warmup=training.warmup, steps=training.steps
            )
            for group in optimizer.param_groups:
                group["lr"] = lr
            # Seed each step from its number, so a resumed run needs no saved generator state.
            torch.manual_seed(step_seed(training.seed, state.step, split.rank))
            loss = torch.zeros((), device=fabric.device)
            for k in range(accumulate):
                batch = fabric.to_device(next(batches))
                # Processes exchange gradients once a step, with the last micro-batch.
                more = k + 1 < accumulate
                with fabric.no_backward_sync(model, enabled=more):  # type: ignore[arg-type]
                    part = task.loss(model, batch) / accumulate
                    fabric.backward(part)
                loss += part.detach()
            norm = clip_gradient(state.model, training.clip)
            optimizer.step()
            optimizer.zero_grad()
            state.step += 1
            if training.ema:
                state.average_weights(training.ema)
            last = state.step == training.steps
            logs = last or state.step % training.log_every == 0
            evaluates = last or state.step % training.evaluate_every == 0
            saves = evaluates or state.step % training.save_every == 0
            values: dict[str, float] = {}
            if logs or saves:
                # `.item()` waits for the GPU, so the timing includes its work.
                mean = mean_over_processes(fabric, loss).item()
                values = {"loss": mean, "lr": lr, "grad_norm": norm.item()}
            state.seconds += time.perf_counter() - began

            with report_once():
                check_finite(values, training, state.step)
            if logs:
                write(values, seconds=round(state.seconds, 3))
            progress.update(state.step, loss=loss)

            if evaluates:
                with report_once():
                    found = evaluate(task, state, model, fabric)
                    check_finite(found, training, state.step)
                write(found)
                progress.print(f"step {state.step}: validation {task.describe(found)}")
                if state.best is None or found[task.monitor] < state.best[task.monitor]:
                    state.best = {"step": state.step, **found}
                    state.save(folder / BEST, fabric)
            # Save after writing the metrics, so no checkpoint is ahead of them.
            if saves:
                state.save(folder / LAST, fabric)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a step in a process, below $2^{63}$; `seed` is that of the run."""
    return (seed * 1_000_003 + step) * 4_099 + rank


def clip_gradient(model: nn.Module, max_norm: float) -> Tensor:
    """Clips the norm of the gradient of all weights, and returns the norm before clipping."""
    # With sharded weights, each process has only its part of the norm.
    return full_tensor(nn.utils.clip_grad_norm_(model.parameters(), max_norm))


def evaluate(task: Task, state: State, model: nn.Module, fabric: Fabric) -> dict[str, float]:
    r"""Evaluates the model.

    If the run averages its weights, the metrics are those of the average. Those of the last weights
    have names that start with `last_`.
    """
    if state.average is None:
        return task.evaluate(model, fabric)
    last = {f"last_{name}": v for name, v in task.evaluate(model, fabric).items()}
    with state.averaged():
        return {**task.evaluate(model, fabric), **last}


def check_finite(values: dict[str, float], training: Training, step: int) -> None:
    """Raises `UserError` if a value is not finite, which usually means that `lr` is too large."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"lr must be small enough to train, got {name}={value} at step {step} with "
                f"lr={training.lr}"
            )


@contextlib.contextmanager
def report_lost_process(fabric: Fabric, state: State, folder: Path) -> Iterator[None]:
    r"""Turns the error of a broken connection into a `UserError` that says how to resume.

    If a process dies, the others fail when they next communicate with it.

    Raises `UserError` for an error of gloo or NCCL if there are several processes; other errors
    pass through.
    """
    try:
        yield
    except RuntimeError as e:
        lost = ("gloo", "nccl", "connection")
        if fabric.world_size == 1 or not any(word in str(e).lower() for word in lost):
            raise
        raise UserError(
            f"process {fabric.global_rank} of {fabric.world_size} lost another process at step "
            f"{state.step + 1}; --resume {folder} continues from the last checkpoint"
        ) from e
