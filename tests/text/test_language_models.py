"""The language models that the experiments compare, and their sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from experiments.models.language import LAYERS, LayerSizes, make_model
from labml_gmlp import (
    AdditiveGate,
    AMLPBlock,
    AMLPGatingUnit,
    ConvolutionProjection,
    GMLPBlock,
    LinearGate,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    TinyAttention,
    ToeplitzProjection,
    TransformerLayer,
)
from tests.support.helpers import (
    assert_raises,
    assert_the_past_cannot_see_the_future,
    properties,
    randomised,
    seeds,
)

SMALL = LayerSizes(d_model=8, d_ffn=12, n_layers=2, seq_len=7, n_heads=2, d_attn=3, kernel=5)
every_layer = pytest.mark.parametrize("layer", LAYERS)
either_way = pytest.mark.parametrize("causal", [False, True])


def count(layer: str, n_tokens: int, *, causal: bool, **sizes: int) -> int:
    with torch.device("meta"):
        model = make_model(layer, LayerSizes(**sizes), n_tokens, causal=causal, seed=0)
    return sum(p.numel() for p in model.parameters())


# ## What each name builds


@either_way
@pytest.mark.parametrize(
    ("layer", "gate", "projection"),
    [
        ("gmlp", SpatialGatingUnit, SpatialProjection),
        ("amlp", SpatialGatingUnit, SpatialProjection),
        ("toeplitz", SpatialGatingUnit, ToeplitzProjection),
        ("convolution", SpatialGatingUnit, ConvolutionProjection),
        ("linear", LinearGate, SpatialProjection),
        ("additive", AdditiveGate, SpatialProjection),
        ("multiplicative", MultiplicativeGate, SpatialProjection),
    ],
)
def test_a_block_has_the_gate_and_the_projection_of_its_name(layer, gate, projection, causal):
    model = make_model(layer, SMALL, 5, causal=causal, seed=0)
    assert len(model.encoder.layers) == SMALL.n_layers
    for block in model.encoder.layers:
        assert type(block) is (AMLPBlock if layer == "amlp" else GMLPBlock)
        assert type(block.sgu) is (AMLPGatingUnit if layer == "amlp" else gate)
        assert type(block.sgu.projection) is projection
        assert block.sgu.causal is causal
        if layer == "amlp":
            assert type(block.attention) is TinyAttention
            assert (block.attention.d_attn, block.attention.causal) == (SMALL.d_attn, causal)
        if layer == "convolution":
            assert block.sgu.projection.kernel_size == SMALL.kernel


@every_layer
def test_only_the_transformer_has_position_embeddings(layer):
    model = make_model(layer, SMALL, 5, causal=False, seed=0)
    is_transformer = type(model.encoder.layers[0]) is TransformerLayer
    assert is_transformer == (layer == "transformer")
    assert model.n_positions == (SMALL.seq_len if is_transformer else None)


@properties
@given(layer=st.sampled_from(list(LAYERS)), n=st.integers(2, 7), data=st.data(), seed=seeds)
def test_predictions_of_a_causal_model_do_not_depend_on_later_tokens(layer, n, data, seed):
    torch.manual_seed(seed)
    t = data.draw(st.integers(1, n - 1))
    model = randomised(make_model(layer, SMALL, 5, causal=True, seed=0))
    tokens = torch.randint(5, (2, n))
    changed = torch.cat([tokens[:, :t], (tokens[:, t:] + 1) % 5], dim=1)
    assert_the_past_cannot_see_the_future(model, tokens, changed, t)


@every_layer
def test_a_model_that_is_not_causal_reads_both_sides(layer):
    torch.manual_seed(0)
    model = randomised(make_model(layer, SMALL, 5, causal=False, seed=0))
    tokens = torch.randint(5, (1, 7))
    for j in (0, 6):
        changed = tokens.clone()
        changed[0, j] = (changed[0, j] + 1) % 5
        assert (model(tokens) != model(changed)).any(-1)[0, 3]


@every_layer
def test_the_seed_determines_the_weights(layer):
    first, same, other = (
        make_model(layer, SMALL, 5, causal=True, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# ## Options


@every_layer
def test_each_layer_has_its_own_dropout_which_acts_in_training_only(layer):
    dropping = LayerSizes(**{**vars(SMALL), "dropout": 0.5})
    model = make_model(layer, dropping, 5, causal=True, seed=0)
    found = [m for m in model.modules() if type(m) is nn.Dropout]
    assert len(found) == len(set(map(id, found))) == SMALL.n_layers
    assert {m.p for m in found} == {0.5}
    tokens = torch.randint(5, (2, 7))
    assert not torch.equal(model(tokens), model(tokens))
    without = make_model(layer, SMALL, 5, causal=True, seed=0)
    assert not any(type(m) is nn.Dropout for m in without.modules())
    assert torch.equal(model.eval()(tokens), without(tokens))


@every_layer
def test_checkpointed_layers_have_the_same_gradients(layer):
    tokens, gradients = torch.randint(5, (2, 7)), []
    for checkpoint_layers in (False, True):
        model = make_model(
            layer, SMALL, 5, causal=False, seed=0, checkpoint_layers=checkpoint_layers
        )
        assert model.encoder.checkpoint_layers is checkpoint_layers
        model(tokens).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*gradients, strict=True))


# ## Sizes


# The settings of the autoregressive comparison: 64 characters of Tiny Shakespeare, 66 tokens.
AUTOREGRESSIVE = {
    "gmlp": {"d_ffn": 512, "n_layers": 7},
    "amlp": {"d_ffn": 512, "n_layers": 5},
    "toeplitz": {"d_ffn": 528, "n_layers": 7},
    "convolution": {"d_ffn": 496, "n_layers": 7},
    "linear": {"d_ffn": 384, "n_layers": 7},
    "additive": {"d_ffn": 384, "n_layers": 7},
    "multiplicative": {"d_ffn": 384, "n_layers": 7},
    "transformer": {"d_ffn": 448, "n_layers": 4},
}


def test_some_sizes_give_all_layers_about_as_many_parameters():
    counts = {
        layer: count(layer, 66, causal=True, d_model=128, seq_len=64, **sizes)
        for layer, sizes in AUTOREGRESSIVE.items()
    }
    assert counts == {
        "gmlp": 735_808,
        "amlp": 735_104,
        "toeplitz": 729_312,
        "convolution": 740_512,
        "linear": 736_704,
        "additive": 736_704,
        "multiplicative": 736_704,
        "transformer": 744_192,
    }
    assert counts.keys() == LAYERS.keys()


@pytest.mark.parametrize(
    ("layer", "d_ffn", "millions"),
    [
        ("linear", 2048, 92),
        ("additive", 2048, 92),
        ("multiplicative", 2048, 92),
        ("gmlp", 3072, 102),
    ],
)
def test_the_papers_ablation_has_d_ffn_4_d_model_without_a_split_and_6_with_it(
    layer, d_ffn, millions
):
    found = count(layer, 32_000, causal=False, d_model=512, d_ffn=d_ffn, n_layers=36, seq_len=128)
    # A Toeplitz $W$ would have 0.6 million fewer; the paper does not say which it used.
    assert 0 <= found - millions * 1_000_000 < 800_000


# ## Errors


def test_unknown_names_are_refused_with_the_known_ones():
    for option, known in (("layer", LAYERS), ("encoder", ("labml_gmlp", "labml_nn"))):
        options = {"layer": "gmlp", "encoder": "labml_gmlp", option: "rnn"}
        assert_raises(
            lambda options=options: make_model(
                sizes=SMALL, n_tokens=5, causal=True, seed=0, **options
            ),
            ValueError,
            *(option, *known, "'rnn'"),
        )


def test_the_encoder_of_labml_nn_cannot_checkpoint_layers():
    assert_raises(
        lambda: make_model(
            "gmlp", SMALL, 5, causal=True, seed=0, encoder="labml_nn", checkpoint_layers=True
        ),
        ValueError,
        *("checkpoint_layers", "encoder='labml_nn'", True),
    )


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_dropout_probability_out_of_range_is_refused(dropout):
    sizes = {**vars(SMALL), "dropout": dropout}
    assert_raises(lambda: LayerSizes(**sizes), ValueError, "dropout", "[0, 1)", dropout)
