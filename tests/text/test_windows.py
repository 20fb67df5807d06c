"""The order in which training reads the windows of a text."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.text import windows as windows_module
from experiments.text.tokens import Tokens
from experiments.text.windows import ROUNDS, Windows, permute
from tests.support.helpers import assert_raises, properties, seeds

# The tokens are their own positions, so a window shows where it was read.


@st.composite
def readings(draw: st.DrawFn) -> Windows:
    seq_len = draw(st.integers(1, 8))
    n = draw(st.integers(2 * seq_len, 60))
    batch, seed = draw(st.integers(1, 9)), draw(st.integers(0, 2**31 - 1))
    return Windows(Tokens(torch.arange(n)), seq_len, batch, seed)


def starts(windows: Windows, first: int, n: int) -> list[int]:
    """Where windows `first` to `first + n - 1` start, counted over all steps."""
    steps = range(first // windows.batch, (first + n - 1) // windows.batch + 1)
    found = torch.cat([windows.batch_at(step)[0][:, 0] for step in steps]).tolist()
    skipped = first % windows.batch
    return found[skipped : skipped + n]


# ## Windows


@properties
@given(windows=readings(), step=st.integers(0, 1_000))
def test_a_window_lies_in_the_text_and_its_targets_are_one_token_later(windows, step):
    x, y = windows.batch_at(step)
    assert x.shape == y.shape == (windows.batch, windows.seq_len)
    assert x.dtype == torch.int64
    assert torch.equal(x, x[:, :1] + torch.arange(windows.seq_len))
    assert torch.equal(y, x + 1)
    assert x.min() >= 0
    assert y.max() < len(windows.tokens)


@properties
@given(windows=readings(), epoch=st.integers(0, 20))
def test_an_epoch_reads_adjacent_windows_once_each(windows, epoch):
    # As many as fit for any start.
    n = len(windows.tokens) // windows.seq_len - 1
    found = sorted(starts(windows, epoch * n, n))
    assert found == list(range(found[0], found[0] + n * windows.seq_len, windows.seq_len))
    assert found[0] < windows.seq_len


@properties
@given(windows=readings(), steps=st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_the_windows_of_a_step_depend_on_the_seed_and_the_step_only(windows, steps):
    state = torch.get_rng_state()
    fresh = [
        Windows(windows.tokens, windows.seq_len, windows.batch, windows.seed).batch_at(step)
        for step in steps
    ]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    for step, (x, y) in zip(steps, fresh, strict=True):
        again = windows.batch_at(step)
        assert torch.equal(again[0], x)
        assert torch.equal(again[1], y)


def test_epochs_and_seeds_differ_in_order_and_in_start():
    def orders(seed: int) -> list[list[int]]:
        windows = Windows(Tokens(torch.arange(2_000)), 16, 4, seed)
        n = windows.per_epoch
        return [starts(windows, epoch * n, n) for epoch in range(8)]

    found = [order for seed in (0, 1, 2) for order in orders(seed)]
    assert len({tuple(order) for order in found}) == len(found)
    assert len({min(order) for order in found}) > 8
    assert all(order != sorted(order) for order in found)


def test_a_batch_may_be_larger_than_an_epoch():
    windows = Windows(Tokens(torch.arange(20)), 5, 10, seed=0)
    assert windows.per_epoch == 3
    found = starts(windows, 0, 30)
    for epoch in range(10):
        a, b, c = sorted(found[3 * epoch : 3 * epoch + 3])
        assert (b - a, c - b) == (5, 5)


# Recorded runs have read this order, so it must not change.
@properties
@given(windows=readings(), step=st.integers(0, 100))
def test_the_order_is_that_of_recorded_runs(windows, step):
    wanted = []
    for k in range(step * windows.batch, (step + 1) * windows.batch):
        epoch, place = divmod(k, windows.per_epoch)
        generator = torch.Generator().manual_seed(windows.seed * 1_000_003 + epoch)
        start = torch.randint(windows.seq_len, (1,), generator=generator)
        order = torch.randperm(windows.per_epoch, generator=generator)
        wanted.append(int(start + windows.seq_len * order[place]))
    assert windows.batch_at(step)[0][:, 0].tolist() == wanted


@properties
@given(windows=readings(), step=st.integers(0, 100), data=st.data())
def test_rows_are_those_of_the_batch(windows, step, data):
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, windows.batch)] * 2)))
    x, y = windows.batch_at(step)
    rows = windows.rows(step, range(a, b))
    assert rows[0].shape == rows[1].shape == (b - a, windows.seq_len)
    assert rows[0].equal(x[a:b])
    assert rows[1].equal(y[a:b])


@pytest.mark.parametrize("rows", [range(3, 5), range(-1, 2), range(4, 5)])
def test_rows_outside_the_batch_are_refused(rows):
    windows = Windows(Tokens(torch.arange(100)), 4, 4, seed=0)
    assert_raises(lambda: windows.rows(0, rows), ValueError, "rows", "[0, batch=4)", rows)


def test_processes_read_a_step_together_micro_batch_by_micro_batch():
    class Split:
        def __init__(self, rows: list[range]) -> None:
            self._rows = rows

        def rows(self, batch: int) -> list[range]:
            assert batch == 8
            return self._rows

    windows = Windows(Tokens(torch.arange(300)), 4, 8, seed=1)
    splits = [[range(2), range(2, 4)], [range(4, 6), range(6, 8)]]
    streams = [windows.batches(5, Split(rows)) for rows in splits]
    for step in range(5, 30):
        read = [next(stream) for stream in streams for _ in range(2)]
        for whole, parts in zip(windows.batch_at(step), zip(*read, strict=True), strict=True):
            assert torch.cat(parts).equal(whole)


# ## Permutation without a list


def keys_of(seed: int) -> list[int]:
    return torch.randint(2**62, (ROUNDS,), generator=torch.Generator().manual_seed(seed)).tolist()


@properties
@given(n=st.integers(1, 3_000), seed=seeds)
def test_permute_is_a_permutation_and_each_entry_is_independent_of_the_others(n, seed):
    keys = keys_of(seed)
    found = permute(np.arange(n), n, keys)
    assert sorted(found.tolist()) == list(range(n))
    assert permute(np.array([n // 2]), n, keys).tolist() == [found[n // 2]]


def test_permute_works_for_more_entries_than_a_list_could_hold():
    n = 2**40 + 7
    found = permute(np.arange(10**12, 10**12 + 1_000), n, [1, 2, 3, 4, 5, 6])
    assert len(set(found.tolist())) == 1_000
    assert 0 <= found.min() < n / 50
    assert n - n / 50 < found.max() < n


# 64 cells with 1,000 expected entries each: chi-squared has mean 63 and standard deviation 11.
@pytest.mark.parametrize("seed", range(5))
def test_neighbours_are_permuted_independently(seed):
    n = 64_000
    found = permute(np.arange(n), n, keys_of(seed))
    cells = np.histogram2d(found[:-1], found[1:], bins=8, range=[[0, n], [0, n]])[0]
    steps = np.histogram(np.diff(found) % n, bins=64, range=(0, n))[0]
    for counts in (cells, steps):
        assert 63 - 5 * 11 < ((counts - n / 64) ** 2).sum() / (n / 64) < 63 + 5 * 11


def test_long_epochs_are_permuted_without_a_list(monkeypatch):
    shuffled = Windows(Tokens(torch.arange(2_000)), 16, 4, 0).batch_at(0)[0]
    monkeypatch.setattr(windows_module, "MAX_SHUFFLED", 100)
    windows = Windows(Tokens(torch.arange(2_000)), 16, 4, 0)
    n = windows.per_epoch
    orders = [starts(windows, epoch * n, n) for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list(range(min(order), min(order) + 16 * n, 16))
        assert order != sorted(order)
    assert len(set(map(tuple, orders))) == 4
    assert not windows.batch_at(0)[0].equal(shuffled)
