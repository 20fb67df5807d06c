"""The answers of the pages of results say what the runs say."""

import copy

import pytest

from experiments.report import ERROR, NATS
from experiments.reporting import answers
from experiments.reporting.records import RESULTS, group_by_layer, load_runs
from experiments.reporting.scaling import Point
from tests.support.helpers import assert_raises


def groups(study: str) -> dict:
    return group_by_layer(load_runs(RESULTS / study))


def with_result(runs: dict, layer: str, name: str, value: float) -> dict:
    """The runs, with another result for each seed of one layer."""
    changed = copy.deepcopy(runs)
    for run in changed[layer]:
        run["validation"][name] = value
    return changed


@pytest.mark.parametrize(
    ("answer", "study", "layer", "name", "value"),
    [
        (lambda g: answers.autoregressive(g, NATS), "tiny_shakespeare", "transformer", NATS, 1.59),
        (lambda g: answers.autoregressive(g, NATS), "tiny_shakespeare", "amlp", NATS, 1.5),
        (lambda g: answers.gates(g, NATS), "masked", "linear", NATS, 1.3),
        (lambda g: answers.gates(g, NATS), "masked", "toeplitz", NATS, 2.0),
        (lambda g: answers.alignment(g, ERROR, 87.5), "alignment", "transformer", ERROR, 0.4),
        (lambda g: answers.alignment(g, ERROR, 87.5), "alignment", "amlp", ERROR, 0.1),
        (lambda g: answers.digits(g, g, ERROR), "digits", "mixer", ERROR, 0.01),
    ],
)
def test_an_answer_is_refused_when_the_runs_say_something_else(answer, study, layer, name, value):
    runs = groups(study)
    assert answer(runs)
    changed = with_result(runs, layer, name.name, value)
    assert_raises(lambda: answer(changed), ValueError, "answer", "no longer say")


def test_the_numbers_of_an_answer_are_those_of_the_runs():
    runs = with_result(groups("tiny_shakespeare"), "gmlp", "nats_per_char", 1.6125)
    assert "**Yes.** gMLP reaches a validation loss of 1.613 nats" in answers.autoregressive(
        runs, NATS
    )


def test_depth_answers_where_the_transformer_stops():
    gmlp = [Point(2, 10, (6.0,)), Point(4, 20, (5.0, 5.2))]
    stops = [Point(1, 10, (7.0,)), Point(2, 20, (6.0,)), Point(4, 40, (6.5,))]
    text = answers.depth({"gMLP": gmlp, "Transformer": stops})
    assert "stops at 2 layers" in text
    assert "from 6.00 to 5.10" in text
    assert "falls from 7.00 to 6.00 at 2 layers and is 6.50 at 4" in text
    for lines in ({"gMLP": gmlp[::-1], "Transformer": stops}, {"gMLP": gmlp, "Transformer": gmlp}):
        assert_raises(lambda lines=lines: answers.depth(lines), ValueError, "no longer say")


def test_the_fraction_of_toeplitz_matrices_must_be_far_above_noise():
    assert "On average 70% of" in answers.toeplitz([0.6, 0.8], 0.02)
    assert_raises(lambda: answers.toeplitz([0.3, 0.2], 0.02), ValueError, "Toeplitz")
    assert_raises(lambda: answers.toeplitz([0.6, 0.8], 0.1), ValueError, "Toeplitz")
