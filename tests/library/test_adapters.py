"""Each adapter in the real encoder of the other package, compared with the layers alone."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from labml_gmlp import (
    Encoder,
    ForLabml,
    ForTorch,
    FromLabml,
    FromTorch,
    GMLPBlock,
    LanguageModel,
    TransformerLayer,
)
from tests.support.helpers import (
    FLOAT64,
    assert_raises,
    assert_the_past_cannot_see_the_future,
    kept_tokens,
    properties,
    random,
    randomised,
    seeds,
    with_another_future,
)
from tests.support.labml_layers import labml_nn

# No two sizes are equal, so that swapped axes raise an error.
B, N, D, D_FFN, N_HEADS, N_LAYERS = 3, 5, 4, 6, 2, 2

OURS: dict[str, Callable[[], nn.Module]] = {
    "gMLP": lambda: GMLPBlock(D, D_FFN, N),
    "causal gMLP": lambda: GMLPBlock(D, D_FFN, N, causal=True),
    "Transformer": lambda: TransformerLayer(D, N_HEADS, D_FFN),
    "causal Transformer": lambda: TransformerLayer(D, N_HEADS, D_FFN, causal=True),
}
every_layer_of_ours = pytest.mark.parametrize("kind", OURS)

CASES = ["no mask", "a mask", "a mask each", "padding", "causal", "causal and padding"]
every_case = pytest.mark.parametrize("case", CASES)
batch_first_or_not = pytest.mark.parametrize("batch_first", [False, True])


def case_of(name: str) -> tuple[Tensor | None, Tensor | None]:
    """Our mask and key padding mask: padding before one text, after one, and none in one."""
    mask, kept = None, None
    if name in ("a mask", "a mask each"):
        shape = (N, N) if name == "a mask" else (B, N, N)
        mask = (torch.rand(shape) < 0.5) | torch.eye(N, dtype=torch.bool)
    if "causal" in name:
        mask = torch.ones(N, N, dtype=torch.bool).tril()
    if "padding" in name:
        kept = kept_tokens([N - 2, N - 1, N], N)
        kept[0] = kept[0].flip(0)
    return mask, kept


def for_labml(mask: Tensor | None, kept: Tensor | None) -> Tensor | None:
    """The mask of labml_nn, `[i, j, b]`, written with loops."""
    if mask is None and kept is None:
        return None
    if mask is None:
        return torch.stack(list(kept), dim=-1)[None]  # [1, n, B]
    if mask.dim() == 2 and kept is None:
        return mask[:, :, None]
    one = torch.zeros(N, N, B, dtype=torch.bool)
    for i in range(N):
        for j in range(N):
            for b in range(B):
                allowed = mask[i, j] if mask.dim() == 2 else mask[b, i, j]
                one[i, j, b] = allowed and (kept is None or kept[b, j])
    return one


def close(got: Tensor, want: Tensor, kept: Tensor | None) -> None:
    there = torch.ones(got.shape[:2], dtype=torch.bool) if kept is None else kept
    assert got.shape == want.shape
    torch.testing.assert_close(got[there], want[there], rtol=0, atol=1e-12)


def our_encoder(make_layer: Callable[[], nn.Module]) -> Any:
    return randomised(Encoder(make_layer, N_LAYERS))


def in_labml(ours: Any) -> Any:
    """The encoder of labml_nn with the layers of ours in place of its copies."""
    layers = [ForLabml(layer) for layer in ours.layers]
    encoder = labml_nn("transformers").Encoder(layers[0], N_LAYERS).double()
    encoder.layers = nn.ModuleList(layers)
    encoder.norm = ours.norm
    return encoder


def in_torch(ours: Any, batch_first: bool) -> Any:
    layers = [ForTorch(layer, batch_first=batch_first) for layer in ours.layers]
    # Without this argument torch warns, and in tests a warning is an error.
    encoder = nn.TransformerEncoder(layers[0], N_LAYERS, ours.norm, enable_nested_tensor=False)
    encoder.layers = nn.ModuleList(layers)
    return encoder


def labml_transformer() -> Any:
    models, mha = labml_nn("transformers.models"), labml_nn("transformers.mha")
    feed_forward = labml_nn("transformers.feed_forward")
    return models.TransformerLayer(
        d_model=D,
        self_attn=mha.MultiHeadAttention(N_HEADS, D, dropout_prob=0.0),
        feed_forward=feed_forward.FeedForward(D, D_FFN, dropout=0.0),
        dropout_prob=0.0,
    )


def labml_gmlp_block() -> Any:
    return labml_nn("transformers.gmlp").GMLPBlock(D, D_FFN, N)


THEIRS = {"Transformer": labml_transformer, "gMLP": labml_gmlp_block}


def labml_encoder(make_layer: Callable[[], nn.Module]) -> Any:
    return randomised(labml_nn("transformers").Encoder(make_layer(), N_LAYERS))


def from_labml(theirs: Any, causal: bool = False) -> Any:
    """Our encoder with the layers of labml_nn's."""
    layers = iter(theirs.layers)
    ours = Encoder(lambda: FromLabml(next(layers), causal=causal), N_LAYERS, dtype=FLOAT64)
    ours.norm = theirs.norm
    return ours


