r"""
# How many answers are right

Top-1 and top-5, the loss, and how many images a second that took. The processes share the images;
each makes the same number of forward passes, as they wait for each other, and what one has too few
of is filled up and not counted. Nor are damaged files.
"""

import time
from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.settings.errors import UserError, report_once
from experiments.images.augment import Normalisation


def right(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    r"""
    ## Among the first

    $$\big| \{ c : z_c \ge z_y \} \big| \le k$$

    A tie is not counted as an answer, nor is a logit that is no number: an untrained model, whose
    logits are all zero, knows nothing.

    * `logits` are $z$, `[B, n_classes]`, and `labels` $y$, `[B]`

    Returns true where the label is among the `k` largest, `[B]`.
    """
    own = logits.gather(1, labels[:, None])  # [B, 1]
    return (~(logits < own)).sum(dim=1) <= k


@torch.no_grad()
def validate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    normalise: Normalisation,
    fabric: Fabric,
) -> dict[str, float]:
    r"""
    ## Validation

    * `model` maps images to logits; it is left in the mode in which it was
    * `batches` are those of this process: images, labels and weights

    Returns `error`, `top1` and `top5` in percent, `nats` per image, the number of `images` and
    `images_per_second`, over all processes.

    Raises `UserError` where no image could be read.
    """
    device, was_training = fabric.device, model.training
    model.eval()
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    began = time.perf_counter()
    for images, labels, weights in batches:
        x, y, w = (part.to(device, non_blocking=True) for part in (images, labels, weights))
        logits = model(normalise(x)).float()
        loss = nn.functional.cross_entropy(logits, y, reduction="none")
        # Chosen and not multiplied: filling may have any loss.
        there = w > 0
        found = torch.stack([there, right(logits, y, 1), right(logits, y, 5), loss])
        totals += torch.where(there, found, 0.0).sum(dim=1)
    summed: Any = fabric.all_reduce(totals, reduce_op="sum")
    n, top1, top5, nats = summed.tolist()
    seconds = time.perf_counter() - began
    model.train(was_training)
    if n == 0:
        with report_once():
            raise UserError("data must have images to validate, got none that can be read")
    return {
        "error": 100 * (1 - top1 / n),
        "top1": 100 * top1 / n,
        "top5": 100 * top5 / n,
        "nats": nats / n,
        "images": n,
        "images_per_second": n / seconds,
    }


def describe(found: dict[str, float]) -> str:
    """One line for a validation."""
    return (
        f"top-1 {found['top1']:.2f} %, top-5 {found['top5']:.2f} %, loss {found['nats']:.4f}, "
        f"{found['images']:,.0f} images, {found['images_per_second']:,.0f} a second"
    )
