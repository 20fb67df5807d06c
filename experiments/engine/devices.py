r"""Devices, precision and processes, through Lightning Fabric.

# Devices

The training loop is the same for one process on a CPU and for many on many GPUs.
[Lightning Fabric](https://lightning.ai/docs/fabric) starts the processes, moves tensors and
averages gradients.
"""

import logging
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, NoReturn, TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from experiments.engine import sharding
from experiments.engine.settings.errors import check_choice

T = TypeVar("T")
Precision = Literal["float32", "bf16"]

# Our names and Fabric's. In both, the weights stay in float32.
PRECISIONS: dict[Precision, Any] = {"float32": "32-true", "bf16": "bf16-mixed"}
STRATEGIES = ("ddp", "fsdp")


def has_bf16(device: torch.device) -> bool:
    r"""True if the device multiplies bfloat16 matrices in hardware, and correctly.

    A small product must be accurate to the 8 bits of bfloat16. On other hardware bfloat16 is
    emulated, and slower than float32.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # torch has no public function for this yet.
        checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        native = any(getattr(torch.cpu, check, bool)() for check in checks)
    else:
        native = False
    if not native:
        return False
    a = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64)
    rounded = (a.bfloat16() @ a.bfloat16()).float()
    return bool(((rounded - a @ a).abs() <= 2**-7 * (a.abs() @ a.abs())).all())


def pick_device(name: str | None) -> torch.device:
    r"""The device of that name; by default the GPU if there is one.

    Raises `ValueError` if torch does not know the device or cannot use it.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        if name == "cuda" and 0 < rank < torch.cuda.device_count():
            # Each process tests its own GPU; otherwise all of them would allocate on the first.
            torch.cuda.set_device(rank)
        # Some devices exist by name only, and `meta` holds no values: read one back.
        device = torch.zeros(1, device=name)
        device.item()
        return device.device if "cuda:" in name else torch.device(device.device.type)
    except (RuntimeError, AssertionError) as e:
        raise ValueError(f"device must be available to torch, got {name!r}") from e


def pick_precision(name: str, device: torch.device) -> Precision:
    r"""The precision of that name; auto is bf16 if the [hardware has it](#has_bf16).

    Raises `ValueError` if the name is unknown.
    """
    check_choice("precision", name, ("auto", *PRECISIONS))
    if name == "auto":
        return "bf16" if has_bf16(device) else "float32"
    return cast(Precision, name)


def make_fabric(device: torch.device, devices: int, strategy: str, precision: Precision) -> Fabric:
    r"""Fabric for one or several processes; `fabric.launch()` starts them.

    * `device` is a CPU or a GPU
    * `devices` is the number of processes on this machine; torchrun, which starts them itself on
      one or many machines, overrides it
    * `strategy` is `ddp`, which replicates the model in each process, or `fsdp`, which
      [shards](sharding.py) it
    * `precision` is `float32` or `bf16`

    Raises `ValueError` if the strategy is unknown, if `devices` is below 1 or above the number of
    GPUs, or if `device` names one GPU for several processes.
    """
    check_choice("strategy", strategy, STRATEGIES)
    nodes, started = 1, os.environ.get("TORCHELASTIC_RUN_ID")
    if started is not None:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = math.ceil(int(os.environ["WORLD_SIZE"]) / devices)
    if devices < 1:
        raise ValueError(f"devices must be at least 1, got {devices}")
    if device.type == "cuda" and devices > torch.cuda.device_count():
        n_gpus = torch.cuda.device_count()
        raise ValueError(f"devices must be at most {n_gpus}, the number of GPUs, got {devices}")
    world = devices * nodes
    if device.index is not None and world > 1:
        raise ValueError(
            f"device must be cuda without a number for {world} processes, got {str(device)!r}"
        )
    # Fabric prints a banner for each process; the run prints its own line.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    return Fabric(
        accelerator=device.type,
        devices=devices if device.index is None else [device.index],
        num_nodes=nodes,
        strategy="auto" if world == 1 else sharding.fsdp(world) if strategy == "fsdp" else strategy,
        precision=PRECISIONS[precision],
    )


def exit_process(status: int) -> NoReturn:
    r"""Ends this process with an exit status, at once if it is one of several.

    The threads of gloo keep listening. The clean-up of the C++ runtime may wait for them forever,
    or abort because they still run.
    """
    if torch.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def check_compiler(device: torch.device) -> None:
    """Raises `ValueError` for a CPU without the C++ compiler that `torch.compile` needs."""
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ValueError("compile must be False without a C++ compiler, got True")


def on_rank_zero(fabric: Fabric, work: Callable[[], T]) -> T:
    r"""Runs a function in process 0 and returns its result in all processes.

    An error that only process 0 meets, such as a full disk, ends all of them; otherwise the others
    would wait for it forever.

        folder = on_rank_zero(fabric, lambda: new_folder(launch, label))

    * `work` returns a result that can be pickled

    Raises the error of `work` in process 0, and `SystemExit(2)` in the others.
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
    """Runs a function in process 0 first, so the others find its files on disk.

    Raises the error of `work`; if process 0 fails, the others raise `SystemExit(2)`.
    """
    done: list[T] = []
    on_rank_zero(fabric, lambda: done.append(work()))
    return done[0] if done else work()


def mean_over_processes(fabric: Fabric, value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, which must all call this."""
    if fabric.world_size == 1:
        return value
    mean = fabric.all_reduce(value, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean
