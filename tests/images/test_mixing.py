"""Mixup, cutmix, smoothed labels, and learning from a teacher."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.images.distillation import KINDS, distillation_loss
from experiments.images.mixing import Mixing, boxes, cross_entropy, masks, mix, smooth
from tests.support.helpers import properties, seeds


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def random64(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ## Masks


@properties
@given(seed=seeds, n=st.integers(1, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_mixup_keeps_one_share_of_all_pixels_of_an_image(seed, n, height, width):
    torch.manual_seed(seed)
    m = masks(n, height, width, Mixing(cutmix=0))
    assert m.shape == (n, 1, height, width)
    assert ((m >= 0) & (m <= 1)).all()
    assert torch.equal(m, m[:, :, :1, :1].expand_as(m))


@properties
@given(seed=seeds, n=st.integers(1, 6), height=st.integers(1, 20), width=st.integers(1, 20))
def test_cutmix_takes_one_rectangle_out_of_each_image(seed, n, height, width):
    torch.manual_seed(seed)
    for mask in masks(n, height, width, Mixing(mixup=0)):
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        rows, columns = np.nonzero(mask[0].numpy() == 0)
        if len(rows):
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert area == len(rows)


@properties
@given(seed=seeds, height=st.integers(4, 40), width=st.integers(4, 40))
def test_a_box_in_the_middle_has_the_area_that_its_share_leaves(seed, height, width):
    torch.manual_seed(seed)
    share = torch.rand(16)
    inside = boxes(share, torch.full((16, 2), 0.5), height, width)
    for k in range(16):
        side = math.sqrt(1 - share[k])
        # Each side is rounded to whole pixels: by half a pixel at most, and float32's error.
        error = 0.5 * (side * height + side * width) + 0.25 + 1e-3
        assert abs(inside[k].sum() - (1 - share[k]) * height * width) <= error


def test_a_box_over_the_edge_is_cut_off():
    inside = boxes(torch.tensor([0.75]), torch.tensor([[0.0, 1.0]]), 8, 12)[0]
    # Half of each side, around the upper right corner: a quarter of the box is left.
    assert inside.nonzero().tolist() == [[i, j] for i in (0, 1) for j in (9, 10, 11)]


@pytest.mark.parametrize(("share", "cut"), [(1.0, 0), (0.0, 35)])
def test_the_whole_image_is_kept_or_cut_at_the_ends(share, cut):
    assert boxes(torch.tensor([share]), torch.tensor([[0.5, 0.5]]), 5, 7).sum() == cut


def test_the_share_is_a_half_on_average_and_spread_as_its_distribution_says():
    torch.manual_seed(0)
    for alpha in (0.2, 1.0, 4.0):
        share = masks(20_000, 1, 1, Mixing(mixup=alpha, cutmix=0)).flatten()
        assert abs(share.mean() - 0.5) < 0.02
        # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
        assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


def test_each_image_draws_alone_and_the_switch_is_a_probability():
    torch.manual_seed(0)
    m = masks(4_000, 16, 16, Mixing(switch=0.25))
    cut = (m.amin(dim=(1, 2, 3)) == 0).float().mean()
    # A few boxes are empty or hang over the edge, none are mixed.
    assert 0.2 < cut <= 0.27
    assert len(m.mean(dim=(1, 2, 3)).unique()) > 2_000


def test_an_image_is_left_alone_with_the_rest_of_the_probability():
    torch.manual_seed(0)
    m = masks(4_000, 8, 8, Mixing(cutmix=0, probability=0.3))
    assert abs((m.amin(dim=(1, 2, 3)) < 1).float().mean() - 0.3) < 0.03


def test_nothing_is_mixed_or_drawn_where_both_are_off():
    state = torch.get_rng_state()
    assert (masks(3, 4, 4, Mixing(mixup=0, cutmix=0)) == 1).all()
    assert torch.equal(torch.get_rng_state(), state)


# ## Labels


@properties
@given(seed=seeds, n=st.integers(1, 6), n_classes=st.integers(2, 9), smoothing=st.floats(0, 0.9))
def test_targets_sum_to_one_before_and_after_mixing(seed, n, n_classes, smoothing):
    torch.manual_seed(seed)
    targets = smooth(torch.randint(n_classes, (n,)), n_classes, smoothing)
    mixed = mix(torch.rand(n, 3, 8, 8), targets, Mixing())[1]
    for t in (targets, mixed):
        assert t.shape == (n, n_classes)
        assert (t >= 0).all()
        # A few additions in float32.
        torch.testing.assert_close(t.sum(dim=1), torch.ones(n), rtol=0, atol=1e-6)


def test_smoothing_moves_a_part_to_all_classes():
    got = smooth(torch.tensor([2, 0]), 4, 0.2)
    want = [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]
    torch.testing.assert_close(got, torch.tensor(want))


@properties
@given(seed=seeds, n=st.integers(2, 7))
def test_an_image_is_mixed_with_the_one_before_and_its_label_in_the_same_share(seed, n):
    torch.manual_seed(seed)
    # Image k is black but for its own channel, so that what is left of it can be read off.
    images = torch.eye(n)[:, :, None, None].expand(n, n, 8, 8)
    mixed, targets = mix(images, torch.eye(n), Mixing())
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
    assert cross_entropy(logits, targets).item() == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_cross_entropy_of_a_plain_label_is_that_of_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 7), torch.randint(7, (5,))
    want = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, smooth(labels, 7, 0.1)), want)


def test_cross_entropy_is_computed_in_float32():
    logits = torch.tensor([[8.0, 0.0]], dtype=torch.bfloat16)
    got = cross_entropy(logits, torch.tensor([[1.0, 0.0]]))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(math.log1p(math.exp(-8)), rel=1e-4)


# ## A teacher


@properties
@given(
    seed=seeds, kind=st.sampled_from(KINDS), share=st.floats(0, 1), temperature=st.floats(0.5, 5)
)
def test_distillation_equals_the_equations_written_with_loops(seed, kind, share, temperature):
    torch.manual_seed(seed)
    n, n_classes = 3, 5
    student, teacher = random64(n, n_classes), random64(n, n_classes)
    loss = torch.rand(())
    taught = 0.0
    for b in range(n):
        s, t = student[b].numpy(), teacher[b].numpy()
        if kind == "hard":
            taught -= math.log(softmax(s)[max(range(n_classes), key=lambda c: t[c])]) / n
        else:
            p, q = softmax(t / temperature), softmax(s / temperature)
            divergence = sum(p[c] * math.log(p[c] / q[c]) for c in range(n_classes))
            taught += temperature**2 * divergence / n
    want = loss.item() if kind == "none" else (1 - share) * loss.item() + share * taught
    got = distillation_loss(loss, student, teacher, kind=kind, share=share, temperature=temperature)
    # Computed in float32; the temperature squared multiplies its error.
    assert got.item() == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_a_student_that_agrees_has_nothing_to_learn_from_a_soft_teacher():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    got = distillation_loss(
        torch.tensor(2.0), logits, logits + 3, kind="soft", share=0.5, temperature=2
    )
    assert got.item() == pytest.approx(1.0, abs=1e-5)
