"""The ImageNet experiment, on small images and with a model of a few thousand parameters."""

import dataclasses
import json
import re
import shutil
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import nn

from experiments.engine.experiment import Task, Training
from experiments.engine.launch import Launch
from experiments.engine.optimiser import make_optimizer
from experiments.engine.run_folder import read_metrics
from experiments.engine.settings.config_file import read_config
from experiments.engine.state import best_weights, load_run_checkpoint
from experiments.imagenet import EXPERIMENT, build, main, make_loss, make_teacher
from experiments.images.augment import Normalisation
from experiments.images.classifier import (
    fine_tune,
    load_pretrained,
    make_classifier,
    save_classifier,
)
from experiments.images.settings import DEFAULTS, SIZES, ImageNetSettings
from experiments.images.validate_command import find_validation_images
from labml_gmlp import Encoder, GMLPBlock, LanguageModel, MixerBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.pretrained import from_pretrained, preprocessing_from, save_pretrained
from tests.support.helpers import assert_names, assert_raises
from tests.support.small_runs import launch_ranks

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "experiments" / "configs"
SIZE = {"d_model": 8, "d_ffn": 16, "n_layers": 2, "image_size": 16, "patch": 8}
SMALL = {
    **SIZE,
    "batch": 6,
    "steps": 8,
    "warmup": 2,
    "evaluate_every": 4,
    "save_every": 2,
    "log_every": 1,
    "validation_batch": 5,
    "workers": 0,
    "precision": "float32",
}
# Only the crop is random.
PLAIN = {"flip": 0, "policy": "none", "mixup": 0, "cutmix": 0, "smoothing": 0}
FABRIC = Fabric(accelerator="cpu", devices=1)


