import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    ImageClassifier,
    LanguageModel,
    MixerBlock,
    MultiHeadSpatialProjection,
    SpatialGatingUnit,
    SpatialProjection,
    ToeplitzProjection,
    TransformerLayer,
    n_patches,
)
from labml_gmlp.resize import extend, interpolate, interpolate_image, resample
from tests.support.helpers import assert_raises, properties, random, randomised, seeds

N, C = 5, 4

PROJECTIONS = {
    "dense": lambda n: SpatialProjection(n),
    "causal": lambda n: SpatialProjection(n, causal=True),
    "heads": lambda n: MultiHeadSpatialProjection(n, 2),
    "toeplitz": lambda n: ToeplitzProjection(n),
    "causal toeplitz": lambda n: ToeplitzProjection(n, causal=True, n_heads=2),
    "decayed": lambda n: DecayedToeplitzProjection(n),
}
every_projection = pytest.mark.parametrize("name", PROJECTIONS)


def matrix(projection):
    """$W$, read off by unit vectors, of the first head."""
    n = projection.seq_len
    z = torch.eye(n, dtype=torch.float64)[..., None].expand(n, n, C)
    return (projection(z) - projection(torch.zeros_like(z)))[..., 0].T


# Extension


@every_projection
@properties
@given(new=st.integers(N + 1, 14), seed=seeds)
def test_an_extended_projection_is_unchanged_up_to_the_old_length(name, new, seed):
    torch.manual_seed(seed)
    old = randomised(PROJECTIONS[name](N))
    z = random(2, N, C)
    longer = extend(old, new)
    torch.testing.assert_close(longer(z), old(z), rtol=0, atol=1e-12)
    assert longer.seq_len == new
    assert longer(random(2, new, C)).shape == (2, new, C)


@pytest.mark.parametrize("name", ["dense", "causal", "heads", "toeplitz", "causal toeplitz"])
@properties
@given(new=st.integers(N + 1, 14), seed=seeds)
def test_an_extended_matrix_repeats_the_nearest_entry_of_each_diagonal(name, new, seed):
    torch.manual_seed(seed)
    old = randomised(PROJECTIONS[name](N))
    before, after = matrix(old), matrix(extend(old, new))
    want = torch.zeros(new, new, dtype=torch.float64)
    for i in range(new):
        for j in range(new):
            row, column = i, j
            while max(row, column) > N - 1:
                row, column = row - 1, column - 1
            if min(row, column) >= 0:
                want[i, j] = before[row, column]
    torch.testing.assert_close(after, want, rtol=0, atol=1e-12)


@every_projection
def test_the_last_bias_is_repeated(name):
    torch.manual_seed(0)
    old = randomised(PROJECTIONS[name](N))
    bias = extend(old, N + 3).bias
    assert torch.equal(bias[..., :N], old.bias)
    assert torch.equal(bias[..., N:], old.bias[..., -1:].expand(*bias.shape[:-1], 3))


def language_model(make_projection, n, **options):
    def block():
        return GMLPBlock(C, 8, sgu=SpatialGatingUnit(8, projection=make_projection(n)))

    return randomised(LanguageModel(7, Encoder(block, 2), **options))


@every_projection
def test_an_extended_model_is_a_new_one_that_trains(name):
    torch.manual_seed(0)
    old = language_model(PROJECTIONS[name], N)
    before = copy.deepcopy(old.state_dict())
    new = extend(old.train(False), 2 * N)
    assert not new.training
    assert {id(p) for p in old.parameters()}.isdisjoint(id(p) for p in new.parameters())
    tokens = torch.randint(0, 7, (3, 2 * N))
    new(tokens).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in new.parameters())
    assert all(torch.equal(value, before[key]) for key, value in old.state_dict().items())
    torch.testing.assert_close(new(tokens[:, :N]), old(tokens[:, :N]), rtol=0, atol=1e-12)


def test_frozen_parameters_stay_frozen():
    old = SpatialProjection(N).requires_grad_(False)
    assert not any(p.requires_grad for p in extend(old, 9).parameters())


# Interpolation


