"""Progress of a run and of reading a file: lines in a log, a bar on a terminal."""

import io
import sys
import time

import pytest
import torch

from experiments.engine import progress
from experiments.engine.progress import Progress, with_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ## A run


def progress_of(
    n: int, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, start: int = 0
) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(start, n) as progress:
        for step in range(start + 1, n + 1):
            progress.update(step, torch.tensor(1.25))
        progress.print("printed")
    return stream.getvalue()


def test_in_a_pipe_progress_is_twenty_plain_lines(monkeypatch, capsys):
    lines = progress_of(1_000, monkeypatch, io.StringIO()).splitlines()
    assert len(lines) == 20 + 1
    assert lines[0].startswith("step 50/1000  loss 1.250  ")
    assert lines[-2].endswith("  0 s left")
    assert lines[-1] == "printed"
    assert "\r" not in "".join(lines)
    assert capsys.readouterr().out == ""


def test_a_short_or_resumed_run_prints_each_step(monkeypatch):
    lines = progress_of(7, monkeypatch, io.StringIO(), start=5).splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["6/7", "7/7"]


def test_only_process_0_shows_progress(monkeypatch, capsys):
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(0, 5, visible=False) as progress:
            progress.update(5, torch.tensor(1.25))
            progress.print("printed")
        assert stream.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_on_a_terminal_progress_is_a_bar_with_rate_and_time_left(monkeypatch):
    shown = progress_of(1_000, monkeypatch, Terminal())
    assert "\r" in shown
    assert "1000/1000" in shown
    assert "step/s" in shown
    assert "loss 1.250" in shown
    assert "printed\n" in shown


# ## Reading a file


def test_a_long_reading_reports_its_progress(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    monkeypatch.setattr(time, "monotonic", iter(range(100)).__next__)
    assert list(with_progress([b"abc", b"d"], 4, "reading the text")) == [b"abc", b"d"]
    assert capsys.readouterr().err.splitlines() == [
        "reading the text: 75%, 1 s left",
        "reading the text: 100%, 0 s left",
    ]


def test_a_short_reading_reports_nothing(capsys):
    assert list(with_progress([b"abc", b"d"], 4, "reading")) == [b"abc", b"d"]
    assert list(with_progress([], 0, "reading")) == []
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "BAR_DELAY", 0)
    assert list(with_progress([b"abc", b"d"], 4, "reading the text")) == [b"abc", b"d"]
    assert capsys.readouterr().err.startswith("\rreading the text:   0%|")
