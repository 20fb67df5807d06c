"""What a caller of `generate` can get wrong, and what it is warned of."""

import warnings

import pytest
import torch
from torch import nn

from labml_gmlp import Encoder, GMLPBlock, LanguageModel, generate, generate_batch
from tests.support.generation import N_TOKENS, PROMPT, SEQ_LEN, draw, model_of, recorded
from tests.support.helpers import assert_raises

# The warning


def test_a_slide_that_nobody_chose_is_warned_of_once():
    model = model_of()
    with pytest.warns(UserWarning, match="outgrows") as caught:
        tokens = generate(model, PROMPT, SEQ_LEN, seq_len=SEQ_LEN, seed=0)
    (warning,) = caught
    assert str(warning.message) == (
        "a text of up to 7 tokens outgrows seq_len=5, and each token beyond costs a full pass: "
        "give a larger slide, slide=1 if that is wanted, or seq_len=None for a model of any length"
    )
    # It slides as with slide=1, and says nothing more.
    assert list(tokens) == draw(model, SEQ_LEN)


@pytest.mark.parametrize(
    "options",
    [
        {"n_new": 4},  # the last token is never read
        {"slide": 1},
        {"slide": 2},
        {"use_cache": False},
        {"seq_len": None},
        {"n_new": 0, "prompt": torch.zeros(9, dtype=torch.int64)},
    ],
    ids=str,
)
def test_without_a_slide_or_with_one_chosen_nothing_is_warned_of(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(**({"model": model_of(), "prompt": PROMPT, "n_new": 9, "seq_len": 5} | options))


# Errors: nothing here asks for a token


class Cacheless(nn.Module):
    def forward(self, tokens):
        raise AssertionError


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": PROMPT[:0]}, ValueError, "prompt must be [n] with at least one token, got [0]"),
        (
            {"prompt": PROMPT[None]},
            ValueError,
            "prompt must be [n] with at least one token, got [1, 2]",
        ),
        ({"prompt": PROMPT[0]}, ValueError, "prompt must be [n] with at least one token, got []"),
        (
            {"prompt": PROMPT.float()},
            TypeError,
            "prompt must be a tensor of whole numbers, got torch.float32",
        ),
        ({"prompt": [3, 1]}, TypeError, "prompt must be a tensor of whole numbers, got list"),
        ({"n_new": -1}, ValueError, "n_new must be a whole number of at least 0, got -1"),
        ({"n_new": 2.0}, ValueError, "n_new must be a whole number of at least 0, got 2.0"),
        ({"seq_len": 0}, ValueError, "seq_len must be a positive whole number, got 0"),
        ({"seq_len": -3}, ValueError, "seq_len must be a positive whole number, got -3"),
        (
            {"temperature": -0.5},
            ValueError,
            "temperature must be finite and at least 0, got -0.5",
        ),
        (
            {"temperature": float("nan")},
            ValueError,
            "temperature must be finite and at least 0, got nan",
        ),
        (
            {"temperature": float("inf")},
            ValueError,
            "temperature must be finite and at least 0, got inf",
        ),
        ({"top_k": 0}, ValueError, "top_k must be a positive whole number, got 0"),
        ({"top_k": 0.9}, ValueError, "top_k must be a positive whole number, got 0.9"),
        ({"top_p": 0}, ValueError, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": 1.1}, ValueError, "top_p must be above 0 and at most 1, got 1.1"),
        ({"top_p": float("nan")}, ValueError, "top_p must be above 0 and at most 1, got nan"),
        (
            {"repetition_penalty": 0},
            ValueError,
            "repetition_penalty must be finite and above 0, got 0",
        ),
        (
            {"repetition_penalty": float("inf")},
            ValueError,
            "repetition_penalty must be finite and above 0, got inf",
        ),
        (
            {"stop_tokens": [1, -1]},
            ValueError,
            "stop_tokens must be whole numbers of at least 0, got -1",
        ),
        (
            {"stop_tokens": "a"},
            ValueError,
            "stop_tokens must be whole numbers of at least 0, got 'a'",
        ),
        ({"seed": -1}, ValueError, "seed must be a whole number in [0, 2**63), got -1"),
        (
            {"seed": 2**63},
            ValueError,
            "seed must be a whole number in [0, 2**63), got 9223372036854775808",
        ),
        ({"slide": 0}, ValueError, "slide must be a positive whole number, got 0"),
        ({"slide": 6}, ValueError, "slide must be at most seq_len=5, got 6"),
        (
            {"model": Cacheless()},
            TypeError,
            "model must take a cache beside its tokens, got Cacheless; use_cache=False needs none",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_call_is_refused_before_the_first_token_is_asked_for(options, error, message):
    model = model_of()
    asked = recorded(model)
    good = {"model": model, "prompt": PROMPT, "n_new": 3, "seq_len": SEQ_LEN}
    assert_raises(lambda: generate(**(good | options)), error, message)
    assert not asked


def test_a_bad_prompt_of_several_is_named():
    call = lambda *prompts: generate_batch(model_of(), list(prompts), 3)  # noqa: E731
    assert_raises(call, ValueError, "prompts must hold at least one prompt, got none")
    assert_raises(
        lambda: call(PROMPT, PROMPT[None]),
        ValueError,
        "prompts[1] must be [n] with at least one token, got [1, 2]",
    )


class Broken(nn.Module):
    """Ignores its cache, or gives logits of another shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, tokens, **kwargs):
        return torch.zeros(*(self.shape or (*tokens.shape, 3)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Broken(),
            "model must advance its cache to 2 tokens, got 0; use_cache=False needs none",
        ),
        (
            Broken(2, 3),
            "model must return [B, n, n_tokens] with [B, n] = [1, 2], got [2, 3]",
        ),
        (
            Broken(1, 1, 3),
            "model must return [B, n, n_tokens] with [B, n] = [1, 2], got [1, 1, 3]",
        ),
        (
            LanguageModel(N_TOKENS, Encoder(lambda: GMLPBlock(4, 6, SEQ_LEN), 1)),
            "cache needs causal=True: earlier positions may not read new ones",
        ),
    ],
    ids=["no cache", "no tokens", "one position", "not causal"],
)
def test_a_model_that_keeps_no_promise_is_found_at_the_first_token(model, message):
    assert_raises(lambda: next(generate(model, PROMPT, 3)), ValueError, message)


def test_a_text_that_outgrows_the_model_says_so():
    assert_raises(
        lambda: list(generate(model_of(), PROMPT, 9)),
        ValueError,
        "z must have at most seq_len=5 tokens, got 6; W has no weights for later positions",
    )
