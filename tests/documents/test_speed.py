"""The page on speed agrees with the recorded results."""

import json

import pytest

pytest.importorskip("g_mlp_pytorch", reason="the benchmarks compare with it")
pytest.importorskip("labml_nn", reason="the benchmarks compare with it")

from benchmarks import blocks, speed


def test_the_tables_on_the_page_are_those_of_the_data():
    assert speed.PAGE.read_text(encoding="utf-8") == speed.page(), "run python -m benchmarks.speed"


@pytest.mark.parametrize("name", speed.TABLES)
def test_each_result_records_its_command_hardware_and_commit(name):
    record = json.loads((speed.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    where = record["environment"]
    assert where["command"].startswith(f"python -m benchmarks.{name}")
    assert all(where[key] for key in ("date", "commit", "hardware", "torch"))


def test_the_operations_of_a_step_equal_those_that_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model, x = blocks.ours(2, True), torch.randn(blocks.BATCH, blocks.SEQ_LEN, blocks.D_MODEL)
    with FlopCounterMode(display=False) as counter:
        model(x.requires_grad_()).sum().backward()
    assert counter.get_total_flops() == blocks.products(2)
