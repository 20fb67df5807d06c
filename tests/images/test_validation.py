"""Top-1 and top-5 accuracy over a validation set."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.engine.settings.errors import UserError
from experiments.images.augment import Normalisation
from experiments.images.validation import describe, in_top_k, validate
from tests.support.helpers import assert_raises, properties, seeds


class FakeFabric:
    """One process, whose all-reduce adds `others` to each sum."""

    device = torch.device("cpu")

    def __init__(self, others: float = 0.0) -> None:
        self.others = others

    def all_reduce(self, data: Tensor, *, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        return data + self.others


class PixelsAsLogits(nn.Module):
    """Returns the pixels of the first channel as logits."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        return images[:, 0].flatten(1)


# Leaves pixel values as they are.
IDENTITY = Normalisation((0.0,) * 3, (1 / 255,) * 3)


def batch(rows: list[list[int]], labels: list[int], weights: list[float]):
    pixels = torch.tensor(rows, dtype=torch.uint8)[:, None, None].expand(-1, 3, -1, -1)
    return pixels, torch.tensor(labels), torch.tensor(weights)


@properties
@given(seed=seeds, n=st.integers(1, 8), n_classes=st.integers(1, 9), k=st.integers(1, 9))
def test_in_top_k_agrees_with_sorting(seed, n, n_classes, k):
    torch.manual_seed(seed)
    logits, labels = torch.randn(n, n_classes), torch.randint(n_classes, (n,))
    for b in range(n):
        order = sorted(range(n_classes), key=lambda c: -float(logits[b, c]))
        assert in_top_k(logits, labels, k)[b] == (int(labels[b]) in order[:k])


def test_ties_and_nan_count_as_wrong():
    logits = torch.tensor([[0.0] * 7, [math.nan] * 7, [1.0, math.nan, 0, 0, 0, 0, 0]])
    labels = torch.tensor([0, 0, 0])
    assert in_top_k(logits, labels, 1).tolist() == [False, False, False]
    assert in_top_k(logits, labels, 5).tolist() == [False, False, True]


def test_metrics_cover_all_images_except_those_with_weight_0():
    rows = [[9, 1, 2, 3, 4, 5, 6], [1, 9, 2, 3, 4, 5, 6], [0, 9, 2, 3, 4, 5, 6]]
    batches = [
        batch(rows, [0, 6, 0], [1, 1, 1]),  # right, second, last
        batch(rows, [0, 1, 0], [0, 1, 0]),  # only the second counts, and is right
    ]
    model = PixelsAsLogits().train()
    found = validate(model, batches, IDENTITY, FakeFabric())
    assert model.training
    assert found["images"] == 4
    assert found["top1"] == pytest.approx(50)
    assert found["top5"] == pytest.approx(75)
    assert found["error"] == pytest.approx(50)
    losses = []
    for row, label in [(rows[0], 0), (rows[1], 6), (rows[2], 0), (rows[1], 1)]:
        e = np.exp(np.array(row, dtype=float))
        losses.append(-math.log(e[label] / e.sum()))
    assert found["nats"] == pytest.approx(sum(losses) / 4, rel=1e-5)
    assert found["images_per_second"] > 0


def test_padding_may_have_nan_logits():
    rows = [[0, 1, 2], [255, 0, 0]]

    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = images[:, 0].flatten(1)
            return torch.where(logits[:, :1] == 255, math.nan, logits)

    found = validate(Broken().eval(), [batch(rows, [2, 0], [1, 0])], IDENTITY, FakeFabric())
    assert math.isfinite(found["nats"])
    assert found["top1"] == 100


def test_sums_are_added_over_processes():
    found = validate(
        PixelsAsLogits(), [batch([[3, 1]], [0], [1])], IDENTITY, FakeFabric(others=1.0)
    )
    assert found["images"] == 2
    assert found["top1"] == 100


def test_a_model_in_evaluation_mode_stays_in_it():
    model = PixelsAsLogits().eval()
    validate(model, [batch([[3, 1]], [0], [1])], IDENTITY, FakeFabric())
    assert not model.training


def test_no_readable_image_is_an_error():
    batches = [batch([[3, 1]], [0], [0])]
    assert_raises(
        lambda: validate(PixelsAsLogits(), batches, IDENTITY, FakeFabric()),
        *(UserError, "data", "none"),
    )


def test_metrics_are_described_in_one_line():
    metrics = {
        "top1": 79.6,
        "top5": 94.6,
        "nats": 0.9,
        "images": 50_000,
        "images_per_second": 1_234,
    }
    want = "top-1 79.60 %, top-5 94.60 %, loss 0.9000, 50,000 images, 1,234 a second"
    assert describe(metrics) == want
