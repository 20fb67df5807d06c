import functools
import types

import pytest
import torch
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, TransformerLayer
from tests.support import oracles
from tests.support.helpers import (
    FLOAT64,
    MASKS,
    arrays,
    as_array,
    assert_equals_oracle,
    assert_raises,
    kept_tokens,
    random,
    random_mask,
    randomised,
)

B, N, D_MODEL, D_FFN = 2, 5, 4, 6


class Add(nn.Module):
    """A layer of another package: it accepts x and mask, by keyword only."""

    def __init__(self, amount=1.0, size=D_MODEL):
        super().__init__()
        self.size = size
        self.amount = amount
        self.masks = []

    def forward(self, *, x, mask=None):
        self.masks.append(mask)
        return x + self.amount


def gmlp(**options):
    return GMLPBlock(D_MODEL, D_FFN, N, **options)


def mixed(i):
    """A gMLP block, then a Transformer layer, and so on."""
    return TransformerLayer(D_MODEL, 2, 7, causal=True) if i % 2 else gmlp(causal=True)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_a_mixture_of_layers_equals_the_equations_written_with_loops(mask, padded, eps):
    torch.manual_seed(0)
    encoder = randomised(Encoder(mixed, 3, norm_eps=eps))
    x, mask, p = random(B, N, D_MODEL), random_mask(mask, B, N), arrays(encoder)
    kept = kept_tokens([3, 5] if padded else [5, 5], N)
    first, second, third = (oracles.part(p, f"layers.{i}") for i in range(3))

    def oracle(x, mask):
        layers = [
            lambda x: oracles.gmlp_block(x, first, causal=True, mask=mask),
            lambda x: oracles.transformer_layer(x, second, n_heads=2, causal=True, mask=mask),
            lambda x: oracles.gmlp_block(x, third, causal=True, mask=mask),
        ]
        return oracles.encoder(x, layers, oracles.part(p, "norm"), eps)

    want = oracles.cut(oracle, x.numpy(), kept.numpy(), as_array(mask))
    assert_equals_oracle(encoder(x, mask, kept if padded else None), want, kept)


# Building


FACTORIES = {
    "a function": lambda: gmlp(),
    "a function of the index": lambda index: gmlp(),
    "a partial": functools.partial(GMLPBlock, D_MODEL, D_FFN, N),
    "a partial by keyword": functools.partial(GMLPBlock, d_model=D_MODEL, d_ffn=D_FFN, seq_len=N),
    "a partial with one argument open": functools.partial(lambda size, _index: gmlp(), D_MODEL),
    "any arguments": lambda *args, **options: gmlp(*args, **options),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_every_layer_is_a_new_one(name):
    torch.manual_seed(0)
    encoder = Encoder(FACTORIES[name], 3)
    assert [type(layer) for layer in encoder.layers] == [GMLPBlock] * 3
    assert len({id(p) for p in encoder.parameters()}) == 3 * 10 + 2
    for key in ("proj_in.weight", "proj_out.weight", "sgu.projection.weight"):
        a, b, c = (layer.state_dict()[key] for layer in encoder.layers)
        assert not torch.equal(a, b)
        assert not torch.equal(b, c)
        assert not torch.equal(a, c)


def test_a_class_is_a_factory():
    class Layer(Add):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3))

    torch.manual_seed(0)
    a, b = Encoder(Layer, 2).layers
    assert not torch.equal(a.weight, b.weight)


def test_an_object_that_can_be_called_is_a_factory():
    class Factory:
        def __call__(self, index):
            return Add(float(index))

    assert [layer.amount for layer in Encoder(Factory(), 3).layers] == [0, 1, 2]


def test_a_factory_with_one_required_argument_gets_the_index():
    assert [layer.amount for layer in Encoder(lambda i: Add(10**i), 3).layers] == [1, 10, 100]
    assert [layer.amount for layer in Encoder(lambda i, size=4: Add(i), 3).layers] == [0, 1, 2]


