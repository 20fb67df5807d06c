"""Studies: all runs behind a page, by one command."""

import json
import sys

import pytest

from experiments import study
from experiments.engine.settings.errors import UserError
from experiments.study import STUDIES, Run, command, perform
from tests.support.small_runs import SMALL, flags, text_file


@pytest.fixture
def small_study(tmp_path, monkeypatch):
    """Two runs of a second."""
    corpus = text_file(tmp_path)
    given = flags(**SMALL, corpus=corpus, data=tmp_path, precision="float32")
    runs = [
        Run(f"{layer}-0", "autoregressive", ("--no-labml", *given, f"--layer={layer}"))
        for layer in ("gmlp", "toeplitz")
    ]
    monkeypatch.setitem(STUDIES, "small", runs)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    return tmp_path


def test_a_study_does_what_is_missing_and_keeps_what_it_found(small_study, capsys, monkeypatch):
    runs, results = small_study / "runs", small_study / "results" / "small"
    perform("small", runs, jobs=2)
    assert capsys.readouterr().out.startswith("small: 2 of 2 runs to do, 2 at a time\n")
    for name in ("gmlp-0", "toeplitz-0"):
        assert json.loads((results / name / "result.json").read_text())["validation"]
        kept = sorted(file.name for file in (results / name).iterdir())
        assert kept == ["metrics.jsonl", "result.json", "settings.json"]
    # The second time there is nothing to do; a run that was stopped goes on.
    before = (runs / "gmlp-0" / "last.pt").stat().st_mtime_ns
    (runs / "toeplitz-0" / "result.json").unlink()
    monkeypatch.setitem(study.SHOWN, "small", ("sample.txt", "spatial.npz"))
    perform("small", runs, jobs=1)
    assert (results / "gmlp-0" / "spatial.npz").exists()
    assert not (results / "toeplitz-0" / "spatial.npz").exists()
    assert (results / "toeplitz-0" / "sample.txt").exists()
    assert capsys.readouterr().out.startswith("small: 1 of 2 runs to do, 1 at a time\n")
    assert (runs / "gmlp-0" / "last.pt").stat().st_mtime_ns == before
    assert (runs / "toeplitz-0" / "result.json").exists()


def test_a_run_that_fails_ends_the_study_with_what_it_said(small_study, monkeypatch):
    bad = Run("bad-0", "autoregressive", ("--steps=0",))
    monkeypatch.setitem(STUDIES, "small", [bad])
    with pytest.raises(UserError, match=r"run bad-0 ended with status 2: error: steps must be"):
        perform("small", small_study / "runs", jobs=1)


def test_each_run_has_a_name_of_its_own_and_each_result_three_seeds():
    for study_name, runs in STUDIES.items():
        names = [run.name for run in runs]
        assert len(set(names)) == len(names)
        # The search for a rate is no result.
        if study_name.endswith("rates"):
            continue
        groups = {name.rpartition("-")[0] for name in names}
        assert all(f"{group}-{seed}" in names for group in groups for seed in (0, 1, 2))


def test_the_list_has_each_command_and_starts_none(capsys, monkeypatch):
    monkeypatch.setattr(study.subprocess, "run", lambda *_, **__: sys.exit("started"))
    command(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  python -m experiments.") for line in lines) == sum(
        len(runs) for runs in STUDIES.values()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnn"], "name must be tiny_shakespeare or equal_time or "),
        (["--jobs", "0"], "jobs must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_told_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as e:
        command(arguments)
    assert e.value.code == 2
    assert message in capsys.readouterr().err