def torch_encoder(batch_first: bool, norm_first: bool = True) -> Any:
    layer = nn.TransformerEncoderLayer(
        D, N_HEADS, D_FFN, dropout=0.0, batch_first=batch_first, norm_first=norm_first
    )
    norm = nn.LayerNorm(D)
    return randomised(nn.TransformerEncoder(layer, N_LAYERS, norm, enable_nested_tensor=False))


def from_torch(theirs: Any, causal: bool = False) -> Any:
    layers = iter(theirs.layers)
    ours = Encoder(lambda: FromTorch(next(layers), causal=causal), N_LAYERS, dtype=FLOAT64)
    ours.norm = theirs.norm
    return ours


# Our layers in their encoders


@every_layer_of_ours
@every_case
def test_labml_nns_encoder_equals_ours_with_our_layers(kind, case):
    torch.manual_seed(0)
    ours, x, (mask, kept) = our_encoder(OURS[kind]), random(B, N, D), case_of(case)
    got = in_labml(ours)(x.transpose(0, 1), for_labml(mask, kept)).transpose(0, 1)
    close(got, ours(x, mask, kept), kept)


def test_labml_nns_own_causal_mask_makes_our_layers_causal():
    torch.manual_seed(0)
    ours, x = our_encoder(OURS["gMLP"]), random(B, N, D)
    mask = labml_nn("transformers.utils").subsequent_mask(N)
    got = in_labml(ours)(x.transpose(0, 1), mask).transpose(0, 1)
    assert torch.equal(got, ours(x, torch.ones(N, N, dtype=torch.bool).tril()))
    assert not torch.isclose(got, ours(x)).all()


@every_layer_of_ours
@every_case
@batch_first_or_not
def test_torchs_encoder_equals_ours_with_our_layers(kind, case, batch_first):
    torch.manual_seed(0)
    ours, x, (mask, kept) = our_encoder(OURS[kind]), random(B, N, D), case_of(case)
    want = ours(x, mask, kept)
    theirs = in_torch(ours, batch_first)

    def inverted(allowed: Tensor | None, floating: bool) -> Tensor | None:
        if allowed is None or not floating:
            return None if allowed is None else ~allowed
        return torch.zeros(allowed.shape, dtype=FLOAT64).masked_fill(~allowed, -torch.inf)

    for floating, inference in itertools.product((False, True), repeat=2):
        theirs.train(not inference)
        with torch.set_grad_enabled(not inference):
            got = theirs(
                x if batch_first else x.transpose(0, 1),
                mask=inverted(mask, floating),
                src_key_padding_mask=inverted(kept, floating),
            )
        close(got if batch_first else got.transpose(0, 1), want, kept)


def test_torch_warns_that_it_cannot_use_nested_tensors_for_our_layer():
    torch.manual_seed(0)
    layer, x, kept = (
        ForTorch(OURS["gMLP"](), batch_first=True),
        random(B, N, D),
        case_of("padding")[1],
    )
    with pytest.warns(UserWarning, match="encoder_layer was not TransformerEncoderLayer"):
        encoder = randomised(nn.TransformerEncoder(layer, N_LAYERS)).eval()
    with torch.no_grad():
        got, want = encoder(x, src_key_padding_mask=~kept), x
        for copied in encoder.layers:
            want = copied.layer(want, None, kept)
    close(got, want, kept)


