import itertools

import pytest
import torch
from helpers import FLOAT64, assert_raises, properties, randomised, seeds
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, LanguageModel, TransformerLayer, generate

N_TOKENS, SEQ_LEN = 7, 4
PROMPT = torch.tensor([3, 1])


class Fixed(nn.Module):
    """The same logits after every text; remembers what it was asked."""

    def __init__(self, logits, dtype=torch.float32):
        super().__init__()
        self.logits = torch.tensor(logits, dtype=dtype)
        self.asked = []

    def forward(self, tokens):
        self.asked.append(tokens)
        # Only the last position is to be read.
        out = torch.full((*tokens.shape, len(self.logits)), torch.nan, dtype=self.logits.dtype)
        out[:, -1] = self.logits
        return out


def model_of(kind="gMLP"):
    def make_layer():
        if kind == "gMLP":
            return GMLPBlock(4, 6, SEQ_LEN, causal=True)
        return TransformerLayer(4, 2, 6, causal=True)

    n_positions = None if kind == "gMLP" else SEQ_LEN
    return randomised(LanguageModel(N_TOKENS, Encoder(make_layer, 2), n_positions=n_positions))


def draw(model, n_new=12, seed=0, prompt=PROMPT, **options):
    options = {"seq_len": SEQ_LEN, "generator": torch.Generator().manual_seed(seed)} | options
    return list(generate(model, prompt, n_new, **options))


def likeliest(model, prompt, n_new):
    """Greedy, by hand: the model reads the last `SEQ_LEN` tokens and its largest logit wins."""
    tokens = prompt.tolist()
    for _ in range(n_new):
        logits = model(torch.tensor([tokens[-SEQ_LEN:]]))[0, -1]
        tokens.append(max(range(N_TOKENS), key=lambda v: logits[v].item()))
    return tokens[len(prompt) :]


# The likeliest token


@pytest.mark.parametrize("kind", ["gMLP", "Transformer"])
@properties
@given(prompt=st.lists(st.integers(0, N_TOKENS - 1), min_size=1, max_size=6), seed=seeds)
def test_at_temperature_0_the_likeliest_token_wins_far_beyond_the_window(kind, prompt, seed):
    torch.manual_seed(seed)
    model, prompt = model_of(kind), torch.tensor(prompt)
    want = likeliest(model, prompt, 9)
    assert draw(model, 9, prompt=prompt, temperature=0) == want
    assert draw(model, 9, prompt=prompt, top_k=1) == want
    assert draw(model, 9, prompt=prompt, top_k=1, temperature=5.0) == want


@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [1e-3, 1e-8, 1e-38, 1e-45])
@pytest.mark.parametrize("logits", [[0.0, 2.0, 1.0], [-900.0, 900.0, 800.0], [1e30, 3e30, -3e30]])
def test_towards_temperature_0_the_likeliest_token_wins(dtype, temperature, logits):
    assert draw(Fixed(logits, dtype), temperature=temperature) == [1] * 12


@pytest.mark.parametrize("temperature", [1e-46, 5e-324])
def test_a_temperature_below_all_float32_numbers_counts_as_0(temperature):
    assert draw(Fixed([0.0, 2.0, 1.0]), temperature=temperature) == [1] * 12


def test_the_window_slides_over_the_last_tokens():
    model = Fixed([0.0] * N_TOKENS)
    prompt = torch.tensor([6, 5, 4, 3, 2, 1])
    text = prompt.tolist() + draw(model, 9, prompt=prompt)
    assert [asked.tolist() for asked in model.asked] == [[text[i + 2 : i + 6]] for i in range(9)]
    model.asked.clear()
    text = [2, *draw(model, 9, prompt=torch.tensor([2]))]
    assert [asked.tolist() for asked in model.asked] == [
        [text[max(0, i - 3) : i + 1]] for i in range(9)
    ]


# Drawing


