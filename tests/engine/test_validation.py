"""The rows of a validation set that each process evaluates."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.engine.validation import rows_of_process
from tests.support.helpers import properties


@properties
@given(n=st.integers(1, 30), world=st.integers(1, 9))
def test_each_row_counts_once_and_all_processes_have_equally_many(n, world):
    splits = [rows_of_process(n, rank, world) for rank in range(world)]
    assert {len(rows) for rows, _ in splits} == {math.ceil(n / world)}
    counted = torch.cat([rows[real] for rows, real in splits])
    assert sorted(counted.tolist()) == list(range(n))
    assert all(rows.max() < n for rows, _ in splits)
