"""Generation of text; the filters are tested in test_sampling.py."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp import generate, generate_batch
from tests.support import oracles
from tests.support.generation import (
    KINDS,
    N_TOKENS,
    PROMPT,
    SEQ_LEN,
    Fixed,
    draw,
    draw_batch,
    model_of,
    recorded,
)
from tests.support.helpers import FLOAT64, properties, seeds


def by_hand(model, prompt, n_new, slide):
    """Greedy generation with a list as window and a full pass for each token."""
    window, new = [], []
    for i in itertools.count():
        token = prompt[i].item() if i < len(prompt) else None
        if token is None:
            logits = model(torch.tensor([window]))[0, -1]
            token = max(range(N_TOKENS), key=lambda v: logits[v].item())
            new.append(token)
        if len(new) == n_new:
            return new
        window.append(token)
        if len(window) > SEQ_LEN:
            del window[:slide]
    return None


tokens = st.integers(0, N_TOKENS - 1)
prompts = st.lists(tokens, min_size=1, max_size=9).map(torch.tensor)
filters = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.7, 1.5]),
        "top_k": st.sampled_from([None, 1, 3]),
        "top_p": st.sampled_from([None, 0.6]),
        "repetition_penalty": st.sampled_from([1.0, 1.4]),
    }
)


# With and without a cache


@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@properties
@given(prompt=prompts, slide=st.integers(1, SEQ_LEN), seed=seeds)
def test_greedy_generation_equals_a_loop_far_beyond_the_window(
    kind, use_cache, prompt, slide, seed
):
    torch.manual_seed(seed)
    model = model_of(kind)
    want = by_hand(model, prompt, 9, slide)
    options = {"prompt": prompt, "slide": slide, "use_cache": use_cache}
    assert draw(model, 9, temperature=0, **options) == want
    assert draw(model, 9, top_k=1, **options) == want
    assert draw(model, 9, top_p=1e-9, temperature=5.0, **options) == want


@pytest.mark.parametrize("kind", KINDS)
@properties
@given(
    prompts=st.lists(prompts, min_size=1, max_size=3),
    options=filters,
    slide=st.integers(1, SEQ_LEN),
    stop_tokens=st.sets(tokens, max_size=2),
    seed=seeds,
)
def test_the_cache_changes_no_token(kind, prompts, options, slide, stop_tokens, seed):
    torch.manual_seed(seed)
    model = model_of(kind)
    options = options | {"slide": slide, "stop_tokens": stop_tokens, "seed": seed}
    assert draw_batch(model, prompts, **options) == draw_batch(
        model, prompts, use_cache=False, **options
    )


@pytest.mark.parametrize("kind", KINDS)
@properties
@given(
    prompts=st.lists(prompts, min_size=1, max_size=4),
    options=filters,
    slide=st.integers(1, SEQ_LEN),
    stop_tokens=st.sets(tokens, max_size=2),
    seed=seeds,
)
def test_a_prompt_has_the_same_continuation_alone_and_in_a_batch(
    kind, prompts, options, slide, stop_tokens, seed
):
    torch.manual_seed(seed)
    model = model_of(kind)
    options = options | {"slide": slide, "stop_tokens": stop_tokens}
    together = draw_batch(model, prompts, seed=seed, **options)
    for b, prompt in enumerate(prompts):
        assert together[b] == draw(model, prompt=prompt, seed=seed + b, **options)


def test_the_cache_reads_each_token_once_and_the_window_again_after_each_slide():
    torch.manual_seed(0)
    model = model_of()
    asked = recorded(model)
    text = PROMPT.tolist() + draw(model, 10, slide=3)
    want = [text[0:2], text[2:3], text[3:4], text[4:5], text[3:6], text[6:7], text[7:8]]
    want += [text[6:9], text[9:10], text[10:11]]
    assert asked == [[part] for part in want]
    asked.clear()
    draw(model, 10, use_cache=False)
    assert [len(part) for (part,) in asked] == [2, 3, 4, 5, 5, 5, 5, 5, 5, 5]


def test_rows_are_read_to_the_length_of_the_shortest_and_continue_with_their_prompts():
    model = Fixed([0.0, 0.0, 9.0])
    prompts = [torch.tensor(p) for p in ([1, 1], [0, 1, 0, 1], [1])]
    got = draw_batch(model, prompts, 3, seq_len=None, temperature=0)
    assert got == [[2, 2, 2]] * 3
    rows = [[1, 1, 2, 2, 2, 0], [0, 1, 0, 1, 2, 2], [1, 2, 2, 2, 0, 0]]
    assert model.asked == [[row[:n] for row in rows] for n in range(1, 7)]


def test_the_rest_of_a_long_prompt_is_read_in_one_pass():
    torch.manual_seed(0)
    model = model_of("Transformer")
    model.positions = None
    asked = recorded(model)
    prompts = [torch.tensor([1]), torch.tensor([2] * 20)]
    draw_batch(model, prompts, 3, seq_len=None)
    assert [len(rows[0]) for rows in asked] == [1, 1, 1, 17, 1, 1]


# Streaming and stopping


def test_tokens_are_integers_and_are_drawn_one_at_a_time():
    model = Fixed([0.0, 0.0])
    tokens = generate(model, PROMPT, 10**9, use_cache=False)
    assert not model.asked
    assert {type(token) for token in itertools.islice(tokens, 5)} == {int}
    assert len(model.asked) == 5


def test_a_token_is_yielded_before_the_next_one_is_drawn():
    model = Fixed([0.0, 9.0])
    pairs = generate_batch(model, [PROMPT, PROMPT[:1]], 10**9, temperature=0, use_cache=False)
    assert list(itertools.islice(pairs, 4)) == [(1, 1), (0, 1), (1, 1), (0, 1)]
    assert len(model.asked) == 3


@properties
@given(prompt=prompts, stop_tokens=st.sets(tokens, min_size=1), seed=seeds)
def test_a_stop_token_is_the_last_token(prompt, stop_tokens, seed):
    torch.manual_seed(seed)
    model = model_of()
    whole = draw(model, 20, prompt, seed=seed)
    n = next((i + 1 for i, token in enumerate(whole) if token in stop_tokens), 20)
    assert draw(model, 20, prompt, seed=seed, stop_tokens=stop_tokens) == whole[:n]


def test_a_stop_token_in_the_prompt_stops_nothing():
    assert draw(Fixed([9.0, 0.0]), 3, torch.tensor([1, 1]), stop_tokens=[1], top_k=1) == [0, 0, 0]


def test_the_model_is_not_called_after_all_rows_have_ended():
    model = Fixed([0.0, 9.0])
    assert draw_batch(model, [PROMPT] * 2, 10**9, stop_tokens=[1], temperature=0) == [[1], [1]]
    assert len(model.asked) == 1


@pytest.mark.parametrize("use_cache", [False, True])
def test_n_new_of_0_generates_nothing(use_cache):
    model = model_of()
    asked = recorded(model)
    assert draw(model, 0, use_cache=use_cache) == []
    assert not asked


def test_a_window_may_hold_a_single_token():
    model = Fixed([0.0, 1.0])
    text = [1, *draw(model, 5, seq_len=1)]
    assert model.asked == [[[token]] for token in text[:5]]


# Random draws


OPTIONS = [
    {},
    {"temperature": 2.5},
    {"temperature": 0.4},
    {"top_k": 2},
    {"top_k": 3, "temperature": 2.0},
    {"top_k": 99},
    {"top_p": 0.7},
    {"top_p": 0.7, "top_k": 3, "temperature": 3.0},
    {"repetition_penalty": 3.0},
    {"repetition_penalty": 3.0, "temperature": 2.0, "top_k": 4, "top_p": 0.9},
]


def assert_as_frequent(drawn, p):
    """Each count is binomial and within five standard deviations; p = 0 must never be drawn.

    Chance breaks this once in two million, and the seed is fixed.
    """
    n, p = len(drawn), torch.from_numpy(p)
    count = torch.bincount(torch.tensor(drawn), minlength=len(p)).double()
    assert ((count - n * p).abs() <= 5 * (n * p * (1 - p)).sqrt() + 1e-9).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tokens_are_drawn_with_the_filtered_probabilities_in_rows_and_along_a_text(options):
    logits = [0.0, 1.0, 2.0, -1.0, 0.5]
    texts = draw_batch(Fixed(logits), [torch.tensor([2, 3, 2])] * 2000, 1, **options)
    assert_as_frequent([token for (token,) in texts], oracles.next_token(logits, [2, 3], **options))
    text = draw(Fixed(logits), 2000, torch.arange(5), **options)
    assert_as_frequent(text, oracles.next_token(logits, list(range(5)), **options))


def test_the_penalty_covers_tokens_that_have_left_the_window():
    # Tokens 0 and 1 are in the text, but the window holds only the last token.
    options = {"seq_len": 1, "temperature": 0, "repetition_penalty": 2.0}
    assert draw(Fixed([3.0, 0.5, 2.0]), 1, torch.tensor([0, 1, 1]), **options) == [2]


def test_a_seed_reproduces_the_text_and_does_not_advance_the_global_generator():
    torch.manual_seed(0)
    model = model_of()
    state = torch.get_rng_state()
    first = draw(model, 30, seed=1)
    assert first == draw(model, 30, seed=1)
    assert first != draw(model, 30, seed=2)
    draw(model, 30, seed=None, temperature=0)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(3)
    without = draw(model, 30, seed=None)
    torch.manual_seed(3)
    assert without == draw(model, 30, seed=None)
    assert without != draw(model, 30, seed=None)


# Side effects


def test_generation_disables_gradients_only_inside_the_model():
    model, grad_enabled = model_of(), []
    model.register_forward_hook(lambda *_: grad_enabled.append(torch.is_grad_enabled()))
    prompt = PROMPT.clone()
    for _ in generate(model, prompt, 3, seq_len=SEQ_LEN):
        assert torch.is_grad_enabled()
    assert grad_enabled == [False] * 3
    assert torch.equal(prompt, PROMPT)


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_the_model_does_not_change(training):
    model, modes = model_of().train(training), []
    model.register_forward_hook(lambda *_: modes.append(model.training))
    draw(model, 3)
    assert modes == [training] * 3
    assert model.training is training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, FLOAT64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_models_of_any_precision_generate(kind, dtype):
    torch.manual_seed(0)
    assert len(draw(model_of(kind).to(dtype), 9, top_p=0.9)) == 9
