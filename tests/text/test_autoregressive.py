"""The experiment from its command line to its report."""

import contextlib
import dataclasses
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments import autoregressive
from experiments.autoregressive import DEFAULTS, EXPERIMENT, Settings, build
from experiments.engine.checkpoint import load_checkpoint
from experiments.engine.command import read_flags
from experiments.engine.devices import BatchSplit, make_fabric
from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.optimiser import make_optimizer, rate
from experiments.engine.run_folder import read_metrics
from experiments.engine.settings.flags import from_dict
from experiments.engine.state import best_weights
from experiments.models import language as models
from experiments.models.language import make_model, shape_of
from experiments.reporting.pictures import spatial_matrices
from experiments.text.corpus import load_corpus
from experiments.text.windows import Windows
from tests.support.helpers import (
    assert_the_past_cannot_see_the_future,
    properties,
    randomised,
    seeds,
)
from tests.support.small_runs import (
    SMALL,
    command,
    copy_of,
    experiment,
    files,
    launch,
    measured,
    small,
    text_file,
    words,
)

LAYERS = list(DEFAULTS)
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


def written(run: Path) -> tuple[Settings, Training]:
    """The settings that a run wrote down."""
    record = json.loads((run / "settings.json").read_text())
    settings, training = from_dict((Settings, Training), record["settings"])
    return settings, training


def task_of(run: Path) -> Task:
    settings, training = written(run)
    return build(settings, training, Launch(), FABRIC)


def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    unreported = dataclasses.replace(EXPERIMENT, finish=lambda *_: None)
    monkeypatch.setattr("tests.support.small_runs.EXPERIMENT", unreported)


def result_of(run: Path) -> dict[str, float]:
    return json.loads((run / "result.json").read_text())["validation"]


# ## What a run leaves


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


def test_the_result_goes_to_stdout_and_progress_to_stderr(finished):
    best = result_of(finished.folder)
    sample = (finished.folder / "sample.txt").read_text()
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


def test_the_settings_say_all_that_the_result_depends_on(finished):
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


def test_the_result_is_the_best_evaluation(finished):
    evaluations = [m for m in measured(finished.folder) if "nats_per_char" in m]
    best = min(evaluations, key=lambda m: m["nats_per_char"])
    assert result_of(finished.folder) == best


def evaluated_again(run: Path) -> dict[str, float]:
    """The result of the best weights of a run, in a new model."""
    checkpoint, task = load_checkpoint(run / "best.pt"), task_of(run)
    task.model.load_state_dict(best_weights(checkpoint))
    return {"step": checkpoint["step"], **task.evaluate(task.model, FABRIC)}


def test_the_best_checkpoint_has_the_result_when_it_is_evaluated_again(finished):
    assert evaluated_again(finished.folder) == result_of(finished.folder)


def test_the_result_of_a_run_that_averages_is_that_of_the_averages(finished, tmp_path, capsys):
    run = tmp_path / "run"
    assert experiment(*small(finished.corpus, run, ema=0.5)) == 0
    found = result_of(run)
    itself = {name: found.pop(f"last_{name}") for name in list(found) if f"last_{name}" in found}
    assert found == evaluated_again(run)
    # The average follows the weights, and does not lead them.
    first = next(m for m in measured(run) if "nats_per_char" in m)
    plain = next(m for m in measured(finished.folder) if "nats_per_char" in m)
    assert first["last_nats_per_char"] == plain["nats_per_char"] < first["nats_per_char"]
    assert itself.keys() == found.keys() - {"step"}
    # The sample is drawn from the averages too.
    capsys.readouterr()
    assert sample(run, capsys) == (run / "sample.txt").read_text() + "\n"


@pytest.fixture(scope="module")
def worse_at_last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worse")
    # Far too high a rate for the first steps to stay the best ones.
    changes = {"lr": 0.5, "warmup": 7, "evaluate_every": 1, "log_every": 1}
    assert experiment(*small(text_file(folder), folder / "run", **changes)) == 0
    return folder / "run"


