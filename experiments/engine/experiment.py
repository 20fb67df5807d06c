r"""The contract between an experiment and the engine: read this before adding an experiment.

# The contract

An experiment is one module that ends with these lines:

```python
EXPERIMENT = Experiment(name="autoregressive", build=build, finish=finish, ...)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
```

The [command](command.py) then calls it in this order:

1. `defaults` and the flags give the settings, a `Training` and a [Launch](launch.py#Launch).
2. `build` returns a `Task` in each process. Process 0 goes first and may download data.
3. `Task.batches` is called once, with the first step and the
   [BatchSplit](order.py#BatchSplit) of this process.
4. For each micro-batch, [train](loop.py#train) calls `Task.loss`, with torch's generator seeded
   from the step.
5. Every `evaluate_every` steps and after the last, all processes call `Task.evaluate`. The
   checkpoint with the lowest `Task.monitor` is kept.
6. `finish` writes the report, in process 0.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.launch import Launch
from experiments.engine.order import BatchSplit
from experiments.engine.settings.errors import check_positive
from experiments.engine.state import State

# The tensors of one micro-batch; the first axis of each indexes its rows.
Batch = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    r"""Settings of the training loop, the same for all experiments.

        >>> Training(steps=1_000, lr=1e-3).warmup
        200

    Raises `ValueError` if a value is out of range.
    """

    # Sequences or images in a step, over all processes.
    batch: int = 12
    # Number of steps.
    steps: int = 2_000
    # Peak learning rate.
    lr: float = 4e-3
    # Linear warmup up to the peak learning rate.
    warmup: int = 200  # steps
    # Weight decay of AdamW, on the matrices of linear layers only.
    weight_decay: float = 0.1
    # Decay of AdamW's average of the gradient.
    beta1: float = 0.9
    # Decay of AdamW's average of the squared gradient.
    beta2: float = 0.99
    # Term that AdamW adds to the root of the squared gradient's average.
    eps: float = 1e-8
    # Largest norm of the gradient; a larger gradient is scaled down to it.
    clip: float = 1.0
    # Decay of the moving average of the weights, which is then evaluated too; 0 for no average.
    ema: float = 0.0
    # Interval between evaluations.
    evaluate_every: int = 500  # steps
    # Interval between checkpoints.
    save_every: int = 250  # steps
    # Interval between lines of metrics.jsonl.
    log_every: int = 10  # steps
    # Seed of the initial weights, the data order and all random numbers in training.
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
    r"""What the training loop needs: a model, its data, its loss and its evaluation.

        task = EXPERIMENT.build(settings, training, launch, fabric)
        batch = next(task.batches(0, BatchSplit()))

    * `model` is the model to train; the strategy fsdp shards its `encoder.layers`
    * `data` identifies the data, as JSON; a run resumes with equal `data` only
    * `about` describes the data in a few words
    * `batches` takes the first step and a split, and yields the micro-batches of one process
      without end. A row must depend on the seed, its step and its number only: loop over
      [micro_batches](order.py#micro_batches)
    * `loss` takes the model and a micro-batch, and returns the mean over its rows
    * `evaluate` takes the model and Fabric, and returns metrics by name
    * `monitor` names the metric to minimise
    * `describe` formats an evaluation in one line
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
    r"""What the command line needs: settings, their defaults, and how to build and report a run.

        from experiments.autoregressive import EXPERIMENT
        status = run(EXPERIMENT, ["--layer", "transformer", "--steps", "100"])

    * `name` is the name of its module
    * `about` is the first sentence of `--help`
    * `variant` names the setting that selects the defaults of all others, such as `layer`
    * `defaults` holds the settings and the `Training` of each of its values, the default first
    * `label` makes the name of a run's folder from its settings
    * `build` makes the task and applies `checkpoint_layers`, `data` and `workers` of the launch; it
      raises `ValueError` or `OSError` for settings or data that cannot be used
    * `finish` takes the run's folder, the content of its `settings.json`, its final state and
      Fabric; it writes the report and prints the result
    * `commands` are further commands by name, called with the arguments after the name
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
        """The command as it is typed."""
        return f"python -m experiments.{self.name}"

    @property
    def classes(self) -> tuple[type, type]:
        """The dataclasses of the settings and of training."""
        return type(next(iter(self.defaults.values()))[0]), Training
