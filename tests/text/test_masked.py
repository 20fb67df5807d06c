"""The masked experiment: its masks, its batches, its loss and its settings."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.order import BatchSplit
from experiments.masked import (
    DEFAULTS,
    IGNORE_INDEX,
    MaskedSettings,
    build,
    count_masked,
    describe,
    evaluate,
    mask_tokens,
    masked_loss,
    validation_rows,
)
from experiments.models.language import layer_sizes, make_model
from experiments.reporting.toeplitz_fraction import toeplitz_fractions
from experiments.text.corpus import Corpus, load_corpus
from experiments.text.windows import Windows
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.small_runs import text_file, words

FABRIC = Fabric(accelerator="cpu", devices=1)
SMALL = {"d_model": 16, "d_ffn": 24, "n_layers": 2, "n_heads": 2, "seq_len": 16, "chosen": 0.25}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    return load_corpus(str(text_file(folder)), 16, folder)


def small(corpus: Corpus, layer: str = "gmlp", **changes: object) -> MaskedSettings:
    return MaskedSettings(**{"corpus": corpus.name, "layer": layer, **SMALL, **changes})  # type: ignore[arg-type]


def task_of(settings: MaskedSettings, **training: object) -> Task:
    values = {"batch": 4, "steps": 10, "warmup": 1, **training}
    launch = Launch(data=Path(settings.corpus).parent)
    return build(settings, Training(**values), launch, FABRIC)  # type: ignore[arg-type]


def steps(
    task: Task, first: int, n: int, split: BatchSplit | None = None
) -> list[tuple[Tensor, ...]]:
    split = BatchSplit() if split is None else split
    return list(itertools.islice(task.batches(first, split), n * split.accumulate))


# ## Sizes


def test_all_layers_have_about_as_many_parameters_and_read_as_many_characters():
    counts = {}
    for layer, (settings, training) in DEFAULTS.items():
        with torch.device("meta"):
            # 65 characters, the unknown one, [MASK]
            model = make_model(settings.layer, layer_sizes(settings), 67, causal=False, seed=0)
        counts[layer] = sum(p.numel() for p in model.parameters())
        assert settings.layer == layer
        assert training.batch * settings.seq_len == 1_536
    assert counts == {
        "gmlp": 706_176,
        "linear": 706_944,
        "additive": 706_944,
        "multiplicative": 706_944,
        "toeplitz": 702_522,
        "transformer": 703_168,
    }


# ## Masking


@properties
@given(n=st.integers(1, 40), fraction=st.floats(0.01, 1), seed=seeds)
def test_only_masked_positions_change_and_only_they_are_targets(n, fraction, seed):
    random = np.random.default_rng(seed)
    tokens = torch.from_numpy(random.integers(0, 9, n))
    masked = torch.from_numpy(random.permutation(n)[: count_masked(n, fraction)])
    inputs, targets = mask_tokens(tokens, masked, 9, random)
    there = torch.zeros(n, dtype=torch.bool)
    there[masked] = True
    assert 1 <= there.sum() <= n
    assert there.sum() == 1 or abs(there.sum() - n * fraction) <= 0.5
    assert torch.equal(inputs[~there], tokens[~there])
    assert torch.equal(targets[there], tokens[there])
    assert (targets[~there] == IGNORE_INDEX).all()
    assert ((inputs >= 0) & (inputs <= 9)).all()


def test_80_percent_become_mask_10_a_random_token_and_10_stay():
    n, n_known = 100_000, 50
    tokens = torch.full((n,), 7)
    inputs, _ = mask_tokens(tokens, torch.arange(n), n_known, np.random.default_rng(0))
    counts = Counter(inputs.tolist())
    # Four standard deviations of a frequency among 100,000 are about 0.005.
    assert counts[n_known] / n == pytest.approx(0.8, abs=0.005)
    # Random tokens are uniform over the 49 known ones, including the correct one.
    assert counts[7] / n == pytest.approx(0.1 + 0.1 / 49, abs=0.005)
    assert 0 not in counts
    others = [counts[t] / n for t in range(1, n_known) if t != 7]
    assert np.mean(others) == pytest.approx(0.1 / 49, abs=1e-4)
    assert min(others) > 0.5 * 0.1 / 49


# ## Training batches


def test_training_masks_the_windows_of_the_corpus_in_their_order(corpus):
    windows = Windows(corpus.train, 16, 4, 3)
    task = task_of(small(corpus), seed=3)
    for step, (inputs, targets) in zip(range(5, 9), steps(task, 5, 4), strict=True):
        read, _ = windows.batch_at(step)
        assert inputs.shape == targets.shape == (4, 16)
        masked = targets != IGNORE_INDEX
        assert masked.sum(1).tolist() == [4] * 4
        assert torch.equal(targets[masked], read[masked])
        assert torch.equal(inputs[~masked], read[~masked])


def test_masks_differ_between_rows_steps_and_seeds_and_no_position_is_preferred(corpus):
    masks = [
        tuple(row.tolist())
        for seed in (0, 1)
        for _, targets in steps(task_of(small(corpus), seed=seed), 0, 100)
        for row in targets != IGNORE_INDEX
    ]
    # Of the 1,820 choices of 4 out of 16 positions, 800 random ones contain about 650 different.
    assert len(set(masks)) > 550
    frequencies = np.mean(masks, axis=0)
    assert frequencies.min() > 0.18
    assert frequencies.max() < 0.32


@pytest.mark.parametrize(("world", "accumulate"), [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_any_number_of_processes_reads_the_same_batch(world, accumulate, corpus):
    task = task_of(small(corpus))
    streams = [task.batches(3, BatchSplit(rank, world, accumulate)) for rank in range(world)]
    for whole in steps(task, 3, 2):
        parts = [next(stream) for _ in range(accumulate) for stream in streams]
        for want, got in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(torch.cat(got), want)


def test_a_resumed_run_reads_the_same_batches(corpus):
    task = task_of(small(corpus))
    torch.manual_seed(0)
    whole = steps(task, 0, 6)
    torch.manual_seed(1)
    for a, b in zip(whole[4:], steps(task, 4, 2), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


# ## Validation rows


@pytest.mark.parametrize("maskings", [1, 2, 4])
def test_validation_masks_each_window_several_times_and_no_character_twice(maskings, corpus):
    inputs, targets = validation_rows(corpus, small(corpus, maskings=maskings))
    # 400 characters are 25 windows of 16.
    assert inputs.shape == targets.shape == (25 * maskings, 16)
    text = corpus.validation[1:401].view(25, 1, 16).expand(-1, maskings, -1)
    masked = (targets != IGNORE_INDEX).view(25, maskings, 16)
    assert (masked.sum(-1) == 4).all()
    assert masked.sum(1).max() == 1
    assert torch.equal(targets.view(25, maskings, 16)[masked], text[masked])
    assert torch.equal(inputs.view(25, maskings, 16)[~masked], text[~masked])
    # With one masking, two of the 25 windows may have equal masks.
    assert len({tuple(row.flatten().tolist()) for row in masked}) >= 24


def test_validation_is_the_same_for_all_seeds_and_layers(corpus):
    torch.manual_seed(0)
    first = validation_rows(corpus, small(corpus))
    torch.manual_seed(1)
    again = validation_rows(corpus, small(corpus, "transformer", d_model=32))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_an_incomplete_window_is_dropped_and_one_window_is_needed(tmp_path):
    long = load_corpus(str(text_file(tmp_path, words(310))), 16, tmp_path)
    assert len(validation_rows(long, small(long, maskings=1))[0]) == 1
    path = text_file(tmp_path, words(150))
    short = load_corpus(str(path), 16, tmp_path)
    assert_raises(
        lambda: task_of(small(short)), ValueError, "corpus", "seq_len=16", "validation", 15, path
    )


# ## Loss and evaluation


class Table(nn.Module):
    """Fixed logits for each input token, independent of its context."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[tokens]


