"""Everything that a caller can get wrong, and the one sentence that says so."""

from collections.abc import Callable

import pytest
import torch

from labml_gmlp import (
    AdditiveGate,
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    ForLabml,
    ForTorch,
    FromLabml,
    FromTorch,
    GMLPBlock,
    ImageClassifier,
    LanguageModel,
    LinearGate,
    MixerBlock,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    StochasticDepth,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    TransformerLayer,
    WindowedProjection,
    n_patches,
    survival_at,
)
from labml_gmlp.cache import Cache
from tests.support.helpers import assert_raises


def x(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape)


def true(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def call_twice(layer: torch.nn.Module, tensor: torch.Tensor, n: int) -> None:
    """As a layer that stands at two places of a model would be called."""
    cache = Cache(n)
    layer(tensor, cache=cache)
    layer(tensor, cache=cache)


# The call, the kind of error, the whole message.
BAD_CALLS: list[tuple[Callable[[], object], type[Exception], str]] = [
    # SpatialProjection
    (
        lambda: SpatialProjection(0),
        ValueError,
        "seq_len must be a positive whole number, got 0",
    ),
    (
        lambda: SpatialProjection(4, n_heads=0),
        ValueError,
        "n_heads must be a positive whole number, got 0",
    ),
    (
        lambda: SpatialProjection(4, n_heads=2)(x(1, 4, 3)),
        ValueError,
        "z must be [B, n, c] with c a multiple of 2, got [1, 4, 3]",
    ),
    (
        lambda: SpatialProjection(4)(x(4, 3)),
        ValueError,
        "z must be [B, n, c], got [4, 3]",
    ),
    (
        lambda: SpatialProjection(4)(x(1, 5, 3)),
        ValueError,
        "z must have at most seq_len=4 tokens, got 5; W has no weights for later positions",
    ),
    (
        lambda: SpatialProjection(4)(x(1, 3, 3), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: SpatialProjection(4, causal=True)(x(1, 3, 3), true(3, 3), Cache(4)),
        ValueError,
        "mask must be None beside a cache",
    ),
    # SpatialGatingUnit and GMLPBlock
    (
        lambda: SpatialGatingUnit(6),
        ValueError,
        "seq_len must be a positive whole number, got None",
    ),
    (
        lambda: GMLPBlock(4, 6, 5, causal=True, attention=torch.nn.Identity()),
        ValueError,
        "attention must be causal itself inside a causal layer",
    ),
    (
        lambda: GMLPBlock(4, 6, 5, causal=True, sgu=SpatialGatingUnit(6, 5)),
        ValueError,
        "sgu must be causal itself inside a causal layer",
    ),
    (
        lambda: GMLPBlock(4, 6, sgu=SpatialGatingUnit(6, 5), projection=SpatialProjection(5)),
        ValueError,
        "projection must be None beside a given sgu; give it to the sgu",
    ),
    # TransformerLayer
    (
        lambda: TransformerLayer(4, 2, 8)(x(1, 3, 4), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: TransformerLayer(4, 2, 8, causal=True)(x(1, 3, 4), true(3, 3), cache=Cache(4)),
        ValueError,
        "mask and key_padding_mask must be None beside a cache",
    ),
    (
        lambda: TransformerLayer(4, 2, 8, causal=True)(x(1, 3, 4), None, true(1, 3), Cache(4)),
        ValueError,
        "mask and key_padding_mask must be None beside a cache",
    ),
    # LanguageModel
    (
        lambda: LanguageModel(5, Encoder(lambda: TransformerLayer(4, 2, 8, causal=True), 1))(
            x(3).long()
        ),
        ValueError,
        "tokens must be [B, n], got [3]",
    ),
    # Cache
    (
        lambda: Cache(0),
        ValueError,
        "n must be a positive whole number, got 0",
    ),
    (
        lambda: Cache(2).extend(torch.nn.Identity(), x(1, 3, 4)),
        ValueError,
        "the cache has room for n=2 positions, got 3",
    ),
    (
        lambda: call_twice(SpatialProjection(4, causal=True), x(1, 2, 3), 4),
        ValueError,
        "each layer must extend the cache once for each position, SpatialProjection did it 2 times "
        "before position 0",
    ),
    # TinyAttention
    (
        lambda: TinyAttention(4, 0),
        ValueError,
        "d_out must be a positive whole number, got 0",
    ),
    (
        lambda: TinyAttention(4, 3)(x(2, 5, 3)),
        ValueError,
        "x must be [B, n, d_model=4], got [2, 5, 3]",
    ),
    (
        lambda: TinyAttention(4, 3)(x(5, 4)),
        ValueError,
        "x must be [B, n, d_model=4], got [5, 4]",
    ),
    (
        lambda: TinyAttention(4, 3)(x(2, 5, 4), true(5, 4)),
        ValueError,
        "mask must be [5, 5] or [2, 5, 5], got [5, 4]",
    ),
    (
        lambda: TinyAttention(4, 3)(x(2, 5, 4), None, true(5, 2)),
        ValueError,
        "key_padding_mask must be [2, 5], got [5, 2]",
    ),
    (
        lambda: TinyAttention(4, 3)(x(2, 5, 4), x(5, 5)),
        TypeError,
        "mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: TinyAttention(4, 3)(x(1, 3, 4), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: TinyAttention(4, 3, causal=True)(x(1, 3, 4), true(3, 3), cache=Cache(4)),
        ValueError,
        "mask and key_padding_mask must be None beside a cache",
    ),
    (
        lambda: TinyAttention(4, 3, causal=True)(x(1, 3, 4), None, true(1, 3), Cache(4)),
        ValueError,
        "mask and key_padding_mask must be None beside a cache",
    ),
    (
        lambda: GMLPBlock(4, 6, 5, causal=True, attention=TinyAttention(4, 3)),
        ValueError,
        "attention must be causal itself inside a causal layer",
    ),
    # LinearGate, AdditiveGate, MultiplicativeGate
    (
        lambda: LinearGate(0, SpatialProjection(5)),
        ValueError,
        "d_ffn must be a positive whole number, got 0",
    ),
    (
        lambda: LinearGate(6, SpatialProjection(5))(x(2, 5, 3)),
        ValueError,
        "z must be [B, n, d_ffn=6], got [2, 5, 3]",
    ),
    (
        lambda: AdditiveGate(6, SpatialProjection(5))(x(5, 6)),
        ValueError,
        "z must be [B, n, d_ffn=6], got [5, 6]",
    ),
    (
        lambda: MultiplicativeGate(6, SpatialProjection(5))(x(2, 5, 6), None, true(5, 2)),
        ValueError,
        "key_padding_mask must be [2, 5], got [5, 2]",
    ),
    (
        lambda: MultiplicativeGate(6, SpatialProjection(5))(x(2, 5, 6), None, x(2, 5)),
        TypeError,
        "key_padding_mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: GMLPBlock(4, 6, causal=True, sgu=MultiplicativeGate(6, SpatialProjection(5))),
        ValueError,
        "sgu must be causal itself inside a causal layer",
    ),
    # StochasticDepth
    (
        lambda: StochasticDepth(0),
        ValueError,
        "survival must be in (0, 1], got 0",
    ),
    (
        lambda: StochasticDepth(1.1),
        ValueError,
        "survival must be in (0, 1], got 1.1",
    ),
    (
        lambda: StochasticDepth(float("nan")),
        ValueError,
        "survival must be in (0, 1], got nan",
    ),
    (
        lambda: StochasticDepth(True),
        TypeError,
        "survival must be a number, got bool",
    ),
    (
        lambda: StochasticDepth("0.8"),
        TypeError,
        "survival must be a number, got str",
    ),
    (
        lambda: StochasticDepth(0.8)(x(5, 4)),
        ValueError,
        "y must be [B, n, d], got [5, 4]",
    ),
    (
        lambda: survival_at(0, 0, 0.8),
        ValueError,
        "n_layers must be a positive whole number, got 0",
    ),
    (
        lambda: survival_at(4, 4, 0.8),
        ValueError,
        "index must be a whole number in [0, 4), got 4",
    ),
    (
        lambda: survival_at(-1, 4, 0.8),
        ValueError,
        "index must be a whole number in [0, 4), got -1",
    ),
    (
        lambda: survival_at(1, 4, -0.2),
        ValueError,
        "last must be in (0, 1], got -0.2",
    ),
    (
        lambda: survival_at(1, 4, None),
        TypeError,
        "last must be a number, got NoneType",
    ),
    # TokenShift
    (
        lambda: TokenShift(()),
        ValueError,
        "shifts must have at least one entry, got none",
    ),
    (
        lambda: TokenShift(1),
        TypeError,
        "shifts must be a sequence of whole numbers, got 1",
    ),
    (
        lambda: TokenShift((0, 1.0)),
        TypeError,
        "shifts must be a sequence of whole numbers, got (0, 1.0)",
    ),
    (
        lambda: TokenShift((0, 1, 2))(x(2, 5, 2)),
        ValueError,
        "x must be [B, n, d] with d at least 3, one channel for each shift, got [2, 5, 2]",
    ),
    (
        lambda: TokenShift((0, 1))(x(5, 4)),
        ValueError,
        "x must be [B, n, d] with d at least 2, one channel for each shift, got [5, 4]",
    ),
    (
        lambda: TokenShift((0, 1))(x(2, 5, 4), true(5, 2)),
        ValueError,
        "key_padding_mask must be [2, 5], got [5, 2]",
    ),
    (
        lambda: TokenShift((0, 1))(x(2, 5, 4), x(2, 5)),
        TypeError,
        "key_padding_mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: TokenShift((-1, 0))(x(2, 5, 4), cache=Cache(6)),
        ValueError,
        "cache needs shifts >= 0: earlier positions may not read new ones",
    ),
    (
        lambda: GMLPBlock(4, 6, 5, causal=True, token_shift=TokenShift((-1, 0))),
        ValueError,
        "token_shift must be causal itself inside a causal layer",
    ),
    # ConvolutionProjection
    (
        lambda: ConvolutionProjection(0),
        ValueError,
        "n_channels must be a positive whole number, got 0",
    ),
    (
        lambda: ConvolutionProjection(4, 3.0),
        ValueError,
        "kernel_size must be a positive whole number, got 3.0",
    ),
    (
        lambda: ConvolutionProjection(4, 6),
        ValueError,
        "kernel_size must be odd, to be centred on a token, got 6; with causal=True any will do",
    ),
    (
        lambda: ConvolutionProjection(4, 3)(x(2, 7, 5)),
        ValueError,
        "z must be [B, n, c=4], got [2, 7, 5]",
    ),
    (
        lambda: ConvolutionProjection(4, 3)(x(7, 4)),
        ValueError,
        "z must be [B, n, c=4], got [7, 4]",
    ),
    (
        lambda: ConvolutionProjection(4, 3)(x(2, 7, 4), true(7, 3)),
        ValueError,
        "mask must be [7, 7] or [2, 7, 7], got [7, 3]",
    ),
    (
        lambda: ConvolutionProjection(4, 3)(x(2, 7, 4), x(7, 7)),
        TypeError,
        "mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: ConvolutionProjection(4, 3)(x(2, 7, 4), cache=Cache(7)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: ConvolutionProjection(4, 3, causal=True)(x(2, 7, 4), true(7, 7), Cache(7)),
        ValueError,
        "mask must be None beside a cache",
    ),
    (
        lambda: GMLPBlock(3, 8, causal=True, projection=ConvolutionProjection(4, 3)),
        ValueError,
        "projection must be causal itself inside a causal layer",
    ),
    # WindowedProjection
    (
        lambda: WindowedProjection(0),
        ValueError,
        "window must be a positive whole number, got 0",
    ),
    (
        lambda: WindowedProjection(3, n_heads=0),
        ValueError,
        "n_heads must be a positive whole number, got 0",
    ),
    (
        lambda: WindowedProjection(3, n_heads=2)(x(2, 7, 5)),
        ValueError,
        "z must be [B, n, c] with c a multiple of 2, got [2, 7, 5]",
    ),
    (
        lambda: WindowedProjection(3)(x(7, 4)),
        ValueError,
        "z must be [B, n, c], got [7, 4]",
    ),
    (
        lambda: WindowedProjection(3)(x(2, 7, 4), true(3, 9)),
        ValueError,
        "mask must be [7, 7] or [2, 7, 7], got [3, 9]",
    ),
    (
        lambda: WindowedProjection(3)(x(2, 7, 4), x(7, 7)),
        TypeError,
        "mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: WindowedProjection(3)(x(2, 7, 4), cache=Cache(7)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: WindowedProjection(3, causal=True)(x(2, 7, 4), true(7, 7), Cache(7)),
        ValueError,
        "mask must be None beside a cache",
    ),
    (
        lambda: GMLPBlock(3, 8, causal=True, projection=WindowedProjection(3)),
        ValueError,
        "projection must be causal itself inside a causal layer",
    ),
    # ToeplitzProjection and DecayedToeplitzProjection
    *[
        row
        for build in (
            lambda *a, **o: ToeplitzProjection(*a, causal=True, **o),
            DecayedToeplitzProjection,
        )
        for row in [
            (
                lambda build=build: build(0),
                ValueError,
                "seq_len must be a positive whole number, got 0",
            ),
            (
                lambda build=build: build(4, n_heads=2.0),
                ValueError,
                "n_heads must be a positive whole number, got 2.0",
            ),
            (
                lambda build=build: build(4, fft_from=0),
                ValueError,
                "fft_from must be a positive whole number, got 0",
            ),
            (
                lambda build=build: build(4, n_heads=2)(x(1, 4, 3)),
                ValueError,
                "z must be [B, n, c] with c a multiple of 2, got [1, 4, 3]",
            ),
            (
                lambda build=build: build(4)(x(4, 3)),
                ValueError,
                "z must be [B, n, c], got [4, 3]",
            ),
            (
                lambda build=build: build(4, fft_from=1)(x(1, 5, 3)),
                ValueError,
                "z must have at most seq_len=4 tokens, got 5; W has no weights for later positions",
            ),
            (
                lambda build=build: build(4)(x(1, 3, 3), true(3, 3), Cache(4)),
                ValueError,
                "mask must be None beside a cache",
            ),
            (
                lambda build=build: build(4)(x(2, 3, 3), true(4, 4)),
                ValueError,
                "mask must be [3, 3] or [2, 3, 3], got [4, 4]",
            ),
            (
                lambda build=build: build(4)(x(2, 3, 3), x(3, 3)),
                TypeError,
                "mask must be a boolean tensor, true for what may be read, got torch.float32",
            ),
        ]
    ],
    (
        lambda: ToeplitzProjection(4)(x(1, 3, 3), cache=Cache(4)),
        ValueError,
        "cache needs causal=True: earlier positions may not read new ones",
    ),
    (
        lambda: GMLPBlock(4, 6, causal=True, projection=ToeplitzProjection(5)),
        ValueError,
        "projection must be causal itself inside a causal layer",
    ),
    # MixerBlock
    (
        lambda: MixerBlock(4, 6, 0, 7),
        ValueError,
        "d_tokens must be a positive whole number, got 0",
    ),
    (
        lambda: MixerBlock(4, 6, 3, 7)(x(2, 5, 4)),
        ValueError,
        "x must be [B, seq_len=6, d_model=4], got [2, 5, 4]",
    ),
    (
        lambda: Encoder(lambda: MixerBlock(4, 6, 3, 7), 1)(x(2, 6, 4), true(6, 6)),
        ValueError,
        "mask must be None, as token mixing reads all tokens at once, got a Tensor",
    ),
    (
        lambda: Encoder(lambda: MixerBlock(4, 6, 3, 7), 1)(x(2, 6, 4), None, true(2, 6)),
        ValueError,
        "key_padding_mask must be None, as token mixing reads all tokens at once, got a Tensor",
    ),
    (
        lambda: Encoder(lambda: MixerBlock(4, 6, 3, 7), 1)(x(2, 6, 4), cache=Cache(6)),
        ValueError,
        "cache must be None, as token mixing reads all tokens at once, got a Cache",
    ),
    # ImageClassifier and n_patches
    (
        lambda: n_patches(224, 0),
        ValueError,
        "patch_size must be a positive whole number or (height, width) of such, got 0",
    ),
    (
        lambda: n_patches((224, 224, 3), 16),
        ValueError,
        "image_size must be a positive whole number or (height, width) of such, got (224, 224, 3)",
    ),
    (
        lambda: n_patches(28, (4, 5)),
        ValueError,
        "patch_size must divide image_size=(28, 28), got (4, 5)",
    ),
    (
        lambda: ImageClassifier(MixerBlock(4, 6, 3, 7), 0, image_size=6, patch_size=(2, 3)),
        ValueError,
        "n_classes must be a positive whole number, got 0",
    ),
    (
        lambda: ImageClassifier(MixerBlock(4, 6, 3, 7), 5, image_size=6, patch_size=(2, 3))(
            x(2, 1, 6, 6)
        ),
        ValueError,
        "images must be [B, n_channels=3, 6, 6], got [2, 1, 6, 6]",
    ),
    # Adapters
    (
        lambda: ForLabml(torch.nn.Linear(4, 4)),
        TypeError,
        "layer must be a module with a whole number `size`, got Linear",
    ),
    (
        lambda: ForTorch(lambda x: x),
        TypeError,
        "layer must be a module with a whole number `size`, got function",
    ),
    (
        lambda: FromLabml(torch.nn.Linear(4, 4), size=4.0),
        TypeError,
        "layer must be a module with a whole number `size`, got Linear",
    ),
    (
        lambda: FromTorch(torch.nn.Linear(4, 4)),
        TypeError,
        "layer must be a torch.nn.TransformerEncoderLayer, got Linear",
    ),
    (
        lambda: ForLabml(GMLPBlock(4, 6, 5))(x=x(5, 4)),
        ValueError,
        "x must be [n, B, d=4], got [5, 4]",
    ),
    (
        lambda: ForLabml(GMLPBlock(4, 6, 5))(x=x(5, 3, 4), mask=true(5, 5)),
        ValueError,
        "mask must be [5, 5, 1] or [5, 5, 3] or [1, 5, 1] or [1, 5, 3], got [5, 5]",
    ),
    (
        lambda: ForLabml(GMLPBlock(4, 6, 5))(x=x(5, 3, 4), mask=x(5, 5, 1)),
        TypeError,
        "mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 7)),
        ValueError,
        "src must be [n, B, d=4], got [5, 3, 7]",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5), batch_first=True)(x(5, 4)),
        ValueError,
        "src must be [B, n, d=4], got [5, 4]",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), is_causal=True),
        ValueError,
        "src_mask must be given beside is_causal=True, which is only a hint",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), x(5, 5) - 1e9),
        ValueError,
        "src_mask must hold 0 and -inf only, not scores, got -1e+09",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), x(5, 5).long()),
        TypeError,
        "src_mask must be a tensor, boolean or of 0 and -inf, got torch.int64",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), true(6, 5, 5)),
        ValueError,
        "src_mask must be [5, 5] or [3, 5, 5], got [6, 5, 5]",
    ),
    (
        lambda: ForTorch(GMLPBlock(4, 6, 5))(x(5, 3, 4), None, true(5, 3)),
        ValueError,
        "src_key_padding_mask must be [3, 5], got [5, 3]",
    ),
    (
        lambda: FromTorch(torch.nn.TransformerEncoderLayer(4, 2, 6))(x(3, 5, 7)),
        ValueError,
        "x must be [B, n, d=4], got [3, 5, 7]",
    ),
    (
        lambda: FromTorch(torch.nn.TransformerEncoderLayer(4, 2, 6))(x(3, 5, 4), x(5, 5)),
        TypeError,
        "mask must be a boolean tensor, true for what may be read, got torch.float32",
    ),
    (
        lambda: FromTorch(torch.nn.TransformerEncoderLayer(4, 2, 6))(x(3, 5, 4), true(5, 3)),
        ValueError,
        "mask must be [5, 5] or [3, 5, 5], got [5, 3]",
    ),
    (
        lambda: FromTorch(torch.nn.TransformerEncoderLayer(4, 2, 6))(
            x(3, 5, 4), key_padding_mask=true(5, 3)
        ),
        ValueError,
        "key_padding_mask must be [3, 5], got [5, 3]",
    ),
    (
        lambda: FromTorch(torch.nn.TransformerEncoderLayer(4, 2, 6))(x(3, 5, 4), cache=Cache(5)),
        ValueError,
        "cache must be None for a layer of another package, which keeps nothing, got Cache",
    ),
    (
        lambda: FromLabml(GMLPBlock(4, 6, 5))(x(3, 5, 4), cache=Cache(5)),
        ValueError,
        "cache must be None for a layer of another package, which keeps nothing, got Cache",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), BAD_CALLS, ids=[message[:60] for _, _, message in BAD_CALLS]
)
def test_a_bad_call_gets_one_sentence(call, error, message):
    assert_raises(call, error, message)
