"""Training and validating on folders of small images, with a model of a few thousand parameters."""

import dataclasses
import json
import os
import subprocess
import sys
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
from experiments.imagenet import EXPERIMENT, build, main, make_loss, teacher_of
from experiments.images.augment import Normalisation
from experiments.images.settings import DEFAULTS, SIZES, Settings
from experiments.images.validate_command import validation_images
from experiments.models.images import fine_tuned, load_pretrained, model_of, save_trained
from labml_gmlp import Encoder, GMLPBlock, LanguageModel, MixerBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.pretrained import from_pretrained, preprocessing_from, save_pretrained
from tests.support.helpers import assert_raises
from tests.support.image_trees import image_tree

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
# Nothing is drawn but the crop.
PLAIN = {"flip": 0, "policy": "none", "mixup": 0, "cutmix": 0, "smoothing": 0}
FABRIC = Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return image_tree(tmp_path_factory.mktemp("images"))


def flags(values: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def train(data: Path, run: Path, **changes: Any) -> int:
    rest = flags({"data": data, "run": run, **SMALL, **changes})
    return main(["--no-labml", *rest])


def measured(run: Path) -> list[dict[str, float]]:
    """The metrics of a run without what depends on the clock."""
    lines = read_metrics(run / "metrics.jsonl")
    return [
        {name: v for name, v in line.items() if not name.endswith(("seconds", "per_second"))}
        for line in lines
    ]


def classifier(n_classes: int = 3, image_size: int = 16) -> ImageClassifier:
    encoder = Encoder(lambda: GMLPBlock(8, 16, (image_size // 8) ** 2), 2)
    return ImageClassifier(encoder, n_classes, image_size=image_size, patch_size=8)


def saved(folder: Path, model: nn.Module, preprocessing: dict[str, Any] | None = None) -> str:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    save_pretrained(model, folder)
    if preprocessing is not None:
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"] = preprocessing
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


CFG = {
    "input_size": [3, 16, 16],
    "crop_pct": 0.5,
    "interpolation": "bilinear",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}


# ## Recipes


@pytest.mark.parametrize("name", SIZES)
def test_the_file_of_a_size_gives_the_defaults_of_the_code(name):
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


def test_each_block_of_a_size_survives_as_its_depth_says():
    settings = DEFAULTS["b"][0]
    small = dataclasses.replace(settings, d_model=8, d_ffn=16, image_size=16, n_layers=5)
    layers = model_of(small, 3, 0)[0].encoder.layers
    found = [getattr(layer.dropout, "survival", 1.0) for layer in layers]
    assert found == pytest.approx([1, 0.95, 0.9, 0.85, 0.8])


@pytest.mark.parametrize(("patch", "n"), [(2, 64), (4, 16), (8, 4)])
def test_the_patch_decides_the_number_of_tokens(patch, n):
    model, _ = model_of(Settings(**{**SIZE, "patch": patch}), 3, 0)
    assert model.n_patches == n
    assert model.encoder.layers[0].sgu.projection.weight.shape == (n, n)


def test_only_matrices_of_linear_layers_decay():
    model, _ = model_of(Settings(**SIZE), 3, 0)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, lr=0.5, betas=(0.9, 0.999), weight_decay=0.1).step()
    decayed = {name for name, p in model.named_parameters() if not (p == 1).all()}
    want = {"head.weight"}
    for k in range(2):
        want |= {f"encoder.layers.{k}.proj_{way}.weight" for way in ("in", "out")}
    assert decayed == want


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "xl"}, "size must be ti, s or b, got 'xl'"),
        ({"policy": "best"}, "policy must be none, rand or auto, got 'best'"),
        ({"erasing_fill": "red"}, "erasing_fill must be noise or mean, got 'red'"),
        ({"distil": "warm"}, "distil must be none, soft or hard, got 'warm'"),
        ({"patch": 0}, "patch must be above 0, got 0"),
        ({"std": 0.0}, "std must be above 0 and below 1e6, got 0.0"),
        ({"std": float("inf")}, "std must be above 0 and below 1e6, got inf"),
        ({"switch": 1.5}, "switch must lie in [0, 1], got 1.5"),
        ({"mean": -0.1}, "mean must lie in [0, 1], got -0.1"),
        ({"survival": 0.0}, "survival must lie in (0, 1], got 0.0"),
        ({"smallest_crop": 1.5}, "smallest_crop must lie in (0, 1], got 1.5"),
        ({"crop": float("nan")}, "crop must lie in [0.01, 1], got nan"),
        ({"crop": 0.005}, "crop must lie in [0.01, 1], got 0.005"),
        ({"smoothing": 1.0}, "smoothing must lie in [0, 1), got 1.0"),
        ({"rand_magnitude": 11.0}, "rand_magnitude must lie in [0, 10], got 11.0"),
        ({"mixup": -1.0}, "mixup must be finite and at least 0, got -1.0"),
        ({"cutmix": float("inf")}, "cutmix must be finite and at least 0, got inf"),
        (
            {"teacher": "x"},
            "teacher must be given with a distil that is not none, and only then, "
            "got x with distil=none",
        ),
        (
            {"distil": "soft"},
            "teacher must be given with a distil that is not none, and only then, "
            "got None with distil=soft",
        ),
    ],
)
def test_settings_that_will_not_do_are_told(changes, message):
    assert_raises(lambda: Settings(**changes), ValueError, message)