@pytest.mark.parametrize("host", ["labml_nn", "torch"])
def test_other_encoders_start_all_layers_equal_unless_the_copies_are_replaced(host):
    torch.manual_seed(0)
    if host == "labml_nn":
        copies = labml_nn("transformers").Encoder(ForLabml(OURS["gMLP"]()), N_LAYERS)
        replaced = in_labml(Encoder(OURS["gMLP"], N_LAYERS))
    else:
        copies = nn.TransformerEncoder(
            ForTorch(OURS["gMLP"]()), N_LAYERS, enable_nested_tensor=False
        )
        replaced = in_torch(Encoder(OURS["gMLP"], N_LAYERS), batch_first=False)
    for encoder, equal in [(copies, True), (replaced, False)]:
        first, second = (layer.layer.proj_in.weight for layer in encoder.layers)
        assert first is not second
        assert torch.equal(first, second) == equal


# Their layers in our encoder


# labml_nn's GMLPBlock takes one mask for all sequences; others are tested below.
ONE_MASK = ["no mask", "a mask", "causal"]
THEIR_CASES = [("Transformer", case) for case in CASES] + [("gMLP", case) for case in ONE_MASK]


@pytest.mark.parametrize(("kind", "case"), THEIR_CASES)
def test_our_encoder_equals_labml_nns_with_its_layers(kind, case):
    torch.manual_seed(0)
    mask, kept = case_of(case)
    theirs, x = labml_encoder(THEIRS[kind]), random(B, N, D)
    labml_mask = for_labml(mask, kept)
    if case == "causal and padding":
        # labml_nn alone gives NaN for a sequence with padding before the text.
        broken = theirs(x.transpose(0, 1), labml_mask).transpose(0, 1)
        assert broken[0].isnan().all()
        labml_mask |= (torch.eye(N, dtype=torch.bool) & ~kept[:, :, None]).permute(1, 2, 0)
    want = theirs(x.transpose(0, 1), labml_mask).transpose(0, 1)
    close(from_labml(theirs)(x, mask, kept), want, kept)
    if "causal" in case:
        close(from_labml(theirs, causal=True)(x, None, kept), want, kept)


def test_a_gmlp_block_of_labml_nn_refuses_masks_that_differ():
    layer, x = FromLabml(labml_gmlp_block().double()), random(B, N, D)
    for case in ("a mask each", "padding", "causal and padding"):
        assert_raises(
            lambda case=case: layer(x, *case_of(case)), ValueError, "mask", "GMLPBlock", 3
        )
    # A single sequence has a single mask.
    assert layer(x[:1], None, kept_tokens([N - 1], N)).shape == (1, N, D)


def test_another_assertion_error_of_the_layer_is_passed_on():
    class Broken(nn.Module):
        size = D

        def forward(self, *, x: Tensor, mask: Tensor | None) -> Tensor:
            raise AssertionError("broken")

    for mask in (None, torch.ones(N, N, dtype=torch.bool)):
        with pytest.raises(AssertionError, match=r"^broken$"):
            FromLabml(Broken())(random(B, N, D), mask)


@pytest.mark.parametrize("kind", THEIRS)
def test_the_whole_encoder_of_labml_nn_works_as_one_layer_of_ours(kind):
    torch.manual_seed(0)
    theirs, x = labml_encoder(THEIRS[kind]), random(B, N, D)
    layer = FromLabml(theirs, size=D, causal=True)
    mask = labml_nn("transformers.utils").subsequent_mask(N)
    assert torch.equal(layer(x), theirs(x.transpose(0, 1), mask).transpose(0, 1))
    model = LanguageModel(7, layer).double()
    assert model(torch.zeros(B, N, dtype=torch.long)).shape == (B, N, 7)


@every_case
@batch_first_or_not
@pytest.mark.parametrize("norm_first", [False, True])
def test_our_encoder_equals_torchs_with_its_layers(case, batch_first, norm_first):
    torch.manual_seed(0)
    theirs, x = torch_encoder(batch_first, norm_first), random(B, N, D)
    mask, kept = case_of(case)
    inverted = None if mask is None else ~mask
    if case == "a mask each":
        inverted = inverted.repeat_interleave(N_HEADS, dim=0)
    ours = from_torch(theirs), from_torch(theirs, causal=True)
    for inference in (False, True):
        # torch's fast path gives NaN for padding before the text: see the next test.
        theirs.train(not inference or case == "causal and padding")
        with torch.set_grad_enabled(not inference):
            want = theirs(
                x if batch_first else x.transpose(0, 1),
                mask=inverted,
                src_key_padding_mask=None if kept is None else ~kept,
            )
            want = want if batch_first else want.transpose(0, 1)
            for layer in theirs.layers:
                layer.train(not inference)
            close(ours[0](x, mask, kept), want, kept)
            if "causal" in case:
                close(ours[1](x, None, kept), want, kept)


