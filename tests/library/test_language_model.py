import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, LanguageModel, TransformerLayer
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_raises,
    assert_the_past_cannot_see_the_future,
    kept_tokens,
    properties,
    random_mask,
    randomised,
    seeds,
)

B, N, D_MODEL, D_FFN, N_TOKENS, N_POSITIONS = 2, 5, 4, 6, 9, 7


def make_layer(i, causal=True):
    if i % 2:
        return TransformerLayer(D_MODEL, 2, 3, causal=causal)
    return GMLPBlock(D_MODEL, D_FFN, N_POSITIONS, causal=causal)


# The encoders to test: each kind of layer alone, and both.
LAYERS = {
    "gMLP": lambda causal: Encoder(lambda: make_layer(0, causal), 2),
    "Transformer": lambda causal: Encoder(lambda: make_layer(1, causal), 2),
    "both": lambda causal: Encoder(lambda i: make_layer(i, causal), 2),
}


def model_of(kind="both", n_positions=None, causal=True, **options):
    encoder = LAYERS[kind](causal)
    return randomised(LanguageModel(N_TOKENS, encoder, n_positions=n_positions, **options))


def random_tokens(*shape):
    return torch.randint(N_TOKENS, shape)


@pytest.mark.parametrize("n", [N_POSITIONS, N])
@pytest.mark.parametrize("n_positions", [None, N_POSITIONS])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_equal_the_equation_written_with_loops(n, n_positions, mask, padded, tied):
    torch.manual_seed(0)
    model, tokens, mask = (
        model_of("both", n_positions, tied=tied),
        random_tokens(B, n),
        random_mask(mask, B, n),
    )
    p, kept = arrays(model), kept_tokens([n - 2, n] if padded else [n, n], n)
    first, second = (oracles.part(p, f"encoder.layers.{i}") for i in range(2))

    def oracle(tokens, mask):
        layers = [
            lambda x: oracles.gmlp_block(x, first, causal=True, mask=mask),
            lambda x: oracles.transformer_layer(x, second, n_heads=2, causal=True, mask=mask),
        ]
        return oracles.language_model(
            tokens,
            p["embedding.weight"],
            lambda x: oracles.encoder(x, layers, oracles.part(p, "encoder.norm")),
            p.get("positions.weight"),
            None if tied else oracles.part(p, "head"),
        )

    want = oracles.cut(oracle, tokens.numpy(), kept.numpy(), as_array(mask))
    assert_equals_oracle(model(tokens, mask, kept if padded else None), want, kept)


@pytest.mark.parametrize("kind", LAYERS)
@properties
@given(
    n=st.integers(2, N_POSITIONS),
    data=st.data(),
    n_positions=st.sampled_from([None, N_POSITIONS]),
    seed=seeds,
)
def test_in_a_causal_model_the_past_cannot_see_the_future(kind, n, data, n_positions, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    model, tokens = model_of(kind, n_positions), random_tokens(B, n)
    shift = torch.randint(1, N_TOKENS, (B, n - t))
    changed = torch.cat([tokens[:, :t], (tokens[:, t:] + shift) % N_TOKENS], dim=1)
    assert_the_past_cannot_see_the_future(model, tokens, changed, t)


@pytest.mark.parametrize("kind", LAYERS)
def test_in_a_model_that_is_not_causal_the_past_sees_the_future(kind):
    torch.manual_seed(0)
    model, tokens = model_of(kind, causal=False), random_tokens(B, N)
    changed = torch.cat([tokens[:, :4], (tokens[:, 4:] + 1) % N_TOKENS], dim=1)
    before, after = model(tokens), model(changed)
    assert not torch.isclose(before[:, :4], after[:, :4]).all(dim=-1).any()


@pytest.mark.parametrize("kind", LAYERS)
@properties
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3), seed=seeds)
def test_padding_equals_cutting_it_off(kind, lengths, seed):
    torch.manual_seed(seed)
    model = model_of(kind, N_POSITIONS, causal=False)
    tokens, kept = random_tokens(len(lengths), 6), kept_tokens(lengths, 6)
    logits = model(tokens, None, kept)
    for b, n in enumerate(lengths):
        alone = model(tokens[b : b + 1, :n])
        torch.testing.assert_close(logits[b : b + 1, :n], alone, rtol=0, atol=1e-12)


def test_only_positions_tell_a_transformer_the_order():
    torch.manual_seed(0)
    tokens, order = torch.tensor([[0, 1, 2, 3]]), torch.tensor([2, 0, 3, 1])
    for n_positions in (None, N_POSITIONS):
        model = model_of("Transformer", n_positions, causal=False)
        same = torch.isclose(model(tokens)[:, order], model(tokens[:, order])).all()
        assert same == (n_positions is None)


@pytest.mark.parametrize("n_positions", [None, N_POSITIONS])
def test_a_fresh_model_predicts_nearly_uniform_probabilities(n_positions):
    torch.manual_seed(0)
    model = LanguageModel(N_TOKENS, LAYERS["both"](True), n_positions=n_positions)
    for matrix in (model.embedding, model.positions)[: 1 if n_positions is None else 2]:
        # The standard deviation of N = 28 or 36 samples has a relative error of
        # 1 / sqrt(2 N) < 0.14; four times that.
        assert matrix.weight.std().item() == pytest.approx(0.02, rel=0.56)
    logits = model(random_tokens(B, N)).flatten(0, 1)
    # |Y| = sqrt(d) = 2 after the norm and |E_v| is about 0.02 sqrt(d) = 0.04, so |logits| stay
    # far below 1, and the loss near that of a uniform guess.
    assert logits.abs().max() < 0.3
    loss = nn.functional.cross_entropy(logits, random_tokens(B * N))
    assert loss.item() == pytest.approx(math.log(N_TOKENS), abs=0.3)


