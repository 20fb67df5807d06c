"""Mistakes of a caller: torch and Flax raise the same error for the same argument and value."""

import functools

import numpy as np
import pytest
import torch

pytest.importorskip("flax", reason="the Flax port needs the extra flax")

import jax
import jax.numpy as jnp
from flax import nnx

import labml_gmlp
from labml_gmlp import flax
from tests.support.flax_models import TOEPLITZ, rngs
from tests.support.helpers import assert_raises


def ones(package, *shape, dtype=None):
    if package is labml_gmlp:
        return torch.ones(shape, dtype=dtype and getattr(torch, dtype))
    return jnp.ones(shape, dtype=dtype or "float32")


def options(package):
    return {} if package is labml_gmlp else {"rngs": rngs()}


def encoder(package):
    return package.Encoder(
        lambda: package.GMLPBlock(2, 2, 4, **options(package)), 1, **options(package)
    )


def encoder_of_one_layer_twice(package):
    layer = package.GMLPBlock(4, 6, 3, **options(package))
    return package.Encoder(lambda: layer, 2, **options(package))


def language_model(package):
    return package.LanguageModel(5, encoder(package), n_positions=3, **options(package))


def image_classifier(package):
    return package.ImageClassifier(
        encoder(package), 3, image_size=4, patch_size=2, **options(package)
    )


# In torch, heads and the parts of aMLP are layers of their own. The port has them as arguments.
def heads(package, seq_len, n_heads):
    if package is labml_gmlp:
        return package.MultiHeadSpatialProjection(seq_len, n_heads)
    return package.SpatialProjection(seq_len, n_heads=n_heads, **options(package))


def causal_with(package, name):
    """A causal layer with one part that is not causal."""
    part = {name: package.SpatialGatingUnit(4, 2, **options(package))}
    if package is not labml_gmlp:
        return package.GMLPBlock(4, 4, 2, causal=True, **part, **options(package))
    if name == "projection":
        return package.SpatialGatingUnit(4, causal=True, **part)
    return package.AMLPBlock(4, 4, None if name == "sgu" else 2, causal=True, **part)


