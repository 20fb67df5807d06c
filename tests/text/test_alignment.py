"""The alignment experiment: its rows, its loss, its random baseline and its settings."""

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
    IGNORE_INDEX,
    SEPARATOR,
    VALIDATION_SEED,
    AlignmentSettings,
    alignment_loss,
    build,
    describe,
    evaluate,
    random_baseline,
    sample_row,
)
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.order import BatchSplit
from experiments.models.language import layer_sizes, make_model
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
SETTINGS = AlignmentSettings(**SMALL)


def task_of(layer: str = "gmlp") -> Task:
    settings = AlignmentSettings(**{**SMALL, "layer": layer})
    return build(settings, Training(batch=6, steps=10, warmup=1), Launch(), FABRIC)


def sampled_rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    tokens, targets = zip(*(sample_row(SETTINGS, seed, 0, row) for row in range(n)), strict=True)
    return torch.stack(tokens), torch.stack(targets)


@st.composite
def sizes(draw: st.DrawFn) -> AlignmentSettings:
    shortest = draw(st.integers(1, 5))
    longest = draw(st.integers(shortest, 8))
    seq_len = draw(st.integers(2 * longest + 1, 24))
    symbols = draw(st.integers(longest, 30))
    return AlignmentSettings(shortest=shortest, longest=longest, seq_len=seq_len, symbols=symbols)


# ## Rows


@properties
@given(
    settings=sizes(), seed=st.integers(0, 2**31), step=st.integers(0, 9_999), row=st.integers(0, 99)
)
def test_targets_are_the_positions_in_the_first_span_of_the_symbols_in_the_second(
    settings, seed, step, row
):
    tokens, targets = (part.tolist() for part in sample_row(settings, seed, step, row))
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
            position = target - FIRST_SYMBOL - settings.symbols
            assert position in first
            assert tokens[position] == tokens[i]
            assert target < settings.n_tokens
        else:
            assert target == IGNORE_INDEX
    rest = set(range(settings.seq_len)) - {*first, middle, *second}
    assert {tokens[i] for i in rest} <= {FILLER}
    torch.manual_seed(1)
    again = sample_row(settings, seed, step, row)
    assert again[0].tolist() == tokens
    assert again[1].tolist() == targets


# Four standard deviations of each frequency among 1,000 rows.
def test_lengths_positions_symbols_and_orders_are_uniform():
    tokens, targets = sampled_rows(1_000, seed=0)
    lengths = np.bincount((targets != IGNORE_INDEX).sum(1))
    assert lengths[:2].sum() == 0
    assert lengths[2:5] / 1_000 == pytest.approx([1 / 3] * 3, abs=0.06)
    used = tokens != FILLER
    assert set(used.int().argmax(1).tolist()) == set(range(8))
    assert set((11 - used.flip(1).int().argmax(1)).tolist()) == set(range(4, 12))
    # Spans of two symbols keep their order in half of the rows.
    answers = [row[row != IGNORE_INDEX] for row in targets]
    kept = [two.diff().item() > 0 for two in answers if len(two) == 2]
    assert np.mean(kept) == pytest.approx(0.5, abs=0.11)
    symbols = np.bincount(tokens[tokens >= FIRST_SYMBOL]) / 6_000
    assert symbols[FIRST_SYMBOL:] == pytest.approx([1 / 6] * 6, abs=0.025)


def test_the_random_baseline_is_the_error_rate_of_answers_in_random_order():
    random, wrong, count = np.random.default_rng(0), 0, 0
    for row in sampled_rows(2_000, seed=1)[1]:
        answers = np.sort(row[row != IGNORE_INDEX].numpy())
        wrong += int((random.permutation(answers) != row[row != IGNORE_INDEX].numpy()).sum())
        count += len(answers)
    assert random_baseline(SETTINGS) == pytest.approx(2 / 3, abs=1e-12)
    assert wrong / count == pytest.approx(random_baseline(SETTINGS), abs=0.025)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 3), (2, 1), (3, 2)])
