"""The commands of the masked, alignment and digits experiments, from flags to a report."""

import importlib
import json

import pytest

from experiments.engine.run_folder import read_metrics
from tests.support.helpers import assert_names
from tests.support.small_runs import flags, text_file

SHORT = {
    "steps": 6,
    "warmup": 1,
    "batch": 4,
    "evaluate_every": 3,
    "save_every": 3,
    "log_every": 1,
    "d_model": 16,
    "d_ffn": 24,
    "n_layers": 2,
}


@pytest.mark.parametrize(
    ("module", "more", "title", "printed", "matrices"),
    [
        ("masked", {"seq_len": 16}, "gmlp, masked, on", "nats per masked character", True),
        (
            "masked",
            {"seq_len": 16, "layer": "toeplitz"},
            "toeplitz, masked",
            "masked character",
            False,
        ),
        ("alignment", {"rows": 20, "layer": "amlp"}, "amlp on alignment", "random baseline", True),
        ("digits", {"layer": "mixer"}, "mixer on digits", "nats per image", False),
    ],
)
def test_a_run_is_trained_resumed_and_reported(
    module, more, title, printed, matrices, tmp_path, capsys
):
    main = importlib.import_module(f"experiments.{module}").main
    corpus = {"corpus": text_file(tmp_path)} if module == "masked" else {}
    run = tmp_path / "run"
    arguments = flags(**SHORT, **more, **corpus, run=run, data=tmp_path)
    assert main(["--no-labml", *arguments]) == 0
    assert printed in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert result["validation"]["step"] in (3, 6)
    assert (run / "index.md").read_text().startswith(f"# {title}")
    assert (run / "spatial.png").exists() == matrices
    before = read_metrics(run / "metrics.jsonl")
    assert main(["--no-labml", f"--resume={run}", f"--data={tmp_path}"]) == 0
    assert read_metrics(run / "metrics.jsonl") == before


@pytest.mark.parametrize(
    ("module", "bad", "parts"),
    [
        ("masked", "--chosen=2", ("chosen", "(0, 1]", "got 2.0")),
        ("alignment", "--symbols=0", ("symbols", "above 0", "got 0")),
        ("digits", "--shift=-1", ("shift", "at least 0", "got -1")),
        *[
            (module, "--accumulate=7", ("batch", "multiple of 7", f"got {batch}"))
            for module, batch in (("masked", 12), ("alignment", 48), ("digits", 64))
        ],
    ],
)
def test_bad_settings_end_with_one_line_and_status_2(module, bad, parts, tmp_path, capsys):
    main = importlib.import_module(f"experiments.{module}").main
    assert main(["--no-labml", bad, f"--run={tmp_path / 'run'}"]) == 2
    assert_names(capsys.readouterr().err.rstrip("\n"), "error", *parts)
    assert not (tmp_path / "run").exists()