def test_the_best_checkpoint_is_not_overwritten_by_a_worse_one(worse_at_last):
    run = worse_at_last
    evaluations = [m for m in measured(run) if "nats_per_char" in m]
    best = min(evaluations, key=lambda m: m["nats_per_char"])
    assert best["step"] < 12
    assert load_checkpoint(run / "best.pt")["best"] == best == result_of(run)
    assert load_checkpoint(run / "best.pt")["step"] == best["step"]
    assert load_checkpoint(run / "last.pt")["step"] == 12


def test_sample_and_matrices_are_those_of_the_best_checkpoint(worse_at_last, tmp_path, capsys):
    run = copy_of(worse_at_last, tmp_path)
    (run / "last.pt").unlink()
    assert sample(run, capsys) == (run / "sample.txt").read_text() + "\n"
    model = load_checkpoint(run / "best.pt")["model"]
    weights = [p for name, p in model.items() if name.endswith("projection.weight")]
    assert len(weights) == 2
    assert (run / "spatial.png").read_bytes() == spatial_matrices(
        [w.tril().numpy() for w in weights]
    )


def test_the_page_shows_pictures_that_are_there(finished):
    text = (finished.folder / "index.md").read_text()
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert pictures == ["loss.svg", "spatial.png"]
    assert all((finished.folder / name).stat().st_size > 1_000 for name in pictures)


# ## The loop


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_losses_are_those_of_a_plain_loop(layer, accumulate, tmp_path, monkeypatch):
    without_report(monkeypatch)
    run, corpus_path = tmp_path / "run", text_file(tmp_path)
    changes = {"layer": layer, "clip": 0.5, "log_every": 1, "accumulate": accumulate}
    assert experiment(*small(corpus_path, run, **changes)) == 0

    s, t = written(run)
    corpus = load_corpus(s.corpus, s.seq_len, tmp_path)
    model = make_model(layer, shape_of(s), len(corpus.vocabulary), causal=True, seed=t.seed)
    optimizer = make_optimizer(model, lr=t.lr, betas=(t.beta1, t.beta2), weight_decay=0.1)
    batches = Windows(corpus.train, s.seq_len, t.batch, t.seed).batches(0, BatchSplit())
    wanted = []
    for step, (x, y) in zip(range(t.steps), batches, strict=False):
        lr = rate(step, lr=t.lr, warmup=t.warmup, steps=t.steps)
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
    found = [(m["step"], m["loss"], m["lr"], m["grad_norm"]) for m in measured(run) if "loss" in m]
    # float32 differs in its last digits when sums are taken in another order.
    for got, want in zip(found, wanted, strict=True):
        assert got == pytest.approx(want, rel=2e-5)
    assert any(norm > 0.5 for *_, norm in wanted)


@pytest.mark.parametrize("layer", LAYERS)
def test_training_learns_what_can_be_learned(layer, tmp_path, capsys):
    run, text = tmp_path / "run", text_file(tmp_path, "abc" * 600)
    changes = {"layer": layer, "seq_len": 8, "batch": 8, "steps": 60, "warmup": 5, "lr": 0.02}
    assert experiment(*small(text, run, **changes)) == 0
    assert result_of(run)["nats_per_char"] < 0.1
    # At the end of that text, one knows how it goes on.
    capsys.readouterr()
    assert experiment("sample", run, "--prompt=ca", "--characters=30", "--temperature=0") == 0
    assert capsys.readouterr().out == "ca" + "bca" * 10 + "\n"


def test_all_layers_read_the_same_windows_in_the_same_order(tmp_path, monkeypatch):
    read: list[list[Tensor]] = []

    class Recorded(Windows):
        def batches(self, step: int, share: BatchSplit) -> Iterator[tuple[Tensor, Tensor]]:
            for x, y in super().batches(step, share):
                read[-1].append(torch.stack([x, y]))
                yield x, y

    monkeypatch.setattr(autoregressive, "Windows", Recorded)
    corpus = text_file(tmp_path)
    for layer in LAYERS:
        read.append([])
        assert experiment(*small(corpus, tmp_path / layer, layer=layer)) == 0
    for first, *others in zip(*read, strict=True):
        assert all(torch.equal(first, other) for other in others)
    assert len(read[0]) == SMALL["steps"]
    assert "spatial.png" in files(tmp_path / "gmlp")
    assert "spatial.png" not in files(tmp_path / "transformer")
    assert "spatial.png" not in (tmp_path / "transformer" / "index.md").read_text()


def test_the_layer_brings_its_defaults_unless_a_flag_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.engine.command.train", lambda *_: None)
    without_report(monkeypatch)
    common = [f"--corpus={text_file(tmp_path)}", "--no-labml", "--layer=transformer"]
    assert experiment(*common, f"--run={tmp_path / 'a'}") == 0
    assert experiment(*common, f"--run={tmp_path / 'b'}", f"--d-ffn={Settings().d_ffn}") == 0
    a, b = (json.loads((tmp_path / run / "settings.json").read_text())["settings"] for run in "ab")
    settings, training = DEFAULTS["transformer"]
    assert a == {**asdict(settings), **asdict(training), "corpus": a["corpus"]}
    assert b == {**a, "d_ffn": Settings().d_ffn}


def test_bf16_rounds_the_same_training(finished, tmp_path, monkeypatch):
    without_report(monkeypatch)
    assert experiment(*small(finished.corpus, tmp_path / "run", precision="bf16")) == 0
    rounded, plain = (
        [m["loss"] for m in measured(run) if "loss" in m]
        for run in (tmp_path / "run", finished.folder)
    )
    assert rounded != plain
    # A number has 8 bits, so a loss near 3 differs by a few times 3 * 2**-9.
    assert rounded == pytest.approx(plain, abs=0.03)
    # The weights themselves are not rounded.
    weights = load_checkpoint(tmp_path / "run" / "last.pt")["model"].values()
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert not all(torch.equal(weight, weight.bfloat16()) for weight in weights)


def test_checkpointed_layers_give_the_same_losses_and_the_same_dropout(tmp_path, monkeypatch):
    without_report(monkeypatch)
    corpus = text_file(tmp_path)
    for run, checkpointed in (("kept", False), ("again", True)):
        changes = {"dropout": 0.3, "checkpoint_layers": checkpointed}
        assert experiment(*small(corpus, tmp_path / run, **changes)) == 0
    assert measured(tmp_path / "kept") == measured(tmp_path / "again")


def test_a_seed_decides_everything(finished, tmp_path, monkeypatch):
    without_report(monkeypatch)
    torch.manual_seed(123)
    assert experiment(*small(finished.corpus, tmp_path / "same")) == 0
    assert experiment(*small(finished.corpus, tmp_path / "other", seed=1)) == 0
    assert measured(tmp_path / "same") == measured(finished.folder)
    assert measured(tmp_path / "other")[0]["loss"] != measured(finished.folder)[0]["loss"]


@properties
@given(layer=st.sampled_from(list(models.LAYERS)), n=st.integers(2, 6), data=st.data(), seed=seeds)
def test_a_later_token_does_not_change_what_is_predicted_before_it(layer, n, data, seed):
    torch.manual_seed(seed)
    t = data.draw(st.integers(1, n - 1))
    shape = shape_of(Settings(d_model=8, d_ffn=12, n_layers=2, n_heads=2, seq_len=6))
    model = randomised(make_model(layer, shape, 5, causal=True, seed=0))
    tokens = torch.randint(5, (2, n))
    later = tokens.clone()
    later[:, t:] = (tokens[:, t:] + 1) % 5
    assert_the_past_cannot_see_the_future(model, tokens, later, t)


# ## A loss that is no number


def diverge(tmp_path: Path, **changes: object) -> Path:
    run = tmp_path / "run"
    arguments = {"lr": 1e6, "clip": 1e9, "steps": 30, **changes}
    assert experiment(*small(text_file(tmp_path), run, **arguments)) == 2
    return run


def test_a_rate_that_is_too_high_ends_the_run_with_one_sentence(tmp_path, capsys):
    diverge(tmp_path)
    printed = capsys.readouterr()
    assert printed.out == ""
    errors = [line for line in printed.err.splitlines() if "error" in line]
    assert errors == [printed.err.splitlines()[-1]]
    assert re.fullmatch(
        r"error: lr must be small enough to train, got \w+=(nan|inf) at step \d+ "
        r"with lr=1000000\.0",
        errors[0],
    )


def test_no_checkpoint_of_a_run_that_diverged_holds_a_number_that_is_none(tmp_path):
    # Between two logged losses there are checkpoints and evaluations.
    run = diverge(tmp_path, log_every=10, save_every=2, evaluate_every=3)
    for path in run.glob("*.pt"):
        assert all(p.isfinite().all() for p in load_checkpoint(path)["model"].values()), path


def test_a_run_whose_last_step_diverges_is_no_success(tmp_path, capsys):
    diverge(tmp_path, lr=1e30, steps=1, warmup=0)
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: lr must be small enough")


# ## Sampling


def sample(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert experiment("sample", run, *arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize("n", [0, 1, 40])
def test_the_sample_is_the_prompt_and_as_many_characters_as_asked_for(n, finished, capsys):
    out = sample(finished.folder, capsys, "--prompt=the cat", f"--characters={n}")
    assert out.startswith("the cat")
    assert out.endswith("\n")
    assert len(out) == len("the cat") + n + len("\n")


def test_a_seed_makes_the_sample_repeatable(finished, capsys):
    first, again, other = (
        sample(finished.folder, capsys, "--characters=50", f"--seed={seed}") for seed in (3, 3, 4)
    )
    assert first == again != other


def test_the_coldest_sample_does_not_depend_on_the_seed(finished, capsys):
    for sharp in ("--temperature=0", "--top-k=1"):
        a, b = (sample(finished.folder, capsys, sharp, f"--seed={seed}") for seed in (1, 2))
        assert a == b


def test_the_sample_of_the_run_is_that_of_the_command(finished, capsys):
    text = (finished.folder / "sample.txt").read_text()
    assert sample(finished.folder, capsys) == text + "\n"
    assert len(text) == 1 + 500
    assert text[0] == "\n"


def test_without_a_line_break_in_the_text_a_sample_starts_with_another_character(tmp_path, capsys):
    run = tmp_path / "run"
    assert experiment(*small(text_file(tmp_path, words().replace("\n", " ")), run)) == 0
    capsys.readouterr()
    assert sample(run, capsys, "--characters=0") == " \n"


# ## Tracking


def test_without_labml_a_run_ends_as_well_as_with_it(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "labml", None)
    arguments = [a for a in small(finished.corpus, tmp_path / "run") if a != "--no-labml"]
    assert experiment(*arguments) == 0
    assert measured(tmp_path / "run") == measured(finished.folder)
    assert capsys.readouterr().err.count("labml tracking is off for this run") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a fork server")
def test_labml_is_not_even_imported_when_it_is_not_wanted(finished, tmp_path):
    log = tmp_path / "log"
    process = launch(small(finished.corpus, tmp_path / "run"), log)
    process.join()
    assert process.exitcode == 0
    assert "never imported labml" in log.read_text()
    assert measured(tmp_path / "run") == measured(finished.folder)


def test_the_command_as_it_is_typed_prints_the_result_alone_and_tracks(finished, tmp_path):
    run = tmp_path / "run"
    done = command(*(a for a in small(finished.corpus, run) if a != "--no-labml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == finished.out.replace(str(finished.folder), str(run))
    assert "labml" not in done.stderr
    assert any(path.stat().st_size for path in (run / "labml").rglob("*") if path.is_file())
    assert len(list(itertools.chain(run.glob("*.pt"), run.glob("*.new")))) == 3


def test_the_settings_for_a_gpu_stay_within_nanogpts_size():
    path = "experiments/configs/tiny_shakespeare_gpu.yml"
    _, written = read_flags(autoregressive.EXPERIMENT, ["--config", path])
    settings, training = from_dict((Settings, Training), written)
    assert (settings.seq_len, training.batch, training.steps) == (256, 64, 5_000)
    with torch.device("meta"):
        model = make_model(settings.layer, shape_of(settings), 66, causal=True, seed=0)
    assert sum(p.numel() for p in model.parameters()) <= 10_700_000