@batch_first_or_not
def test_padding_before_the_text_gives_nan_in_torchs_fast_path_but_not_in_ours(batch_first):
    torch.manual_seed(0)
    theirs, x = torch_encoder(batch_first).eval(), random(B, N, D)
    (mask, kept), ours = case_of("causal and padding"), from_torch(theirs)
    with torch.no_grad():
        theirs_alone = theirs(
            x if batch_first else x.transpose(0, 1), mask=~mask, src_key_padding_mask=~kept
        )
        got = ours(x, mask, kept)
    if batch_first:
        assert theirs_alone[0].isnan().all()
    assert got.isfinite().all()
    close(got, ours.train()(x, mask, kept), kept)


# Properties of every adapter, as a layer from `[B, n, d]` to `[B, n, d]` with our masks.


def through_labml(make_layer: Callable[[], nn.Module]) -> Any:
    return FromLabml(ForLabml(make_layer()))


def through_torch(make_layer: Callable[[], nn.Module], batch_first: bool) -> Any:
    """Our layer in `ForTorch`, called as torch calls it."""
    adapter = ForTorch(make_layer(), batch_first=batch_first)

    class Called(nn.Module):
        size = D

        def __init__(self) -> None:
            super().__init__()
            self.layer = adapter

        def forward(self, x: Tensor, mask: Any = None, kept: Any = None) -> Tensor:
            y = adapter(
                x if batch_first else x.transpose(0, 1),
                src_mask=None if mask is None else ~mask,
                src_key_padding_mask=None if kept is None else ~kept,
            )
            return y if batch_first else y.transpose(0, 1)

    return Called()


def torch_layer(batch_first: bool) -> Any:
    return nn.TransformerEncoderLayer(D, N_HEADS, D_FFN, dropout=0.0, batch_first=batch_first)


ADAPTERS: dict[str, Callable[[], nn.Module]] = {
    "ForLabml gMLP": lambda: through_labml(OURS["gMLP"]),
    "ForLabml Transformer": lambda: through_labml(OURS["Transformer"]),
    "ForTorch gMLP": lambda: through_torch(OURS["gMLP"], batch_first=False),
    "ForTorch Transformer": lambda: through_torch(OURS["Transformer"], batch_first=True),
    "FromLabml Transformer": lambda: FromLabml(labml_transformer()),
    "FromTorch": lambda: FromTorch(torch_layer(batch_first=False)),
    "FromTorch batch first": lambda: FromTorch(torch_layer(batch_first=True)),
}
every_adapter = pytest.mark.parametrize("name", ADAPTERS)


@every_adapter
@pytest.mark.parametrize("case", ["no mask", "a mask", "a mask each", "padding", "causal"])
def test_a_position_reads_exactly_what_the_masks_allow(name, case):
    torch.manual_seed(0)
    layer, (mask, kept) = randomised(ADAPTERS[name]()), case_of(case)
    x = random(B, N, D).requires_grad_()
    y = layer(x, mask, kept)
    for b in range(B):
        for i in range(N):
            [gradient] = torch.autograd.grad(y[b, i].square().sum(), x, retain_graph=True)
            allowed = torch.ones(N, dtype=torch.bool)
            if mask is not None:
                allowed &= mask[i] if mask.dim() == 2 else mask[b, i]
            if kept is not None:
                allowed &= kept[b]
            allowed[i] = True  # by the residual connection
            if kept is not None and not kept[b, i]:
                continue
            read = gradient.abs().sum(-1) > 0
            assert read[b].tolist() == allowed.tolist()
            assert read.sum() == allowed.sum()


@every_adapter
@properties
@given(lengths=st.lists(st.integers(1, N), min_size=1, max_size=4), seed=seeds)
def test_padding_equals_cutting_it_off(name, lengths, seed):
    torch.manual_seed(seed)
    layer, x = randomised(ADAPTERS[name]()), random(len(lengths), N, D)
    y = layer(x, None, kept_tokens(lengths, N))
    for b, n in enumerate(lengths):
        alone = layer(x[b : b + 1, :n])
        torch.testing.assert_close(y[b : b + 1, :n], alone, rtol=0, atol=1e-12)