def test_any_number_of_processes_reads_the_same_batch(world, accumulate):
    task = task_of()
    streams = [task.batches(4, BatchSplit(rank, world, accumulate)) for rank in range(world)]
    for whole in itertools.islice(task.batches(4, BatchSplit()), 2):
        parts = [next(stream) for _ in range(accumulate) for stream in streams]
        for want, got in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(torch.cat(got), want)


def test_training_never_reads_validation_rows():
    assert_raises(lambda: Training(seed=VALIDATION_SEED), ValueError, "seed", VALIDATION_SEED)
    first = sample_row(SETTINGS, VALIDATION_SEED, 0, 0)[0]
    assert not torch.equal(first, sample_row(SETTINGS, 0, 0, 0)[0])


# ## Loss and evaluation


class Fixed(nn.Module):
    """Returns the same logits for each row."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(len(tokens), -1, -1)


def test_the_loss_averages_over_queries_then_rows_and_the_error_over_queries():
    torch.manual_seed(0)
    logits = torch.randn(SETTINGS.seq_len, SETTINGS.n_tokens)
    rows = sampled_rows(SETTINGS.rows, seed=5)
    log_p = logits.double().log_softmax(-1).numpy()
    losses, wrong = [], []
    for targets in rows[1].tolist():
        queries = [(i, t) for i, t in enumerate(targets) if t != IGNORE_INDEX]
        losses.append(np.mean([-log_p[i, t] for i, t in queries]))
        wrong += [log_p[i].argmax() != t for i, t in queries]
    model = Fixed(logits)
    assert alignment_loss(model, rows).item() == pytest.approx(np.mean(losses), abs=1e-5)
    metrics = evaluate(model, FABRIC, SETTINGS, rows)
    assert list(metrics) == ["nats", "error"]
    assert metrics["nats"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert metrics["error"] == pytest.approx(np.mean(wrong), abs=1e-12)
    assert model.training


@pytest.mark.parametrize("layer", DEFAULTS)
def test_every_layer_starts_near_the_random_baseline_and_learns(layer):
    task = task_of(layer)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    before = task.evaluate(task.model, FABRIC)
    assert before["error"] > 0.6
    for batch in itertools.islice(task.batches(0, BatchSplit()), 80):
        optimizer.zero_grad()
        task.loss(task.model, batch).backward()
        optimizer.step()
    after = task.evaluate(task.model, FABRIC)
    assert task.monitor in after
    assert after["nats"] < before["nats"] - 0.5
    assert "(random baseline: 66.67%)" in task.describe(after)


def test_the_description_has_all_metrics_and_the_baseline():
    line = describe(AlignmentSettings(), {"nats": 1.5, "error": 0.125})
    assert line == "12.50% wrong, 1.5000 nats per query (random baseline: 87.50%)"


# ## Settings


def test_all_layers_have_about_as_many_parameters_and_train_alike():
    counts = {}
    for layer, (settings, training) in DEFAULTS.items():
        sizes = layer_sizes(settings)
        with torch.device("meta"):
            model = make_model(layer, sizes, settings.n_tokens, causal=False, seed=0)
        counts[layer] = sum(p.numel() for p in model.parameters())
        assert settings.layer == layer
        assert (training.batch, training.steps) == (48, 2_000)
    assert max(counts.values()) / min(counts.values()) < 1.02


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"rows": 0}, ("rows", 0)),
        ({"shortest": 0}, ("shortest", 0)),
        (
            {"shortest": 6, "longest": 5},
            ("longest", "[shortest=6, 15]", "symbols=256", "seq_len=32", 5),
        ),
        ({"longest": 16}, ("longest", "[shortest=4, 15]", "seq_len=32", 16)),
        ({"longest": 8, "symbols": 7}, ("longest", "[shortest=4, 7]", "symbols=7", 8)),
    ],
)
def test_a_setting_out_of_range_is_refused(change, parts):
    assert_raises(lambda: AlignmentSettings(**change), ValueError, *parts)