# ## The loss


def test_with_all_switched_off_the_loss_is_that_of_the_labels(tree):
    torch.manual_seed(0)
    settings = Settings(**SIZE, **PLAIN)
    model, normalise = model_of(settings, 3, 0)
    nn.init.normal_(model.head.weight)
    images = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    labels = torch.randint(3, (5,))
    got = make_loss(settings, 3, normalise, None)(model, (images, labels))
    want = nn.functional.cross_entropy(model(images.float() / 127.5 - 1), labels)
    torch.testing.assert_close(got, want)


def test_a_teacher_sees_the_pixels_in_its_own_norm(tmp_path):
    teacher = saved(tmp_path / "teacher", classifier(), CFG)
    changes = {"distil": "hard", "distil_share": 1.0, "teacher": teacher}
    settings = Settings(**SIZE, **PLAIN, **changes)
    model, normalise = model_of(settings, 3, 0)
    nn.init.normal_(model.head.weight)
    images = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8)
    x = images.float() / 255
    mean, std = (torch.tensor(CFG[name])[:, None, None] for name in ("mean", "std"))
    answers = from_pretrained(teacher)((x - mean) / std).argmax(dim=1)
    want = nn.functional.cross_entropy(model(2 * x - 1), answers)
    loss = make_loss(settings, 3, normalise, teacher_of(settings, 3, FABRIC))
    torch.testing.assert_close(loss(model, (images, torch.zeros(7, dtype=torch.int64))), want)


def test_a_teacher_of_other_images_or_classes_is_refused(tmp_path):
    teacher = saved(tmp_path / "teacher", classifier())
    settings = Settings(**SIZE, distil="soft", teacher=teacher)
    message = "teacher must take images of 16 pixels and know 4 classes, got 16 and 3"
    assert_raises(lambda: teacher_of(settings, 4, FABRIC), ValueError, message)


# ## Weights that were trained before


def test_pretrained_weights_bring_their_norm_and_keep_a_head_that_fits(tmp_path):
    name = saved(tmp_path / "model", classifier(), CFG)
    settings = Settings(**SIZE, pretrained=name, survival=0.5)
    model, normalise = model_of(settings, 3, 0)
    assert normalise == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    for key, value in from_pretrained(name).state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert model.training
    drops = [layer.dropout for layer in model.encoder.layers]
    assert all(isinstance(drop, StochasticDepth) for drop in drops)
    assert [drop.survival for drop in drops] == [1.0, 0.5]


def test_a_head_for_other_classes_starts_anew(tmp_path):
    name = saved(tmp_path / "model", classifier())
    model, normalise = model_of(Settings(**SIZE, pretrained=name), 5, 0)
    assert normalise == Normalisation()
    assert model(torch.rand(2, 3, 16, 16)).tolist() == [[0.0] * 5] * 2


