"""Errors and warnings of `generate` and `generate_batch`."""

import warnings

import pytest
import torch
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, LanguageModel, generate, generate_batch
from tests.support.generation import N_TOKENS, PROMPT, SEQ_LEN, draw, model_of, recorded
from tests.support.helpers import assert_names, assert_raises

# The warning


def test_a_text_that_outgrows_the_window_without_a_slide_warns_once():
    model = model_of()
    with pytest.warns(UserWarning, match="seq_len=5") as caught:
        tokens = generate(model, PROMPT, SEQ_LEN, seq_len=SEQ_LEN, seed=0)
    (warning,) = caught
    assert_names(str(warning.message), 7, "seq_len=5", "slide=1", "seq_len=None")
    # It then works as with slide=1.
    assert list(tokens) == draw(model, SEQ_LEN)


@pytest.mark.parametrize(
    "options",
    [
        {"n_new": 4},  # fits, since the last token is never read
        {"slide": 1},
        {"slide": 2},
        {"use_cache": False},
        {"seq_len": None},
        {"n_new": 0, "prompt": torch.zeros(9, dtype=torch.int64)},
    ],
    ids=str,
)
def test_there_is_no_warning_with_a_slide_or_when_the_text_fits(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(**({"model": model_of(), "prompt": PROMPT, "n_new": 9, "seq_len": 5} | options))


# Errors at the call, before a token is requested


class Unknown(nn.Module):
    def forward(self, tokens):
        raise AssertionError


NAN, INF = float("nan"), float("inf")


# The options, and what the message must name: the argument, its bound, the value.
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"prompt": PROMPT[:0]}, ("prompt", "[n]", [0])),
        ({"prompt": PROMPT[None]}, ("prompt", "[n]", [1, 2])),
        ({"prompt": PROMPT[0]}, ("prompt", "[n]", [])),
        ({"n_new": -1}, ("n_new", "-1")),
        ({"n_new": 2.0}, ("n_new", 2.0)),
        ({"seq_len": 0}, ("seq_len", 0)),
        ({"seq_len": -3}, ("seq_len", "-3")),
        ({"temperature": -0.5}, ("temperature", "-0.5")),
        ({"temperature": NAN}, ("temperature", NAN)),
        ({"temperature": INF}, ("temperature", INF)),
        ({"top_k": 0}, ("top_k", 0)),
        ({"top_k": 0.9}, ("top_k", 0.9)),
        ({"top_p": 0}, ("top_p", "(0, 1]", "got 0")),
        ({"top_p": 1.1}, ("top_p", "(0, 1]", 1.1)),
        ({"top_p": NAN}, ("top_p", "(0, 1]", NAN)),
        ({"repetition_penalty": 0}, ("repetition_penalty", 0)),
        ({"repetition_penalty": INF}, ("repetition_penalty", INF)),
        ({"stop_tokens": [1, -1]}, ("stop_tokens", "-1")),
        ({"stop_tokens": "a"}, ("stop_tokens", "'a'")),
        ({"seed": -1}, ("seed", "[0, 2**63)", "-1")),
        ({"seed": 2**63}, ("seed", "[0, 2**63)", 2**63)),
        ({"slide": 0}, ("slide", 0)),
        ({"slide": 6}, ("slide", "seq_len=5", 6)),
    ],
    ids=str,
)
def test_a_bad_value_is_refused_before_a_token_is_requested(options, parts):
    model = model_of()
    asked = recorded(model)
    good = {"model": model, "prompt": PROMPT, "n_new": 3, "seq_len": SEQ_LEN}
    assert_raises(lambda: generate(**(good | options)), ValueError, *parts)
    assert not asked


def test_a_bad_type_is_refused_before_a_token_is_requested():
    for prompt, got in ((PROMPT.float(), "torch.float32"), ([3, 1], "list")):
        assert_raises(
            lambda prompt=prompt: generate(model_of(), prompt, 3),
            TypeError,
            "prompt",
            "integer",
            got,
        )
    assert_raises(
        lambda: generate(Unknown(), PROMPT, 3), TypeError, "model", "Unknown", "use_cache=False"
    )
    bidirectional = LanguageModel(N_TOKENS, Encoder(lambda: GMLPBlock(4, 6, SEQ_LEN), 1))
    assert_raises(
        lambda: generate(bidirectional, PROMPT, 3), ValueError, "causal", "use_cache=False"
    )


def test_a_bad_prompt_of_several_is_named():
    call = lambda *prompts: generate_batch(model_of(), list(prompts), 3)  # noqa: E731
    assert_raises(call, ValueError, "prompts")
    assert_raises(lambda: call(PROMPT, PROMPT[None]), ValueError, "prompts[1]", [1, 2])


# Errors while drawing


class Broken(nn.Module):
    """Returns logits of another shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, tokens):
        return torch.zeros(*self.shape)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (Broken(2, 3), ("model", "[B, n] = [1, 2]", [2, 3])),
        (Broken(1, 1, 3), ("model", "[B, n] = [1, 2]", [1, 1, 3])),
    ],
    ids=["no tokens", "one position"],
)
def test_a_model_that_breaks_its_contract_is_found_at_the_first_token(model, parts):
    assert_raises(lambda: next(generate(model, PROMPT, 3, use_cache=False)), ValueError, *parts)


def test_a_text_that_outgrows_the_model_is_refused():
    assert_raises(lambda: list(generate(model_of(), PROMPT, 9)), ValueError, "seq_len=5", 6)
