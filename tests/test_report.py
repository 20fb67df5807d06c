"""What the pages say is what the runs measured."""

import json

import pytest

from experiments import summary
from experiments.autoregressive import DEFAULTS, Settings
from experiments.settings import from_dict


def test_the_pages_hold_what_the_data_gives():
    for path, content in summary.summary().items():
        # matplotlib may draw the same curve with other last digits on another machine.
        if path.suffix != ".svg":
            assert path.read_bytes() == content, f"run python -m experiments.report: {path}"


def test_the_defaults_are_the_runs_of_the_results_table():
    for run in summary.load_runs(summary.RESULTS / "tiny_shakespeare"):
        settings = from_dict(Settings, run["settings"])
        default = DEFAULTS[settings.layer]
        changes = {
            name for name in run["settings"] if getattr(settings, name) != getattr(default, name)
        }
        assert changes <= {"corpus", "seed"}, run["environment"]["command"]


def test_each_result_is_the_lowest_evaluation_of_its_own_metrics():
    runs = summary.load_runs(summary.RESULTS / "tiny_shakespeare")
    assert len(runs) == 6
    for run in runs:
        losses = [m["nats_per_char"] for m in run["metrics"] if "nats_per_char" in m]
        assert run["validation"]["nats_per_char"] == min(losses)
        assert run["metrics"][-1]["step"] == run["settings"]["steps"]


def test_the_default_rate_of_each_layer_is_the_best_of_the_sweep():
    lines = (summary.RESULTS / "tiny_shakespeare" / "sweep.jsonl").read_text().splitlines()
    sweep = [json.loads(line) for line in lines]
    for layer, default in DEFAULTS.items():
        mine = [line for line in sweep if line["layer"] == layer]
        assert min(mine, key=lambda line: line["nats_per_char"])["lr"] == default.lr


def test_text_without_marks_is_refused():
    with pytest.raises(ValueError, match="<!-- begin x --> and <!-- end x --> once each"):
        summary.replace_between("no marks", "x", "content")


def test_only_what_stands_between_the_marks_changes():
    text = "before\n<!-- begin x -->\nold\n<!-- end x -->\nafter\n"
    new = summary.replace_between(text, "x", "| new |")
    assert new == "before\n<!-- begin x -->\n\n| new |\n\n<!-- end x -->\nafter\n"
    assert summary.replace_between(new, "x", "| new |") == new
