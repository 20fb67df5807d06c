"""The loss over the whole validation part."""

import math

import numpy as np
import pytest
import torch
from helpers import properties, randomised, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments import evaluation
from experiments.autoregressive import Settings
from experiments.evaluation import evaluate, in_words
from experiments.models import make_model

N_TOKENS, SEQ_LEN = 6, 4
CPU = torch.device("cpu")


def random_model(layer: str = "gmlp") -> nn.Module:
    sizes = {"d_model": 8, "d_ffn": 12, "n_layers": 2, "n_heads": 2, "seq_len": SEQ_LEN}
    return randomised(make_model(Settings(layer=layer, **sizes), N_TOKENS))


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


# The sum is taken in float32: each of up to 50 terms and each partial sum is rounded by at most
# 2**-24 of it, 50 * 2**-24 = 3e-6 altogether.
@pytest.mark.parametrize("layer", ["gmlp", "transformer"])
@pytest.mark.parametrize("n", [50, 48, 9, 4, 3, 1])
@pytest.mark.parametrize("at_once", [128, 2, 1])
def test_equals_a_plain_loop_over_every_character(n, layer, at_once, monkeypatch):
    monkeypatch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
    torch.manual_seed(n)
    model, tokens = random_model(layer), torch.randint(N_TOKENS, (n + 1,))
    found = evaluate(model, tokens, SEQ_LEN, CPU)
    assert found["nats_per_char"] == pytest.approx(plain_loss(model, tokens), rel=4e-6)


@properties
@given(n=st.integers(1, 60), seq_len=st.integers(1, 9), at_once=st.integers(1, 5))
def test_each_character_is_predicted_once_in_windows_at_fixed_places(n, seq_len, at_once):
    model, tokens = Recorder(), torch.arange(n + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "WINDOWS_AT_ONCE", at_once)
        evaluate(model, tokens.clamp(max=99), seq_len, CPU)
    assert all(len(x) <= at_once for x in model.asked)
    windows = [window.tolist() for x in model.asked for window in x]
    assert windows == [list(range(n))[i : i + seq_len] for i in range(0, n, seq_len)]


def test_a_model_that_knows_nothing_has_the_logarithm_of_the_vocabulary():
    found = evaluate(Recorder(), torch.randint(100, (1_001,)), 16, CPU)
    assert found["nats_per_char"] == pytest.approx(math.log(100), rel=1e-6)
    assert found["bits_per_char"] == pytest.approx(math.log2(100), rel=1e-6)
    assert found["perplexity"] == pytest.approx(100, rel=1e-5)


@properties
@given(seed=seeds)
def test_bits_and_perplexity_follow_from_nats(seed):
    torch.manual_seed(seed)
    found = evaluate(random_model(), torch.randint(N_TOKENS, (20,)), SEQ_LEN, CPU)
    assert set(found) == {"nats_per_char", "bits_per_char", "perplexity"}
    assert 2 ** found["bits_per_char"] == pytest.approx(found["perplexity"], rel=1e-12)
    assert math.log(found["perplexity"]) == pytest.approx(found["nats_per_char"], rel=1e-12)


def test_a_loss_that_no_float_can_raise_e_to_has_an_infinite_perplexity():
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(x, 5) * 1e4

    found = evaluate(Wrong(), torch.arange(5), 2, CPU)
    assert found["nats_per_char"] == pytest.approx(1e4)
    assert found["perplexity"] == math.inf


def test_the_model_is_evaluated_in_eval_mode_and_left_in_train_mode():
    model = Recorder().train()
    evaluate(model, torch.arange(10), 4, CPU)
    assert not any(model.modes)
    assert model.training


def test_evaluation_leaves_no_trace_in_the_next_step():
    def gradients(evaluated: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model, tokens = random_model(), torch.randint(N_TOKENS, (30,))
        if evaluated:
            evaluate(model, tokens, SEQ_LEN, CPU)
            assert all(p.grad is None for p in model.parameters())
        model(tokens[None, :SEQ_LEN]).square().sum().backward()
        return [p.grad for p in model.parameters()]

    for with_it, without in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(with_it, without)


def test_the_line_for_people_has_all_three_numbers():
    found = {"nats_per_char": 1.66949, "bits_per_char": 2.40857, "perplexity": 5.30946}
    assert in_words(found) == "1.6695 nats/char, 2.4086 bits/char, perplexity 5.309"