def test_pretrained_models_that_will_not_do_are_told(tmp_path):
    language = LanguageModel(5, Encoder(lambda: GMLPBlock(8, 16, 4), 1))
    name = saved(tmp_path / "language", language)
    message = "pretrained must be a model of images, got a LanguageModel"
    assert_raises(lambda: load_pretrained(name), ValueError, message)

    encoder = Encoder(lambda: GMLPBlock(8, 16, 8), 1)
    wide = ImageClassifier(encoder, 3, image_size=(16, 32), patch_size=8)
    name = saved(tmp_path / "wide", wide)
    message = "pretrained must take square images in 3 colours, got 16 x 32 in 3"
    assert_raises(lambda: load_pretrained(name), ValueError, message)

    loaded = load_pretrained(saved(tmp_path / "model", classifier()))
    message = "image_size must be 16, that of the pretrained model, got 24"
    assert_raises(lambda: fine_tuned(loaded, 3, 1.0, 24), ValueError, message)

    mixer = Encoder(lambda: MixerBlock(8, 4, 4, 16), 2)
    name = saved(tmp_path / "mixer", ImageClassifier(mixer, 3, image_size=16, patch_size=8))
    loaded = load_pretrained(name)
    assert fine_tuned(loaded, 3, 1.0, 16).training
    message = "survival must be 1 without layers of gMLP, got 0.5"
    assert_raises(lambda: fine_tuned(loaded, 3, 0.5, 16), ValueError, message)


# ## Runs

LIMITS = [{}, {"mean": 0.0, "std": 1e-6}, {"mean": 1.0, "std": 999_999.0, "crop": 0.01}]