CAUSAL: dict[str, Callable[[], nn.Module]] = {
    "ForLabml": lambda: through_labml(OURS["causal gMLP"]),
    "ForTorch": lambda: through_torch(OURS["causal gMLP"], batch_first=True),
    "FromLabml Transformer": lambda: FromLabml(labml_transformer(), causal=True),
    "FromLabml gMLP": lambda: FromLabml(labml_gmlp_block(), causal=True),
    "FromTorch": lambda: FromTorch(torch_layer(batch_first=True), causal=True),
}


@pytest.mark.parametrize("name", CAUSAL)
@properties
@given(n=st.integers(2, N), data=st.data(), seed=seeds)
def test_with_causal_the_past_cannot_see_the_future(name, n, data, seed):
    t = data.draw(st.integers(1, n - 1), label="t")
    torch.manual_seed(seed)
    layer, x = randomised(CAUSAL[name]()), random(B, n, D)
    assert_the_past_cannot_see_the_future(layer, x, with_another_future(x, t), t)


@pytest.mark.parametrize("name", ["FromLabml Transformer", "FromLabml gMLP", "FromTorch"])
def test_causal_and_a_mask_together_allow_only_what_both_allow(name):
    torch.manual_seed(0)
    layer, x, mask = randomised(CAUSAL[name]()), random(B, N, D), case_of("a mask")[0]
    y = layer(x, mask)
    assert not torch.equal(y, layer(x))
    layer.causal = False
    assert not torch.equal(y, layer(x, mask))
    close(y, layer(x, mask.tril()), None)


@every_adapter
def test_a_layer_trains_in_its_adapter_and_can_be_saved_and_copied(name):
    torch.manual_seed(0)
    layer, x, target = randomised(ADAPTERS[name]()), random(B, N, D), random(B, N, D)
    other = ADAPTERS[name]().double()
    assert set(layer.state_dict()) == {f"layer.{key}" for key in layer.layer.state_dict()}
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        losses.append((layer(x, *case_of("a mask")) - target).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())
        optimizer.step()
    losses = []
    for _ in range(2):
        losses.append((layer(x) - target).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]
    other.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(layer(x), other(x))
    copied = copy.deepcopy(layer)
    assert torch.equal(copied(x), layer(x))
    randomised(copied)
    assert torch.equal(layer(x), other(x))


@pytest.mark.parametrize("host", ["labml_nn", "torch"])
def test_a_training_step_in_another_encoder_equals_one_in_ours(host):
    torch.manual_seed(0)
    ours, x, target = our_encoder(OURS["causal gMLP"]), random(B, N, D), random(B, N, D)
    copied = copy.deepcopy(ours)
    theirs = in_labml(copied) if host == "labml_nn" else in_torch(copied, batch_first=False)
    for model, turn in [(ours, False), (theirs, True)]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        inputs = x.transpose(0, 1) if turn else x
        y = model(inputs, None)
        ((y.transpose(0, 1) if turn else y) - target).square().mean().backward()
        optimizer.step()
    for p, q in zip(ours.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["ForLabml", "ForTorch", "FromLabml", "FromTorch"])
def test_an_adapter_has_no_parameters_of_its_own_and_shows_its_layer(name):
    layer = {
        "ForLabml": lambda: ForLabml(OURS["gMLP"]()),
        "ForTorch": lambda: ForTorch(OURS["gMLP"]()),
        "FromLabml": lambda: FromLabml(labml_transformer()),
        "FromTorch": lambda: FromTorch(torch_layer(batch_first=True)),
    }[name]()
    assert layer.size == D
    assert [id(p) for p in layer.parameters()] == [id(p) for p in layer.layer.parameters()]
    assert type(layer.layer).__name__ in repr(layer)


def test_an_encoder_may_mix_layers_of_all_three_packages():
    torch.manual_seed(0)
    layers = [OURS["causal gMLP"](), FromLabml(labml_transformer(), causal=True)]
    layers.append(FromTorch(torch_layer(batch_first=False), causal=True))
    encoder, x = randomised(Encoder(lambda i: layers[i], 3)), random(B, N, D)
    assert_the_past_cannot_see_the_future(encoder, x, with_another_future(x, 2), 2)
    kept = case_of("padding")[1]
    assert encoder(x[1:2], None, kept[1:2]).isfinite().all()
