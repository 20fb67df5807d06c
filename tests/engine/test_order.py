"""The rows that a process reads in a step."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from experiments.engine.order import BatchSplit, EpochOrder, micro_batches, row_generator
from tests.support.helpers import assert_raises, properties

few = st.integers(1, 5)
steps = st.integers(0, 2**20)


def splits(world: int, accumulate: int) -> list[BatchSplit]:
    return [BatchSplit(rank, world, accumulate) for rank in range(world)]


@properties
@given(world=few, accumulate=few, size=st.integers(1, 7))
def test_each_row_is_read_once_and_the_processes_read_neighbours(world, accumulate, size):
    batch = world * accumulate * size
    parts = [split.rows(batch) for split in splits(world, accumulate)]
    assert all(len(rows) == size for part in parts for rows in part)
    in_order = [row for micro in zip(*parts, strict=True) for rows in micro for row in rows]
    assert in_order == list(range(batch))


@properties
@given(world=few, accumulate=few, batch=st.integers(1, 60))
def test_a_batch_is_split_equally_or_refused(world, accumulate, batch):
    split = BatchSplit(world - 1, world, accumulate)
    if batch % (world * accumulate) == 0:
        assert sum(map(len, split.rows(batch))) * world == batch
        return
    parts = ("batch", world * accumulate, f"{world} processes", accumulate, batch)
    assert_raises(lambda: split.rows(batch), ValueError, *parts)
    assert_raises(lambda: next(micro_batches(0, batch, split)), ValueError, *parts)


@properties
@given(world=few, accumulate=few, size=few, step=steps)
def test_micro_batches_continue_from_any_step(world, accumulate, size, step):
    batch = world * accumulate * size
    for split in splits(world, accumulate):
        found = list(itertools.islice(micro_batches(step, batch, split), 2 * accumulate))
        assert found == [(step + k, rows) for k in range(2) for rows in split.rows(batch)]


@properties
@given(n=st.integers(1, 30), batch=st.integers(1, 12), epoch=few, seed=st.integers(0, 99))
def test_each_epoch_reads_each_item_once(n, batch, epoch, seed):
    order = EpochOrder(n, batch, seed)
    rows = [divmod(k, batch) for k in range(epoch * n, (epoch + 1) * n)]
    assert sorted(order.item(step, row) for step, row in rows) == list(range(n))


def test_epochs_and_seeds_differ_in_order():
    orders = [EpochOrder(50, 50, seed) for seed in (0, 1)]
    found = {tuple(o.item(step, row) for row in range(50)) for o in orders for step in range(4)}
    assert len(found) == 8


@properties
@given(seed=st.integers(0, 99), epoch=steps, step=steps, row=steps)
def test_the_generator_of_a_row_is_not_that_of_an_epoch(seed, epoch, step, row):
    order = EpochOrder(40, 40, seed)
    permutation = [order.item(epoch, k) for k in range(40)]
    for key in ((epoch, 0), (step, row)):
        assert permutation != row_generator(seed, *key).permutation(40).tolist()