@pytest.mark.parametrize(
    ("options", "likely"),
    [
        ({}, [0.0, 1.0, 2.0, -1.0, 0.5]),
        ({"temperature": 2.5}, [0.0, 0.4, 0.8, -0.4, 0.2]),
        ({"temperature": 0.4}, [0.0, 2.5, 5.0, -2.5, 1.25]),
        ({"top_k": 2}, [None, 1.0, 2.0, None, None]),
        ({"top_k": 3, "temperature": 2.0}, [None, 0.5, 1.0, None, 0.25]),
        ({"top_k": 5}, [0.0, 1.0, 2.0, -1.0, 0.5]),
        ({"top_k": 99}, [0.0, 1.0, 2.0, -1.0, 0.5]),
    ],
)
def test_tokens_are_as_frequent_as_their_softmax(options, likely):
    n = 4000
    tokens = torch.tensor(draw(Fixed([0.0, 1.0, 2.0, -1.0, 0.5]), n, **options))
    count = torch.bincount(tokens, minlength=5).double()
    weight = torch.tensor([0.0 if logit is None else torch.e**logit for logit in likely]).double()
    p = weight / weight.sum()
    # A count is binomial; five standard deviations are missed once in two million draws, and the
    # seed is fixed. A token with p = 0 must never come.
    assert ((count - n * p).abs() <= 5 * (n * p * (1 - p)).sqrt()).all()


def test_tokens_as_likely_as_the_last_of_the_top_k_stay_in():
    tokens = draw(Fixed([1.0, 5.0, 1.0, 0.0, 1.0]), 400, top_k=2, temperature=4.0)
    assert set(tokens) == {0, 1, 2, 4}


def test_a_seed_repeats_the_draw_and_leaves_other_random_numbers_alone():
    torch.manual_seed(0)
    model = model_of()
    state = torch.get_rng_state()
    first = draw(model, 30, seed=1)
    assert first == draw(model, 30, seed=1)
    assert first != draw(model, 30, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(3)
    without = draw(model, 30, generator=None)
    torch.manual_seed(3)
    assert without == draw(model, 30, generator=None)


def test_tokens_are_whole_numbers_and_come_one_at_a_time():
    model = Fixed([0.0, 0.0])
    tokens = generate(model, PROMPT, 10**9, seq_len=SEQ_LEN)
    assert not model.asked
    assert {type(token) for token in itertools.islice(tokens, 5)} == {int}
    assert len(model.asked) == 5


def test_a_window_of_one_token_is_the_shortest():
    model = Fixed([0.0, 1.0])
    text = [1, *draw(model, 5, seq_len=1)]
    assert [asked.tolist() for asked in model.asked] == [[[token]] for token in text[:5]]


def test_no_new_tokens_are_none():
    model = Fixed([0.0, 0.0])
    assert draw(model, 0) == []
    assert not model.asked


def test_drawing_records_no_gradient_and_the_caller_may():
    model, grad_enabled = model_of(), []
    model.register_forward_hook(lambda *_: grad_enabled.append(torch.is_grad_enabled()))
    prompt = PROMPT.clone()
    for _ in generate(model, prompt, 3, seq_len=SEQ_LEN):
        assert torch.is_grad_enabled()
    assert grad_enabled == [False] * 3
    assert torch.equal(prompt, PROMPT)


# Errors: nothing here asks for a token


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": PROMPT[:0]}, "prompt must be [n] with at least one token, got [0]"),
        ({"prompt": PROMPT[None]}, "prompt must be [n] with at least one token, got [1, 2]"),
        ({"prompt": PROMPT[0]}, "prompt must be [n] with at least one token, got []"),
        ({"n_new": -1}, "n_new must be at least 0, got -1"),
        ({"seq_len": 0}, "seq_len must be at least 1, got 0"),
        ({"seq_len": -3}, "seq_len must be at least 1, got -3"),
        ({"temperature": -0.5}, "temperature must be finite and at least 0, got -0.5"),
        ({"temperature": float("nan")}, "temperature must be finite and at least 0, got nan"),
        ({"temperature": float("inf")}, "temperature must be finite and at least 0, got inf"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": -4}, "top_k must be at least 1, got -4"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_a_bad_call_is_refused_before_the_first_token_is_asked_for(options, message):
    model = Fixed([0.0, 0.0])
    good = {"prompt": PROMPT, "n_new": 3, "seq_len": SEQ_LEN}
    assert_raises(lambda: generate(model, **(good | options)), ValueError, message)
    assert not model.asked
