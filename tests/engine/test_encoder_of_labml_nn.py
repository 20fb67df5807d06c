"""From settings to a model, through our encoder and through that of labml_nn."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch

from experiments.autoregressive import DEFAULTS
from experiments.engine.checkpoint import load_checkpoint
from experiments.models.language import ENCODERS, LAYERS, LayerSizes, make_model
from tests.engine.test_resume import assert_equal_runs, ended, needs_fork_server
from tests.support.helpers import (
    assert_names,
    assert_the_past_cannot_see_the_future,
    randomised,
)
from tests.support.labml_layers import labml_nn
from tests.support.small_runs import experiment, files, launch, measured, quick, small, text_file

SIZES = {"d_model": 8, "d_ffn": 12, "n_layers": 2, "n_heads": 2, "seq_len": 6}
TWENTY = {"steps": 20, "evaluate_every": 10, "log_every": 1}
every_layer = pytest.mark.parametrize("layer", LAYERS)


def through_labml_nn(corpus: Path, run: Path, **changes: object) -> list[str]:
    labml_nn("transformers")
    return small(corpus, run, **{**TWENTY, "encoder": "labml_nn", **changes})


@every_layer
@pytest.mark.parametrize("causal", [True, False])
def test_the_encoder_of_labml_nn_equals_ours_with_the_same_weights(layer, causal):
    theirs = labml_nn("transformers").Encoder
    ours, other = (
        make_model(layer, LayerSizes(**SIZES), 5, causal=causal, seed=0, encoder=encoder)
        for encoder in ("labml_gmlp", "labml_nn")
    )
    assert type(other.encoder.layer) is theirs
    pairs = list(zip(ours.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in pairs)
    first, second = (p.layer.proj_in.weight for p in other.encoder.layer.layers)
    assert not torch.equal(first, second)
    randomised(ours)
    other.double()
    with torch.no_grad():
        for p, q in pairs:
            q.copy_(p)
    tokens = torch.randint(5, (3, 6))
    torch.testing.assert_close(other(tokens), ours(tokens), rtol=0, atol=1e-12)
    if causal:
        changed = torch.cat([tokens[:, :4], (tokens[:, 4:] + 1) % 5], dim=1)
        assert_the_past_cannot_see_the_future(other, tokens, changed, 4)


@every_layer
def test_twenty_steps_through_labml_nn_have_the_same_losses(layer, tmp_path):
    corpus, theirs, ours = text_file(tmp_path), tmp_path / "labml_nn", tmp_path / "ours"
    assert quick(*through_labml_nn(corpus, theirs, layer=layer)) == 0
    assert quick(*small(corpus, ours, layer=layer, **TWENTY)) == 0
    assert files(theirs).keys() == files(ours).keys()
    lines = [[line["loss"] for line in measured(run) if "loss" in line] for run in (theirs, ours)]
    assert len(lines[0]) == 20
    assert lines[0][-1] < lines[0][0]
    # Single precision, and sums in another order; the difference grows as training amplifies it.
    assert lines[0] == pytest.approx(lines[1], abs=1e-3)
    assert lines[0][:3] == pytest.approx(lines[1][:3], abs=1e-5)


def test_a_run_through_labml_nn_writes_a_report_and_samples(tmp_path, capsys):
    run = tmp_path / "run"
    assert experiment(*through_labml_nn(text_file(tmp_path), run)) == 0
    assert (run / "index.md").exists()
    capsys.readouterr()
    assert experiment("sample", str(run), "--characters=30", "--prompt=the") == 0
    assert len(capsys.readouterr().out) == 3 + 30 + 1


@needs_fork_server
def test_a_run_through_labml_nn_that_was_killed_ends_like_one_that_was_not(tmp_path, capsys):
    corpus, whole, run = text_file(tmp_path), tmp_path / "whole", tmp_path / "run"
    assert quick(*through_labml_nn(corpus, whole)) == 0
    log = tmp_path / "log"
    # The seventh flush is that of the second checkpoint.
    status = ended(launch(through_labml_nn(corpus, run), log, die_at_flush=7), log)
    assert status == -signal.SIGKILL
    assert load_checkpoint(run / "last.pt")["step"] < 20
    assert json.loads((run / "settings.json").read_text())["settings"]["encoder"] == "labml_nn"
    assert experiment("--no-labml", f"--resume={run}", "--encoder=labml_gmlp") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert_names(message, "encoder", "'labml_nn'", run, "'labml_gmlp'")
    assert quick("--no-labml", f"--resume={run}") == 0
    assert_equal_runs(run, whole)


@pytest.fixture
def without_labml_nn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "labml_nn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "labml_nn", None)


@pytest.mark.usefixtures("without_labml_nn")
def test_without_labml_nn_one_line_says_how_to_install_it(tmp_path, capsys):
    run = tmp_path / "run"
    assert experiment(*small(text_file(tmp_path), run, encoder="labml_nn")) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    install = "pip install --no-deps labml-nn==0.5.1"
    assert_names(printed.err.rstrip("\n"), "error", "encoder", "'labml_nn'", install)
    assert not run.exists()
    # Our own encoder does not need it.
    assert quick(*small(text_file(tmp_path), run)) == 0


def test_the_defaults_use_our_encoder():
    assert {settings.encoder for settings, _ in DEFAULTS.values()} == {"labml_gmlp"}
    assert list(ENCODERS) == ["labml_gmlp", "labml_nn"]
