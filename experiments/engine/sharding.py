r"""Weights that are sharded over processes: the only file that knows `DTensor`.

# Sharding

With the strategy `fsdp`, each process holds a shard of every weight, gradient and optimizer
average. torch represents them as `DTensor`. The functions here return ordinary tensors unchanged.
"""

from typing import Any

from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def fsdp(world: int) -> Strategy:
    r"""Fabric's strategy for models larger than one GPU: fully sharded data parallel (FSDP2).

    Each layer of `model.encoder.layers` is one unit. Its weights are gathered just before it runs
    and freed right after, so a GPU holds its own shards and one full layer at most.

    * `world` is the number of processes
    """

    def shard(model: nn.Module, mesh: Any) -> nn.Module:
        for layer in model.encoder.layers:  # type: ignore[union-attr]
            fully_shard(layer, mesh=mesh["data_parallel"])
        fully_shard(model, mesh=mesh["data_parallel"])
        return model

    return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1)


def full_tensor(value: Tensor) -> Tensor:
    """The full tensor, gathered from all processes, which must all call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local_shard(value: Tensor) -> Tensor:
    """The shard of a tensor that this process holds, in the same memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def shard_like(value: Any, weight: Tensor) -> Any:
    """Shards a full tensor like `weight` if their shapes are equal; returns other values as is."""
    if isinstance(weight, DTensor) and isinstance(value, Tensor) and value.shape == weight.shape:
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
    return value


def free_gathered_weights(model: nn.Module) -> None:
    """Frees weights that a forward pass has gathered, so the next one gathers the current ones."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
