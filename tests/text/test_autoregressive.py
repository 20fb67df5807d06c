"""The autoregressive experiment, from its command line to its page and its samples."""

import contextlib
import dataclasses
import io
import json
import re
import sys
import typing
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments import alignment, masked
from experiments.autoregressive import DEFAULTS, EXPERIMENT, AutoregressiveSettings, build
from experiments.engine.checkpoint import load_checkpoint
from experiments.engine.command import read_flags
from experiments.engine.devices import make_fabric
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.optimiser import learning_rate, make_optimizer
from experiments.engine.run_folder import read_metrics
from experiments.engine.settings.types import from_dict
from experiments.engine.state import best_weights
from experiments.models.language import ENCODERS, LAYERS, layer_sizes, make_model
from experiments.reporting.pictures import spatial_matrices
from experiments.text.corpus import load_corpus
from experiments.text.vocabulary import VOCABULARIES
from experiments.text.windows import Windows
from tests.support.small_runs import (
    SMALL,
    command,
    experiment,
    files,
    launch,
    measured,
    small,
    text_file,
    words,
)

FABRIC = make_fabric(torch.device("cpu"), 1, "ddp", "float32")


@dataclass
class Finished:
    folder: Path
    corpus: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder, out, err = tmp_path_factory.mktemp("finished"), io.StringIO(), io.StringIO()
    corpus, run = text_file(folder), folder / "run"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert experiment(*small(corpus, run)) == 0
    return Finished(run, corpus, out.getvalue(), err.getvalue())


@pytest.fixture
def _without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    unreported = dataclasses.replace(EXPERIMENT, finish=lambda *_: None)
    monkeypatch.setattr("tests.support.small_runs.EXPERIMENT", unreported)


without_report = pytest.mark.usefixtures("_without_report")


def written(run: Path) -> tuple[AutoregressiveSettings, Training]:
    """The settings in the record of a run."""
    record = json.loads((run / "settings.json").read_text())
    settings, training = from_dict((AutoregressiveSettings, Training), record["settings"])
    return settings, training


def task_of(run: Path) -> Task:
    settings, training = written(run)
    return build(settings, training, Launch(), FABRIC)


def result_of(run: Path) -> dict[str, float]:
    return json.loads((run / "result.json").read_text())["validation"]


def evaluations(run: Path) -> list[dict[str, float]]:
    return [m for m in measured(run) if "nats_per_char" in m]


def best_evaluation(run: Path) -> dict[str, float]:
    return min(evaluations(run), key=lambda m: m["nats_per_char"])


# ## Settings


@pytest.mark.parametrize(
    ("cls", "name", "table"),
    [
        (AutoregressiveSettings, "layer", LAYERS),
        (AutoregressiveSettings, "encoder", ENCODERS),
        (AutoregressiveSettings, "vocabulary", VOCABULARIES),
        (masked.MaskedSettings, "layer", masked.DEFAULTS),
        (alignment.AlignmentSettings, "layer", alignment.DEFAULTS),
    ],
)
def test_the_choices_of_a_setting_are_the_names_in_its_table(cls, name, table):
    assert typing.get_args(typing.get_type_hints(cls)[name]) == tuple(table)


@pytest.mark.parametrize("defaults", [DEFAULTS, masked.DEFAULTS, alignment.DEFAULTS])
def test_defaults_are_those_of_a_layer_and_gmlp_has_those_of_the_class(defaults):
    assert all(settings.layer == layer for layer, (settings, _) in defaults.items())
    assert all(layer in LAYERS for layer in defaults)
    assert defaults["gmlp"][0] == type(defaults["gmlp"][0])()


@without_report
def test_the_layer_brings_its_defaults_unless_a_flag_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.engine.command.train", lambda *_: None)
    common = [f"--corpus={text_file(tmp_path)}", "--no-labml", "--layer=transformer"]
    assert experiment(*common, f"--run={tmp_path / 'a'}") == 0
    assert experiment(*common, f"--run={tmp_path / 'b'}", "--d-ffn=512") == 0
    a, b = (json.loads((tmp_path / run / "settings.json").read_text())["settings"] for run in "ab")
    settings, training = DEFAULTS["transformer"]
    assert a == {**asdict(settings), **asdict(training), "corpus": a["corpus"]}
    assert b == {**a, "d_ffn": 512}


def test_the_settings_for_a_gpu_stay_within_nanogpts_size():
    path = "experiments/configs/tiny_shakespeare_gpu.yml"
    settings, training, _ = read_flags(EXPERIMENT, ["--config", path])
    assert (settings.seq_len, training.batch, training.steps) == (256, 64, 5_000)
    with torch.device("meta"):
        model = make_model(settings.layer, layer_sizes(settings), 66, causal=True, seed=0)
    assert sum(p.numel() for p in model.parameters()) <= 10_700_000


