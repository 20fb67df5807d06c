"""Tables that compare runs."""

import pytest

from experiments.reporting.records import NAMES, Measure, display_name, group_by_layer
from experiments.reporting.tables import (
    provenance_table,
    ranking,
    replace_between,
    results_table,
    sweep_table,
)
from tests.support.helpers import assert_raises

NATS = Measure("nats", "nats/char")
WRONG = Measure("error", "wrong, %", 1, 100)


def run(layer: str, nats: float, seed: int = 0, **more: object) -> dict:
    return {
        "settings": {"layer": layer, "seed": seed},
        "launch": {"precision": "bf16"},
        "environment": {
            "command": f"python -m this --layer {layer}",
            "commit": "abc",
            "date": "2026-01-02 03:04 UTC",
            "hardware": "a processor, 1 threads",
        },
        "validation": {"step": 5, "nats": nats, "error": nats / 10},
        "parameters": 1_234_567,
        "seconds": 10.0 + seed,
    } | more


RUNS = [
    *(run("transformer", nats, seed) for seed, nats in enumerate((1.9, 1.8, 2.0))),
    *(run("gmlp", nats, seed) for seed, nats in enumerate((1.5, 1.6, 1.7))),
    *(run("toeplitz", nats, seed) for seed, nats in enumerate((1.45, 1.55, 1.5))),
]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_groups_are_in_the_order_of_the_names():
    groups = group_by_layer(RUNS)
    assert list(groups) == ["gmlp", "toeplitz", "transformer"]
    assert [len(group) for group in groups.values()] == [3, 3, 3]
    assert list(groups) == sorted(groups, key=list(NAMES).index)


def test_the_name_of_a_group_may_add_to_the_layer():
    groups = group_by_layer(
        RUNS, lambda r: f"{r['settings']['layer']}, seed {r['settings']['seed']}"
    )
    assert next(iter(groups)) == "gmlp, seed 0"
    assert display_name("gmlp, seed 0") == "gMLP, seed 0"


def test_rows_are_sorted_by_their_mean_and_only_the_best_is_bold():
    _, _, *rows = results_table(group_by_layer(RUNS), NATS).splitlines()
    names = [cells(row)[0] for row in rows]
    assert names == ["**gMLP, Toeplitz $W$**", "gMLP", "Transformer"]
    assert [row.count("**") for row in rows] == [2 * len(cells(rows[0])), 0, 0]


def test_a_row_has_the_mean_of_the_seeds_and_the_lowest_and_highest():
    head, _, _, gmlp, *_ = results_table(group_by_layer(RUNS), NATS).splitlines()
    assert dict(zip(cells(head), cells(gmlp), strict=True)) == {
        "model": "gMLP",
        "nats/char": "1.600",
        "lowest to highest": "1.500 to 1.700",
        "parameters": "1,234,567",
        "seeds": "3",
        "time": "11 s",
    }


def test_a_measure_is_scaled_and_further_columns_are_means():
    more = {"nats": lambda r: r["validation"]["nats"]}
    head, _, _, gmlp, *_ = results_table(group_by_layer(RUNS), WRONG, more).splitlines()
    row = dict(zip(cells(head), cells(gmlp), strict=True))
    assert row["wrong, %"] == "16.0"
    assert row["lowest to highest"] == "15.0 to 17.0"
    assert row["nats"] == "1.600"


def test_the_ranking_shows_which_seeds_overlap():
    text = ranking(group_by_layer(RUNS), NATS)
    assert text.startswith("From low to high: gMLP, Toeplitz $W$ ~ gMLP < Transformer. ")


def test_provenance_has_a_row_for_each_run():
    rows = provenance_table(RUNS, NATS).splitlines()
    assert len(rows) == 2 + len(RUNS)
    assert cells(rows[2]) == [
        "`python -m this --layer transformer`",
        "1.9000",
        "bf16",
        "abc",
        "2026-01-02",
        "a processor, 1 threads",
    ]


def test_the_best_rate_of_each_layer_is_bold_and_an_untried_rate_is_empty():
    runs = [
        run("transformer", 1.8, settings={"layer": "transformer", "lr": 0.001}),
        run("gmlp", 1.7, settings={"layer": "gmlp", "lr": 0.001}),
        run("gmlp", 1.6, settings={"layer": "gmlp", "lr": 0.004}),
        run("gmlp", 1.5, settings={"layer": "gmlp", "lr": 0.004}),
    ]
    head, _, gmlp, transformer = sweep_table(runs, NATS).splitlines()
    assert cells(head) == ["model", "0.001", "0.004"]
    assert cells(gmlp) == ["gMLP", "1.7000", "**1.5500**"]
    assert cells(transformer) == ["Transformer", "**1.8000**", ""]


def test_only_the_text_between_the_marks_is_replaced():
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb"
    once = replace_between(text, "x", r"new \1")
    assert once == "a\n<!-- begin x -->\n\nnew \\1\n\n<!-- end x -->\nb"
    assert replace_between(once, "x", r"new \1") == once


@pytest.mark.parametrize("text", ["", "<!-- begin x -->\n<!-- end x -->\n" * 2])
def test_text_without_marks_or_with_two_pairs_is_refused(text):
    marks = ("<!-- begin x -->", "<!-- end x -->")
    assert_raises(lambda: replace_between(text, "x", "content"), ValueError, "text", *marks)