def test_a_factory_with_only_optional_arguments_gets_none():
    assert [layer.amount for layer in Encoder(Add, 3).layers] == [1, 1, 1]
    assert [layer.amount for layer in Encoder(lambda i=7: Add(i), 2).layers] == [7, 7]


@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_there_are_as_many_layers_as_asked_for(n_layers):
    calls = []

    def make(index):
        calls.append(index)
        return Add()

    assert len(Encoder(make, n_layers).layers) == n_layers
    assert calls == list(range(n_layers))


def test_the_size_is_that_of_the_layers():
    encoder = Encoder(mixed, 2)
    assert encoder.size == D_MODEL
    # An encoder is a layer itself.
    assert Encoder(lambda: Encoder(mixed, 1), 2).size == D_MODEL


def test_the_last_norm_has_the_documented_names_device_and_dtype():
    encoder = Encoder(lambda: gmlp(device="meta"), 1, device="meta", dtype=FLOAT64)
    own = {key: value for key, value in encoder.state_dict().items() if key.startswith("norm.")}
    assert [*own] == ["norm.weight", "norm.bias"]
    assert {(p.device.type, p.dtype, p.shape) for p in own.values()} == {("meta", FLOAT64, (4,))}
    others = {key.removeprefix("layers.0.") for key in encoder.state_dict().keys() - own.keys()}
    assert others == gmlp().state_dict().keys()


# Running


def test_a_layer_may_accept_only_x_and_mask():
    encoder, x, mask = Encoder(Add, 2), torch.randn(B, N, D_MODEL), torch.ones(N, N)
    want = nn.functional.layer_norm(x + 1 + 1, [D_MODEL])
    torch.testing.assert_close(encoder(x), want)
    encoder(x, mask)
    encoder(x=x, mask=mask, key_padding_mask=None)
    for layer in encoder.layers:
        first, *others = layer.masks
        assert first is None
        assert all(other is mask for other in others)


def test_a_padding_mask_reaches_each_layer_unchanged():
    class Padded(Add):
        def forward(self, x, mask=None, key_padding_mask=None):
            self.masks.append(key_padding_mask)
            return x

    encoder, kept = Encoder(Padded, 3), kept_tokens([3, 5], N)
    encoder(torch.randn(B, N, D_MODEL), None, kept)
    encoder(torch.randn(B, N, D_MODEL), key_padding_mask=kept)
    for layer in encoder.layers:
        assert len(layer.masks) == 2
        assert all(mask is kept for mask in layer.masks)


def test_a_padding_mask_is_never_silently_dropped():
    kept = kept_tokens([3, 5], N)
    with pytest.raises(TypeError, match="unexpected keyword argument 'key_padding_mask'"):
        Encoder(Add, 1)(torch.randn(B, N, D_MODEL), None, kept)


# Checkpointed layers


def dropped(i):
    """Returns `mixed` layers with dropout, which must draw the same values when recomputed."""
    dropout = nn.Dropout(0.5)
    if i % 2:
        return TransformerLayer(D_MODEL, 2, 7, causal=True, dropout=dropout)
    return gmlp(causal=True, dropout=dropout)


