"""The loss over the whole validation part."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.models.language import Shape, make_model
from experiments.text import evaluation
from experiments.text.evaluation import describe, evaluate
from experiments.text.tokens import Tokens
from tests.support.helpers import properties, randomised, seeds

N_TOKENS, SEQ_LEN = 6, 4
FABRIC = Fabric(accelerator="cpu", devices=1)


def random_model(layer: str = "gmlp") -> nn.Module:
    shape = Shape(d_model=8, d_ffn=12, n_layers=2, n_heads=2, seq_len=SEQ_LEN)
    return randomised(make_model(layer, shape, N_TOKENS, causal=True, seed=0))


def found_by(model: nn.Module, tokens: Tensor, seq_len: int = SEQ_LEN) -> dict[str, float]:
    """The evaluation of a text whose tokens are its characters."""
    return evaluate(model, Tokens(tokens), len(tokens) - 1, seq_len, FABRIC)


def plain_loss(model: nn.Module, tokens: Tensor) -> float:
    """One character after another, each from what stands before it in its window; in float64."""
    total = 0.0
    for i in range(len(tokens) - 1):
        window = tokens[i // SEQ_LEN * SEQ_LEN : i + 1]
        logits = model(window[None]).detach().numpy()[0, -1]
        assert logits.dtype == np.float64
        total -= logits[tokens[i + 1]] - np.log(np.exp(logits).sum())
    return total / (len(tokens) - 1)


class Recorder(nn.Module):
    """Gives every token the same chance, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.clone())
        self.modes.append(self.training)
        return torch.zeros(*x.shape, 100)


# The logits and the terms are float32, and the sum is float64. A term is a difference of numbers of
# up to ten, each rounded by at most 2**-24 of it: 1e-6 altogether, of a loss above one.
@pytest.mark.parametrize("layer", ["gmlp", "transformer"])
@pytest.mark.parametrize("n", [50, 48, 9, 4, 3, 1])
@pytest.mark.parametrize("at_once", [128, 2, 1])
def test_equals_a_plain_loop_over_every_character(n, layer, at_once, monkeypatch):
    monkeypatch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
    torch.manual_seed(n)
    model, tokens = random_model(layer), torch.randint(N_TOKENS, (n + 1,))
    found = found_by(model, tokens)
    assert found["nats_per_char"] == pytest.approx(plain_loss(model, tokens), rel=1e-6)


