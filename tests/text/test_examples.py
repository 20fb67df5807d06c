"""The examples in the docstrings of the text package and its experiments run."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

MODULES = [
    *(f"experiments.text.{path.stem}" for path in Path("experiments/text").glob("[!_]*.py")),
    "experiments.models.language",
    *(f"experiments.{name}" for name in ("autoregressive", "masked", "alignment")),
]
EXAMPLES = [
    pytest.param(module, name, example, id=f"{module}.{name}")
    for module in MODULES
    for name, value in vars(importlib.import_module(module)).items()
    if isinstance(value, type) and value.__module__ == module
    for example in re.findall(r"```python\n(.*?)```", value.__doc__ or "", re.DOTALL)
]


@pytest.mark.parametrize(("module", "name", "example"), EXAMPLES)
def test_an_example_runs(module, name, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [line.removeprefix("    ") for line in example.splitlines()]
    names = {**vars(importlib.import_module(module)), "np": np, "Path": Path}
    exec("\n".join(lines), names)
