"""Depth scaling: the runs, the points, the table and the figure."""

import dataclasses
import math
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import autoregressive, masked
from experiments.models.language import layer_sizes, make_model
from experiments.reporting.scaling import (
    Point,
    exponent,
    points,
    scaling_figure,
    scaling_table,
    size_ratio,
)
from experiments.study import DEPTHS, TEXT, other_depths
from tests.support.helpers import assert_raises, properties

LAYERS = ("gmlp", "transformer")


def run(layer: str, n_layers: int, parameters: int, perplexity: float) -> dict[str, Any]:
    return {
        "settings": {"layer": layer, "n_layers": n_layers},
        "parameters": parameters,
        "validation": {"perplexity": perplexity},
    }


RUNS = [
    run("transformer", 1, 200_000, 8.0),
    run("gmlp", 8, 900_000, 4.0),
    run("gmlp", 2, 250_000, 7.0),
    run("gmlp", 2, 250_000, 9.0),
    run("gmlp", 16, 1_800_000, 3.0),
]


experiments = pytest.mark.parametrize(
    "experiment", [autoregressive.EXPERIMENT, masked.EXPERIMENT], ids=lambda e: e.name
)


@experiments
def test_every_depth_but_the_default_is_a_variant(experiment):
    every = [f"{layer}-{n}" for layer, line in DEPTHS[experiment.name].items() for n in line]
    default = [f"{layer}-{experiment.defaults[layer][0].n_layers}" for layer in LAYERS]
    assert set(default) < set(every)
    found = other_depths(experiment)
    assert list(found) == [name for name in every if name not in default]
    for name, flags in found.items():
        words = shlex.split(flags.removeprefix(TEXT))
        layer, depth = name.split("-")
        assert dict(zip(words[::2], words[1::2], strict=True)) == {
            "--layer": layer,
            "--n-layers": depth,
        }


@experiments
def test_both_layers_cover_the_same_sizes(experiment):
    def parameters(layer: str, depth: int) -> int:
        settings = dataclasses.replace(experiment.defaults[layer][0], n_layers=depth)
        model = make_model(layer, layer_sizes(settings), 67, causal=True, seed=0)
        return sum(p.numel() for p in model.parameters())

    lines = DEPTHS[experiment.name]
    counts = [[parameters(layer, depth) for depth in lines[layer]] for layer in LAYERS]
    for small, large in zip(*counts, strict=False):
        assert 0.8 < small / large < 1.25
    assert all(line[-1] / line[0] > 2.5 for line in counts)


def test_runs_of_one_size_are_one_point_and_the_smallest_comes_first():
    found = points(RUNS)
    assert found == {
        "gmlp": [
            Point(2, 250_000, (7.0, 9.0)),
            Point(8, 900_000, (4.0,)),
            Point(16, 1_800_000, (3.0,)),
        ],
        "transformer": [Point(1, 200_000, (8.0,))],
    }
    assert found["gmlp"][0].mean == 8
    assert points([]) == {}


def test_the_table_has_a_row_for_each_point_and_the_best_is_first():
    assert scaling_table(points(RUNS)).splitlines()[2:] == [
        "| **gmlp** | **16** | **1,800,000** | **3.000** | **3.000 to 3.000** | **1** |",
        "| gmlp | 8 | 900,000 | 4.000 | 4.000 to 4.000 | 1 |",
        "| gmlp | 2 | 250,000 | 8.000 | 7.000 to 9.000 | 2 |",
        "| transformer | 1 | 200,000 | 8.000 | 8.000 to 8.000 | 1 |",
    ]


@experiments
def test_the_ratio_of_sizes_is_that_of_the_layers(experiment):
    def line(layer: str) -> list[Point]:
        settings = experiment.defaults[layer][0]
        sizes = []
        for depth in (1, 3):
            deeper = dataclasses.replace(settings, n_layers=depth)
            model = make_model(layer, layer_sizes(deeper), 67, causal=True, seed=0)
            sizes.append(Point(depth, sum(p.numel() for p in model.parameters()), (1.0,)))
        return sizes

    def one(layer: str) -> int:
        settings = experiment.defaults[layer][0]
        model = make_model(layer, layer_sizes(settings), 67, causal=True, seed=0)
        return sum(p.numel() for p in model.encoder.layers[0].parameters())

    ratio = size_ratio(line("transformer"), line("gmlp"))
    assert ratio == pytest.approx(one("transformer") / one("gmlp"), rel=1e-12)


def test_the_ratio_of_sizes_needs_two_depths():
    one = [Point(1, 9, (2.0,))]
    assert_raises(lambda: size_ratio(one, one), ValueError, "line", "2 depths", "got 1")


@properties
@given(
    alpha=st.floats(-0.5, 0.5),
    factor=st.floats(2, 50),
    sizes=st.lists(st.integers(10**4, 10**8), min_size=2, max_size=6, unique=True),
)
def test_the_exponent_of_an_exact_power_law_is_found(alpha, factor, sizes):
    line = [Point(k, n, (factor * (n / 1e6) ** -alpha,)) for k, n in enumerate(sizes, 1)]
    spread = max(sizes) / min(sizes)
    assert exponent(line) == pytest.approx(alpha, abs=1e-9 / math.log(spread))


def test_an_exponent_needs_two_sizes():
    assert_raises(lambda: exponent([Point(1, 9, (2.0,))]), ValueError, "line", 2, "got 1")


def test_the_figure_is_reproducible_and_shows_each_line():
    lines = points(RUNS)
    drawn = scaling_figure(lines, "a letter", "x")
    assert drawn == scaling_figure(lines, "a letter", "x")
    for layer in lines:
        assert f">{layer}</text>" in drawn.decode()
        others = {name: lines[name] for name in lines if name != layer}
        assert f">{layer}</text>" not in scaling_figure(others, "a letter", "x").decode()
    assert scaling_figure({}, "a letter", "x").startswith(b"<svg")
