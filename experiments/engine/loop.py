r"""
# Training

The loop of all experiments. An experiment says what it reads, what it minimises and how it is
judged: a [task](#task). Everything else is here once.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from experiments.engine.checkpoint import BEST, LAST
from experiments.engine.devices import BatchSplit, mean_over_processes
from experiments.engine.experiment import Task, Training
from experiments.engine.optimiser import rate
from experiments.engine.progress import Progress
from experiments.engine.run_folder import Metrics
from experiments.engine.settings.errors import UserError, report_once
from experiments.engine.state import State
from experiments.engine.tracking import Track


def train(
    task: Task,
    settings: Training,
    state: State,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    accumulate: int,
    folder: Path,
    track: Track,
) -> None:
    r"""
    ## The loop

    Set the rate, step, log, evaluate, save: from `state.step` to the last step.

    * `state` holds the same weights and averages as `model` and `optimizer`, which are Fabric's
      coats around them
    * `accumulate` is the number of micro-batches in a step
    * `folder` is the run's
    * `track` is told what `metrics.jsonl` is told

    Raises `UserError` if the loss is no longer a number, before anything is saved of it, and if
    another process of this run is lost.
    """
    share = BatchSplit(fabric.global_rank, fabric.world_size, accumulate)
    batches = task.batches(state.step, share)
    first = fabric.is_global_zero
    metrics = Metrics(folder / "metrics.jsonl", before=state.step) if first else None
    progress = Progress(state.step, settings.steps, shown=first)

    def write(values: dict[str, float], **more: float) -> None:
        if metrics is not None:
            metrics.write(step=state.step, **more, **values)
            track(state.step, values)

    with metrics or contextlib.nullcontext(), progress, report_lost_process(fabric, state, folder):
        while state.step < settings.steps:
            began = time.perf_counter()
            lr = rate(state.step, lr=settings.lr, warmup=settings.warmup, steps=settings.steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            # What a step draws follows from its number, as its data does: no state to save.
            torch.manual_seed(seed_of_step(settings.seed, state.step, share))
            loss = torch.zeros((), device=fabric.device)
            for k in range(accumulate):
                batch = fabric.to_device(next(batches))
                # Between processes the gradient travels once a step, with the last micro-batch.
                more = k + 1 < accumulate
                with fabric.no_backward_sync(model, enabled=more):  # type: ignore[arg-type]
                    part = task.loss(model, batch) / accumulate
                    fabric.backward(part)
                loss += part.detach()
            norm = clip(state.model, settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            state.step += 1
            if settings.ema:
                state.average_weights(settings.ema)
            last = state.step == settings.steps
            logs = last or state.step % settings.log_every == 0
            evaluates = last or state.step % settings.evaluate_every == 0
            saves = evaluates or state.step % settings.save_every == 0
            values: dict[str, float] = {}
            if logs or saves:
                # To read a number is to wait for the GPU: the time counts what it has done.
                mean = mean_over_processes(fabric, loss).item()
                values = {"loss": mean, "lr": lr, "grad_norm": norm.item()}
            state.seconds += time.perf_counter() - began

            with report_once():
                check_finite(values, settings, state.step)
            if logs:
                write(values, seconds=round(state.seconds, 3))
            progress.update(state.step, loss=loss)

            if evaluates:
                with report_once():
                    found = evaluate(task, state, model, fabric)
                    check_finite(found, settings, state.step)
                write(found)
                progress.say(f"step {state.step}: validation {task.describe(found)}")
                if state.best is None or found[task.monitor] < state.best[task.monitor]:
                    state.best = {"step": state.step, **found}
                    state.save(folder / BEST, fabric)
            # After the metrics: a checkpoint never knows of a step that they do not.
            if saves:
                state.save(folder / LAST, fabric)


def seed_of_step(seed: int, step: int, share: BatchSplit) -> int:
    """A seed of its own for each step and process of a run. It stays below $2^{63}$."""
    return (seed * 1_000_003 + step) * 4_099 + share.rank


def clip(model: nn.Module, largest: float) -> Tensor:
    """Clips the norm of the gradient of all weights to `largest`. Returns what it was before."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), largest)
    # Of weights in parts, each process knows its part of the norm.
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def evaluate(task: Task, state: State, model: nn.Module, fabric: Fabric) -> dict[str, float]:
    r"""
    ## Evaluating

    Of a run that averages its weights, the average is what counts; the weights themselves are
    evaluated beside it, under names that begin with `last_`.
    """
    if state.average is None:
        return task.evaluate(model, fabric)
    itself = {f"last_{name}": v for name, v in task.evaluate(model, fabric).items()}
    with state.averaged():
        return {**task.evaluate(model, fabric), **itself}


def check_finite(values: dict[str, float], settings: Training, step: int) -> None:
    """Raises `UserError` for a run that diverged: a rate that is too large is nearly always why."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"lr must be small enough to train, got {name}={value} at step {step} with "
                f"lr={settings.lr}"
            )


@contextlib.contextmanager
def report_lost_process(fabric: Fabric, state: State, folder: Path) -> Iterator[None]:
    r"""
    ## A process that dies

    The others notice when they next wait for it.

    Raises `UserError` then, which says how the run goes on.
    """
    try:
        yield
    except RuntimeError as e:
        lost = ("gloo", "nccl", "connection")
        if fabric.world_size == 1 or not any(word in str(e).lower() for word in lost):
            raise
        raise UserError(
            f"process {fabric.global_rank} of {fabric.world_size} lost another one at step "
            f"{state.step + 1}; --resume {folder} goes on from the last checkpoint"
        ) from e