# ## Files and output of a run


def test_a_run_leaves_these_files_and_no_others(finished):
    assert sorted(files(finished.folder)) == [
        "best.pt",
        "index.md",
        "last.pt",
        "loss.svg",
        "metrics.jsonl",
        "previous.pt",
        "result.json",
        "sample.txt",
        "settings.json",
        "spatial.npz",
        "spatial.png",
    ]


def test_the_page_shows_pictures_that_exist(finished):
    text = (finished.folder / "index.md").read_text()
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert pictures == ["loss.svg", "spatial.png"]
    assert all((finished.folder / name).stat().st_size > 1_000 for name in pictures)


def test_a_transformer_has_no_matrices_to_show(tmp_path):
    run = tmp_path / "run"
    assert experiment(*small(text_file(tmp_path), run, layer="transformer", steps=3)) == 0
    assert "spatial.png" not in files(run)
    assert "spatial.png" not in (run / "index.md").read_text()


def test_the_result_goes_to_stdout_and_progress_to_stderr(finished):
    best = result_of(finished.folder)
    sample = (finished.folder / "sample.txt").read_text()
    assert (len(sample), sample[0]) == (1 + 500, "\n")
    lines = finished.out.split("\n")
    assert lines[0] == (
        f"validation: {best['nats_per_char']:.4f} nats/char, {best['bits_per_char']:.4f} "
        f"bits/char, perplexity {best['perplexity']:.3f} at step {best['step']}"
    )
    assert "\n".join(lines[1:]) == f"sample:\n{sample}\n\nrun: {finished.folder}\n"
    progress = finished.err.splitlines()
    parameters = json.loads((finished.folder / "result.json").read_text())["parameters"]
    assert progress[0].startswith(
        f"gmlp, {parameters:,} parameters, on {finished.corpus}: "
        f"3,600 tokens to train, 400 to validate, 19 in the vocabulary; float32, "
    )
    assert [line.split()[1] for line in progress[1:] if "steps/s" in line] == [
        f"{step}/12" for step in range(1, 13)
    ]
    assert [line.split(":")[0] for line in progress[1:] if "validation" in line] == [
        "step 6",
        "step 12",
    ]
    assert len(progress) == 1 + 12 + 2


def test_the_record_has_all_that_determines_the_result(finished):
    record = json.loads((finished.folder / "settings.json").read_text())
    settings, training = DEFAULTS["gmlp"]
    want = {**asdict(settings), **asdict(training), **SMALL, "corpus": str(finished.corpus)}
    assert record["settings"] == want
    corpus = load_corpus(str(finished.corpus), 16, finished.folder)
    assert record["data"] == {
        "name": corpus.name,
        "sha256": corpus.sha256,
        "vocabulary": corpus.vocabulary.description(),
    }
    assert record["launch"] == {
        "devices": 1,
        "strategy": "ddp",
        "precision": "float32",
        "accumulate": 1,
        "compile": False,
        "checkpoint_layers": False,
    }
    assert record["environment"]["command"].startswith(
        f"python -m experiments.autoregressive --no-labml --corpus={finished.corpus} "
    )


def test_metrics_are_written_at_the_steps_asked_for(finished):
    metrics = read_metrics(finished.folder / "metrics.jsonl")
    assert [m["step"] for m in metrics if "loss" in m] == [2, 4, 6, 8, 10, 12]
    assert [m["step"] for m in metrics if "nats_per_char" in m] == [6, 12]
    seconds = [m["seconds"] for m in metrics if "loss" in m]
    assert seconds == sorted(seconds)


# ## The best checkpoint


def evaluated_again(run: Path) -> dict[str, float]:
    """The metrics of the best weights of a run, loaded into a new model."""
    checkpoint, task = load_checkpoint(run / "best.pt"), task_of(run)
    task.model.load_state_dict(best_weights(checkpoint))
    return {"step": checkpoint["step"], **task.evaluate(task.model, FABRIC)}


def test_the_result_is_the_best_evaluation_and_that_of_the_best_checkpoint(finished):
    assert result_of(finished.folder) == best_evaluation(finished.folder)
    assert result_of(finished.folder) == evaluated_again(finished.folder)


def test_a_run_with_averaged_weights_has_the_result_and_the_sample_of_the_average(
    finished, tmp_path, capsys
):
    run = tmp_path / "run"
    assert experiment(*small(finished.corpus, run, ema=0.5)) == 0
    result = result_of(run)
    last = {name: result.pop(f"last_{name}") for name in list(result) if f"last_{name}" in result}
    assert result == evaluated_again(run)
    # The average lags behind the weights.
    first, plain = evaluations(run)[0], evaluations(finished.folder)[0]
    assert first["last_nats_per_char"] == plain["nats_per_char"] < first["nats_per_char"]
    assert last.keys() == result.keys() - {"step"}
    capsys.readouterr()
    assert sample(run, capsys) == (run / "sample.txt").read_text() + "\n"