# The call, and what its message must name: the argument, its bound, the value.
BAD_CALLS = [
    (lambda s: s.SpatialProjection(0, **options(s)), "seq_len", 0),
    (lambda s: heads(s, 2, True), "n_heads", True),
    (lambda s: s.ToeplitzProjection(2.0, **options(s)), "seq_len", 2.0),
    (lambda s: s.ToeplitzProjection(2, n_heads=0, **options(s)), "n_heads", 0),
    (lambda s: s.ToeplitzProjection(2, fft_from=0, **options(s)), "fft_from", 0),
    (lambda s: s.SpatialGatingUnit(None, 2, **options(s)), "d_ffn", None),
    (lambda s: s.SpatialGatingUnit(3, 2, **options(s)), "d_ffn", "even", 3),
    (lambda s: s.SpatialGatingUnit(4, **options(s)), "seq_len", None),
    (lambda s: s.GMLPBlock("4", 4, 2, **options(s)), "d_model", "'4'"),
    (lambda s: s.GMLPBlock(4, -4, 2, **options(s)), "d_ffn", "-4"),
    (lambda s: s.TinyAttention(0, 2, **options(s)), "d_model", 0),
    (lambda s: s.TinyAttention(2, 0, **options(s)), "d_out", 0),
    (lambda s: s.TinyAttention(2, 2, 0, **options(s)), "d_attn", 0),
    *(
        (lambda s, name=name: causal_with(s, name), name, "causal")
        for name in ("projection", "sgu", "attention", "token_shift")
    ),
    (lambda s: s.SpatialProjection(3, **options(s))(ones(s, 2, 3)), "z", "[B, n, c]", [2, 3]),
    (
        lambda s: heads(s, 3, 2)(ones(s, 2, 3, 5)),
        *("z", "n_heads=2", [2, 3, 5]),
    ),
    (lambda s: s.SpatialProjection(3, **options(s))(ones(s, 2, 4, 5)), "z", "seq_len=3", 4),
    (
        lambda s: s.SpatialProjection(3, **options(s))(
            ones(s, 2, 3, 5), ones(s, 1, 3, dtype="bool")
        ),
        *("mask", [3, 3], [2, 3, 3], [1, 3]),
    ),
    (
        lambda s: s.ToeplitzProjection(3, n_heads=2, **options(s))(ones(s, 2, 3, 5)),
        *("z", "n_heads=2", [2, 3, 5]),
    ),
    (lambda s: s.ToeplitzProjection(3, **options(s))(ones(s, 2, 4, 5)), "z", "seq_len=3", 4),
    (
        lambda s: s.ToeplitzProjection(3, **options(s))(ones(s, 2, 3, 5), ones(s, 3, dtype="bool")),
        *("mask", [3, 3], [2, 3, 3], [3]),
    ),
    (
        lambda s: s.SpatialGatingUnit(6, 3, **options(s))(ones(s, 2, 3, 5)),
        "z",
        "d_ffn=6",
        [2, 3, 5],
    ),
    (
        lambda s: s.SpatialGatingUnit(6, 3, **options(s))(
            ones(s, 2, 3, 6), key_padding_mask=ones(s, 3, 2, dtype="bool")
        ),
        *("key_padding_mask", [2, 3], [3, 2]),
    ),
    (lambda s: s.GMLPBlock(4, 6, 3, **options(s))(ones(s, 2, 3, 6)), "x", "d_model=4", [2, 3, 6]),
    (lambda s: s.TinyAttention(4, 6, **options(s))(ones(s, 2, 4)), "x", "d_model=4", [2, 4]),
    (
        lambda s: s.TinyAttention(4, 6, **options(s))(
            ones(s, 2, 3, 4), ones(s, 3, 3, 3, dtype="bool")
        ),
        *("mask", [3, 3], [2, 3, 3], [3, 3, 3]),
    ),
    (
        lambda s: s.TinyAttention(4, 6, **options(s))(
            ones(s, 2, 3, 4), key_padding_mask=ones(s, 2, dtype="bool")
        ),
        *("key_padding_mask", [2, 3], [2]),
    ),
    (lambda s: s.Encoder(lambda: None, 0, **options(s)), "n_layers", 0),
    (
        lambda s: s.Encoder(lambda i: s.GMLPBlock(i + 1, 2, 2, **options(s)), 2, **options(s)),
        *("size", [1, 2]),
    ),
    (lambda s: s.Encoder(lambda: 5, 2, **options(s)), "make_layer", "size", "int"),
    (lambda s: s.Encoder(lambda a, b: None, 2, **options(s)), "make_layer", ["a", "b"]),
    (encoder_of_one_layer_twice, "make_layer", "layer 1"),
    (lambda s: s.LanguageModel(0, None, **options(s)), "n_tokens", 0),
    (lambda s: s.LanguageModel(3, None, n_positions=0, **options(s)), "n_positions", 0),
    (lambda s: language_model(s)(ones(s, 3, dtype="int32")), "tokens", "[B, n]", [3]),
    (lambda s: language_model(s)(ones(s, 2, 4, dtype="int32")), "tokens", "n_positions=3", 4),
    (
        lambda s: s.ImageClassifier(None, 0, image_size=4, patch_size=2, **options(s)),
        *("n_classes", 0),
    ),
    (lambda s: s.n_patches(4, 3), "patch_size", "image_size=(4, 4)", (3, 3)),
    (lambda s: s.n_patches((4, 4, 4), 2), "image_size", (4, 4, 4)),
    (
        lambda s: s.ImageClassifier(
            None, 3, image_size=4, patch_size=2, n_channels=0, **options(s)
        ),
        *("n_channels", 0),
    ),
    (lambda s: image_classifier(s)(ones(s, 2, 5, 4, 3)), "images", "n_channels=3", [2, 5, 4, 3]),
]


@pytest.mark.parametrize("row", BAD_CALLS, ids=lambda row: " ".join(map(str, row[1:])))
def test_torch_and_flax_refuse_a_bad_call_alike(row):
    call, *parts = row
    with pytest.raises((TypeError, ValueError)) as error:
        call(labml_gmlp)
    assert_raises(lambda: call(labml_gmlp), error.type, *parts)
    # Traced without values: nothing has to be compiled.
    assert_raises(lambda: nnx.eval_shape(lambda: call(flax)), error.type, *parts)


@pytest.mark.parametrize("kind", ["SpatialProjection", TOEPLITZ, "TinyAttention"])
def test_a_mask_that_is_not_boolean_is_refused(kind):
    def call(mask):
        sizes = (4, 4) if kind == "TinyAttention" else (3,)
        return getattr(flax, kind)(*sizes, rngs=rngs())(jnp.ones((2, 3, 4)), mask)

    for mask, name in [
        (np.ones((3, 3)), "float64"),
        (jnp.ones((3, 3), jnp.int32), "int32"),
        ([[True]], "list"),
        (1, "int"),
    ]:
        traced = functools.partial(nnx.eval_shape, functools.partial(call, mask))
        assert_raises(traced, TypeError, "mask", "boolean", name)


def test_a_mask_may_be_a_numpy_array():
    layer = flax.SpatialProjection(3, rngs=rngs())
    z, mask = jnp.ones((2, 3, 4)), np.eye(3, dtype=bool)
    assert jnp.array_equal(layer(z, mask), layer(z, jax.numpy.array(mask)))


def test_a_projection_belongs_to_the_gate_that_is_given():
    parts = {
        "sgu": flax.SpatialGatingUnit(4, 2, rngs=rngs()),
        "projection": flax.SpatialProjection(2, rngs=rngs()),
    }
    assert_raises(
        lambda: flax.GMLPBlock(4, 4, **parts, rngs=rngs()), ValueError, "projection", None, "sgu"
    )
