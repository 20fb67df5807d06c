"""Imports labml_nn 0.5.1 for the tests that compare with it."""

import importlib
import types
import warnings
from typing import Any

import pytest

VERSION = "0.5.1"


def labml_nn(name: str) -> Any:
    """Returns the module `labml_nn.name`, or skips the test if labml_nn is not installed."""
    # Its docstrings have invalid escapes, of which Python warns when it compiles them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("labml_nn.transformers", reason="labml_nn is not installed")
        module = importlib.import_module(f"labml_nn.{name}")
    # Its attention calls `tracker.debug`, which labml 0.5 removed.
    if hasattr(module, "tracker") and not hasattr(module.tracker, "debug"):
        module.tracker = types.SimpleNamespace(debug=lambda name, value: None)
    return module
