r"""
# Devices

One process on a CPU or many on many GPUs: the loop is the same.
[Lightning Fabric](https://lightning.ai/docs/fabric) starts the processes, moves tensors and
averages gradients; here is what it is told, and how a batch is shared out.
"""

import logging
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

T = TypeVar("T")

# Our names of precisions, and Fabric's: weights stay in float32 in both.
PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
STRATEGIES = ("ddp", "fsdp")


@dataclass(frozen=True)
class BatchSplit:
    r"""
    ## Shares of a batch

    The batch of a step is one list of rows, whatever the number of processes. It is cut into
    `accumulate` parts that are read one after another, and each part into one for each process. So
    the gradient of a step is the same sum, in another order.

    * `rank` is the number of this process, of `world` in all
    * `accumulate` is the number of micro-batches in a step
    """

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def rows(self, batch: int) -> list[range]:
        r"""
        Returns the rows of each micro-batch of this process, from a batch of `batch` rows.

        Raises `ValueError` if the rows cannot be shared equally: then the mean over the processes
        would not be the mean over the rows.
        """
        parts = self.world * self.accumulate
        if batch % parts:
            raise ValueError(
                f"batch must be a multiple of {parts} for {self.world} processes that accumulate "
                f"{self.accumulate} micro-batches, got {batch}"
            )
        size = batch // parts
        starts = [(k * self.world + self.rank) * size for k in range(self.accumulate)]
        return [range(start, start + size) for start in starts]


def has_bf16(device: torch.device) -> bool:
    r"""
    ## Is bfloat16 worth it here?

    True if `device` multiplies matrices of bfloat16 in hardware, and gives the product of a small
    pair to the 8 bits that such a number has. Elsewhere it is emulated, and slower than float32.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # torch has no public question for it yet.
        asks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        native = any(getattr(torch.cpu, ask, bool)() for ask in asks)
    else:
        native = False
    if not native:
        return False
    a = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64)
    rounded = (a.bfloat16() @ a.bfloat16()).float()
    return bool(((rounded - a @ a).abs() <= 2**-7 * (a.abs() @ a.abs())).all())


def pick_device(name: str | None) -> torch.device:
    """The device of that name. Raises `ValueError` for one that torch does not know or have."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        if name == "cuda" and 0 < rank < torch.cuda.device_count():
            # Each process has a GPU of its own, and asks that one: memory of the first would be
            # taken by all otherwise.
            torch.cuda.set_device(rank)
        # Some devices exist by name only, and one holds no values; reading a number back tells.
        device = torch.zeros(1, device=name)
        device.item()
        return device.device if "cuda:" in name else torch.device(device.device.type)
    except (RuntimeError, AssertionError) as e:
        raise ValueError(f"device must be one that torch has here, got {name!r}") from e


def pick_precision(name: str, device: torch.device) -> str:
    """float32 or bf16. Raises `ValueError` for a `name` that is neither of them nor auto."""
    if name == "auto":
        return "bf16" if has_bf16(device) else "float32"
    if name not in PRECISIONS:
        raise ValueError(f"precision must be auto, {' or '.join(PRECISIONS)}, got {name!r}")
    return name


def make_fabric(device: torch.device, devices: int, strategy: str, precision: str) -> Fabric:
    r"""
    ## Starting processes

    * `device` is a CPU or a GPU
    * `devices` is the number of processes on this machine. Under torchrun, which has started them
      already, on one machine or many, its numbers count instead
    * `strategy` is ddp, where each process holds the whole model, or fsdp, where each holds a part
    * `precision` is float32 or bf16

    Raises `ValueError` for a number or a strategy that there is not.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be {' or '.join(STRATEGIES)}, got {strategy!r}")
    nodes, started = 1, os.environ.get("TORCHELASTIC_RUN_ID")
    if started is not None:
        world, devices = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = math.ceil(world / devices)
    if devices < 1:
        raise ValueError(f"devices must be at least 1, got {devices}")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(
            f"devices must be at most the {torch.cuda.device_count()} GPUs here, got {devices}"
        )
    one = devices * nodes == 1
    if device.index is not None and not one:
        raise ValueError(
            f"device must name no single one for {devices * nodes} processes, got {str(device)!r}"
        )
    # It announces its processes with banners; ours are announced by the run itself.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    return Fabric(
        accelerator=device.type,
        devices=devices if device.index is None else [device.index],
        num_nodes=nodes,
        strategy="auto" if one else _sharded(devices * nodes) if strategy == "fsdp" else strategy,
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )


def exit_process(status: int) -> NoReturn:
    r"""
    ## The end of a process

    One of several ends at once. The threads of gloo go on listening, and the clean-up of the C++
    runtime may wait for them for ever, or find them running and abort.

    * `status` is the exit status
    """
    if torch.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _sharded(world: int) -> Strategy:
    r"""
    ## Models past one GPU

    Fully sharded data parallel, FSDP2: each layer is a unit whose weights are collected just before
    it runs and let go right after, so no GPU ever holds more than its share and one layer.
    """

    def shard(model: nn.Module, mesh: Any) -> nn.Module:
        for layer in model.encoder.layers:  # type: ignore[union-attr]
            fully_shard(layer, mesh=mesh["data_parallel"])
        fully_shard(model, mesh=mesh["data_parallel"])
        return model

    return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1)


def check_compiler(device: torch.device) -> None:
    """Raises `ValueError` where a CPU has no compiler for what `torch.compile` writes."""
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ValueError("compile must be off where there is no C++ compiler, got compile=True")


def on_rank_zero(fabric: Fabric, work: Callable[[], T]) -> T:
    r"""
    ## What one process does for all

    Process 0 does the work, and all get its result. An error that only process 0 meets, such as a
    full disk, ends all of them: the others would wait for it for ever.

    * `work` gives a result that can be pickled

    Raises what `work` raised, and `SystemExit` in the other processes, which have nothing to add.
    """
    if fabric.world_size == 1:
        return work()
    result: Any = None
    error: Exception | None = None
    if fabric.is_global_zero:
        try:
            result = work()
        except Exception as e:
            error = e
    failed, result = fabric.broadcast((error is not None, result))
    if error is not None:
        raise error
    if failed:
        raise SystemExit(2)
    return result


def rank_zero_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """Process 0 works first, then the others, which find on the disk what it has prepared."""
    done: list[T] = []
    on_rank_zero(fabric, lambda: done.append(work()))
    return done[0] if done else work()


def mean_over_processes(fabric: Fabric, value: Tensor) -> Tensor:
    if fabric.world_size == 1:
        return value
    mean = fabric.all_reduce(value, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean
