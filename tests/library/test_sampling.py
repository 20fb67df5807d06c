"""The probabilities of the next token."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp import distribution
from tests.support import oracles
from tests.support.helpers import FLOAT64, assert_raises, properties, random, seeds

N_TOKENS = 7

options = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0]),
        "top_k": st.sampled_from([None, 1, 2, 3, N_TOKENS, 99]),
        "top_p": st.none() | st.floats(0.001, 0.999),
        "repetition_penalty": st.sampled_from([0.5, 1.0, 1.2, 4.0]),
    }
)
texts = st.lists(st.integers(0, N_TOKENS - 1), max_size=9)


@properties
@given(options=options, text=texts, ties=st.booleans(), seed=seeds)
def test_the_distribution_equals_the_filters_written_with_loops(options, text, ties, seed):
    torch.manual_seed(seed)
    logits = 2 * random(N_TOKENS)
    if ties:
        logits = logits.round()
    got = distribution(logits, text, **options)
    want = oracles.next_token(logits.numpy(), text, **options)
    torch.testing.assert_close(got, torch.from_numpy(want), rtol=0, atol=1e-12)
    assert ((got == 0).numpy() == (want == 0)).all()


@properties
@given(options=options, text=texts, seed=seeds)
def test_probabilities_sum_to_1_and_the_most_likely_token_always_stays(options, text, seed):
    torch.manual_seed(seed)
    logits = random(N_TOKENS)
    p = distribution(logits, text, **options)
    assert p.dtype == FLOAT64
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    alone = distribution(logits, text, repetition_penalty=options["repetition_penalty"])
    assert p.argmax() == alone.argmax()


@properties
@given(q=st.floats(1e-9, 1, exclude_min=True), seed=seeds)
def test_top_p_keeps_the_smallest_set_whose_probabilities_reach_it(q, seed):
    torch.manual_seed(seed)
    logits = random(N_TOKENS)
    whole = distribution(logits)
    left = distribution(logits, top_p=q) > 0
    kept = whole[left]
    assert left.any()
    assert kept.sum() >= q - 1e-12
    assert kept.sum() - kept.min() < q
    assert left.all() or kept.min() >= whole[~left].max()


@pytest.mark.parametrize("q", [1e-300, 1e-9, 0.2])
def test_a_tiny_top_p_keeps_the_first_of_equally_likely_tokens(q):
    assert distribution(torch.tensor([0.0, 1.0, 1.0, 1.0]), top_p=q).tolist() == [0, 1, 0, 0]


def test_a_top_p_of_1_keeps_tokens_that_float32_would_round_to_zero():
    p = distribution(torch.tensor([50.0, 0.0, 10.0, 0.0]), top_p=1.0)
    assert (p > 0).all()


def test_the_penalty_makes_a_token_less_likely_whatever_the_sign_of_its_logit():
    for logit in (2.0, -2.0):
        logits = torch.tensor([logit, 0.5, -0.5])
        assert distribution(logits, [0], repetition_penalty=1.3)[0] < distribution(logits)[0]
        assert distribution(logits, [0], repetition_penalty=0.7)[0] > distribution(logits)[0]
        once, often = ([0], [0, 0, 0])
        assert torch.equal(
            distribution(logits, once, repetition_penalty=1.3),
            distribution(logits, often, repetition_penalty=1.3),
        )


@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [0, 1e-3, 1e-8, 1e-38, 1e-46, 5e-324])
@pytest.mark.parametrize("logits", [[0.0, 2.0, 1.0], [-900.0, 900.0, 800.0], [1e30, 3e30, -3e30]])
def test_near_temperature_0_the_most_likely_token_has_probability_1(dtype, temperature, logits):
    p = distribution(torch.tensor(logits, dtype=dtype), temperature=temperature)
    assert p.tolist() == [0, 1, 0]


def test_top_k_keeps_ties_with_its_last_token():
    p = distribution(torch.tensor([1.0, 5.0, 1.0, 0.0, 1.0]), top_k=2, temperature=4.0)
    assert (p > 0).tolist() == [True, True, True, False, True]


# g_mlp_pytorch 0.1.5 keeps int(0.1 * n_tokens) tokens: none if there are fewer than ten.
@pytest.mark.parametrize("n_tokens", range(1, 12))
@pytest.mark.parametrize("option", [{}, {"top_k": 1}, {"top_p": 0.1}, {"temperature": 0}])
def test_every_filter_keeps_a_token_of_every_vocabulary(n_tokens, option):
    p = distribution(torch.arange(n_tokens).float(), **option)
    assert p.isfinite().all()
    assert p[-1] > 0


def test_a_logit_of_minus_infinity_has_probability_0():
    logits = torch.tensor([0.0, -torch.inf, 1.0])
    for option in ({}, {"temperature": 0.1}, {"top_p": 0.99}, {"repetition_penalty": 2.0}):
        assert distribution(logits, [1], **option)[1] == 0


def test_the_logits_are_not_modified_and_get_no_gradient():
    logits = random(N_TOKENS).requires_grad_()
    before = logits.detach().clone()
    p = distribution(logits, [1, 2], top_k=3, top_p=0.5, repetition_penalty=2.0)
    assert not p.requires_grad
    assert torch.equal(logits.detach(), before)


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_without_a_finite_maximum_are_refused(bad, temperature):
    largest = torch.tensor(bad).max().item()
    assert_raises(
        lambda: distribution(torch.tensor(bad), temperature=temperature),
        ValueError,
        *("logits", "finite", largest),
    )