@pytest.mark.parametrize("n_positions", [None, N_POSITIONS])
def test_the_parameters_have_the_documented_names(n_positions):
    model = LanguageModel(N_TOKENS, LAYERS["gMLP"](True), n_positions=n_positions)
    own = {key: list(p.shape) for key, p in model.named_parameters() if "encoder" not in key}
    assert own == {"embedding.weight": [9, 4]} | (
        {"positions.weight": [7, 4]} if n_positions else {}
    )
    inside = {key.removeprefix("encoder.") for key in model.state_dict().keys() - own.keys()}
    assert inside == LAYERS["gMLP"](True).state_dict().keys()


def test_an_untied_head_adds_a_matrix_and_a_bias():
    tied, free = (LanguageModel(9, LAYERS["gMLP"](True), tied=tied) for tied in (True, False))
    assert free.state_dict().keys() - tied.state_dict().keys() == {"head.weight", "head.bias"}
    assert [list(p.shape) for p in free.head.parameters()] == [[9, 4], [9]]
    n_tied, n_free = (sum(p.numel() for p in model.parameters()) for model in (tied, free))
    # 9 * 4 for E; each block 2 * 4 + (6 * 4 + 6) + 2 * 3 + (7 * 7 + 7) + (4 * 3 + 4); 2 * 4.
    assert n_tied == 36 + 2 * 116 + 8
    assert n_free == n_tied + 9 * 4 + 9


def test_an_untied_head_is_initialised_near_zero():
    torch.manual_seed(0)
    model = LanguageModel(1000, LAYERS["both"](True), tied=False)
    # The standard deviation of N = 4000 samples has a relative error of 1 / sqrt(2 N) = 0.011; five
    # times that.
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.056)
    assert not model.head.bias.any()
    assert not torch.equal(model.head.weight, model.embedding.weight)


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_learns(tied):
    torch.manual_seed(0)
    model, tokens = model_of("both", N, tied=tied), random_tokens(B, N)
    nn.functional.cross_entropy(model(tokens).flatten(0, 1), random_tokens(B * N)).backward()
    assert all(parameter.grad.abs().max() > 1e-6 for parameter in model.parameters())


def test_the_embedding_learns_as_the_head_too():
    torch.manual_seed(0)
    model = model_of()
    model(torch.tensor([[1, 2]])).square().sum().backward()
    # Only tokens 1 and 2 are read, but every token has a logit.
    assert model.embedding.weight.grad.all()


def test_a_deep_copy_keeps_head_and_embedding_tied():
    torch.manual_seed(0)
    model, tokens = model_of("both", N_POSITIONS), random_tokens(B, N)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(tokens), model(tokens))
    with torch.no_grad():
        copied.embedding.weight[5] = 0
    assert not copied(tokens)[..., 5].any()
    assert model(tokens)[..., 5].all()


def test_device_and_dtype_reach_the_embeddings():
    model = LanguageModel(
        N_TOKENS, LAYERS["gMLP"](True), n_positions=N, tied=False, device="meta", dtype=FLOAT64
    )
    own = (model.embedding.weight, model.positions.weight, model.head.weight, model.head.bias)
    for matrix in own:
        assert (matrix.device.type, matrix.dtype) == ("meta", FLOAT64)


def test_keywords_work():
    torch.manual_seed(0)
    model, tokens, kept = model_of(), random_tokens(B, N), kept_tokens([3, 5], N)
    mask = random_mask("one mask", B, N)
    got = model(tokens=tokens, mask=mask, key_padding_mask=kept)
    assert torch.equal(got, model(tokens, mask, kept))


# Errors


@pytest.mark.parametrize("name", ["n_tokens", "n_positions"])
@pytest.mark.parametrize("value", [0, -2, 4.0, "4"])
def test_a_size_that_is_not_a_positive_integer_is_refused(name, value):
    sizes = {"n_tokens": N_TOKENS, "encoder": LAYERS["gMLP"](True)} | {name: value}
    assert_raises(lambda: LanguageModel(**sizes), ValueError, name, repr(value))


@pytest.mark.parametrize("shape", [(5,), (2, 5, 1), ()], ids=str)
def test_tokens_of_another_shape_are_refused(shape):
    call = lambda: model_of()(random_tokens(*shape))  # noqa: E731
    assert_raises(call, ValueError, "tokens", "[B, n]", list(shape))


def test_more_tokens_than_positions_are_refused():
    model = model_of("Transformer", 4)
    model(random_tokens(B, 4))
    assert_raises(lambda: model(random_tokens(B, 5)), ValueError, "tokens", "n_positions=4", 5)


def test_more_tokens_than_seq_len_are_refused_by_the_block():
    assert_raises(lambda: model_of("gMLP")(random_tokens(B, 8)), ValueError, "seq_len=7", 8)