def test_a_run_trains_validates_and_leaves_its_best_model(tree, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(tree, run) == 0
    out, err = capsys.readouterr()
    assert "18 images of 3 classes, 12 to validate, 0.000 G multiply-adds" in err
    assert "images a second\n" in out
    lines = measured(run)
    assert [line["step"] for line in lines if "top1" in line] == [4, 8]
    assert all(line["images"] == 12 for line in lines if "top1" in line)
    weights = best_weights(load_run_checkpoint(run / "best.pt"))
    for name, value in from_pretrained(run / "model").state_dict().items():
        assert torch.equal(weights[name], value)
    page = (run / "index.md").read_text()
    assert "top-1" in page
    assert "spatial.png" in page

    best = load_run_checkpoint(run / "best.pt")["best"]
    for source in ({"run": run}, {"pretrained": run / "model"}):
        rest = {"data": tree, "workers": 0, "batch": 7, "precision": "float32", **source}
        assert main(["validate", *flags(rest)]) == 0
        said = capsys.readouterr().out
        want = f"top-1 {best['top1']:.2f} %, top-5 100.00 %, loss {best['nats']:.4f}, 12 images"
        assert said.startswith(want)


def test_the_model_of_a_run_brings_its_norm_and_its_crop(tree, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(tree, run, mean=0.45, std=0.22, crop=0.5, lr=0.02) == 0
    loaded = load_pretrained(str(run / "model"))
    norm = Normalisation((0.45,) * 3, (0.22,) * 3)
    assert (loaded.normalise, loaded.crop, loaded.mode) == (norm, 0.5, "bicubic")
    prepare = preprocessing_from(run / "model")
    assert (prepare.image_size, prepare.crop) == ((16, 16), 0.5)
    # A later run takes over the norm.
    later = Settings(**SIZE, pretrained=str(run / "model"))
    assert model_of(later, 3, 0)[1] == norm

    best = load_run_checkpoint(run / "best.pt")["best"]
    rest = {"data": tree, "workers": 0, "precision": "float32", "pretrained": run / "model"}
    capsys.readouterr()
    assert main(["validate", *flags(rest)]) == 0
    want = f"top-1 {best['top1']:.2f} %, top-5 100.00 %, loss {best['nats']:.4f}, 12 images"
    assert capsys.readouterr().out.startswith(want)


@pytest.mark.parametrize("values", LIMITS)
def test_what_settings_allow_is_read_back_with_the_model(values, tmp_path):
    settings = Settings(**SIZE, **values)
    model, normalise = model_of(settings, 3, 0)
    save_trained(model, tmp_path / "model", normalise, settings.crop)
    loaded = load_pretrained(str(tmp_path / "model"))
    assert (loaded.normalise, loaded.crop) == (settings.normalise, settings.crop)


def test_a_run_from_pretrained_weights_hands_on_their_norm_and_its_own_crop(tree, tmp_path):
    pretrained = saved(tmp_path / "pretrained", classifier(), CFG)
    assert train(tree, tmp_path / "run", pretrained=pretrained, steps=2, warmup=0) == 0
    loaded = load_pretrained(str(tmp_path / "run" / "model"))
    assert loaded.normalise == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    # It is validated as any run: what belongs to the weights it began with is past.
    assert (loaded.crop, loaded.mode) == (0.875, "bicubic")


def test_a_resumed_run_ends_as_one_that_was_never_stopped(tree, tmp_path):
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    options = {"jitter": 0.2, "erasing": 0.5, "survival": 0.5, "ema": 0.9, "accumulate": 2}
    assert train(tree, through, **options) == 0
    assert train(tree, stopped, **options) == 0
    # As if it had been killed after step 6: the newest checkpoint is lost.
    (stopped / "previous.pt").rename(stopped / "last.pt")
    assert load_run_checkpoint(stopped / "last.pt")["step"] == 6
    assert main(["--no-labml", *flags({"resume": stopped, "data": tree, "workers": 0})]) == 0
    assert measured(stopped) == measured(through)
    ends = [load_run_checkpoint(run / "last.pt")["model"] for run in (through, stopped)]
    for name, value in ends[0].items():
        assert torch.equal(ends[1][name], value)


def test_a_run_goes_on_with_the_same_list_of_images_only(tmp_path, capsys):
    data = image_tree(tmp_path / "images")
    run = tmp_path / "run"
    assert train(data, run) == 0
    (data / "train/c0/0.JPEG").unlink()
    capsys.readouterr()
    assert main(["--no-labml", *flags({"resume": run, "data": data, "workers": 0})]) == 2
    assert "must be of this run with train='" in capsys.readouterr().err


def two_processes(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.imagenet", *arguments, "--devices=2"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_two_processes_train_as_one(tree, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(tree, one, **PLAIN) == 0
    done = two_processes("--no-labml", *flags({"data": tree, "run": two, **SMALL, **PLAIN}))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for a, b in zip(measured(one), measured(two), strict=True):
        # The sums are the same in another order.
        assert a == pytest.approx(b, rel=1e-4)


def test_a_run_learns_what_colours_tell(tmp_path, capsys):
    for part in ("train", "val"):
        for k, colour in enumerate([(200, 40, 40), (40, 200, 40), (40, 40, 200)]):
            folder = tmp_path / part / str(k)
            folder.mkdir(parents=True)
            for j in range(4):
                noise = np.random.default_rng((k, j)).integers(-30, 30, (20, 20, 3))
                Image.fromarray((noise + colour).astype(np.uint8)).save(folder / f"{j}.png")
    run, changes = tmp_path / "run", {**PLAIN, "steps": 40, "evaluate_every": 20, "lr": 0.02}
    assert train(tmp_path, run, **changes) == 0
    assert load_run_checkpoint(run / "best.pt")["best"]["top1"] == 100


# ## What will not do


def failed(capsys: Any, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err.strip()


def test_without_a_folder_of_images_one_sentence_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    want = "error: data must be a folder of images, got data; --data names it"
    assert failed(capsys) == want
    assert failed(capsys, "validate", "--pretrained", saved(tmp_path / "m", classifier())) == want


def test_a_batch_that_cannot_be_shared_is_told_before_the_run(tree, tmp_path, capsys):
    rest = flags({"data": tree, "run": tmp_path / "run", **SMALL, "accumulate": 4})
    assert "batch must be a multiple of 4" in failed(capsys, "--no-labml", *rest)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 4), (2, 1), (2, 3)])
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.0}, {"cutmix": 0.0}])
def test_an_image_that_would_be_mixed_with_itself_is_refused(tree, world, accumulate, changes):
    fabric: Any = SimpleNamespace(world_size=world)
    launch = Launch(data=tree, accumulate=accumulate)
    n = world * accumulate

    def built(batch: int, **more: float) -> Task:
        settings = Settings(**SIZE, **{**changes, **more})
        return build(settings, Training(batch=batch), launch, fabric)

    message = (
        f"batch must be at least {2 * n} for {world} processes that accumulate {accumulate} "
        f"micro-batches, as mixup and cutmix need two images in each, got {n}; "
        f"--mixing 0 mixes none"
    )
    assert_raises(lambda: built(n), ValueError, message)
    assert built(2 * n).data == built(n, mixing=0.0).data == built(n, mixup=0.0, cutmix=0.0).data


