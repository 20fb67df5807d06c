"""Masked language modelling: what is hidden, what is measured, how Toeplitz W is."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from experiments.engine.devices import BatchSplit
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.validation import rows_of
from experiments.masked import (
    DEFAULTS,
    NOT_CHOSEN,
    VARIANTS,
    Settings,
    build,
    describe,
    evaluate,
    hide,
    masked_loss,
    n_chosen,
    training_batches,
    validation_rows,
)
from experiments.models.language import make_model, shape_of
from experiments.reporting.toeplitz_fraction import (
    toeplitz_fraction,
    toeplitz_fraction_of_noise,
    toeplitz_fractions,
)
from experiments.text.corpus import load_corpus
from experiments.text.windows import Windows
from labml_gmlp import SpatialProjection
from tests.support.helpers import assert_raises, properties, seeds
from tests.support.small_runs import text_file, words

FABRIC = Fabric(accelerator="cpu", devices=1)
SMALL = {"d_model": 16, "d_ffn": 24, "n_layers": 2, "n_heads": 2, "seq_len": 16, "chosen": 0.25}
every_variant = pytest.mark.parametrize("layer", VARIANTS)


def small(path: Path, layer: str = "gmlp", **changes: object) -> Settings:
    return Settings(**{"corpus": str(path), "layer": layer, **SMALL, **changes})  # type: ignore[arg-type]


def task_of(settings: Settings, folder: Path, **training: object) -> Task:
    values = {"batch": 4, "steps": 10, "warmup": 1, **training}
    return build(settings, Training(**values), Launch(data=folder), FABRIC)  # type: ignore[arg-type]


def steps(
    task: Task, first: int, n: int, share: BatchSplit | None = None
) -> list[tuple[Tensor, ...]]:
    share = BatchSplit() if share is None else share
    return list(itertools.islice(task.batches(first, share), n * share.accumulate))


# ## Sizes


def test_all_variants_have_about_as_many_parameters_and_read_as_many_characters():
    counts = {}
    for layer, (settings, training) in DEFAULTS.items():
        with torch.device("meta"):
            # 65 characters, the unknown one, [MASK]
            model = make_model(settings.layer, shape_of(settings), 67, causal=False, seed=0)
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
    assert list(counts) == list(VARIANTS)
    assert max(counts.values()) / min(counts.values()) < 1.02


# ## Hiding


@properties
@given(n=st.integers(1, 40), share=st.floats(0.01, 1), seed=seeds)
def test_only_chosen_positions_are_changed_and_only_they_are_targets(n, share, seed):
    random = np.random.default_rng(seed)
    tokens = torch.from_numpy(random.integers(0, 9, n))
    chosen = torch.from_numpy(random.permutation(n)[: n_chosen(n, share)])
    inputs, targets = hide(tokens, chosen, 9, random)
    there = torch.zeros(n, dtype=torch.bool)
    there[chosen] = True
    assert 1 <= there.sum() <= n
    assert there.sum() == 1 or abs(there.sum() - n * share) <= 0.5
    assert torch.equal(inputs[~there], tokens[~there])
    assert torch.equal(targets[there], tokens[there])
    assert (targets[~there] == NOT_CHOSEN).all()
    assert ((inputs >= 0) & (inputs <= 9)).all()


def test_four_fifths_are_masked_a_tenth_is_random_and_a_tenth_stays():
    n, n_known = 100_000, 50
    tokens = torch.full((n,), 7)
    inputs, _ = hide(tokens, torch.arange(n), n_known, np.random.default_rng(0))
    counts = Counter(inputs.tolist())
    # Four standard deviations of a share of 100,000 are below 0.005.
    assert counts[n_known] / n == pytest.approx(0.8, abs=0.005)
    # A random token is each of the 49 known ones as often, the right one too.
    assert counts[7] / n == pytest.approx(0.1 + 0.1 / 49, abs=0.005)
    assert 0 not in counts
    others = [counts[t] / n for t in range(1, n_known) if t != 7]
    assert np.mean(others) == pytest.approx(0.1 / 49, abs=1e-4)
    assert min(others) > 0.5 * 0.1 / 49


# ## What training reads


def test_training_reads_the_windows_of_the_corpus_in_their_order(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    windows = Windows(corpus.train, 16, 4, 3)
    task = task_of(small(path), tmp_path, seed=3)
    for step, (inputs, targets) in zip(range(5, 9), steps(task, 5, 4), strict=True):
        read, _ = windows.at(step)
        assert inputs.shape == targets.shape == (4, 16)
        chosen = targets != NOT_CHOSEN
        assert chosen.sum(1).tolist() == [4] * 4
        assert torch.equal(targets[chosen], read[chosen])
        assert torch.equal(inputs[~chosen], read[~chosen])


def test_masks_differ_between_rows_steps_and_seeds_and_no_position_is_preferred(tmp_path):
    path = text_file(tmp_path)
    masks = [
        tuple(row.tolist())
        for seed in (0, 1)
        for _, targets in steps(task_of(small(path), tmp_path, seed=seed), 0, 100)
        for row in targets != NOT_CHOSEN
    ]
    # Of 1,820 ways to choose 4 of 16, 800 draws hit about 650.
    assert len(set(masks)) > 550
    often = np.mean(masks, axis=0)
    assert often.min() > 0.18
    assert often.max() < 0.32


@pytest.mark.parametrize(("world", "accumulate"), [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_any_number_of_processes_reads_the_same_batch(world, accumulate, tmp_path):
    task = task_of(small(text_file(tmp_path)), tmp_path)
    whole = steps(task, 3, 2)
    parts = [steps(task, 3, 2, BatchSplit(rank, world, accumulate)) for rank in range(world)]
    for step in range(2):
        for k in range(2):
            rows = torch.cat(
                [
                    parts[rank][step * accumulate + m][k]
                    for m in range(accumulate)
                    for rank in range(world)
                ]
            )
            assert torch.equal(rows, whole[step][k])


def test_a_resumed_run_reads_what_a_whole_one_reads(tmp_path):
    task = task_of(small(text_file(tmp_path)), tmp_path)
    torch.manual_seed(0)
    whole = steps(task, 0, 6)
    torch.manual_seed(1)
    for a, b in zip(whole[4:], steps(task, 4, 2), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


# ## What validation reads


@pytest.mark.parametrize("maskings", [1, 2, 4])
def test_validation_reads_each_window_so_often_with_other_characters_hidden(maskings, tmp_path):
    path = text_file(tmp_path, words(2_000))
    corpus = load_corpus(str(path), 16, tmp_path)
    inputs, targets = validation_rows(corpus, small(path, maskings=maskings))
    # 200 characters fill 12 windows of 16.
    assert inputs.shape == targets.shape == (12 * maskings, 16)
    text = corpus.validation[1:193].view(12, 1, 16).expand(-1, maskings, -1)
    chosen = (targets != NOT_CHOSEN).view(12, maskings, 16)
    assert (chosen.sum(-1) == 4).all()
    assert chosen.sum(1).max() == 1
    assert torch.equal(targets.view(12, maskings, 16)[chosen], text[chosen])
    assert torch.equal(inputs.view(12, maskings, 16)[~chosen], text[~chosen])
    assert len({tuple(row.flatten().tolist()) for row in chosen}) == 12


def test_validation_is_the_same_for_all_seeds_and_layers(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    torch.manual_seed(0)
    first = validation_rows(corpus, small(path))
    torch.manual_seed(1)
    again = validation_rows(corpus, small(path, "transformer", d_model=32))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


# ## Loss and evaluation


class Given(nn.Module):
    """Fixed logits for each input token, whatever stands around it."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[tokens]


