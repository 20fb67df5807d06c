r"""Sums over a validation set, split over the processes of a run.

# Validation
"""

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

# Rows in one forward pass. They change the memory used, and the sums by rounding only.
VALIDATION_BATCH = 128


@torch.no_grad()
def sum_over_rows(
    model: nn.Module,
    fabric: Fabric,
    rows: tuple[Tensor, ...],
    measure: Callable[[nn.Module, tuple[Tensor, ...]], Tensor],
    batch: int = VALIDATION_BATCH,
) -> list[float]:
    r"""Sums values of each row over a validation set.

    Each process measures its own rows, and all of them get the sums.

    * `model` is set to evaluation mode, and to training mode afterwards
    * `rows` are tensors on the CPU whose first axis indexes the rows
    * `measure` takes the model and a batch on the device, and returns $k$ values for each row,
      `[B, k]`
    * `batch` is the number of rows in a forward pass, $B$; the last one may have fewer

    Returns the $k$ sums.
    """
    own, counted = rows_of_process(len(rows[0]), fabric.global_rank, fabric.world_size)
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for part, counts in zip(own.split(batch), counted.split(batch), strict=True):
        inputs = tuple(fabric.to_device(tensor[part]) for tensor in rows)
        values = measure(model, inputs).cpu().double()  # [B, k]
        total = total + (values * counts[:, None]).sum(0)  # [k]
    model.train()
    if fabric.world_size > 1:
        total = fabric.all_reduce(fabric.to_device(total), reduce_op="sum")  # type: ignore[assignment]
    return total.tolist()


def rows_of_process(n: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
    r"""The rows that a process evaluates, and which of them count.

    Each row counts in one process. If `n` is not a multiple of `world`, some processes evaluate an
    extra row that does not count, because all must run equally many forward passes: each pass
    gathers the sharded weights from all processes.

    Returns the indices of the rows and whether they count, `[ceil(n / world)]` each.
    """
    positions = torch.arange(rank, -(-n // world) * world, world)
    return positions % n, positions < n
