"""The examples in the docstrings of the image modules run."""

import importlib
import re
from pathlib import Path

import pytest

from experiments.images.augment import Normalisation
from experiments.images.classifier import make_classifier, save_classifier
from experiments.images.folders import find_images
from experiments.images.settings import ImageNetSettings

ROOT = Path(__file__).parents[2]
MODULES = [
    *(f"experiments.images.{path.stem}" for path in ROOT.glob("experiments/images/[!_]*.py")),
    "experiments.digits",
]
EXAMPLES = [
    pytest.param(module, example, id=f"{module}.{name}")
    for module in MODULES
    for name, value in vars(importlib.import_module(module)).items()
    if isinstance(value, type) and value.__module__ == module
    for example in re.findall(r"```python\n(.*?)```", value.__doc__ or "", re.DOTALL)
]


@pytest.fixture(scope="module")
def folder(tree, tmp_path_factory) -> Path:
    """The working directory of a user: a data set in `imagenet` and a model in `runs`."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "imagenet").symlink_to(tree, target_is_directory=True)
    (folder / "runs" / "NAME").mkdir(parents=True)
    settings = ImageNetSettings(d_model=8, d_ffn=16, n_layers=1, image_size=16)
    model, _ = make_classifier(settings, 3, seed=0)
    save_classifier(model, folder / "runs" / "NAME" / "model", Normalisation(), 0.875)
    return folder


@pytest.mark.parametrize(("module", "example"), EXAMPLES)
def test_an_example_runs(module, example, folder, monkeypatch):
    monkeypatch.chdir(folder)
    lines = [line.removeprefix("    ") for line in example.splitlines()]
    names = {**vars(importlib.import_module(module)), "find_images": find_images, "Path": Path}
    exec("\n".join(lines), names)
