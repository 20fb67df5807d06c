import copy
import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    AMLPBlock,
    Encoder,
    GMLPBlock,
    ImageClassifier,
    MixerBlock,
    TinyAttention,
    TransformerLayer,
    n_patches,
)
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    arrays,
    assert_equals_oracle,
    assert_raises,
    properties,
    random,
    randomised,
    seeds,
)

# No two sizes are equal, so swapping two of them fails.
B, D_MODEL, D_FFN, N_CLASSES, N_CHANNELS = 5, 4, 6, 7, 2
IMAGE, PATCH = (9, 8), (3, 4)
SIZES = {"image_size": IMAGE, "patch_size": PATCH, "n_channels": N_CHANNELS}
SEQ_LEN = 6

# The layers of the encoder, for n tokens.
LAYERS = {
    "gMLP": lambda n: GMLPBlock(D_MODEL, D_FFN, n),
    "aMLP": lambda n: AMLPBlock(D_MODEL, D_FFN, n, attention=TinyAttention(D_MODEL, D_FFN // 2, 5)),
    "MLP-Mixer": lambda n: MixerBlock(D_MODEL, n, 3, 2 * D_MODEL),
    "Transformer": lambda n: TransformerLayer(D_MODEL, 2, D_FFN),
}
every_kind = pytest.mark.parametrize("kind", LAYERS)


def classifier_of(kind="gMLP", n_classes=N_CLASSES, **sizes):
    sizes = sizes or SIZES
    n = n_patches(sizes["image_size"], sizes["patch_size"])
    return ImageClassifier(Encoder(lambda: LAYERS[kind](n), 2), n_classes, **sizes)


def images_for(n_batch=B):
    return random(n_batch, N_CHANNELS, *IMAGE)


# The equation


def test_the_logits_equal_the_equation_written_with_loops():
    torch.manual_seed(0)
    classifier, images = randomised(classifier_of()), images_for()
    p = arrays(classifier)
    layers = [oracles.part(p, f"encoder.layers.{i}") for i in range(2)]

    def run_encoder(x):
        run = [lambda x, own=own: oracles.gmlp_block(x, own) for own in layers]
        return oracles.encoder(x, run, oracles.part(p, "encoder.norm"))

    want = oracles.image_classifier(images.numpy(), p, run_encoder, PATCH)
    got = classifier(images)
    assert got.shape == (B, N_CLASSES)
    assert_equals_oracle(got, want)


class Recording(nn.Module):
    """An encoder that stores its input."""

    size = D_MODEL

    def forward(self, x):
        self.x = x
        return x


@properties
@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    patch=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=seeds,
)
def test_patches_are_numbered_row_by_row(grid, patch, seed):
    torch.manual_seed(seed)
    image = (grid[0] * patch[0], grid[1] * patch[1])
    encoder = Recording()
    classifier = randomised(ImageClassifier(encoder, 3, image_size=image, patch_size=patch))
    assert classifier.grid == grid
    assert classifier.n_patches == n_patches(image, patch) == grid[0] * grid[1]
    images = random(B, 3, *image)
    classifier(images)
    x = encoder.x
    for row in range(grid[0]):
        for column in range(grid[1]):
            changed = images.clone()
            i = torch.randint(row * patch[0], (row + 1) * patch[0], ()).item()
            j = torch.randint(column * patch[1], (column + 1) * patch[1], ()).item()
            changed[:, :, i, j] += 1
            classifier(changed)
            moved = (encoder.x - x).abs().sum(dim=(0, 2)).nonzero().flatten().tolist()
            assert moved == [row * grid[1] + column]


@every_kind
def test_every_pixel_reaches_every_logit(kind):
    torch.manual_seed(0)
    classifier, images = randomised(classifier_of(kind)), images_for(1).requires_grad_()
    for logit in classifier(images)[0]:
        [gradient] = torch.autograd.grad(logit, images, retain_graph=True)
        assert gradient.all()


@every_kind
def test_an_image_has_the_same_logits_alone_and_in_a_batch(kind):
    torch.manual_seed(0)
    classifier, images = randomised(classifier_of(kind)), images_for()
    alone = torch.cat([classifier(image[None]) for image in images])
    torch.testing.assert_close(classifier(images), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("image_size", "patch_size", "n"),
    [(224, 16, 196), (28, 4, 49), (28, 7, 16), ((4096, 100), 4, 25600), (8, (2, 4), 8)],
    ids=str,
)
def test_an_integer_size_means_a_square(image_size, patch_size, n):
    assert n_patches(image_size, patch_size) == n


@every_kind
@pytest.mark.parametrize("patch_size", [4, 7])
def test_a_classifier_accepts_digits_of_28_by_28_grey_pixels(kind, patch_size):
    classifier = classifier_of(kind, 10, image_size=28, patch_size=patch_size, n_channels=1)
    assert classifier.grid == (28 // patch_size,) * 2
    assert classifier(torch.randn(2, 1, 28, 28)).shape == (2, 10)


# Initialisation and training


def test_a_fresh_classifier_gives_all_classes_the_same_probability():
    torch.manual_seed(0)
    logits = classifier_of()(torch.randn(B, N_CHANNELS, *IMAGE))
    assert not logits.any()
    loss = nn.functional.cross_entropy(logits, torch.arange(B))
    assert loss.item() == pytest.approx(math.log(N_CLASSES), abs=1e-6)


@every_kind
def test_a_classifier_learns_32_random_images(kind):
    torch.manual_seed(0)
    classifier = classifier_of(kind)
    images, classes = images_for(32).float(), torch.randint(N_CLASSES, (32,))
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(classifier(images), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < math.log(N_CLASSES) / 2


# As a torch module


def test_the_parameters_have_the_documented_names():
    own = {
        key: list(value.shape)
        for key, value in classifier_of().state_dict().items()
        if not key.startswith("encoder.")
    }
    assert own == {
        "patches.weight": [4, 2, 3, 4],
        "patches.bias": [4],
        "head.weight": [7, 4],
        "head.bias": [7],
    }


def test_device_and_dtype_reach_patches_and_head():
    encoder = Encoder(lambda: LAYERS["gMLP"](SEQ_LEN), 1)
    classifier = ImageClassifier(encoder, N_CLASSES, device="meta", dtype=FLOAT64, **SIZES)
    own = [*classifier.patches.parameters(), *classifier.head.parameters()]
    assert {(p.device.type, p.dtype) for p in own} == {("meta", FLOAT64)}


# This bias shifts all channels of a token equally, which the following norms remove.
WITHOUT_GRADIENT_IN_MIXER = {f"encoder.layers.{i}.token_out.bias" for i in range(2)}


@every_kind
def test_every_useful_parameter_gets_a_gradient_and_nothing_is_changed_in_place(kind):
    torch.manual_seed(0)
    classifier, images = randomised(classifier_of(kind)), images_for()
    before, images_before = copy.deepcopy(classifier.state_dict()), images.clone()
    classifier(images).square().sum().backward()
    idle = {key for key, p in classifier.named_parameters() if p.grad.abs().max() < 1e-9}
    assert idle == (WITHOUT_GRADIENT_IN_MIXER if kind == "MLP-Mixer" else set())
    assert torch.equal(images, images_before)
    after = classifier.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


# Errors


@pytest.mark.parametrize("name", ["n_classes", "n_channels"])
@pytest.mark.parametrize("value", [0, -2, 4.0, "4", None, True])
def test_a_count_that_is_not_a_positive_integer_is_refused(name, value):
    options = SIZES | {"encoder": Recording(), "n_classes": 3} | {name: value}
    assert_raises(lambda: ImageClassifier(**options), ValueError, name, repr(value))


@pytest.mark.parametrize("name", ["image_size", "patch_size"])
@pytest.mark.parametrize(
    "value", [0, -2, 4.0, "4", None, True, (4,), (4, 4, 4), (4, 0), (4.0, 4), (True, 4), [4, 4]]
)
def test_a_size_that_is_neither_an_integer_nor_a_pair_is_refused(name, value):
    sizes = {"image_size": 8, "patch_size": 4} | {name: value}
    for call in (n_patches, functools.partial(ImageClassifier, Recording(), 3)):
        parts = (name, "(height, width)", repr(value))
        assert_raises(functools.partial(call, **sizes), ValueError, *parts)


@pytest.mark.parametrize("patch_size", [(4, 4), (3, 3), (18, 4), (4, 3)], ids=str)
def test_patches_that_do_not_cover_the_image_are_refused(patch_size):
    sizes = {"image_size": IMAGE, "patch_size": patch_size}
    for call in (n_patches, functools.partial(ImageClassifier, Recording(), 3)):
        parts = ("patch_size", "image_size=(9, 8)", patch_size)
        assert_raises(functools.partial(call, **sizes), ValueError, *parts)


@pytest.mark.parametrize(
    "shape", [(2, 9, 8), (5, 2, 8, 9), (5, 3, 9, 8), (5, 2, 10, 8), (5, 2, 9, 12)], ids=str
)
def test_images_of_another_shape_are_refused(shape):
    parts = ("images", "[B, n_channels=2, 9, 8]", list(shape))
    assert_raises(lambda: classifier_of()(torch.randn(shape)), ValueError, *parts)
