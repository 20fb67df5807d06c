"""Layers accept empty batches and empty sequences."""

import pytest
import torch
from torch import nn

from labml_gmlp import (
    AMLPBlock,
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    LanguageModel,
    MixerBlock,
    MultiHeadSpatialProjection,
    MultiplicativeGate,
    SpatialProjection,
    StochasticDepth,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    TransformerLayer,
    WindowedProjection,
)
from tests.support.helpers import MASKS, assert_raises, random_mask

SEQ_LEN, CHANNELS = 7, 4
EMPTY = [(2, 0), (0, 3), (0, 0)]

PROJECTIONS = {
    "free": lambda causal: SpatialProjection(SEQ_LEN, causal=causal),
    "free heads": lambda causal: MultiHeadSpatialProjection(SEQ_LEN, 2, causal=causal),
    "Toeplitz": lambda causal: ToeplitzProjection(SEQ_LEN, causal=causal, fft_from=None),
    "Toeplitz heads": lambda causal: ToeplitzProjection(SEQ_LEN, causal=causal, n_heads=2),
    "Toeplitz by FFT": lambda causal: ToeplitzProjection(SEQ_LEN, causal=causal, fft_from=1),
    "one token": lambda causal: ToeplitzProjection(3, causal=causal, n_heads=2, fft_from=1),
    "convolution": lambda causal: ConvolutionProjection(CHANNELS, 3, causal=causal),
    "windows": lambda causal: WindowedProjection(2, causal=causal),
    "window heads": lambda causal: WindowedProjection(3, causal=causal, n_heads=2),
}
CAUSAL = {
    **PROJECTIONS,
    "decayed": lambda causal: DecayedToeplitzProjection(SEQ_LEN),
    "decayed by FFT": lambda causal: DecayedToeplitzProjection(SEQ_LEN, n_heads=2, fft_from=1),
}


def assert_empty(layer: nn.Module, z: torch.Tensor, *masks: torch.Tensor | None) -> None:
    z.requires_grad_()
    y = layer(z, *masks)
    assert y.shape == z.shape
    assert y.dtype == z.dtype
    y.sum().backward()
    assert all(not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize(("n_batch", "n"), EMPTY)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("name", "causal"), [(name, False) for name in PROJECTIONS] + [(name, True) for name in CAUSAL]
)
def test_a_projection_of_an_empty_input_is_empty_with_gradients_of_zero(
    name, causal, mask, n_batch, n
):
    layer = CAUSAL[name](causal)
    assert_empty(layer, torch.randn(n_batch, n, CHANNELS), random_mask(mask, n_batch, n))


def gmlp(**options) -> GMLPBlock:
    return GMLPBlock(CHANNELS, 6, SEQ_LEN, **options)


LAYERS = {
    "gMLP": gmlp,
    "aMLP": lambda: AMLPBlock(CHANNELS, 6, SEQ_LEN, attention=TinyAttention(CHANNELS, 3, 5)),
    "token shift": lambda: AMLPBlock(CHANNELS, 6, SEQ_LEN, token_shift=TokenShift((-1, 0, 1))),
    "stochastic depth": lambda: gmlp(dropout=StochasticDepth(0.5)),
    "Eq. 3": lambda: GMLPBlock(CHANNELS, 6, sgu=MultiplicativeGate(6, SpatialProjection(SEQ_LEN))),
    "Transformer": lambda: TransformerLayer(CHANNELS, 2, 5),
    "causal Transformer": lambda: TransformerLayer(CHANNELS, 2, 5, causal=True),
    "encoder": lambda: Encoder(gmlp, 2),
    "checkpointed encoder": lambda: Encoder(gmlp, 2, checkpoint_layers=True),
}


@pytest.mark.parametrize(("n_batch", "n"), EMPTY)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_maps_an_empty_input_to_an_empty_output(name, padded, mask, n_batch, n):
    kept = torch.ones(n_batch, n, dtype=torch.bool) if padded else None
    x = torch.randn(n_batch, n, CHANNELS)
    assert_empty(LAYERS[name](), x, random_mask(mask, n_batch, n), kept)


def test_a_mixer_accepts_an_empty_batch_but_not_an_empty_sequence():
    layer = MixerBlock(CHANNELS, SEQ_LEN, 3, 5)
    assert_empty(layer, torch.randn(0, SEQ_LEN, CHANNELS))
    assert_raises(
        lambda: layer(torch.randn(2, 0, CHANNELS)),
        ValueError,
        "x",
        "seq_len=7",
        "d_model=4",
        [2, 0, 4],
    )


@pytest.mark.parametrize(("n_batch", "n"), EMPTY)
def test_a_language_model_maps_an_empty_input_to_empty_logits(n_batch, n):
    model = LanguageModel(9, Encoder(gmlp, 2))
    assert model(torch.zeros(n_batch, n, dtype=torch.long)).shape == (n_batch, n, 9)