def test_a_worse_checkpoint_replaces_neither_the_best_nor_its_sample(tmp_path, capsys):
    # The learning rate is so high that later steps are worse.
    changes = {"lr": 0.5, "warmup": 7, "evaluate_every": 1, "log_every": 1}
    run = tmp_path / "run"
    assert experiment(*small(text_file(tmp_path), run, **changes)) == 0
    best, checkpoint = best_evaluation(run), load_checkpoint(run / "best.pt")
    assert best["step"] < 12
    assert checkpoint["best"] == best == result_of(run)
    assert checkpoint["step"] == best["step"]
    assert load_checkpoint(run / "last.pt")["step"] == 12
    (run / "last.pt").unlink()
    capsys.readouterr()
    assert sample(run, capsys) == (run / "sample.txt").read_text() + "\n"
    weights = [p for name, p in checkpoint["model"].items() if name.endswith("projection.weight")]
    assert len(weights) == 2
    picture = spatial_matrices([w.tril().numpy() for w in weights])
    assert (run / "spatial.png").read_bytes() == picture


# ## Training


# The plain loop reads the same windows in the same order for each layer.
@without_report
@pytest.mark.parametrize(
    ("layer", "accumulate"), [*((layer, 1) for layer in DEFAULTS), ("gmlp", 4), ("transformer", 4)]
)
def test_the_losses_are_those_of_a_plain_loop(layer, accumulate, tmp_path):
    run, corpus_path = tmp_path / "run", text_file(tmp_path)
    changes = {"layer": layer, "clip": 0.5, "log_every": 1, "accumulate": accumulate}
    assert experiment(*small(corpus_path, run, **changes)) == 0

    s, t = written(run)
    corpus = load_corpus(s.corpus, s.seq_len, tmp_path)
    model = make_model(layer, layer_sizes(s), len(corpus.vocabulary), causal=True, seed=t.seed)
    optimizer = make_optimizer(model, lr=t.lr, betas=(t.beta1, t.beta2), weight_decay=0.1)
    windows = Windows(corpus.train, s.seq_len, t.batch, t.seed)
    wanted = []
    for step in range(t.steps):
        x, y = windows.batch_at(step)
        lr = learning_rate(step, peak=t.lr, warmup=t.warmup, steps=t.steps)
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = lr
        loss = nn.functional.cross_entropy(model(x).transpose(1, 2), y)
        for p in model.parameters():
            p.grad = None
        loss.backward()
        norm = sum(p.grad.double().square().sum() for p in model.parameters()).sqrt().item()
        for p in model.parameters():
            p.grad *= min(1.0, 0.5 / norm)
        optimizer.step()
        wanted.append((step + 1, loss.item(), lr, norm))
    logged = [(m["step"], m["loss"], m["lr"], m["grad_norm"]) for m in measured(run) if "loss" in m]
    # Sums in another order differ in the last digits of float32.
    for got, want in zip(logged, wanted, strict=True):
        assert got == pytest.approx(want, rel=2e-5)
    assert any(norm > 0.5 for *_, norm in wanted)


@without_report
@pytest.mark.parametrize("layer", DEFAULTS)
def test_every_layer_learns_a_periodic_text_and_continues_it(layer, tmp_path, capsys):
    run, text = tmp_path / "run", text_file(tmp_path, "abc" * 600)
    changes = {"layer": layer, "seq_len": 8, "batch": 8, "steps": 60, "warmup": 5, "lr": 0.02}
    changes |= {"evaluate_every": 60, "save_every": 60}
    assert experiment(*small(text, run, **changes)) == 0
    assert best_evaluation(run)["nats_per_char"] < 0.1
    capsys.readouterr()
    assert sample(run, capsys, "--prompt=ca", "--characters=30", "--temperature=0") == (
        "ca" + "bca" * 10 + "\n"
    )


@without_report
def test_bf16_rounds_the_same_training(finished, tmp_path):
    assert experiment(*small(finished.corpus, tmp_path / "run", precision="bf16")) == 0
    rounded, plain = (
        [m["loss"] for m in measured(run) if "loss" in m]
        for run in (tmp_path / "run", finished.folder)
    )
    assert rounded != plain
    # bfloat16 has 8 significant bits, so a loss near 3 is off by a few times 3 * 2**-9.
    assert rounded == pytest.approx(plain, abs=0.03)
    # The weights stay in float32.
    weights = load_checkpoint(tmp_path / "run" / "last.pt")["model"].values()
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert not all(torch.equal(weight, weight.bfloat16()) for weight in weights)


