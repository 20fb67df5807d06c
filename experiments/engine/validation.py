r"""
# Sums over a validation set

Over all its rows, shared out to the processes of a run.
"""

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

# Rows in one forward pass. It changes the memory that is taken, and no sum but in its rounding.
ROWS_AT_ONCE = 128


@torch.no_grad()
def sum_over_rows(
    model: nn.Module,
    fabric: Fabric,
    rows: tuple[Tensor, ...],
    measure: Callable[[nn.Module, tuple[Tensor, ...]], Tensor],
    at_once: int = ROWS_AT_ONCE,
) -> list[float]:
    r"""
    ## Sums over a validation set

    * `model` is set to evaluation meanwhile, and back to training
    * `fabric` knows the processes; each measures its part of the rows, and all get the sums
    * `rows` are tensors on the CPU whose first axis counts the rows
    * `measure` takes the model and some rows on the device, and returns $k$ values of each,
      `[B, k]`
    * `at_once` is $B$ or a little less

    Returns the $k$ sums.
    """
    own, real = rows_of(len(rows[0]), fabric.global_rank, fabric.world_size)
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for part, counts in zip(own.split(at_once), real.split(at_once), strict=True):
        batch = tuple(fabric.to_device(tensor[part]) for tensor in rows)
        values = measure(model, batch).cpu().double()  # [B, k]
        total = total + (values * counts[:, None]).sum(0)  # [k]
    model.train()
    if fabric.world_size > 1:
        total = fabric.all_reduce(fabric.to_device(total), reduce_op="sum")  # type: ignore[assignment]
    return total.tolist()


def rows_of(n: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
    r"""
    ## The rows of a process

    Each row belongs to one process. Where they cannot be shared equally, some processes read a row
    once more that does not count: weights that are spread over processes are collected in each
    forward pass, so that all must make as many.

    Returns the numbers of the rows, and whether they count, `[ceil(n / world)]` each.
    """
    places = torch.arange(rank, -(-n // world) * world, world)
    return places % n, places < n
