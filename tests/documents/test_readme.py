"""The README: its commands run, and its links lead to files."""

import importlib
import re
from pathlib import Path

import pytest

from experiments.autoregressive import main
from experiments.engine.command import read_flags
from tests.support.small_runs import start_main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(prefix: str) -> list[str]:
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith(prefix)]


@pytest.mark.parametrize("line", command_lines("make "))
def test_each_make_command_is_a_target_with_a_help_text(line):
    target = line.split()[1]
    assert re.search(
        rf"^{target}:.* ## .+$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )


# The commands as they are written, on a small text and with a small budget: later flags win.
@pytest.mark.parametrize("line", command_lines("python -m experiments.autoregressive"))
def test_each_command_of_the_experiment_runs(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "my.txt"
    text.write_text("ROMEO: it is the east, and Juliet is the sun.\n" * 50, encoding="utf-8")
    sizes = ["--d-model", "16", "--d-ffn", "32", "--n-layers", "1"]
    small = [*sizes, "--steps", "2", "--warmup", "0", "--no-labml"]
    first = ["--corpus", str(text), *small, "--run", "runs/NAME"]
    if "runs/NAME" in line:
        assert main(first) == 0
    words = re.findall(r'"[^"]*"|\S+', line)[3:]
    arguments = [word.strip('"') for word in words]
    if "runs/NAME" not in line:
        arguments += first
    if "--devices" in line:
        # Fabric starts the other processes with the command of this one, which is pytest.
        out, err = tmp_path / "out", tmp_path / "err"
        process = start_main(["--no-labml", *arguments], out, err, cwd=tmp_path)
        process.join(timeout=120)
        assert process.exitcode == 0, err.read_text()
        assert "2 processes" in err.read_text()
        return
    assert main(arguments) == 0
    assert "ROMEO" in capsys.readouterr().out or "sample" not in line


@pytest.mark.parametrize(
    "line",
    [
        line
        for name in ("masked", "alignment", "digits")
        for line in command_lines(f"python -m experiments.{name}")
    ],
)
def test_each_command_of_another_experiment_has_the_flags_that_it_uses(line):
    words = line.partition("#")[0].split()[2:]
    experiment = importlib.import_module(words[0]).EXPERIMENT
    settings, _, _ = read_flags(experiment, words[1:])
    asked = dict(zip(words[1::2], words[2::2], strict=True))
    assert {flag: getattr(settings, flag[2:]) for flag in asked} == asked


def test_each_module_run_by_the_readme_exists():
    for module in re.findall(r"python -m ((?:experiments|benchmarks)[\w.]*)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_each_relative_link_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
