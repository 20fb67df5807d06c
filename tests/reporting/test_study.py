"""Studies: the runs behind each page of results."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from experiments import study
from experiments.engine.run_folder import read_metrics
from experiments.engine.settings.errors import UserError
from experiments.study import STUDIES, StudyRun, command, run_study
from tests.support.helpers import assert_names, assert_raises
from tests.support.small_runs import SMALL, experiment, flags, start_main, text_file


def forked(
    command: list[str], *, stdout: IO[bytes], stderr: int, env: dict[str, str], check: bool
) -> "subprocess.CompletedProcess[str]":
    """`subprocess.run` of an experiment, without the imports of a new interpreter."""
    assert (command[:2], stderr, check) == ([sys.executable, "-m"], subprocess.STDOUT, False)
    # Two jobs share the cores.
    assert env["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))
    module = command[2].removeprefix("experiments.")
    log = Path(stdout.name)
    process = start_main(command[3:], log, log, module=module)
    process.join(timeout=120)
    return subprocess.CompletedProcess(command, process.exitcode)


@pytest.fixture
def small_study(tmp_path, monkeypatch):
    """Two runs that take a second each."""
    corpus = text_file(tmp_path)
    given = flags(**SMALL, corpus=corpus, data=tmp_path, precision="float32")
    runs = [
        StudyRun(f"{layer}-0", "autoregressive", ("--no-labml", *given, f"--layer={layer}"))
        for layer in ("gmlp", "toeplitz")
    ]
    monkeypatch.setitem(STUDIES, "small", runs)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    return tmp_path


def test_a_study_does_the_missing_runs_and_records_all(small_study, capsys, monkeypatch):
    runs, results = small_study / "runs", small_study / "results" / "small"
    # One run is finished already, the other is missing.
    finished = STUDIES["small"][0]
    assert experiment(*finished.command(runs / finished.name)[2:]) == 0
    before = (runs / "gmlp-0" / "last.pt").stat().st_mtime_ns
    shown = ("metrics.jsonl", "sample.txt", "spatial.npz")
    monkeypatch.setitem(study.SHOWN_ON_A_PAGE, ("small", "gmlp-0"), shown)
    if os.name == "posix":
        monkeypatch.setattr(subprocess, "run", forked)
    capsys.readouterr()
    run_study("small", runs, jobs=2)
    assert capsys.readouterr().out.startswith("small: 1 of 2 runs to do, 2 at a time\n")
    assert (runs / "gmlp-0" / "last.pt").stat().st_mtime_ns == before
    recorded = ["evaluations.jsonl", "result.json", "settings.json"]
    for name, more in (("gmlp-0", shown), ("toeplitz-0", ())):
        assert sorted(file.name for file in (results / name).iterdir()) == sorted(
            [*recorded, *more]
        )
        assert json.loads((results / name / "result.json").read_text())["validation"]
        evaluated = read_metrics(results / name / "evaluations.jsonl")
        assert [line["step"] for line in evaluated] == [6, 12]


def test_an_interrupted_run_is_resumed(tmp_path):
    run = StudyRun("gmlp-0", "masked", ("--layer", "gmlp"))
    assert run.command(tmp_path) == ["-m", "experiments.masked", "--resume", str(tmp_path)]
    new = tmp_path / "new"
    assert run.command(new) == [
        *("-m", "experiments.masked", "--layer", "gmlp", "--run", str(new)),
    ]


def test_a_failed_run_ends_the_study_with_its_last_line(small_study, monkeypatch):
    bad = StudyRun("bad-0", "nothing", ())
    monkeypatch.setitem(STUDIES, "small", [bad])
    failed = partial(run_study, "small", small_study / "runs", jobs=1)
    assert_raises(failed, UserError, "bad-0", "status 1", "No module named experiments.nothing")


def test_run_names_are_unique_and_each_result_has_three_seeds():
    for study_name, runs in STUDIES.items():
        names = [run.name for run in runs]
        assert len(set(names)) == len(names)
        # A sweep of learning rates has one seed.
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
    ("arguments", "parts"),
    [
        (["rnn"], ("study", "'rnn'", "tiny_shakespeare")),
        (["--jobs", "0"], ("jobs", 1, "got 0")),
    ],
)
def test_bad_arguments_end_with_status_2(arguments, parts, capsys):
    with pytest.raises(SystemExit) as e:
        command(arguments)
    assert e.value.code == 2
    assert_names(capsys.readouterr().err.splitlines()[-1], *parts)