@without_report
def test_checkpointed_layers_give_the_same_losses_and_the_same_dropout(tmp_path):
    corpus = text_file(tmp_path)
    for run, checkpointed in (("stored", False), ("recomputed", True)):
        changes = {"dropout": 0.3, "checkpoint_layers": checkpointed, "steps": 6}
        assert experiment(*small(corpus, tmp_path / run, **changes)) == 0
    assert measured(tmp_path / "stored") == measured(tmp_path / "recomputed")


@without_report
def test_the_seed_determines_the_run(finished, tmp_path):
    torch.manual_seed(123)
    assert experiment(*small(finished.corpus, tmp_path / "same")) == 0
    assert experiment(*small(finished.corpus, tmp_path / "other", seed=1, steps=3)) == 0
    assert measured(tmp_path / "same") == measured(finished.folder)
    assert measured(tmp_path / "other")[0]["loss"] != measured(finished.folder)[0]["loss"]


# ## Divergence


def diverge(tmp_path: Path, **changes: object) -> Path:
    run = tmp_path / "run"
    arguments = {"lr": 1e6, "clip": 1e9, "steps": 30, **changes}
    assert experiment(*small(text_file(tmp_path), run, **arguments)) == 2
    return run


def test_a_diverging_run_ends_with_one_sentence(tmp_path, capsys):
    diverge(tmp_path)
    printed = capsys.readouterr()
    assert printed.out == ""
    errors = [line for line in printed.err.splitlines() if "error" in line]
    assert errors == [printed.err.splitlines()[-1]]
    assert re.search(r"^error: lr\b.*=(nan|inf)\b.* step \d+\b.* lr=1000000\.0$", errors[0])


def test_the_checkpoints_of_a_diverged_run_are_finite(tmp_path):
    # Checkpoints and evaluations fall between two logged losses.
    run = diverge(tmp_path, log_every=10, save_every=2, evaluate_every=3)
    for path in run.glob("*.pt"):
        assert all(p.isfinite().all() for p in load_checkpoint(path)["model"].values()), path


def test_a_run_that_diverges_in_its_last_step_fails(tmp_path, capsys):
    diverge(tmp_path, lr=1e30, steps=1, warmup=0)
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: lr ")


# ## Sampling


def sample(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert experiment("sample", run, *arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize("n", [0, 1, 40])
def test_a_sample_is_the_prompt_and_as_many_characters_as_asked_for(n, finished, capsys):
    out = sample(finished.folder, capsys, "--prompt=the cat", f"--characters={n}")
    assert out.startswith("the cat")
    assert out.endswith("\n")
    assert len(out) == len("the cat") + n + len("\n")


def test_the_seed_determines_the_sample(finished, capsys):
    first, again, other = (
        sample(finished.folder, capsys, "--characters=50", f"--seed={seed}") for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("greedy", ["--temperature=0", "--top-k=1"])
def test_a_greedy_sample_does_not_depend_on_the_seed(greedy, finished, capsys):
    a, b = (
        sample(finished.folder, capsys, greedy, "--characters=60", f"--seed={seed}")
        for seed in (1, 2)
    )
    assert a == b


@without_report
def test_the_default_prompt_is_a_known_character(tmp_path, capsys):
    run = tmp_path / "run"
    text = words().replace("\n", " ")
    assert experiment(*small(text_file(tmp_path, text), run, steps=3, evaluate_every=3)) == 0
    capsys.readouterr()
    assert sample(run, capsys, "--characters=0") == " \n"


# ## Tracking


@without_report
def test_a_run_without_the_package_labml_has_the_same_metrics(
    finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "labml", None)
    arguments = [a for a in small(finished.corpus, tmp_path / "run") if a != "--no-labml"]
    assert experiment(*arguments) == 0
    assert measured(tmp_path / "run") == measured(finished.folder)
    assert capsys.readouterr().err.count("labml tracking is off") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server")
def test_with_no_labml_the_package_is_not_imported(finished, tmp_path):
    log = tmp_path / "log"
    process = launch(small(finished.corpus, tmp_path / "run"), log)
    process.join()
    assert process.exitcode == 0
    assert "never imported labml" in log.read_text()
    assert measured(tmp_path / "run") == measured(finished.folder)


def test_the_command_prints_only_the_result_and_tracks_with_labml(finished, tmp_path):
    run = tmp_path / "run"
    done = command(*(a for a in small(finished.corpus, run) if a != "--no-labml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == finished.out.replace(str(finished.folder), str(run))
    assert "labml" not in done.stderr
    assert any(path.stat().st_size for path in (run / "labml").rglob("*") if path.is_file())
    assert len([*run.glob("*.pt"), *run.glob("*.new")]) == 3
