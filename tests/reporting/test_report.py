"""The pages of results agree with the recorded runs."""

import dataclasses
import importlib

import pytest

from experiments.autoregressive import DEFAULTS
from experiments.engine.settings.types import from_dict
from experiments.report import PAGES, main, report
from experiments.reporting.records import METRICS, RESULTS, load_runs
from experiments.study import SHOWN_ON_A_PAGE, STUDIES

# Studies that have been run.
studies = pytest.mark.parametrize("study", [name for name in STUDIES if (RESULTS / name).is_dir()])


def test_each_page_is_the_one_made_from_the_data():
    for path, content in report().items():
        # matplotlib may draw the same matrix with other pixels on another machine.
        if path.suffix != ".png":
            assert path.read_bytes() == content, f"run python -m experiments.report: {path}"
        else:
            assert path.exists(), f"run python -m experiments.report: {path}"


def test_each_page_belongs_to_a_study():
    assert PAGES.keys() <= STUDIES.keys()


@studies
def test_the_recorded_runs_are_those_of_the_study(study):
    assert {run["folder"].name for run in load_runs(RESULTS / study)} == {
        run.name for run in STUDIES[study]
    }


@studies
def test_the_recorded_settings_are_those_of_the_command_today(study):
    commands = {run.name: run for run in STUDIES[study]}
    for run in load_runs(RESULTS / study):
        command = commands[run["folder"].name]
        experiment = importlib.import_module(f"experiments.{command.module}").EXPERIMENT
        values = from_dict(experiment.classes, run["settings"])
        settings = {k: v for part in values for k, v in dataclasses.asdict(part).items()}
        defaults = {
            name: value
            for part in experiment.defaults[settings[experiment.variant]]
            for name, value in dataclasses.asdict(part).items()
        }
        flags = dict(zip(command.flags[::2], command.flags[1::2], strict=True))
        asked = {flag[2:].replace("-", "_"): value for flag, value in flags.items()}
        assert {name for name in settings if settings[name] != defaults[name]} <= asked.keys()
        for name, value in asked.items():
            assert str({**run["launch"], **settings}[name]) == value


@studies
def test_each_result_is_the_lowest_of_its_evaluations(study):
    for run in load_runs(RESULTS / study):
        name = "error" if "nats_per_char" not in run["validation"] else "nats_per_char"
        assert run["validation"][name] == min(line[name] for line in run["evaluations"])
        assert run["evaluations"][-1]["step"] == run["settings"]["steps"]


def test_large_files_are_recorded_only_where_a_page_shows_them():
    allowed = {
        RESULTS / study / run / name
        for (study, run), names in SHOWN_ON_A_PAGE.items()
        for name in names
    }
    for name in (METRICS, "sample.txt", "spatial.npz"):
        assert set(RESULTS.glob(f"*/*/{name}")) <= allowed
    files = [file for file in RESULTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 3_000_000


def test_no_rate_of_the_sweep_is_better_than_the_default_by_more_than_the_seeds_differ():
    def losses(study: str, layer: str) -> list[float]:
        runs = load_runs(RESULTS / study)
        mine = (run for run in runs if run["settings"]["layer"] == layer)
        return [run["validation"]["nats_per_char"] for run in mine]

    for layer in DEFAULTS:
        default = losses("tiny_shakespeare", layer)
        others = losses("rates", layer)
        assert len(others) == 2
        assert min(others) > default[0] - (max(default) - min(default))


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--unknown", 2)])
def test_arguments_do_not_rewrite_the_pages(argument, status, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", argument])
    monkeypatch.setattr("experiments.report.report", lambda: pytest.fail("it made the pages"))
    with pytest.raises(SystemExit) as e:
        main()
    assert e.value.code == status
