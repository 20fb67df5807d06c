"""Mixup, CutMix, label smoothing and distillation."""

import math
import typing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.images.distillation import Distillation, distillation_loss
from experiments.images.mixing import (
    MixupCutmix,
    cutmix_boxes,
    mix_batch,
    mixing_masks,
    smooth_labels,
    soft_cross_entropy,
)
from tests.support.helpers import properties, seeds


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def random64(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ## Masks


@properties
@given(seed=seeds, n=st.integers(1, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_mixup_has_one_weight_for_all_pixels_of_an_image(seed, n, height, width):
    torch.manual_seed(seed)
    m = mixing_masks(n, height, width, MixupCutmix(cutmix_alpha=0))
    assert m.shape == (n, 1, height, width)
    assert ((m >= 0) & (m <= 1)).all()
    assert torch.equal(m, m[:, :, :1, :1].expand_as(m))


@properties
@given(seed=seeds, n=st.integers(1, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_cutmix_replaces_one_rectangle_of_each_image(seed, n, height, width):
    torch.manual_seed(seed)
    for mask in mixing_masks(n, height, width, MixupCutmix(mixup_alpha=0)):
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        rows, columns = np.nonzero(mask[0].numpy() == 0)
        if len(rows):
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert area == len(rows)


@properties
@given(seed=seeds, height=st.integers(4, 40), width=st.integers(4, 40))
def test_a_centred_box_has_the_area_1_minus_lambda(seed, height, width):
    torch.manual_seed(seed)
    lam = torch.rand(16)
    inside = cutmix_boxes(lam, torch.full((16, 2), 0.5), height, width)
    for k in range(16):
        side = math.sqrt(1 - lam[k])
        # Each side is rounded to pixels, by at most 0.5; the rest is float32's error.
        error = 0.5 * (side * height + side * width) + 0.25 + 1e-3
        assert abs(inside[k].sum() - (1 - lam[k]) * height * width) <= error


def test_a_box_is_clipped_at_the_edges():
    inside = cutmix_boxes(torch.tensor([0.75]), torch.tensor([[0.0, 1.0]]), 8, 12)[0]
    # Each side is half of the image and centred on the upper right corner: a quarter remains.
    assert inside.nonzero().tolist() == [[i, j] for i in (0, 1) for j in (9, 10, 11)]


@pytest.mark.parametrize(("lam", "n_replaced"), [(1.0, 0), (0.0, 35)])
def test_lambda_1_keeps_the_image_and_lambda_0_replaces_it(lam, n_replaced):
    assert cutmix_boxes(torch.tensor([lam]), torch.tensor([[0.5, 0.5]]), 5, 7).sum() == n_replaced


def test_lambda_has_the_mean_and_variance_of_its_beta_distribution():
    torch.manual_seed(0)
    for alpha in (0.2, 1.0, 4.0):
        lam = mixing_masks(20_000, 1, 1, MixupCutmix(mixup_alpha=alpha, cutmix_alpha=0)).flatten()
        assert abs(lam.mean() - 0.5) < 0.02
        # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
        assert abs(lam.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


def test_each_image_draws_its_own_mask_and_switches_with_the_probability():
    torch.manual_seed(0)
    m = mixing_masks(4_000, 16, 16, MixupCutmix(switch_probability=0.25))
    cut = (m.amin(dim=(1, 2, 3)) == 0).float().mean()
    # A few boxes are empty, and count as uncut.
    assert 0.2 < cut <= 0.27
    assert len(m.mean(dim=(1, 2, 3)).unique()) > 2_000


def test_an_image_is_mixed_with_the_probability():
    torch.manual_seed(0)
    m = mixing_masks(4_000, 8, 8, MixupCutmix(cutmix_alpha=0, probability=0.3))
    assert abs((m.amin(dim=(1, 2, 3)) < 1).float().mean() - 0.3) < 0.03


def test_nothing_is_mixed_or_drawn_with_both_disabled():
    state = torch.get_rng_state()
    assert (mixing_masks(3, 4, 4, MixupCutmix(mixup_alpha=0, cutmix_alpha=0)) == 1).all()
    assert torch.equal(torch.get_rng_state(), state)


# ## Labels


@properties
@given(seed=seeds, n=st.integers(1, 6), n_classes=st.integers(2, 9), smoothing=st.floats(0, 0.9))
def test_targets_sum_to_one_before_and_after_mixing(seed, n, n_classes, smoothing):
    torch.manual_seed(seed)
    targets = smooth_labels(torch.randint(n_classes, (n,)), n_classes, smoothing)
    mixed = mix_batch(torch.rand(n, 3, 8, 8), targets, MixupCutmix())[1]
    for t in (targets, mixed):
        assert t.shape == (n, n_classes)
        assert (t >= 0).all()
        # A few additions in float32.
        torch.testing.assert_close(t.sum(dim=1), torch.ones(n), rtol=0, atol=1e-6)


def test_smoothing_spreads_probability_over_all_classes():
    got = smooth_labels(torch.tensor([2, 0]), 4, 0.2)
    want = [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]
    torch.testing.assert_close(got, torch.tensor(want))


@properties
@given(seed=seeds, n=st.integers(2, 7))
def test_an_image_and_its_label_are_mixed_with_the_previous_one_by_the_same_weight(seed, n):
    torch.manual_seed(seed)
    # Image k is black except in its own channel, so the mean of that channel is its weight.
    images = torch.eye(n)[:, :, None, None].expand(n, n, 8, 8)
    mixed, targets = mix_batch(images, torch.eye(n), MixupCutmix())
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), targets)
    for k in range(n):
        others = [j for j in range(n) if j not in (k, (k - 1) % n)]
        assert (targets[k, others] == 0).all()


@properties
@given(seed=seeds, n=st.integers(1, 5), n_classes=st.integers(2, 6))
def test_cross_entropy_equals_the_equation_written_with_loops(seed, n, n_classes):
    torch.manual_seed(seed)
    logits, targets = random64(n, n_classes), torch.rand(n, n_classes, dtype=torch.float64)
    want = 0.0
    for b in range(n):
        p = softmax(logits[b].numpy())
        want -= sum(float(targets[b, c]) * math.log(p[c]) for c in range(n_classes)) / n
    # Computed in float32.
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_cross_entropy_of_smoothed_labels_equals_that_of_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 7), torch.randint(7, (5,))
    want = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(soft_cross_entropy(logits, smooth_labels(labels, 7, 0.1)), want)


def test_cross_entropy_is_computed_in_float32():
    logits = torch.tensor([[8.0, 0.0]], dtype=torch.bfloat16)
    got = soft_cross_entropy(logits, torch.tensor([[1.0, 0.0]]))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(math.log1p(math.exp(-8)), rel=1e-4)


# ## Distillation


@properties
@given(
    seed=seeds,
    kind=st.sampled_from(typing.get_args(Distillation)),
    weight=st.floats(0, 1),
    temperature=st.floats(0.5, 5),
)
def test_distillation_equals_the_equations_written_with_loops(seed, kind, weight, temperature):
    torch.manual_seed(seed)
    n, n_classes = 3, 5
    student, teacher = random64(n, n_classes), random64(n, n_classes)
    loss = torch.rand(())
    teacher_loss = 0.0
    for b in range(n):
        s, t = student[b].numpy(), teacher[b].numpy()
        if kind == "hard":
            teacher_loss -= math.log(softmax(s)[max(range(n_classes), key=lambda c: t[c])]) / n
        else:
            p, q = softmax(t / temperature), softmax(s / temperature)
            divergence = sum(p[c] * math.log(p[c] / q[c]) for c in range(n_classes))
            teacher_loss += temperature**2 * divergence / n
    want = loss.item() if kind == "none" else (1 - weight) * loss.item() + weight * teacher_loss
    got = distillation_loss(
        loss, student, teacher, kind=kind, weight=weight, temperature=temperature
    )
    # Computed in float32; the squared temperature multiplies its error.
    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_a_student_that_agrees_with_a_soft_teacher_has_no_teacher_loss():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    got = distillation_loss(
        torch.tensor(2.0), logits, logits + 3, kind="soft", weight=0.5, temperature=2
    )
    assert got.item() == pytest.approx(1.0, abs=1e-5)