def test_micro_batches_of_one_are_told_before_the_run(tree, tmp_path, capsys):
    run = tmp_path / "run"
    rest = flags({"data": tree, "run": run, **SMALL, "accumulate": 6})
    assert "batch must be at least 12 for 1 processes" in failed(capsys, "--no-labml", *rest)
    assert not run.exists()
    assert train(tree, run, accumulate=6, steps=2, warmup=0, mixing=0) == 0


def test_workers_are_none_or_more(tree, capsys):
    assert failed(capsys, "--workers=-1") == "error: workers must be at least 0, got -1"
    want = "error: workers must be at least 0, got -1"
    assert failed(capsys, "validate", "--workers=-1", "--run=x") == want


def test_validation_needs_one_model(capsys):
    want = "error: pretrained or run must be given, and not both, got {} and {}"
    assert failed(capsys, "validate") == want.format(None, None)
    assert failed(capsys, "validate", "--pretrained=a", "--run=b") == want.format("a", "b")
    want = "error: crop must lie in (0, 1], got 2.0"
    assert failed(capsys, "validate", "--run=b", "--crop=2") == want


def test_of_many_processes_the_first_tells_what_is_wrong_with_flags(capsys, monkeypatch):
    # As torchrun starts them.
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["validate", "--pretrained=a", "--crop=2"])
    assert capsys.readouterr().err == ""


def test_validation_needs_the_classes_of_the_model(tree, tmp_path):
    assert len(validation_images(tree, 3)) == 12
    message = f"data must have the 5 classes of the model, got 3 in {tree / 'val'}"
    assert_raises(lambda: validation_images(tree, 5), ValueError, message)
    (tmp_path / "val_list.txt").write_text("a.png 4\n")
    assert validation_images(tmp_path, 5).labels.tolist() == [4]


@pytest.mark.parametrize(
    ("n_classes", "message"),
    [
        (5, "data must have the 5 classes of the model, got 3 in {}"),
        (3, "data must have images to validate, got none that can be read"),
    ],
)
def test_what_two_processes_find_wrong_is_told_once(tmp_path, n_classes, message):
    data = image_tree(tmp_path / "images")
    for file in (data / "val").glob("*/*"):
        file.write_bytes(b"no image")
    model = saved(tmp_path / "model", classifier(n_classes))
    done = two_processes("validate", *flags({"pretrained": model, "data": data, "workers": 0}))
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if "error:" in line]
    assert told == [f"error: {message.format(data / 'val')}"]


def test_a_flag_on_the_command_line_is_stronger_than_a_file(tree, tmp_path, capsys):
    file = tmp_path / "own.yml"
    lines = [f"{name}: {value}" for name, value in {**SMALL, "steps": 20, "batch": 3}.items()]
    file.write_text("\n".join([f"base: {CONFIGS / 'gmlp_s.yml'}", *lines]))
    run = tmp_path / "run"
    rest = flags({"config": file, "data": tree, "run": run, "steps": 4})
    assert main(["--no-labml", *rest]) == 0
    written = json.loads((run / "settings.json").read_text())["settings"]
    assert (written["steps"], written["batch"], written["survival"]) == (4, 3, 0.95)
    assert (written["size"], written["d_model"], written["weight_decay"]) == ("s", 8, 0.05)


def test_the_task_names_its_data(tree):
    settings = Settings(**SIZE)
    launch = Launch(data=tree, workers=0, checkpoint_layers=True)
    task = build(settings, Training(batch=6), launch, FABRIC)
    assert task.data["classes"] == 3
    assert task.data["name"] == tree.name
    assert len(task.data["train"]) == len(task.data["validation"]) == 64
    assert task.model.encoder.checkpoint_layers is True
