r"""
# Training

The loop of all experiments. An experiment says what it reads, what it minimises and how it is
judged: a [task](#task). Everything else is here once.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from experiments.checkpoint import BEST, LAST
from experiments.devices import Share, mean_over_processes
from experiments.optimisation import rate
from experiments.progress import Progress
from experiments.records import Metrics
from experiments.settings import UserError, check_positive, told_once
from experiments.state import State
from experiments.tracking import Track

Batch = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    r"""
    ## Training settings

    What all experiments share. Each experiment brings its own defaults.

    * `batch` is the number of sequences or images a step, over all processes
    * `steps` is the number of steps
    * `lr` is the peak learning rate
    * `warmup` is the number of steps until the peak
    * `weight_decay` is that of AdamW, on the matrices of linear layers
    * `beta1` and `beta2` are AdamW's averages of the gradient and of its square
    * `eps` is what AdamW adds to the root of the square's average
    * `clip` is the largest norm of the gradient
    * `ema` is the decay of an average of the weights that is evaluated too; 0 means none
    * `evaluate_every` is the number of steps between evaluations
    * `save_every` is the number of steps between checkpoints
    * `log_every` is the number of steps between lines of `metrics.jsonl`
    * `seed` decides initial weights, data order and all that is drawn
    """

    batch: int = 12
    steps: int = 2_000
    lr: float = 4e-3
    warmup: int = 200
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    clip: float = 1.0
    ema: float = 0.0
    evaluate_every: int = 500
    save_every: int = 250
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        every = ("evaluate_every", "save_every", "log_every")
        check_positive(self, ("batch", "steps", *every, "lr", "eps", "clip"))
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must lie in [0, steps={self.steps}), got {self.warmup}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and at least 0, got {self.weight_decay}")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("lr", "eps", "clip"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"{name} must be finite, got inf")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in [0, 2**31), got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Task:
    r"""
    ## Task

    What the loop has to know of an experiment.

    * `model` is the model to train
    * `data` identifies what it reads: a run goes on with this and no other
    * `about` describes the data in a few words
    * `batches` takes a step and a share, and yields the micro-batches of that share from that step
      on, without end. What it yields follows from the step alone, so a resumed run needs no saved
      place
    * `loss` takes the model and a micro-batch, and returns the mean over its rows
    * `evaluate` takes the model and Fabric, and returns values by name
    * `monitor` is the name of the value whose lowest is the best
    * `in_words` writes an evaluation in a line
    """

    model: nn.Module
    data: dict[str, Any]
    about: str
    batches: Callable[[int, Share], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module, Fabric], dict[str, float]]
    monitor: str
    in_words: Callable[[dict[str, float]], str]


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
    share = Share(fabric.global_rank, fabric.world_size, accumulate)
    batches = task.batches(state.step, share)
    first = fabric.is_global_zero
    metrics = Metrics(folder / "metrics.jsonl", before=state.step) if first else None
    progress = Progress(state.step, settings.steps, shown=first)

    def write(values: dict[str, float], **more: float) -> None:
        if metrics is not None:
            metrics.write(step=state.step, **more, **values)
            track(state.step, values)

    with metrics or contextlib.nullcontext(), progress, losing_no_process(fabric, state, folder):
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

            with told_once():
                check_finite(values, settings, state.step)
            if logs:
                write(values, seconds=round(state.seconds, 3))
            progress.update(state.step, loss=loss)

            if evaluates:
                with told_once():
                    found = evaluate(task, state, model, fabric)
                    check_finite(found, settings, state.step)
                write(found)
                progress.say(f"step {state.step}: validation {task.in_words(found)}")
                if state.best is None or found[task.monitor] < state.best[task.monitor]:
                    state.best = {"step": state.step, **found}
                    state.save(folder / BEST, fabric)
            # After the metrics: a checkpoint never knows of a step that they do not.
            if saves:
                state.save(folder / LAST, fabric)


def seed_of_step(seed: int, step: int, share: Share) -> int:
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
def losing_no_process(fabric: Fabric, state: State, folder: Path) -> Iterator[None]:
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