def by_hand(logits: Tensor, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Nats and errors, the means over what was chosen."""
    losses, errors = [], []
    for row, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        for token, target in zip(row, wanted, strict=True):
            if target != NOT_CHOSEN:
                scores = logits[token].double().numpy()
                losses.append(-scores[target] + np.log(np.exp(scores).sum()))
                errors.append(float(scores.argmax() != target))
    return float(np.mean(losses)), float(np.mean(errors))


def test_loss_and_evaluation_are_the_means_over_the_chosen_positions(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    torch.manual_seed(0)
    model = Given(torch.randn(len(corpus.vocabulary) + 1, len(corpus.vocabulary) + 1))
    rows = validation_rows(corpus, small(path))
    nats, error = by_hand(model.logits.detach(), *rows)
    assert masked_loss(model, rows).item() == pytest.approx(nats, abs=1e-5)
    found = evaluate(model, FABRIC, rows)
    assert model.training
    assert list(found) == ["nats_per_char", "perplexity", "error"]
    assert found["nats_per_char"] == pytest.approx(nats, abs=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(nats), rel=1e-6)
    assert found["error"] == pytest.approx(error, abs=1e-12)
    assert 0 < error < 1


class OneOf:
    """What `evaluate` asks of Fabric, as one of several processes would see it."""

    def __init__(self, rank: int, world: int, others: list[Tensor]) -> None:
        self.global_rank, self.world_size, self.others = rank, world, others

    def to_device(self, x: Tensor) -> Tensor:
        return x

    def all_reduce(self, x: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        self.others.append(x)
        return torch.stack(self.others).sum(0)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_together_find_what_one_finds(world, tmp_path):
    path = text_file(tmp_path)
    task = task_of(small(path), tmp_path)
    want = task.evaluate(task.model, FABRIC)
    sums: list[Tensor] = []
    found = {}
    for rank in range(world):
        found = task.evaluate(task.model, OneOf(rank, world, sums))
    assert found == pytest.approx(want, rel=1e-6)


@properties
@given(n=st.integers(1, 30), world=st.integers(1, 9))
def test_each_row_counts_once_and_all_processes_make_as_many_passes(n, world):
    shares = [rows_of(n, rank, world) for rank in range(world)]
    assert {len(rows) for rows, _ in shares} == {math.ceil(n / world)}
    counted = torch.cat([rows[real] for rows, real in shares])
    assert sorted(counted.tolist()) == list(range(n))
    assert all(rows.max() < n for rows, _ in shares)


@every_variant
def test_every_variant_learns_and_is_evaluated_in_a_line(layer, tmp_path):
    task = task_of(small(text_file(tmp_path), layer), tmp_path)
    assert task.monitor in (before := task.evaluate(task.model, FABRIC))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-2)
    for batch in steps(task, 0, 60):
        optimizer.zero_grad()
        task.loss(task.model, batch).backward()
        optimizer.step()
    after = task.evaluate(task.model, FABRIC)
    assert after["nats_per_char"] < before["nats_per_char"] - 0.2
    has_free_matrix = layer not in ("toeplitz", "transformer")
    assert ("toeplitz_fraction" in after) == has_free_matrix
    assert len(toeplitz_fractions(task.model)) == 2 * has_free_matrix
    assert f"{after['nats_per_char']:.4f} nats per hidden character" in task.describe(after)


def test_an_evaluation_in_words():
    found = {"nats_per_char": 1.25, "perplexity": math.exp(1.25), "error": 0.375}
    line = "1.2500 nats per hidden character, perplexity 3.490, 37.5% wrong"
    assert describe(found) == line
    assert describe({**found, "toeplitz_fraction": 0.5}) == f"{line}, W 50% Toeplitz"


def test_the_data_of_a_task_identify_the_text(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    task = task_of(small(path), tmp_path)
    assert task.data == {
        "name": str(path),
        "sha256": corpus.sha256,
        "vocabulary": corpus.vocabulary.description(),
    }
    assert "400 characters" not in task.about
    # 400 characters fill 25 windows, 4 characters of each are hidden in each of 2 maskings.
    assert "3,600 characters to train, 200 hidden ones to validate" in task.about


# ## How Toeplitz is a matrix?


def share_with_loops(w: np.ndarray, causal: bool) -> float:
    n = len(w)
    places = [(i, j) for i in range(n) for j in range(n) if not causal or j <= i]
    kept = 0.0
    for i, j in places:
        diagonal = [w[k, l] for k, l in places if k - l == i - j]
        kept += (sum(diagonal) / len(diagonal)) ** 2
    return kept / sum(w[i, j] ** 2 for i, j in places)


@properties
@given(n=st.integers(1, 9), causal=st.booleans(), seed=seeds)
def test_the_share_is_that_of_the_projection_written_with_loops(n, causal, seed):
    w = np.random.default_rng(seed).normal(size=(n, n))
    found = toeplitz_fraction(torch.from_numpy(w), causal=causal)
    assert found == pytest.approx(share_with_loops(w, causal), abs=1e-12)
    assert 0 <= found <= 1 + 1e-12


@properties
@given(n=st.integers(2, 9), causal=st.booleans(), seed=seeds)
def test_a_toeplitz_matrix_has_a_share_of_1_and_noise_on_it_takes_some(n, causal, seed):
    random = np.random.default_rng(seed)
    w = random.normal(size=2 * n - 1)
    i, j = np.indices((n, n))
    matrix = torch.from_numpy(w[i - j + n - 1])
    assert toeplitz_fraction(matrix, causal=causal) == pytest.approx(1, abs=1e-12)
    # Adding 1 to one of the n entries of the diagonal leaves 1 - 1 / n of its square outside of the
    # mean of the diagonal, for every seed.
    other = matrix.clone()
    other[0, 0] += 1
    energy = (other.tril() if causal else other).square().sum().item()
    found = toeplitz_fraction(other, causal=causal)
    assert found == pytest.approx(1 - (1 - 1 / n) / energy, abs=1e-12)
    assert found < 1


def test_causal_means_that_nothing_above_the_diagonal_counts():
    torch.manual_seed(0)
    w = torch.randn(6, 6)
    other = w.tril() + torch.randn(6, 6).triu(1)
    assert toeplitz_fraction(w, causal=True) == toeplitz_fraction(other, causal=True)
    assert toeplitz_fraction(w) != toeplitz_fraction(other)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [4, 32])
def test_noise_keeps_as_many_dimensions_as_there_are_diagonals(n, causal):
    random = np.random.default_rng(0)
    found = [
        toeplitz_fraction(torch.from_numpy(random.normal(size=(n, n))), causal=causal)
        for _ in range(400)
    ]
    expected = (n if causal else 2 * n - 1) / (n * (n + 1) / 2 if causal else n * n)
    assert toeplitz_fraction_of_noise(n, causal=causal) == pytest.approx(expected, abs=1e-15)
    assert np.mean(found) == pytest.approx(expected, rel=0.06)


def test_a_matrix_of_zeros_is_toeplitz():
    assert toeplitz_fraction(torch.zeros(3, 3)) == 1


def test_the_share_wants_a_square_matrix():
    for shape in ([3, 4], [2, 3, 3]):
        assert_raises(
            lambda shape=shape: toeplitz_fraction(torch.zeros(shape)),
            ValueError,
            f"weight must be [n, n], got {shape}",
        )


def test_a_matrix_spread_over_processes_is_collected_first():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Sequential(SpatialProjection(5), SpatialProjection(5, causal=True))
        whole = toeplitz_fractions(model)
        mesh = init_device_mesh("cpu", (1,))
        for layer in model:
            layer.weight = nn.Parameter(distribute_tensor(layer.weight, mesh, [Shard(0)]))
        assert toeplitz_fractions(model) == whole
        assert whole[0] != whole[1]
    finally:
        dist.destroy_process_group()


# ## Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layer": "amlp"},
            "layer must be gmlp, linear, additive, multiplicative, toeplitz or transformer, "
            "got 'amlp'",
        ),
        ({"d_model": 0}, "d_model must be above 0, got 0"),
        ({"maskings": 0}, "maskings must be above 0, got 0"),
        ({"chosen": 0.0}, "chosen must lie in (0, 1], got 0.0"),
        ({"chosen": 1.1}, "chosen must lie in (0, 1], got 1.1"),
        (
            {"maskings": 7},
            "maskings must be at most 6, where each character has been hidden with seq_len=128 "
            "and chosen=0.15, got 7",
        ),
        ({"dropout": 1.0}, "dropout must lie in [0, 1), got 1.0"),
    ],
)
def test_a_bad_setting_is_refused(change, message):
    assert_raises(lambda: Settings(**change), ValueError, message)


def test_a_validation_part_must_fill_a_window(tmp_path):
    path = text_file(tmp_path, words(150))
    message = f"corpus must have at least seq_len=16 characters for validation, got 15 in {path}"
    assert_raises(lambda: task_of(small(path), tmp_path), ValueError, message)


def test_training_batches_start_anywhere(tmp_path):
    path = text_file(tmp_path)
    corpus = load_corpus(str(path), 16, tmp_path)
    training = Training(batch=4, steps=10, warmup=1)
    inputs, _ = next(training_batches(corpus, small(path), training, 10_000, BatchSplit()))
    assert inputs.shape == (4, 16)
