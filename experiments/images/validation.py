r"""The top-1 and top-5 accuracy of a classifier.

# Validation

The processes split the images. Each runs the same number of forward passes, because they wait for
each other, so the last batches are padded. Padding and damaged files are not counted.
"""

import time
from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.settings.errors import UserError, report_once
from experiments.images.augment import Normalisation


def in_top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    r"""Whether the label of each image is among its `k` largest logits.

    ## Top-k accuracy

    $$\big| \{ c : z_c \ge z_y \} \big| \le k$$

    Ties count against the label, and so do NaN logits. An untrained model, whose logits are all
    zero, therefore scores 0.

    * `logits` are $z$, `[B, n_classes]`, and `labels` $y$, `[B]`

    Returns booleans, `[B]`.
    """
    label_logits = logits.gather(1, labels[:, None])  # [B, 1]
    return (~(logits < label_logits)).sum(dim=1) <= k


@torch.no_grad()
def validate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    normalise: Normalisation,
    fabric: Fabric,
) -> dict[str, float]:
    r"""Validates a classifier over all processes.

    * `model` maps images to logits; its training mode is restored afterwards
    * `batches` are this process's images, labels and weights, with weight 0 for padding

    Returns `error`, `top1` and `top5` in percent, `nats` per image, the number of `images` and
    `images_per_second`.

    Raises `UserError` if no image could be read.
    """
    device, was_training = fabric.device, model.training
    model.eval()
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    start = time.perf_counter()
    for images, labels, weights in batches:
        x, y, w = (part.to(device, non_blocking=True) for part in (images, labels, weights))
        logits = model(normalise(x)).float()
        loss = nn.functional.cross_entropy(logits, y, reduction="none")
        # Select rather than multiply by the weight: the loss of padding may be NaN.
        counted = w > 0
        values = torch.stack([counted, in_top_k(logits, y, 1), in_top_k(logits, y, 5), loss])
        totals += torch.where(counted, values, 0.0).sum(dim=1)
    summed: Any = fabric.all_reduce(totals, reduce_op="sum")
    # `.tolist()` waits for the GPU, so the time includes its work.
    n, top1, top5, nats = summed.tolist()
    seconds = time.perf_counter() - start
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


def describe(metrics: dict[str, float]) -> str:
    """Returns the metrics of a validation in one line."""
    return (
        f"top-1 {metrics['top1']:.2f} %, top-5 {metrics['top5']:.2f} %, "
        f"loss {metrics['nats']:.4f}, {metrics['images']:,.0f} images, "
        f"{metrics['images_per_second']:,.0f} a second"
    )