def counted(encoder):
    """Returns a list that records the index of each layer that runs."""
    calls = []
    for i, layer in enumerate(encoder.layers):
        layer.register_forward_pre_hook(lambda *_, i=i: calls.append(i))
    return calls


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("padded", [False, True])
def test_checkpointed_layers_give_the_same_loss_and_gradients(mask, padded):
    torch.manual_seed(0)
    plain = randomised(Encoder(dropped, 3))
    saving = Encoder(dropped, 3, checkpoint_layers=True).double()
    saving.load_state_dict(plain.state_dict())
    x, mask = random(B, N, D_MODEL), random_mask(mask, B, N)
    kept = kept_tokens([3, 5], N) if padded else None
    found = []
    for encoder in (plain, saving):
        own = x.clone().requires_grad_()
        torch.manual_seed(1)
        loss = encoder(own, mask, kept).square().sum()
        loss.backward()
        found.append([loss, own.grad, *(p.grad for p in encoder.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    # Another seed gives another loss, so dropout was active.
    assert not torch.equal(loss, plain(x, mask, kept).square().sum())


@pytest.mark.parametrize(
    ("options", "want"), [({}, [0, 1, 2]), ({"checkpoint_layers": True}, [0, 1, 2, 2, 1, 0])]
)
def test_only_checkpointed_layers_are_recomputed_in_the_backward_pass(options, want):
    torch.manual_seed(0)
    encoder = Encoder(dropped, 3, **options)
    calls, x = counted(encoder), torch.randn(B, N, D_MODEL)
    y = encoder(x)
    assert calls == [0, 1, 2]
    y.sum().backward()
    assert calls == want


def test_without_gradients_layers_are_not_checkpointed(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("checkpointed")

    monkeypatch.setattr("labml_gmlp.blocks.encoder.checkpoint", refuse)
    encoder, x = Encoder(mixed, 2, checkpoint_layers=True), torch.randn(B, N, D_MODEL)
    with torch.no_grad():
        encoder(x)
    with pytest.raises(AssertionError, match="checkpointed"):
        encoder(x)


def causal(i: int) -> nn.Module:
    if i % 2:
        return TransformerLayer(D_MODEL, 2, 5, causal=True)
    return GMLPBlock(D_MODEL, 6, N, causal=True)


# Errors


def test_no_layer_is_built_for_a_bad_number_of_layers():
    calls = []
    assert_raises(lambda: Encoder(lambda: calls.append(0), 0), ValueError, "n_layers", 0)
    assert not calls


@pytest.mark.parametrize(
    ("make", "needed"),
    [
        (TransformerLayer, ["d_model", "n_heads", "d_ffn"]),
        (lambda i, size: Add(), ["i", "size"]),
        (lambda i, *, size: Add(), ["i", "size"]),
        (lambda *, index: index, ["index"]),
        (functools.partial(TransformerLayer, D_MODEL), ["n_heads", "d_ffn"]),
    ],
    ids=["class", "two", "keyword", "keyword alone", "partial"],
)
def test_a_factory_must_require_no_more_than_the_index(make, needed):
    assert_raises(lambda: Encoder(make, 2), TypeError, "make_layer", "index", needed)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (nn.Linear(4, 4), "Linear"),
        (Add(size="4"), "Add"),
        (Add(size=4.0), "Add"),
        (Add(size=None), "Add"),
        (None, "NoneType"),
        (functools.partial(gmlp), "partial"),
        (types.SimpleNamespace(size=D_MODEL), "SimpleNamespace"),
    ],
    ids=["no size", "text", "float", "size None", "None", "a factory", "not a module"],
)
def test_a_layer_must_be_a_module_with_an_integer_size(bad, name):
    assert_raises(
        lambda: Encoder(lambda i: bad if i else Add(), 2),
        TypeError,
        *("make_layer", "`size`", name, "layer 1"),
    )


def test_a_factory_must_not_return_the_same_layer_twice():
    layer, another = gmlp(), gmlp()
    parts = ("make_layer", "new layer")
    assert_raises(lambda: Encoder(lambda: layer, 2), ValueError, *parts, "layer 1")
    layers = [layer, another, layer]
    assert_raises(lambda: Encoder(lambda i: layers[i], 3), ValueError, *parts, "layer 2")
    assert Encoder(lambda: layer, 1).layers[0] is layer


def test_all_layers_must_have_the_same_size():
    assert_raises(
        lambda: Encoder(lambda i: Add(size=[8, 4, 8][i]), 3), ValueError, "same size", [4, 8]
    )
