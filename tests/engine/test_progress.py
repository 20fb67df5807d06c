"""Progress of long readings: lines in a log, a bar on a terminal, nothing for short ones."""

import sys
import time

from experiments.engine import progress
from experiments.engine.progress import with_progress


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
