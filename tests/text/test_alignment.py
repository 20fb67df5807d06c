"""Two spans, one the other in another order: what is asked, and what is measured."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.alignment import (
    DEFAULTS,
    FILLER,
    FIRST_SYMBOL,
    NOT_ASKED,
    SEPARATOR,
    VARIANTS,
    Settings,
    asked_loss,
    build,
    describe,
    draw,
    evaluate,
    guess,
)
from experiments.engine.devices import BatchSplit
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.models.language import make_model, shape_of
from tests.support.helpers import assert_raises, properties

FABRIC = Fabric(accelerator="cpu", devices=1)
SMALL: dict[str, Any] = {
    "d_model": 16,
    "d_ffn": 24,
    "n_layers": 2,
    "n_heads": 2,
    "d_attn": 8,
    "seq_len": 12,
    "symbols": 6,
    "shortest": 2,
    "longest": 4,
    "rows": 50,
}


def task_of(layer: str = "gmlp", **changes: object) -> Task:
    settings = Settings(**{**SMALL, "layer": layer, **changes})
    return build(settings, Training(batch=6, steps=10, warmup=1), Launch(), FABRIC)


@st.composite
def sizes(draw: st.DrawFn) -> Settings:
    shortest = draw(st.integers(1, 5))
    longest = draw(st.integers(shortest, 8))
    seq_len = draw(st.integers(2 * longest + 1, 24))
    symbols = draw(st.integers(longest, 30))
    return Settings(shortest=shortest, longest=longest, seq_len=seq_len, symbols=symbols)


# ## Rows


@properties
@given(
    settings=sizes(), seed=st.integers(0, 2**31), step=st.integers(0, 9_999), row=st.integers(0, 99)
)
def test_a_row_holds_two_spans_and_asks_where_each_symbol_of_the_second_stood(
    settings, seed, step, row
):
    tokens, targets = (part.tolist() for part in draw(settings, seed, step, row))
    assert len(tokens) == len(targets) == settings.seq_len
    middle = tokens.index(SEPARATOR)
    first = [i for i, t in enumerate(tokens[:middle]) if t != FILLER]
    second = list(range(middle + 1, middle + 1 + len(first)))
    assert settings.shortest <= len(first) <= settings.longest
    assert first == list(range(first[0], first[0] + len(first)))
    assert len({tokens[i] for i in first}) == len(first)
    assert all(FIRST_SYMBOL <= tokens[i] < FIRST_SYMBOL + settings.symbols for i in first)
    for i, target in enumerate(targets):
        if i in second:
            place = target - FIRST_SYMBOL - settings.symbols
            assert place in first
            assert tokens[place] == tokens[i]
            assert target < settings.n_tokens
        else:
            assert target == NOT_ASKED
    rest = set(range(settings.seq_len)) - {*first, middle, *second}
    assert {tokens[i] for i in rest} <= {FILLER}
    torch.manual_seed(1)
    again = draw(settings, seed, step, row)
    assert again[0].tolist() == tokens
    assert again[1].tolist() == targets


def test_lengths_places_and_orders_all_occur_and_none_is_preferred():
    settings = Settings(**SMALL)
    rows = [draw(settings, 0, step, row) for step in range(200) for row in range(10)]
    lengths = np.bincount([int((t != NOT_ASKED).sum()) for _, t in rows])
    assert lengths[:2].sum() == 0
    assert lengths[2:5] / 2_000 == pytest.approx([1 / 3] * 3, abs=0.05)
    begins = {int((tokens != FILLER).nonzero()[0]) for tokens, _ in rows}
    ends = {int((tokens != FILLER).nonzero()[-1]) for tokens, _ in rows}
    assert begins == set(range(8))
    assert ends == set(range(4, 12))
    # Of two symbols, the order is kept as often as it is not.
    kept = [t[t != NOT_ASKED].diff().item() > 0 for _, t in rows if (t != NOT_ASKED).sum() == 2]
    assert np.mean(kept) == pytest.approx(0.5, abs=0.08)
    symbols = np.bincount(torch.cat([t[t >= FIRST_SYMBOL] for t, _ in rows])) / 12_000
    assert symbols[FIRST_SYMBOL:] == pytest.approx([1 / 6] * 6, abs=0.02)


def test_a_guess_is_as_often_wrong_as_said():
    settings = Settings(**SMALL)
    random, wrong, asked = np.random.default_rng(0), 0, 0
    for row in range(4_000):
        _, targets = draw(settings, 1, 0, row)
        answers = targets[targets != NOT_ASKED].numpy()
        # The places are known, which of them is right is not.
        wrong += int((random.permutation(np.sort(answers)) != answers).sum())
        asked += len(answers)
    assert guess(settings) == pytest.approx(2 / 3, abs=1e-12)
    assert wrong / asked == pytest.approx(guess(settings), abs=0.02)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 3), (2, 1), (3, 2)])
def test_any_number_of_processes_reads_the_same_batch(world, accumulate):
    task = task_of()
    batches = task.batches(4, BatchSplit())
    for step, (tokens, targets) in enumerate(itertools.islice(batches, 2)):
        found: list[tuple[Tensor, ...]] = []
        for k in range(accumulate):
            for rank in range(world):
                parts = task.batches(4, BatchSplit(rank, world, accumulate))
                found.append(next(itertools.islice(parts, step * accumulate + k, None)))
        assert torch.equal(torch.cat([part[0] for part in found]), tokens)
        assert torch.equal(torch.cat([part[1] for part in found]), targets)


# ## Loss and evaluation


class Fixed(nn.Module):
    """The same logits for each row."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(len(tokens), -1, -1)


