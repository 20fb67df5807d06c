r"""The state of a run, saved to and restored from checkpoints.

# State of a run
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.checkpoint import (
    LAST,
    PREVIOUS,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from experiments.engine.devices import on_rank_zero
from experiments.engine.sharding import (
    free_gathered_weights,
    full_tensor,
    local_shard,
    shard_like,
)


@dataclass
class State:
    r"""Everything that the next step depends on.

    The order of the data and all random numbers depend on the seed and the step, so they need no
    state.

        state = State({"settings": settings}, model, optimizer)
        state.save(folder / "last.pt", fabric)

    * `identity` has the settings and the data; a checkpoint of this run must have the same
    * `model` and `optimizer` are not Fabric's wrappers
    * `step` is the number of steps done
    * `seconds` is the time they took, over all launches
    * `best` is the evaluation with the lowest monitored metric so far, with its step
    * `average` holds the moving average of each weight by name, if the run has one
    """

    identity: dict[str, Any]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] | None = None
    average: dict[str, Tensor] | None = None

    def save(self, path: Path, fabric: Fabric) -> None:
        r"""Saves a checkpoint. All processes call this, and process 0 writes the file.

        Sharded weights are gathered first, so a run can resume with another number of processes.
        A new `last.pt` leaves the old one as `previous.pt`.

        Raises `OSError` if the file cannot be written; the old file is then unchanged.
        """
        content = {
            "identity": self.identity,
            "model": _map(_to_cpu, self.model.state_dict()),
            "optimizer": _map(_to_cpu, self.optimizer.state_dict()),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "average": _map(_to_cpu, self.average),
        }
        keep = path.with_name(PREVIOUS) if path.name == LAST else None
        on_rank_zero(fabric, lambda: save_checkpoint(path, content, keep))

    def load(self, path: Path) -> None:
        """Restores a checkpoint. Raises `CheckpointError` as [check](#State.check) does."""
        loaded = self.check(path)
        own = self.model.state_dict()
        self.model.load_state_dict(_shard_all(loaded["model"], own))
        # The optimizer numbers the weights in the order of its groups.
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        for number, values in loaded["optimizer"]["state"].items():
            for name, value in values.items():
                values[name] = shard_like(value, weights[number])
        self.optimizer.load_state_dict(loaded["optimizer"])
        self.step, self.seconds, self.best = loaded["step"], loaded["seconds"], loaded["best"]
        if loaded["average"] is not None:
            self.average = _shard_all(loaded["average"], own)

    def check(self, path: Path) -> dict[str, Any]:
        r"""Returns the content of a checkpoint of this run, without restoring it.

        Raises `CheckpointError` if the file is missing, damaged or no checkpoint of a run, or if
        its settings or data differ.
        """
        loaded = load_run_checkpoint(path)
        for name, value in self.identity.items():
            found = loaded["identity"].get(name)
            if found != value:
                raise CheckpointError(
                    f"checkpoint {path} must be of this run with {_difference(name, value, found)}"
                )
        return loaded

    def average_weights(self, decay: float) -> None:
        r"""Updates the exponential moving average of the weights.

        ### Average of the weights

        $$\bar\theta_t = d_t \, \bar\theta_{t-1} + (1 - d_t) \, \theta_t,
        \qquad d_t = \min\left(d, \frac{1 + t}{10 + t}\right)$$

        for the decay $d$. The bound lets the average forget the random initial weights.
        """
        weights = dict(self.model.named_parameters())
        if self.average is None:
            self.average = {name: p.detach().clone() for name, p in weights.items()}
            return
        change = 1 - min(decay, (1 + self.step) / (10 + self.step))
        own = [local_shard(p.detach()) for p in weights.values()]
        torch._foreach_lerp_([local_shard(a) for a in self.average.values()], own, change)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the weights of the model are replaced by their averages."""
        assert self.average is not None
        free_gathered_weights(self.model)
        weights = [local_shard(p.detach()) for p in self.model.parameters()]
        own = [p.clone() for p in weights]
        torch._foreach_copy_(weights, [local_shard(a) for a in self.average.values()])
        try:
            yield
        finally:
            free_gathered_weights(self.model)
            torch._foreach_copy_(weights, own)


def load_run_checkpoint(path: Path) -> dict[str, Any]:
    r"""Reads a checkpoint that `State.save` has written.

    Raises `CheckpointError` if the file is missing, damaged or no checkpoint of a run.
    """
    loaded = load_checkpoint(path)
    missing = [field.name for field in dataclasses.fields(State) if field.name not in loaded]
    if missing:
        raise CheckpointError(f"checkpoint {path} must be that of a run, got one without {missing}")
    return loaded


def best_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that were evaluated: the averages if there are any."""
    return {**checkpoint["model"], **(checkpoint["average"] or {})}


def _map(function: Callable[[Any], Any], values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _map(function, value) for name, value in values.items()}
    if isinstance(values, list):
        return [_map(function, value) for value in values]
    return function(values)


def _to_cpu(value: Any) -> Any:
    return full_tensor(value).detach().cpu() if isinstance(value, Tensor) else value


def _shard_all(full: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: shard_like(value, own[name]).to(own[name].device) if name in own else value
        for name, value in full.items()
    }


def _difference(name: str, value: Any, found: Any) -> str:
    if isinstance(value, dict) and isinstance(found, dict):
        for key in sorted(value.keys() | found.keys()):
            if value.get(key) != found.get(key):
                return f"{key}={value.get(key)!r}, got one with {key}={found.get(key)!r}"
    return f"{name}={value!r}, got one with {name}={found!r}"
