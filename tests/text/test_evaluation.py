"""The loss over the whole validation split, against a loop over every token."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.autoregressive import next_token_loss
from experiments.models.language import LayerSizes, make_model
from experiments.text import evaluation
from experiments.text.evaluation import describe, evaluate
from experiments.text.tokens import Tokens
from tests.support.helpers import properties, randomised, seeds

N_TOKENS, SEQ_LEN = 6, 4
FABRIC = Fabric(accelerator="cpu", devices=1)


def random_model(layer: str = "gmlp") -> nn.Module:
    sizes = LayerSizes(d_model=8, d_ffn=12, n_layers=2, n_heads=2, seq_len=SEQ_LEN)
    return randomised(make_model(layer, sizes, N_TOKENS, causal=True, seed=0))


def evaluated(model: nn.Module, tokens: Tensor, seq_len: int = SEQ_LEN) -> dict[str, float]:
    """The metrics of a text whose tokens are its characters."""
    return evaluate(model, Tokens(tokens), len(tokens) - 1, seq_len, FABRIC)


def loss_with_loops(model: nn.Module, tokens: Tensor) -> float:
    """Predicts one token at a time from those before it in its window, in float64."""
    total = 0.0
    for i in range(len(tokens) - 1):
        window = tokens[i // SEQ_LEN * SEQ_LEN : i + 1]
        logits = model(window[None]).detach().numpy()[0, -1]
        assert logits.dtype == np.float64
        total -= logits[tokens[i + 1]] - np.log(np.exp(logits).sum())
    return total / (len(tokens) - 1)


class Recorder(nn.Module):
    """Gives all tokens the same probability, and records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.clone())
        self.modes.append(self.training)
        return torch.zeros(*x.shape, 100)


# Logits and terms are float32, their sum is float64. A term is a difference of numbers up to 10,
# each rounded by at most 2**-24 of it: 1e-6 in total, for a loss above 1.
@pytest.mark.parametrize("layer", ["gmlp", "transformer"])
@pytest.mark.parametrize("n", [50, 48, 9, 4, 3, 1])
def test_the_loss_equals_a_loop_over_every_token(n, layer, monkeypatch):
    torch.manual_seed(n)
    model, tokens = random_model(layer), torch.randint(N_TOKENS, (n + 1,))
    want = loss_with_loops(model, tokens)
    for at_once in (128, 2, 1):
        monkeypatch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
        assert evaluated(model, tokens)["nats_per_char"] == pytest.approx(want, rel=1e-6)


@properties
@given(n=st.integers(1, 60), seq_len=st.integers(1, 9), at_once=st.integers(1, 5))
def test_each_token_is_predicted_once_in_windows_at_fixed_places(n, seq_len, at_once):
    model, tokens = Recorder(), torch.arange(n + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
        evaluated(model, tokens.clamp(max=99), seq_len)
    assert all(len(x) <= at_once for x in model.inputs)
    windows = [window.tolist() for x in model.inputs for window in x]
    assert windows == [list(range(n))[i : i + seq_len] for i in range(0, n, seq_len)]


def test_uniform_predictions_have_the_logarithm_of_the_vocabulary_as_loss():
    tokens = torch.randint(100, (1_001,))
    metrics = evaluated(Recorder(), tokens, 16)
    assert metrics["nats_per_char"] == pytest.approx(math.log(100), rel=1e-6)
    assert metrics["bits_per_char"] == pytest.approx(math.log2(100), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(100, rel=1e-5)
    batch = (tokens[None, :-1], tokens[None, 1:])
    assert next_token_loss(Recorder(), batch).item() == pytest.approx(math.log(100), rel=1e-6)


def test_a_loss_too_large_for_exp_has_an_infinite_perplexity():
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(x, 5) * 1e4

    metrics = evaluated(Wrong(), torch.arange(5), 2)
    assert metrics["nats_per_char"] == pytest.approx(1e4)
    assert metrics["perplexity"] == math.inf


def test_the_model_is_evaluated_in_eval_mode_and_left_in_train_mode():
    model = Recorder().train()
    evaluated(model, torch.arange(10))
    assert not any(model.modes)
    assert model.training


def test_evaluation_does_not_change_the_gradients_of_the_next_step():
    def gradients(evaluated_before: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model, tokens = random_model(), torch.randint(N_TOKENS, (30,))
        if evaluated_before:
            evaluated(model, tokens)
            assert all(p.grad is None for p in model.parameters())
        model(tokens[None, :SEQ_LEN]).square().sum().backward()
        return [p.grad for p in model.parameters()]

    for after, without in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(after, without)


@properties
@given(seed=seeds, characters=st.integers(1, 100))
def test_the_loss_is_per_character_and_the_perplexity_per_token(seed, characters):
    torch.manual_seed(seed)
    model, tokens = random_model(), torch.randint(N_TOKENS, (31,))
    each = evaluated(model, tokens)
    metrics = evaluate(model, Tokens(tokens), characters, SEQ_LEN, FABRIC)
    assert set(metrics) == {"nats_per_char", "bits_per_char", "perplexity"}
    total = 30 * each["nats_per_char"]
    assert metrics["nats_per_char"] == pytest.approx(total / characters, rel=1e-12)
    assert metrics["bits_per_char"] == pytest.approx(total / characters / math.log(2), rel=1e-12)
    assert math.log(metrics["perplexity"]) == pytest.approx(each["nats_per_char"], rel=1e-12)


def test_the_sum_keeps_digits_that_float32_would_lose():
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.full(x.shape, 7.0), torch.zeros(x.shape)], dim=-1)

    tokens = torch.zeros(200_001, dtype=torch.int64)
    metrics = evaluated(Fixed(), tokens, 100)
    # All terms are this float32 number.
    term = nn.functional.cross_entropy(torch.tensor([[7.0, 0.0]]), torch.tensor([0])).item()
    assert metrics["nats_per_char"] == pytest.approx(term, rel=1e-12)


# ## Several processes


class OneProcess:
    """Fabric in one of several processes, whose `all_reduce` returns its own sum."""

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
def test_all_processes_run_equally_often_and_their_sums_are_those_of_one(n, at_once, world, seed):
    torch.manual_seed(seed)
    model, tokens = random_model(), Tokens(torch.randint(N_TOKENS, (n + 1,)))
    processes, inputs = [OneProcess(rank, world) for rank in range(world)], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
        for process in processes:
            recorder = Recorder()
            evaluate(recorder, Tokens(torch.arange(n + 1)), n, SEQ_LEN, process)
            inputs.append(recorder.inputs)
            process.sums.clear()
            evaluate(model, tokens, n, SEQ_LEN, process)
    assert len({len(own) for own in inputs}) == 1
    read = torch.cat([x.flatten() for own in inputs for x in own])
    assert set(read.tolist()) == set(range(n))
    total = sum(process.sums[0].item() for process in processes)
    assert all(process.sums[0].dtype == torch.float64 for process in processes)
    assert total / n == pytest.approx(evaluated(model, tokens[:])["nats_per_char"], rel=1e-6)


def test_the_description_has_all_three_metrics():
    metrics = {"nats_per_char": 1.66949, "bits_per_char": 2.40857, "perplexity": 5.30946}
    assert describe(metrics) == "1.6695 nats/char, 2.4086 bits/char, perplexity 5.309"