def flags(values: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def train(data: Path, run: Path, **changes: Any) -> int:
    rest = flags({"data": data, "run": run, **SMALL, **changes})
    return main(["--no-labml", *rest])


def measured(run: Path) -> list[dict[str, float]]:
    """The metrics of a run, without times and rates."""
    lines = read_metrics(run / "metrics.jsonl")
    return [
        {name: v for name, v in line.items() if not name.endswith(("seconds", "per_second"))}
        for line in lines
    ]


def classifier(n_classes: int = 3, image_size: int = 16) -> ImageClassifier:
    encoder = Encoder(lambda: GMLPBlock(8, 16, (image_size // 8) ** 2), 2)
    return ImageClassifier(encoder, n_classes, image_size=image_size, patch_size=8)


def saved(folder: Path, model: nn.Module, preprocessing: dict[str, Any] | None = None) -> str:
    """Saves a model with random weights, and timm's `preprocessing` if given; returns its name."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    save_pretrained(model, folder)
    if preprocessing is not None:
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"] = preprocessing
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


PREPROCESSING = {
    "input_size": [3, 16, 16],
    "crop_pct": 0.5,
    "interpolation": "bilinear",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}


# ## Recipes


@pytest.mark.parametrize("name", SIZES)
def test_the_config_file_of_a_size_equals_its_defaults(name):
    found = read_config(CONFIGS / f"gmlp_{name}.yml", *EXPERIMENT.classes, Launch)
    settings, training = DEFAULTS[name]
    for k, value in found.items():
        assert value == getattr(settings if hasattr(settings, k) else training, k), k
    assert (found["d_model"], found["survival"]) == (SIZES[name].d_model, SIZES[name].survival)
    for file in (f"gmlp_{name}.yml", "paper.yml"):
        assert "not been reproduced" in (CONFIGS / file).read_text()


def test_the_steps_are_300_epochs_of_imagenet():
    training = DEFAULTS["ti"][1]
    assert abs(training.steps - 300 * 1_281_167 / training.batch) < 1


def test_survival_falls_linearly_with_depth():
    settings = DEFAULTS["b"][0]
    small = dataclasses.replace(settings, d_model=8, d_ffn=16, image_size=16, n_layers=5)
    layers = make_classifier(small, 3, 0)[0].encoder.layers
    found = [getattr(layer.dropout, "survival", 1.0) for layer in layers]
    assert found == pytest.approx([1, 0.95, 0.9, 0.85, 0.8])


@pytest.mark.parametrize(("patch", "n"), [(2, 64), (4, 16), (8, 4)])
def test_the_patch_determines_the_number_of_tokens(patch, n):
    model, _ = make_classifier(ImageNetSettings(**{**SIZE, "patch": patch}), 3, 0)
    assert model.n_patches == n
    assert model.encoder.layers[0].sgu.projection.weight.shape == (n, n)


def test_only_weights_of_linear_layers_decay():
    model, _ = make_classifier(ImageNetSettings(**SIZE), 3, 0)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, lr=0.5, betas=(0.9, 0.999), weight_decay=0.1).step()
    decayed = {name for name, p in model.named_parameters() if not (p == 1).all()}
    want = {"head.weight"}
    for k in range(2):
        want |= {f"encoder.layers.{k}.proj_{way}.weight" for way in ("in", "out")}
    assert decayed == want


def test_each_size_of_the_settings_is_defined():
    assert typing.get_args(typing.get_type_hints(ImageNetSettings)["size"]) == tuple(SIZES)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"patch": 0}, ["patch", "above 0", "got 0"]),
        ({"std": 0.0}, ["std", "above 0", "1e6", "got 0.0"]),
        ({"std": float("inf")}, ["std", "above 0", "1e6", "got inf"]),
        ({"switch": 1.5}, ["switch", "[0, 1]", "got 1.5"]),
        ({"mean": -0.1}, ["mean", "[0, 1]", "got -0.1"]),
        ({"survival": 0.0}, ["survival", "(0, 1]", "got 0.0"]),
        ({"smallest_crop": 1.5}, ["smallest_crop", "(0, 1]", "got 1.5"]),
        ({"crop": float("nan")}, ["crop", "[0.01, 1]", "got nan"]),
        ({"crop": 0.005}, ["crop", "[0.01, 1]", "got 0.005"]),
        ({"smoothing": 1.0}, ["smoothing", "[0, 1)", "got 1.0"]),
        ({"rand_magnitude": 11.0}, ["rand_magnitude", "[0, 10]", "got 11.0"]),
        ({"mixup": -1.0}, ["mixup", "at least 0", "got -1.0"]),
        ({"cutmix": float("inf")}, ["cutmix", "finite", "got inf"]),
        ({"teacher": "x"}, ["teacher", "got x", "distil=none"]),
        ({"distil": "soft"}, ["teacher", "got None", "distil=soft"]),
    ],
)
def test_a_bad_setting_is_rejected(changes, parts):
    assert_raises(lambda: ImageNetSettings(**changes), ValueError, *parts)


# ## The loss


def test_without_augmentation_the_loss_is_the_cross_entropy_of_the_labels():
    torch.manual_seed(0)
    settings = ImageNetSettings(**SIZE, **PLAIN)
    model, normalisation = make_classifier(settings, 3, 0)
    nn.init.normal_(model.head.weight)
    images = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    labels = torch.randint(3, (5,))
    got = make_loss(settings, 3, normalisation, None)(model, (images, labels))
    want = nn.functional.cross_entropy(model(images.float() / 127.5 - 1), labels)
    torch.testing.assert_close(got, want)


def test_a_teacher_sees_the_images_with_its_own_normalisation(tmp_path):
    teacher = saved(tmp_path / "teacher", classifier(), PREPROCESSING)
    changes = {"distil": "hard", "distil_share": 1.0, "teacher": teacher}
    settings = ImageNetSettings(**SIZE, **PLAIN, **changes)
    model, normalisation = make_classifier(settings, 3, 0)
    nn.init.normal_(model.head.weight)
    images = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8)
    x = images.float() / 255
    mean, std = (torch.tensor(PREPROCESSING[name])[:, None, None] for name in ("mean", "std"))
    answers = from_pretrained(teacher)((x - mean) / std).argmax(dim=1)
    want = nn.functional.cross_entropy(model(2 * x - 1), answers)
    loss = make_loss(settings, 3, normalisation, make_teacher(settings, 3, FABRIC))
    torch.testing.assert_close(loss(model, (images, torch.zeros(7, dtype=torch.int64))), want)


def test_a_teacher_of_other_classes_is_rejected(tmp_path):
    teacher = saved(tmp_path / "teacher", classifier())
    settings = ImageNetSettings(**SIZE, distil="soft", teacher=teacher)
    assert_raises(
        lambda: make_teacher(settings, 4, FABRIC),
        *(ValueError, "teacher", "16 pixels", "4 classes", "got 16 and 3"),
    )


# ## Pretrained models


def test_a_pretrained_model_keeps_its_normalisation_and_a_head_that_fits(tmp_path):
    name = saved(tmp_path / "model", classifier(), PREPROCESSING)
    settings = ImageNetSettings(**SIZE, pretrained=name, survival=0.5)
    model, normalisation = make_classifier(settings, 3, 0)
    assert normalisation == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    for key, value in from_pretrained(name).state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert model.training
    drops = [layer.dropout for layer in model.encoder.layers]
    assert all(isinstance(drop, StochasticDepth) for drop in drops)
    assert [drop.survival for drop in drops] == [1.0, 0.5]


def test_a_head_for_other_classes_starts_at_zero(tmp_path):
    name = saved(tmp_path / "model", classifier())
    model, normalisation = make_classifier(ImageNetSettings(**SIZE, pretrained=name), 5, 0)
    assert normalisation == Normalisation()
    assert model(torch.rand(2, 3, 16, 16)).tolist() == [[0.0] * 5] * 2


def test_unsuitable_pretrained_models_are_rejected(tmp_path):
    language = LanguageModel(5, Encoder(lambda: GMLPBlock(8, 16, 4), 1))
    name = saved(tmp_path / "language", language)
    assert_raises(lambda: load_pretrained(name), ValueError, "pretrained", "LanguageModel")

    encoder = Encoder(lambda: GMLPBlock(8, 16, 8), 1)
    wide = ImageClassifier(encoder, 3, image_size=(16, 32), patch_size=8)
    name = saved(tmp_path / "wide", wide)
    assert_raises(lambda: load_pretrained(name), ValueError, "pretrained", "got 16 x 32 in 3")

    loaded = load_pretrained(saved(tmp_path / "model", classifier()))
    assert_raises(lambda: fine_tune(loaded, 3, 1.0, 24), ValueError, "image_size", 16, "got 24")

    mixer = Encoder(lambda: MixerBlock(8, 4, 4, 16), 2)
    name = saved(tmp_path / "mixer", ImageClassifier(mixer, 3, image_size=16, patch_size=8))
    loaded = load_pretrained(name)
    assert fine_tune(loaded, 3, 1.0, 16).training
    assert_raises(
        lambda: fine_tune(loaded, 3, 0.5, 16), ValueError, "survival", 1, "got 0.5", "MixerBlock"
    )


LIMITS = [{}, {"mean": 0.0, "std": 1e-6}, {"mean": 1.0, "std": 999_999.0, "crop": 0.01}]


@pytest.mark.parametrize("values", LIMITS)
def test_preprocessing_at_the_limits_of_the_settings_is_read_back(values, tmp_path):
    settings = ImageNetSettings(**SIZE, **values)
    model, normalisation = make_classifier(settings, 3, 0)
    save_classifier(model, tmp_path / "model", normalisation, settings.crop)
    loaded = load_pretrained(str(tmp_path / "model"))
    assert (loaded.normalisation, loaded.crop) == (settings.normalisation, settings.crop)


# ## Runs

# Without stochastic depth, so that all processes compute the same.
ON_COMMAND_LINE = {"steps": 8, "survival": 1.0}
NORMALISATION = Normalisation((0.45,) * 3, (0.22,) * 3)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A config file based on that of gMLP-S."""
    file = tmp_path_factory.mktemp("config") / "own.yml"
    values = {**SMALL, **PLAIN, "mean": 0.45, "std": 0.22, "crop": 0.5, "steps": 20, "lr": 0.02}
    lines = [f"{name}: {value}" for name, value in values.items()]
    file.write_text("\n".join([f"base: {CONFIGS / 'gmlp_s.yml'}", *lines]))
    return file


@pytest.fixture(scope="module")
def finished(tree, config, tmp_path_factory) -> Path:
    """A finished run with that file; its output is in `out` and `err` beside it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        out, err = (open(run.parent / name, "w") for name in ("out", "err"))  # noqa: SIM115, PTH123
        with out, err:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            rest = flags({"config": config, "data": tree, "run": run, **ON_COMMAND_LINE})
            assert main(["--no-labml", *rest]) == 0
    return run


def test_a_flag_overrides_the_config_file_which_overrides_its_base(finished):
    written = json.loads((finished / "settings.json").read_text())["settings"]
    assert (written["steps"], written["batch"], written["survival"]) == (8, 6, 1.0)
    assert (written["size"], written["d_model"], written["weight_decay"]) == ("s", 8, 0.05)


def test_a_run_trains_validates_and_saves_its_best_model(finished):
    out, err = ((finished.parent / name).read_text() for name in ("out", "err"))
    assert "18 training images of 3 classes, 12 validation images, 0.000 G multiply-adds" in err
    assert "images a second\n" in out
    lines = measured(finished)
    assert [line["step"] for line in lines if "top1" in line] == [4, 8]
    assert all(line["images"] == 12 for line in lines if "top1" in line)
    weights = best_weights(load_run_checkpoint(finished / "best.pt"))
    for name, value in from_pretrained(finished / "model").state_dict().items():
        assert torch.equal(weights[name], value)
    page = (finished / "index.md").read_text()
    assert "top-1" in page
    assert "spatial.png" in page


def test_the_model_of_a_run_brings_its_preprocessing(finished):
    loaded = load_pretrained(str(finished / "model"))
    found = (loaded.normalisation, loaded.crop, loaded.interpolation)
    assert found == (NORMALISATION, 0.5, "bicubic")
    prepare = preprocessing_from(finished / "model")
    assert (prepare.image_size, prepare.crop) == ((16, 16), 0.5)
    # A run that starts from it takes over the normalisation.
    later = ImageNetSettings(**SIZE, pretrained=str(finished / "model"))
    assert make_classifier(later, 3, 0)[1] == NORMALISATION


@pytest.mark.parametrize("source", ["run", "pretrained"])
def test_validate_repeats_the_best_validation_of_a_run(source, finished, tree, capsys):
    best = load_run_checkpoint(finished / "best.pt")["best"]
    path = finished if source == "run" else finished / "model"
    rest = {"data": tree, "workers": 0, "batch": 7, "precision": "float32", source: path}
    assert main(["validate", *flags(rest)]) == 0
    want = f"top-1 {best['top1']:.2f} %, top-5 100.00 %, loss {best['nats']:.4f}, 12 images"
    assert capsys.readouterr().out.startswith(want)


def test_a_fine_tuned_run_saves_the_normalisation_it_started_with_and_its_own_crop(tree, tmp_path):
    pretrained = saved(tmp_path / "pretrained", classifier(), PREPROCESSING)
    changes = {"steps": 1, "warmup": 0, "evaluate_every": 1, "mixing": 0, "accumulate": 6}
    assert train(tree, tmp_path / "run", pretrained=pretrained, **changes) == 0
    loaded = load_pretrained(str(tmp_path / "run" / "model"))
    assert loaded.normalisation == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    # Every run validates with its own crop and interpolation.
    assert (loaded.crop, loaded.interpolation) == (0.875, "bicubic")


def test_a_resumed_run_equals_one_that_was_never_stopped(tree, tmp_path):
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    options = {"jitter": 0.2, "erasing": 0.5, "survival": 0.5, "ema": 0.9, "accumulate": 2}
    assert train(tree, through, **options) == 0
    shutil.copytree(through, stopped)
    # As if killed after step 6, with the newest checkpoint lost.
    (stopped / "previous.pt").rename(stopped / "last.pt")
    assert load_run_checkpoint(stopped / "last.pt")["step"] == 6
    assert main(["--no-labml", *flags({"resume": stopped, "data": tree, "workers": 0})]) == 0
    assert measured(stopped) == measured(through)
    ends = [load_run_checkpoint(run / "last.pt")["model"] for run in (through, stopped)]
    for name, value in ends[0].items():
        assert torch.equal(ends[1][name], value)


def test_a_run_does_not_resume_with_other_images(finished, tree_copy, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    (tree_copy / "train/c0/0.JPEG").unlink()
    error = failed(capsys, "--no-labml", *flags({"resume": run, "data": tree_copy, "workers": 0}))
    assert "train='" in error


def two_processes(logs: Path, *arguments: str) -> tuple[list[int], list[str]]:
    """Runs the command in two processes; returns the exit status and the output of each."""
    processes = launch_ranks(list(arguments), logs, module="imagenet")
    for process in processes:
        process.join(timeout=240)
        process.kill()
    output = [re.sub(r"(never )?imported labml\n", "", (logs / k).read_text()) for k in "01"]
    return [process.exitcode for process in processes], output


def test_two_processes_train_as_one(finished, tree, config, tmp_path):
    two = tmp_path / "two"
    rest = flags({"config": config, "data": tree, "run": two, **ON_COMMAND_LINE})
    status, output = two_processes(tmp_path / "logs", "--no-labml", *rest)
    assert status == [0, 0], output
    assert "Warning" not in "".join(output)
    for a, b in zip(measured(finished), measured(two), strict=True):
        # The sums are added in another order.
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(("n_classes", "parts"), [(5, ["5 classes", 3]), (3, ["none"])])
def test_two_processes_report_an_error_once(n_classes, parts, tree_copy, tmp_path):
    for file in (tree_copy / "val").glob("*/*"):
        file.write_bytes(b"no image")
    model = saved(tmp_path / "model", classifier(n_classes))
    rest = flags({"pretrained": model, "data": tree_copy, "workers": 0})
    status, output = two_processes(tmp_path / "logs", "validate", *rest)
    assert status == [2, 2]
    assert "error:" not in output[1]
    (error,) = [line for line in output[0].splitlines() if "error:" in line]
    assert_names(error, "data", *parts)


def test_a_run_learns_to_distinguish_colours(tmp_path):
    for split in ("train", "val"):
        for k, colour in enumerate([(200, 40, 40), (40, 200, 40), (40, 40, 200)]):
            folder = tmp_path / split / str(k)
            folder.mkdir(parents=True)
            for j in range(4):
                noise = np.random.default_rng((k, j)).integers(-30, 30, (20, 20, 3))
                Image.fromarray((noise + colour).astype(np.uint8)).save(folder / f"{j}.png")
    changes = {**PLAIN, "steps": 30, "evaluate_every": 30, "save_every": 30, "lr": 0.02}
    assert train(tmp_path, tmp_path / "run", **changes) == 0
    assert load_run_checkpoint(tmp_path / "run" / "best.pt")["best"]["top1"] == 100


# ## Errors


def failed(capsys: Any, *arguments: str) -> str:
    """Runs the command, which must fail with one error; returns the error."""
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    return error


def test_a_missing_folder_of_images_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = saved(tmp_path / "model", classifier())
    for arguments in ((), ("validate", "--pretrained", model)):
        assert_names(failed(capsys, *arguments), "data", "got data", "--data")


@pytest.mark.parametrize(
    ("accumulate", "parts"), [(4, ["multiple of 4"]), (6, ["at least 12", "--mixing 0"])]
)
def test_an_indivisible_batch_is_rejected_before_the_run(accumulate, parts, tree, tmp_path, capsys):
    run = tmp_path / "run"
    rest = flags({"data": tree, "run": run, **SMALL, "accumulate": accumulate})
    assert_names(failed(capsys, "--no-labml", *rest), "batch", *parts, "got 6")
    assert not run.exists()


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 4), (2, 1), (2, 3)])
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.0}, {"cutmix": 0.0}])
def test_mixing_needs_two_images_in_a_micro_batch(tree, world, accumulate, changes):
    fabric: Any = SimpleNamespace(world_size=world)
    launch = Launch(data=tree, accumulate=accumulate)
    n = world * accumulate

    def built(batch: int, **more: float) -> Task:
        settings = ImageNetSettings(**SIZE, **{**changes, **more})
        return build(settings, Training(batch=batch), launch, fabric)

    assert_raises(
        lambda: built(n),
        *(ValueError, "batch", f"at least {2 * n}", f"{world} processes"),
        *(f"{accumulate} micro-batches", f"got {n}", "--mixing 0"),
    )
    assert built(2 * n).data == built(n, mixing=0.0).data == built(n, mixup=0.0, cutmix=0.0).data


def test_workers_must_not_be_negative(capsys):
    for arguments in (["--workers=-1"], ["validate", "--workers=-1", "--run=x"]):
        assert_names(failed(capsys, *arguments), "workers", "at least 0", "got -1")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["pretrained and run", "got None and None"]),
        (["--pretrained=a", "--run=b"], ["pretrained and run", "got a and b"]),
        (["--run=b", "--crop=2"], ["crop", "(0, 1]", "got 2.0"]),
    ],
)
def test_bad_arguments_of_validate_are_rejected(arguments, parts, capsys):
    assert_names(failed(capsys, "validate", *arguments), *parts)


def test_only_the_first_process_reports_bad_flags(capsys, monkeypatch):
    # As set by torchrun.
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["validate", "--pretrained=a", "--crop=2"])
    assert capsys.readouterr().err == ""


def test_validation_needs_the_classes_of_the_model(tree, tmp_path):
    assert len(find_validation_images(tree, 3)) == 12
    assert_raises(
        lambda: find_validation_images(tree, 5),
        *(ValueError, "data", "5 classes", "got 3", tree / "val"),
    )
    (tmp_path / "val_list.txt").write_text("a.png 4\n")
    assert find_validation_images(tmp_path, 5).labels.tolist() == [4]


def test_the_task_identifies_its_data(tree):
    settings = ImageNetSettings(**SIZE)
    launch = Launch(data=tree, workers=0, checkpoint_layers=True)
    task = build(settings, Training(batch=6), launch, FABRIC)
    assert task.data["classes"] == 3
    assert task.data["name"] == tree.name
    assert len(task.data["train"]) == len(task.data["validation"]) == 64
    assert task.model.encoder.checkpoint_layers is True