@properties
@given(n=st.integers(1, 60), seq_len=st.integers(1, 9), at_once=st.integers(1, 5))
def test_each_character_is_predicted_once_in_windows_at_fixed_places(n, seq_len, at_once):
    model, tokens = Recorder(), torch.arange(n + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
        found_by(model, tokens.clamp(max=99), seq_len)
    assert all(len(x) <= at_once for x in model.asked)
    windows = [window.tolist() for x in model.asked for window in x]
    assert windows == [list(range(n))[i : i + seq_len] for i in range(0, n, seq_len)]


def test_a_model_that_knows_nothing_has_the_logarithm_of_the_vocabulary():
    found = found_by(Recorder(), torch.randint(100, (1_001,)), 16)
    assert found["nats_per_char"] == pytest.approx(math.log(100), rel=1e-6)
    assert found["bits_per_char"] == pytest.approx(math.log2(100), rel=1e-6)
    assert found["perplexity"] == pytest.approx(100, rel=1e-5)


@properties
@given(seed=seeds)
def test_bits_and_perplexity_follow_from_nats(seed):
    torch.manual_seed(seed)
    found = found_by(random_model(), torch.randint(N_TOKENS, (20,)))
    assert set(found) == {"nats_per_char", "bits_per_char", "perplexity"}
    assert 2 ** found["bits_per_char"] == pytest.approx(found["perplexity"], rel=1e-12)
    assert math.log(found["perplexity"]) == pytest.approx(found["nats_per_char"], rel=1e-12)


def test_a_loss_that_no_float_can_raise_e_to_has_an_infinite_perplexity():
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(x, 5) * 1e4

    found = found_by(Wrong(), torch.arange(5), 2)
    assert found["nats_per_char"] == pytest.approx(1e4)
    assert found["perplexity"] == math.inf


def test_the_model_is_evaluated_in_eval_mode_and_left_in_train_mode():
    model = Recorder().train()
    found_by(model, torch.arange(10))
    assert not any(model.modes)
    assert model.training


def test_evaluation_leaves_no_trace_in_the_next_step():
    def gradients(evaluated: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model, tokens = random_model(), torch.randint(N_TOKENS, (30,))
        if evaluated:
            found_by(model, tokens)
            assert all(p.grad is None for p in model.parameters())
        model(tokens[None, :SEQ_LEN]).square().sum().backward()
        return [p.grad for p in model.parameters()]

    for with_it, without in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(with_it, without)


@properties
@given(seed=seeds, characters=st.integers(1, 100))
def test_the_loss_is_that_of_a_character_and_the_perplexity_that_of_a_token(seed, characters):
    torch.manual_seed(seed)
    model, tokens = random_model(), torch.randint(N_TOKENS, (31,))
    each = found_by(model, tokens)
    found = evaluate(model, Tokens(tokens), characters, SEQ_LEN, FABRIC)
    total = 30 * each["nats_per_char"]
    assert found["nats_per_char"] == pytest.approx(total / characters, rel=1e-12)
    assert found["bits_per_char"] == pytest.approx(total / characters / math.log(2), rel=1e-12)
    assert found["perplexity"] == pytest.approx(each["perplexity"], rel=1e-12)


def test_the_sum_keeps_what_float32_would_lose():
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.full(x.shape, 7.0), torch.zeros(x.shape)], dim=-1)

    tokens = torch.zeros(200_001, dtype=torch.int64)
    found = found_by(Fixed(), tokens, 100)
    # The term itself is float32, and each is the same.
    one = nn.functional.cross_entropy(torch.tensor([[7.0, 0.0]]), torch.tensor([0])).item()
    assert found["nats_per_char"] == pytest.approx(one, rel=1e-12)


# ## Shared by processes


class Part:
    """One of several processes, without the others: its sum is only its own."""

    device = torch.device("cpu")

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size = rank, world
        self.sums: list[Tensor] = []

    def all_reduce(self, value: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        self.sums.append(value)
        return value


@properties
@given(n=st.integers(1, 60), at_once=st.integers(1, 4), world=st.integers(1, 5), seed=seeds)
def test_processes_sum_to_the_whole_and_make_as_many_passes_each(n, at_once, world, seed):
    torch.manual_seed(seed)
    model, tokens = random_model(), Tokens(torch.randint(N_TOKENS, (n + 1,)))
    parts, passes = [Part(rank, world) for rank in range(world)], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
        for part in parts:
            recorder = Recorder()
            evaluate(recorder, Tokens(torch.arange(n + 1)), n, SEQ_LEN, part)
            passes.append(recorder.asked)
            part.sums.clear()
            evaluate(model, tokens, n, SEQ_LEN, part)
    assert len({len(asked) for asked in passes}) == 1
    read = torch.cat([x.flatten() for asked in passes for x in asked])
    assert set(read.tolist()) == set(range(n))
    total = sum(part.sums[0].item() for part in parts)
    assert all(part.sums[0].dtype == torch.float64 for part in parts)
    assert total / n == pytest.approx(found_by(model, tokens[:])["nats_per_char"], rel=1e-6)


def test_the_line_for_people_has_all_three_numbers():
    found = {"nats_per_char": 1.66949, "bits_per_char": 2.40857, "perplexity": 5.30946}
    assert describe(found) == "1.6695 nats/char, 2.4086 bits/char, perplexity 5.309"
