"""Reading a text token by token equals reading it at once."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import (
    AdditiveGate,
    AMLPBlock,
    AMLPGatingUnit,
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    LanguageModel,
    LinearGate,
    MixerBlock,
    MultiHeadSpatialProjection,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    StochasticDepth,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    TransformerLayer,
    WindowedProjection,
    incremental,
)
from labml_gmlp.incremental import Text, Twin, register
from tests.support.helpers import (
    FLOAT64,
    TOLERANCES,
    assert_raises,
    dtypes,
    properties,
    random,
    randomised,
    seeds,
)

N, N_TOKENS, D, D_FFN = 12, 11, 6, 8


def with_projection(make):
    def block():
        unit = SpatialGatingUnit(D_FFN, projection=make())
        return GMLPBlock(D, D_FFN, causal=True, sgu=unit)

    return block


def amlp(**options):
    attention = TinyAttention(D, D_FFN // 2, 3, causal=True)
    return AMLPBlock(D, D_FFN, N, causal=True, attention=attention, **options)


def with_gate(kind):
    return lambda: GMLPBlock(D, D_FFN, causal=True, sgu=kind(D_FFN, spatial()))


def spatial():
    return SpatialProjection(N, causal=True)


# Every causal layer of the library.
LAYERS = {
    "free": lambda: GMLPBlock(D, D_FFN, N, causal=True),
    "heads": with_projection(lambda: MultiHeadSpatialProjection(N, 2, causal=True)),
    "Toeplitz": with_projection(lambda: ToeplitzProjection(N, causal=True, n_heads=2)),
    # The FFT would let later tokens change the last bits of earlier ones.
    "Toeplitz by FFT": with_projection(lambda: ToeplitzProjection(N, causal=True, fft_from=2)),
    "decayed": with_projection(lambda: DecayedToeplitzProjection(N, n_heads=4)),
    "windows of 1": with_projection(lambda: WindowedProjection(1, causal=True)),
    "windows of 3": with_projection(lambda: WindowedProjection(3, causal=True, n_heads=2)),
    "windows of 5": with_projection(lambda: WindowedProjection(5, causal=True)),
    "kernel of 1": with_projection(lambda: ConvolutionProjection(4, 1, causal=True)),
    "kernel of 4": with_projection(lambda: ConvolutionProjection(4, 4, causal=True)),
    "aMLP": amlp,
    "aMLP with a shift and an activation": lambda: AMLPBlock(
        D,
        D_FFN,
        causal=True,
        sgu=AMLPGatingUnit(D_FFN, N, causal=True, activation=torch.tanh),
        attention=TinyAttention(D, D_FFN // 2, 3, causal=True),
        token_shift=TokenShift((0, 1, 4)),
    ),
    "no shift": lambda: amlp(token_shift=TokenShift((0,))),
    "linear gate": with_gate(LinearGate),
    "additive gate": with_gate(AdditiveGate),
    "Eq. 3": with_gate(MultiplicativeGate),
    "stochastic depth": lambda: GMLPBlock(
        D, D_FFN, N, causal=True, dropout=StochasticDepth(0.5)
    ).eval(),
    "Transformer": lambda: TransformerLayer(D, 2, 7, causal=True),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def model_of(name, dtype=FLOAT64, *, tied=True, n_positions=None):
    # Every other layer is a Transformer's, which shows that layers do not share their memories.
    encoder = Encoder(lambda i: LAYERS["Transformer" if i % 2 else name](), 3)
    model = LanguageModel(N_TOKENS, encoder, n_positions=n_positions, tied=tied)
    return randomised(model).to(dtype).eval()


def read(reader, tokens, sizes):
    outputs = []
    for part in tokens.split(sizes, dim=1):
        before = reader.position
        outputs.append(reader(part))
        assert reader.position == before + part.shape[1]
    return torch.cat(outputs, dim=1)


def partitions(n):
    """Lists of positive sizes that sum to n."""
    cuts = st.sets(st.integers(1, n - 1)) if n > 1 else st.just(set())
    return cuts.map(lambda inner: [b - a for a, b in itertools.pairwise([0, *sorted(inner), n])])


@every_layer
@properties
@given(
    dtype=dtypes,
    n=st.integers(1, N),
    data=st.data(),
    batch=st.integers(1, 3),
    tied=st.booleans(),
    n_positions=st.sampled_from([None, N]),
    seed=seeds,
)
def test_steps_of_any_sizes_equal_one_pass(name, dtype, n, data, batch, tied, n_positions, seed):
    torch.manual_seed(seed)
    model = model_of(name, dtype, tied=tied, n_positions=n_positions)
    reader, atol = incremental(model), TOLERANCES[dtype]
    # A second text, of another batch size, forgets the first.
    for n_batch in (batch, batch % 3 + 1):
        sizes = data.draw(partitions(n), label="sizes")
        tokens = torch.randint(N_TOKENS, (n_batch, n))
        got = read(reader, tokens, sizes)
        torch.testing.assert_close(got, model(tokens), rtol=atol, atol=atol)
        reader.clear()
        assert reader.position == 0


def test_a_layer_or_an_encoder_alone_reads_vectors():
    torch.manual_seed(0)
    for layer in (spatial(), LAYERS["free"](), Encoder(amlp, 2)):
        layer, x = randomised(layer), random(2, 7, D)
        torch.testing.assert_close(
            read(incremental(layer), x, [3, 1, 1, 2]), layer(x), rtol=0, atol=1e-12
        )


def test_one_layer_at_two_places_has_two_memories():
    torch.manual_seed(0)
    layer, x = LAYERS["free"](), random(2, 7, D)
    twice = randomised(nn.Sequential(layer, layer))
    torch.testing.assert_close(read(incremental(twice), x, [1] * 7), twice(x), rtol=0, atol=1e-12)


def test_the_copy_shares_its_parameters_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model, tokens = model_of("aMLP"), torch.randint(N_TOKENS, (2, 5))
    want, before = model(tokens), repr(model)
    reader = incremental(model)
    own = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in reader.parameters()} == own
    read(reader, tokens, [2, 3])
    assert repr(model) == before
    assert torch.equal(model(tokens), want)
    # Later changes of the weights reach the copy.
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    reader.clear()
    torch.testing.assert_close(read(reader, tokens, [4, 1]), model(tokens), rtol=0, atol=1e-12)


def test_the_mode_of_the_model_stays_its_own():
    model = model_of("free").train()
    incremental(model).eval()
    assert all(module.training for module in model.modules())


def test_no_gradient_is_computed():
    model = model_of("Transformer")
    assert not incremental(model)(torch.zeros(1, 3, dtype=torch.int64)).requires_grad


# Layers from elsewhere


class Head(nn.Module):
    """A module that treats each token alone, around one of ours."""

    def __init__(self):
        super().__init__()
        self.block = GMLPBlock(D, D_FFN, N, causal=True)

    def forward(self, x):
        return 2 * self.block(x)


class Mean(nn.Module):
    """The mean of all tokens up to each."""

    causal = True

    def forward(self, x):
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]


class MeanTwin(Twin[Mean]):
    def forward(self, new):
        return self.layer(self.all_tokens(new))[:, self.text.position :]


# What is remembered


@pytest.mark.parametrize(
    ("layer", "tokens"),
    [
        (lambda: ConvolutionProjection(4, 5, causal=True), 4),
        (lambda: WindowedProjection(3, causal=True), 5),
        (lambda: TokenShift((0, 2)), 2),
    ],
)
def test_layers_of_short_reach_remember_the_last_tokens_only(layer, tokens):
    torch.manual_seed(0)
    built = layer().double()
    reader, x, outputs = incremental(built), random(1, 39, 4), []
    want = built(x)
    for part in x.split([30, 1, 1, 7], dim=1):
        part = part.clone()
        outputs.append(reader(part))
        # What the caller does with the tensor afterwards changes nothing.
        part.fill_(torch.nan)
        memory = reader.model._memory
        assert memory.shape[1] == tokens
        assert memory.untyped_storage().nbytes() == 8 * memory.numel()
    torch.testing.assert_close(torch.cat(outputs, dim=1), want, rtol=0, atol=1e-12)


def test_the_memory_grows_with_the_tokens_read_and_never_beyond_seq_len():
    reader = incremental(SpatialProjection(150, causal=True))
    for i in range(150):
        reader(torch.zeros(1, 1, 1))
        memory = reader.model._memory
        assert memory.untyped_storage().nbytes() <= 4 * min(150, max(64, 2 * i))
    reader = incremental(SpatialProjection(5, causal=True))
    reader(torch.zeros(1, 1, 1))
    assert reader.model._memory.untyped_storage().nbytes() == 4 * 5


def test_a_new_text_of_the_same_kind_uses_the_same_memory():
    text = Text()
    twin = MeanTwin(Mean(), text)
    before = twin.all_tokens(torch.zeros(2, 3, 4)).data_ptr()
    text.step += 1
    assert twin.all_tokens(torch.zeros(2, 5, 4)).data_ptr() == before
    for x in (torch.ones(3, 4, 4), torch.ones(3, 4, 5), torch.ones(3, 4, 5, dtype=FLOAT64)):
        text.step += 1
        assert torch.equal(twin.all_tokens(x), x)


def test_one_new_token_costs_one_row_of_the_shared_weights():
    torch.manual_seed(0)
    projection, z = randomised(WindowedProjection(3, causal=True)), random(2, 8, 4)
    want, reader = projection(z)[:, 7:], incremental(projection)
    reader(z[:, :7])
    with torch.no_grad():
        projection.weight[[0, 2]] = torch.nan
        projection.bias[[0, 2]] = torch.nan
    torch.testing.assert_close(reader(z[:, 7:]), want, rtol=0, atol=1e-12)


# Unknown layers


def test_a_layer_from_elsewhere_is_refused_until_it_is_registered():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(D, D), randomised(Head()), Mean()).double(), random(2, 6, D)
    assert_raises(lambda: incremental(model), TypeError, "model.1", "Head", "register")
    register(Head)
    assert_raises(lambda: incremental(model), TypeError, "model.2", "Mean", "register")
    register(Mean, MeanTwin)
    torch.testing.assert_close(read(incremental(model), x, [2, 1, 3]), model(x), rtol=0, atol=1e-12)


def test_a_subclass_may_compute_something_else_and_is_refused():
    class Reversed(SpatialProjection):
        pass

    assert_raises(lambda: incremental(Reversed(4, causal=True)), TypeError, "model", "Reversed")


# Errors


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: Encoder(lambda: GMLPBlock(D, D_FFN, N), 1), "model.layers.0.sgu.projection"),
        (lambda: ToeplitzProjection(4), "model"),
        (lambda: nn.Sequential(TransformerLayer(D, 2, 5)), "model.0.attention"),
        (lambda: AMLPBlock(D, D_FFN, N, attention=TinyAttention(D, 4)), "model.attention"),
        (lambda: TokenShift((-1, 0)), "model"),
    ],
)
def test_a_layer_that_is_not_causal_is_refused(build, where):
    assert_raises(lambda: incremental(build()), ValueError, where, "causal")


def test_only_modules_of_known_types_are_read():
    assert_raises(lambda: incremental(len), TypeError, "model", "builtin_function_or_method")
    assert_raises(lambda: incremental(MixerBlock(4, 3, 3, 7)), TypeError, "model", "MixerBlock")
    assert_raises(lambda: register(Head()), TypeError, "layer", "Head")


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"Transformer"}))
def test_more_tokens_than_seq_len_are_refused(name):
    layer = LAYERS[name]()
    if not any(getattr(part, "seq_len", None) == N for part in layer.modules()):
        return
    reader = incremental(layer)
    reader(torch.randn(2, N - 2, D))
    assert_raises(lambda: reader(torch.randn(2, 3, D)), ValueError, f"seq_len={N}", N + 1)


def test_more_tokens_than_positions_are_refused():
    reader = incremental(model_of("kernel of 4", n_positions=N))
    reader(torch.zeros(1, N, dtype=torch.int64))
    one = torch.zeros(1, 1, dtype=torch.int64)
    assert_raises(lambda: reader(one), ValueError, f"n_positions={N}", N + 1)


@pytest.mark.parametrize("new", [torch.zeros(2, 0, D), torch.zeros(3)], ids=["none", "no axis"])
def test_a_step_has_at_least_one_token(new):
    assert_raises(lambda: incremental(LAYERS["free"]())(new), ValueError, "new", list(new.shape))


@pytest.mark.parametrize("build", [spatial, lambda: ConvolutionProjection(D, 3, causal=True)])
def test_a_step_of_another_kind_is_refused(build):
    reader = incremental(build())
    reader(torch.zeros(2, 3, D))
    assert_raises(lambda: reader(torch.zeros(1, 1, D)), ValueError, "(1, 6", "(2, 6")
    # After an error, a new text starts afresh.
    reader.clear()
    assert reader(torch.zeros(1, 1, D)).shape == (1, 1, D)


def test_a_layer_that_reads_a_token_twice_or_not_at_all_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = spatial()
            self.calls = 2

        def forward(self, x):
            for _ in range(self.calls):
                x = self.layer(x)
            return x

    register(Twice)
    reader, x = incremental(Twice()), torch.zeros(1, 2, 3)
    assert_raises(lambda: reader(x), ValueError, "once", "SpatialProjection", "twice", 0)
    reader.clear()
    reader.model.calls = 1
    reader(x)
    reader.model.calls = 0
    reader(x)
    reader.model.calls = 1
    assert_raises(lambda: reader(x), ValueError, "once", "SpatialProjection", "late", 4)
