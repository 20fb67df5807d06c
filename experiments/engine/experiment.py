r"""
# experiment
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.devices import BatchSplit
from experiments.engine.launch import Launch
from experiments.engine.settings.errors import check_positive
from experiments.engine.state import State

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
    * `describe` writes an evaluation in a line
    """

    model: nn.Module
    data: dict[str, Any]
    about: str
    batches: Callable[[int, BatchSplit], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module, Fabric], dict[str, float]]
    monitor: str
    describe: Callable[[dict[str, float]], str]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    r"""
    ## Experiment

    What its command has to know of an experiment.

    * `name` is that of its module
    * `about` is the first sentence of its help
    * `variant` is the setting that decides the other defaults
    * `defaults` are the settings of each variant, first those of the experiment, then those of
      training; the first variant is the default
    * `label` names a run by its settings
    * `build` makes the task, from the settings, the launch and Fabric
    * `finish` writes the report of a run and prints its result, from the folder, its record, its
      state and Fabric
    * `commands` are further commands by their names
    """

    name: str
    about: str
    variant: str
    defaults: Mapping[str, tuple[Any, Training]]
    label: Callable[[Any], str]
    build: Callable[[Any, Training, Launch, Fabric], Task]
    finish: Callable[[Path, dict[str, Any], State, Fabric], None]
    commands: Mapping[str, Callable[[Sequence[str]], None]] = field(default_factory=dict)

    @property
    def program(self) -> str:
        return f"python -m experiments.{self.name}"

    @property
    def classes(self) -> tuple[type, type]:
        """The dataclasses of its settings and of training."""
        return type(next(iter(self.defaults.values()))[0]), Training
