r"""
# The state of a run

What a checkpoint holds, and how it gets into the model and the optimiser and out of them, wherever
their weights are.
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
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from experiments.engine.checkpoint import (
    LAST,
    PREVIOUS,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from experiments.engine.devices import on_rank_zero


def load_run_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint with all that `State.save` writes. Raises `CheckpointError` for any other."""
    loaded = load_checkpoint(path)
    missing = [field.name for field in dataclasses.fields(State) if field.name not in loaded]
    if missing:
        raise CheckpointError(f"checkpoint {path} must be that of a run, got one without {missing}")
    return loaded


@dataclass
class State:
    r"""
    ## The state of a run

    All that the next step depends on. The order of the data and all that is drawn need no state:
    they follow from the step.

    * `identity` says which run this is: what must be equal for a checkpoint to belong to it
    * `model` and `optimizer` change with each step
    * `step` is the number of steps done
    * `seconds` is the time they took, over all launches
    * `best` is the evaluation with the lowest monitored value so far, with its step
    * `average` is the moving average of each weight by its name, if there is one
    """

    identity: dict[str, Any]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    best: dict[str, float] | None = None
    average: dict[str, Tensor] | None = None

    def save(self, path: Path, fabric: Fabric) -> None:
        r"""
        ### Saving

        All processes call this, and the first writes. It writes the weights whole, also those that
        the processes hold in parts: so a run can go on with another number of processes.

        Raises `OSError` if it cannot be written; the old file is untouched then.
        """
        content = {
            "identity": self.identity,
            "model": _map(_whole, self.model.state_dict()),
            "optimizer": _map(_whole, self.optimizer.state_dict()),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "average": _map(_whole, self.average),
        }
        keep = path.with_name(PREVIOUS) if path.name == LAST else None
        on_rank_zero(fabric, lambda: save_checkpoint(path, content, keep))

    def load(self, path: Path) -> None:
        """Raises `CheckpointError` for a damaged checkpoint and for one of another run."""
        loaded = self.check(path)
        own = self.model.state_dict()
        self.model.load_state_dict(_parted(loaded["model"], own))
        # The optimiser knows weights by their place in its groups.
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        for place, values in loaded["optimizer"]["state"].items():
            for name, value in values.items():
                values[name] = _like(value, weights[place])
        self.optimizer.load_state_dict(loaded["optimizer"])
        self.step, self.seconds, self.best = loaded["step"], loaded["seconds"], loaded["best"]
        if loaded["average"] is not None:
            self.average = _parted(loaded["average"], own)

    def check(self, path: Path) -> dict[str, Any]:
        """The content of a checkpoint of this run, not loaded. Raises as `load` does."""
        loaded = load_run_checkpoint(path)
        for name, value in self.identity.items():
            found = loaded["identity"].get(name)
            if found != value:
                raise CheckpointError(
                    f"checkpoint {path} must be of this run with {_difference(name, value, found)}"
                )
        return loaded

    def average_weights(self, decay: float) -> None:
        r"""
        ### The average of the weights

        $$\bar\theta_t = d_t \, \bar\theta_{t-1} + (1 - d_t) \, \theta_t,
        \qquad d_t = \min\left(d, \frac{1 + t}{10 + t}\right)$$

        for the decay $d$. The bound lets the average forget the first, random weights.
        """
        weights = dict(self.model.named_parameters())
        if self.average is None:
            self.average = {name: p.detach().clone() for name, p in weights.items()}
            return
        change = 1 - min(decay, (1 + self.step) / (10 + self.step))
        own = [_held(p.detach()) for p in weights.values()]
        torch._foreach_lerp_([_held(average) for average in self.average.values()], own, change)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has the averages for its weights."""
        assert self.average is not None
        _let_go(self.model)
        weights = [_held(p.detach()) for p in self.model.parameters()]
        own = [p.clone() for p in weights]
        torch._foreach_copy_(weights, [_held(average) for average in self.average.values()])
        try:
            yield
        finally:
            _let_go(self.model)
            torch._foreach_copy_(weights, own)


def best_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that were evaluated: the averages, where there are any."""
    return {**checkpoint["model"], **(checkpoint["average"] or {})}


def _map(change: Callable[[Any], Any], values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _map(change, value) for name, value in values.items()}
    if isinstance(values, list):
        return [_map(change, value) for value in values]
    return change(values)


# With the strategy fsdp an evaluation leaves weights that it has collected from all processes; the
# next forward pass would take them for those that the model has by then.
def _let_go(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


# A weight that the processes hold in parts is a `DTensor`; all of them work to make it whole.
def _whole(value: Any) -> Any:
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu() if isinstance(value, Tensor) else value


# What this process holds of it; the memory is the same.
def _held(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _like(value: Any, weight: Tensor) -> Any:
    if isinstance(weight, DTensor) and isinstance(value, Tensor) and value.shape == weight.shape:
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
    return value


def _parted(whole: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: _like(value, own[name]).to(own[name].device) if name in own else value
        for name, value in whole.items()
    }


def _difference(name: str, value: Any, found: Any) -> str:
    if isinstance(value, dict) and isinstance(found, dict):
        for key in sorted(value.keys() | found.keys()):
            if value.get(key) != found.get(key):
                return f"{key}={value.get(key)!r}, got one with {key}={found.get(key)!r}"
    return f"{name}={value!r}, got one with {name}={found!r}"