def test_the_loss_is_the_mean_over_questions_then_rows_and_the_error_over_questions():
    settings = Settings(**SMALL)
    torch.manual_seed(0)
    logits = torch.randn(settings.seq_len, settings.n_tokens)
    task = task_of()
    rows = next(build_rows(settings))
    log_p = logits.double().log_softmax(-1).numpy()
    losses, wrong = [], []
    for targets in rows[1].tolist():
        asked = [(i, t) for i, t in enumerate(targets) if t != NOT_ASKED]
        losses.append(np.mean([-log_p[i, t] for i, t in asked]))
        wrong += [log_p[i].argmax() != t for i, t in asked]
    model = Fixed(logits)
    assert asked_loss(model, rows).item() == pytest.approx(np.mean(losses), abs=1e-5)
    found = evaluate(model, FABRIC, settings, rows)
    assert found["nats"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert found["error"] == pytest.approx(np.mean(wrong), abs=1e-12)
    assert model.training
    assert list(found) == list(task.evaluate(task.model, FABRIC))


def build_rows(settings: Settings) -> Any:
    pairs = [draw(settings, 5, 0, row) for row in range(settings.rows)]
    yield tuple(torch.stack(part) for part in zip(*pairs, strict=True))


@pytest.mark.parametrize("layer", VARIANTS)
def test_every_variant_starts_near_a_guess_and_learns(layer):
    task = task_of(layer)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    before = task.evaluate(task.model, FABRIC)
    assert before["error"] > 0.6
    for batch in itertools.islice(task.batches(0, BatchSplit()), 80):
        optimizer.zero_grad()
        task.loss(task.model, batch).backward()
        optimizer.step()
    after = task.evaluate(task.model, FABRIC)
    assert task.monitor == "error"
    assert after["nats"] < before["nats"] - 0.5
    assert "(a guess: 66.67%)" in task.describe(after)


def test_training_never_reads_what_validation_reads():
    settings = Settings(**SMALL)
    with pytest.raises(ValueError, match=r"seed must lie in \[0, 2\*\*31\), got 2147483648"):
        Training(seed=2**31)
    first = draw(settings, 2**31, 0, 0)[0]
    assert not torch.equal(first, draw(settings, 0, 0, 0)[0])


def test_an_evaluation_in_words():
    line = describe(Settings(), {"nats": 1.5, "error": 0.125})
    assert line == "12.50% wrong, 1.5000 nats per question (a guess: 87.50%)"


# ## Settings


def test_the_variants_have_about_as_many_parameters():
    counts = {}
    for layer, (settings, training) in DEFAULTS.items():
        with torch.device("meta"):
            model = make_model(layer, shape_of(settings), settings.n_tokens, causal=False, seed=0)
        counts[layer] = sum(p.numel() for p in model.parameters())
        assert settings.layer == layer
        assert (training.batch, training.steps) == (48, 2_000)
    assert list(counts) == list(VARIANTS)
    assert max(counts.values()) / min(counts.values()) < 1.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "linear"}, "layer must be gmlp, amlp or transformer, got 'linear'"),
        ({"rows": 0}, "rows must be above 0, got 0"),
        ({"shortest": 0}, "shortest must be above 0, got 0"),
        (
            {"shortest": 6, "longest": 5, "symbols": 64},
            "longest must lie in [shortest=6, 15] with symbols=64 and seq_len=32, got 5",
        ),
        (
            {"longest": 16, "symbols": 64},
            "longest must lie in [shortest=4, 15] with symbols=64 and seq_len=32, got 16",
        ),
        (
            {"longest": 8, "symbols": 7},
            "longest must lie in [shortest=4, 7] with symbols=7 and seq_len=32, got 8",
        ),
    ],
)
def test_a_bad_setting_is_refused(change, message):
    assert_raises(lambda: Settings(**change), ValueError, message)