def interpolated_by_hand(values, new):
    """Linear between the centres 0.5, 1.5, ... of the old entries, constant outside."""
    old, out = len(values), []
    for k in range(new):
        at = min(max((k + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = int(at)
        high = min(low + 1, old - 1)
        out.append(values[low] + (at - low) * (values[high] - values[low]))
    return torch.stack(out)


@properties
@given(new=st.integers(N, 14), seed=seeds)
def test_a_finer_matrix_is_interpolated_along_both_axes(new, seed):
    torch.manual_seed(seed)
    old = randomised(SpatialProjection(N))
    got = interpolate(old, new)
    rows = interpolated_by_hand(old.weight.detach(), new)
    want = interpolated_by_hand(rows.T, new).T * N / new
    torch.testing.assert_close(got.weight.detach(), want, rtol=0, atol=1e-12)
    want = interpolated_by_hand(old.bias.detach(), new)
    torch.testing.assert_close(got.bias.detach(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["toeplitz", "causal toeplitz"])
@properties
@given(new=st.integers(2, 14), seed=seeds)
def test_finer_distances_are_interpolated(name, new, seed):
    torch.manual_seed(seed)
    old = randomised(PROJECTIONS[name](N))
    got, before = interpolate(old, new), old.weight.detach()
    zero = 0 if old.causal else N - 1
    for entry, distance in enumerate(range(0 if old.causal else 1 - new, new)):
        at = min(max(zero + distance * N / new, 0.0), before.shape[-1] - 1.0)
        low = int(at)
        high = min(low + 1, before.shape[-1] - 1)
        want = before[..., low] + (at - low) * (before[..., high] - before[..., low])
        torch.testing.assert_close(
            got.weight[..., entry].detach(), want * N / new, rtol=0, atol=1e-12
        )


@every_projection
@pytest.mark.parametrize("new", [3, 5, 8, 10])
def test_interpolation_keeps_the_sum_of_each_row_of_a_constant_matrix(name, new):
    old = PROJECTIONS[name](N).double()
    for parameter in old.parameters():
        nn.init.ones_(parameter)
    got, before = interpolate(old, new), old(torch.ones(1, N, C).double())
    z = torch.ones(1, new, C).double()
    if name in {"dense", "heads", "toeplitz"}:
        torch.testing.assert_close(got(z), before[:, :1].expand(1, new, C), rtol=0, atol=1e-12)
    else:
        # Row i of a triangle of ones sums to i + 1, now scaled; the diagonal is blurred.
        rows = (torch.arange(new).double() + 1) * N / new + 1
        assert (got(z)[0, :, 0] - rows).abs().max() <= 1.0


def test_entries_above_the_diagonal_of_a_causal_matrix_do_not_leak_below_it():
    torch.manual_seed(0)
    old = randomised(SpatialProjection(N, causal=True))
    other = copy.deepcopy(old)
    with torch.no_grad():
        other.weight += random(N, N).triu(1)
    assert torch.equal(interpolate(old, 9).weight, interpolate(other, 9).weight)


@pytest.mark.parametrize("name", ["dense", "causal", "toeplitz", "causal toeplitz", "decayed"])
@pytest.mark.parametrize("change", [extend, interpolate])
def test_a_single_position_can_be_resized(name, change):
    longer = change(PROJECTIONS[name](1), 4)
    assert longer(torch.randn(2, 4, C)).shape == (2, 4, C)


@every_projection
def test_the_same_length_changes_nothing(name):
    torch.manual_seed(0)
    old = randomised(PROJECTIONS[name](N))
    z = random(2, N, C)
    torch.testing.assert_close(interpolate(old, N)(z), old(z), rtol=0, atol=1e-12)


def test_learned_positions_are_stretched():
    torch.manual_seed(0)
    encoder = Encoder(lambda: TransformerLayer(C, 2, 8), 1)
    old = randomised(LanguageModel(7, encoder, n_positions=N))
    new = interpolate(old, 9)
    want = interpolated_by_hand(old.positions.weight.detach(), 9)
    torch.testing.assert_close(new.positions.weight.detach(), want, rtol=0, atol=1e-12)
    assert new.n_positions == new.positions.num_embeddings == 9
    new(torch.randint(0, 7, (1, 9)))


# Images


def test_grid_points_are_numbered_row_by_row():
    """A plane that rises by 10 a row and by 1 a column keeps its slope at any size."""
    old, new = (2, 4), (4, 12)
    values = torch.tensor([[10.0 * y + x for y in range(2) for x in range(4)]]).double()
    y = ((torch.arange(4).double() + 0.5) / 2 - 0.5).clamp(0, 1)
    x = ((torch.arange(12).double() + 0.5) / 3 - 0.5).clamp(0, 3)
    want = (10 * y[:, None] + x).reshape(1, -1)
    torch.testing.assert_close(resample(values, old, new), want, rtol=0, atol=1e-12)


LAYERS = {
    "gMLP": lambda n: GMLPBlock(16, 32, n),
    "Mixer": lambda n: MixerBlock(16, n, 8, 32),
    "Transformer": lambda n: TransformerLayer(16, 2, 32),
}


def classifier(layer, image_size, patch_size=2):
    n = n_patches(image_size, patch_size)
    encoder = Encoder(lambda: LAYERS[layer](n), 2)
    return ImageClassifier(encoder, 3, image_size=image_size, patch_size=patch_size, n_channels=1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("new", [(8, 12), (4, 4), 16])
def test_a_classifier_can_be_resized_to_another_image_size(layer, new):
    torch.manual_seed(0)
    old = randomised(classifier(layer, (6, 8)))
    got = interpolate_image(old, new)
    height, width = new if isinstance(new, tuple) else (new, new)
    assert got.grid == (height // 2, width // 2)
    assert got(random(2, 1, height, width)).shape == (2, 3)
    assert got.head.weight is not old.head.weight
    assert old(random(2, 1, 6, 8)).shape == (2, 3)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_image_size_changes_nothing(layer):
    torch.manual_seed(0)
    old, images = randomised(classifier(layer, (6, 8))), random(2, 1, 6, 8)
    got = interpolate_image(old, (6, 8))(images)
    torch.testing.assert_close(got, old(images), rtol=0, atol=1e-12)


def bars(n_images, size, generator):
    """Images of one horizontal, vertical or diagonal bar, and which of them it is."""
    kinds = torch.randint(0, 3, (n_images,), generator=generator)
    place = torch.rand(n_images, 1, 1, generator=generator) * 0.5 + 0.25
    y = ((torch.arange(size) + 0.5) / size)[:, None]
    x = ((torch.arange(size) + 0.5) / size)[None]
    distance = torch.stack(
        [
            (y - place).expand(-1, -1, size),
            (x - place).expand(-1, size, -1),
            (x - y + place - 0.5) / 2**0.5,
        ]
    )
    picked = distance[kinds, torch.arange(n_images)]
    noise = torch.randn(n_images, size, size, generator=generator) * 0.1
    return (torch.exp(-((picked / 0.08) ** 2)) + noise)[:, None], kinds


@pytest.mark.parametrize("layer", ["gMLP", "Mixer"])
def test_a_trained_classifier_still_knows_its_classes_at_another_size(layer):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = classifier(layer, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        images, kinds = bars(64, 16, generator)
        loss = nn.functional.cross_entropy(model(images), kinds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        images, kinds = bars(300, 16, generator)
        before = (model(images).argmax(1) == kinds).double().mean()
        # The bars are as thick as before in relation to the image.
        images, kinds = bars(300, 24, generator)
        after = (interpolate_image(model, 24)(images).argmax(1) == kinds).double().mean()
    assert before > 0.95
    # Random guessing has an accuracy of a third.
    assert after > 0.75


# Errors


@pytest.mark.parametrize("call", [extend, interpolate])
@pytest.mark.parametrize("value", [0, -1, 4.0, "9", None, True])
def test_a_length_that_is_not_a_positive_integer_is_refused(call, value):
    assert_raises(lambda: call(SpatialProjection(N), value), ValueError, "seq_len", repr(value))


@pytest.mark.parametrize("value", [N, N - 1])
def test_extending_to_no_more_than_before_is_refused(value):
    assert_raises(lambda: extend(SpatialProjection(N), value), ValueError, "seq_len", 5, value)


@pytest.mark.parametrize("call", [extend, interpolate])
def test_a_model_that_takes_any_length_is_refused(call):
    assert_raises(lambda: call(nn.Linear(2, 2), 9), ValueError, "model", "length")


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: MixerBlock(C, N, 3, 8), "MixerBlock"),
        (
            lambda: LanguageModel(7, Encoder(lambda: TransformerLayer(C, 2, 8), 1), n_positions=N),
            "LanguageModel",
        ),
    ],
)
def test_separately_learned_positions_cannot_be_extended(build, name):
    assert_raises(lambda: extend(build(), 9), ValueError, "model", name, 5, "interpolate()")


def test_a_toeplitz_projection_cannot_be_resized_as_an_image():
    model = ImageClassifier(
        Encoder(
            lambda: GMLPBlock(C, 8, sgu=SpatialGatingUnit(8, projection=ToeplitzProjection(4))), 1
        ),
        3,
        image_size=4,
        patch_size=2,
    )
    assert_raises(lambda: interpolate_image(model, 8), ValueError, "model", "ToeplitzProjection")


def test_an_image_size_that_the_patches_do_not_divide_is_refused():
    assert_raises(
        lambda: interpolate_image(classifier("gMLP", 8), (7, 8)),
        ValueError,
        *("patch_size", "image_size=(7, 8)", (2, 2)),
    )