def with_loops(logits: Tensor, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Nats and errors, averaged over the masked positions."""
    losses, errors = [], []
    for row, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        for token, target in zip(row, wanted, strict=True):
            if target != IGNORE_INDEX:
                scores = logits[token].double().numpy()
                losses.append(-scores[target] + np.log(np.exp(scores).sum()))
                errors.append(float(scores.argmax() != target))
    return float(np.mean(losses)), float(np.mean(errors))


def test_loss_and_metrics_are_means_over_the_masked_positions(corpus):
    torch.manual_seed(0)
    n_tokens = len(corpus.vocabulary) + 1
    model = Table(torch.randn(n_tokens, n_tokens))
    rows = validation_rows(corpus, small(corpus))
    nats, error = with_loops(model.logits.detach(), *rows)
    assert masked_loss(model, rows).item() == pytest.approx(nats, abs=1e-5)
    metrics = evaluate(model, FABRIC, rows)
    assert model.training
    assert list(metrics) == ["nats_per_char", "perplexity", "error"]
    assert metrics["nats_per_char"] == pytest.approx(nats, abs=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(nats), rel=1e-6)
    assert metrics["error"] == pytest.approx(error, abs=1e-12)
    assert 0 < error < 1


class OneOf:
    """Fabric in one of several processes; the last one gets the sums of all."""

    def __init__(self, rank: int, world: int, others: list[Tensor]) -> None:
        self.global_rank, self.world_size, self.others = rank, world, others

    def to_device(self, x: Tensor) -> Tensor:
        return x

    def all_reduce(self, x: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        self.others.append(x)
        return torch.stack(self.others).sum(0)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_several_processes_have_the_metrics_of_one(world, corpus):
    task = task_of(small(corpus))
    want = task.evaluate(task.model, FABRIC)
    sums: list[Tensor] = []
    for rank in range(world):
        metrics = task.evaluate(task.model, OneOf(rank, world, sums))
    assert metrics == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("layer", DEFAULTS)
def test_every_layer_learns_and_has_its_metrics(layer, corpus):
    task = task_of(small(corpus, layer))
    assert task.monitor in (before := task.evaluate(task.model, FABRIC))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2)
    for batch in steps(task, 0, 60):
        optimizer.zero_grad()
        task.loss(task.model, batch).backward()
        optimizer.step()
    after = task.evaluate(task.model, FABRIC)
    assert after["nats_per_char"] < before["nats_per_char"] - 0.2
    has_free_matrix = layer not in ("toeplitz", "transformer")
    assert ("toeplitz_share" in after) == has_free_matrix
    assert len(toeplitz_fractions(task.model)) == 2 * has_free_matrix
    assert f"{after['nats_per_char']:.4f} nats per masked character" in task.describe(after)


def test_the_description_has_all_metrics():
    metrics = {"nats_per_char": 1.25, "perplexity": math.exp(1.25), "error": 0.375}
    line = "1.2500 nats per masked character, perplexity 3.490, 37.5% wrong"
    assert describe(metrics) == line
    assert describe({**metrics, "toeplitz_share": 0.5}) == f"{line}, W 50% Toeplitz"


def test_a_task_identifies_its_text_and_counts_its_characters(corpus):
    task = task_of(small(corpus))
    assert task.data == {
        "name": corpus.name,
        "sha256": corpus.sha256,
        "vocabulary": corpus.vocabulary.description(),
    }
    # 400 characters are 25 windows, with 4 masked characters in each of 2 maskings.
    assert "3,600 characters to train, 200 masked ones to validate" in task.about


# ## Settings


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"d_model": 0}, ("d_model", 0)),
        ({"maskings": 0}, ("maskings", 0)),
        ({"chosen": 0.0}, ("chosen", "(0, 1]", 0.0)),
        ({"chosen": 1.1}, ("chosen", "(0, 1]", 1.1)),
        ({"maskings": 7}, ("maskings", 6, "seq_len=128", "chosen=0.15", 7)),
        ({"dropout": 1.0}, ("dropout", "[0, 1)", 1.0)),
    ],
)
def test_a_setting_out_of_range_is_refused(change, parts):
    assert_raises(lambda: MaskedSettings(**change), ValueError, *parts)
