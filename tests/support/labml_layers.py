"""labml_nn 0.5.1 for the tests, where it is installed."""

import importlib
import types
import warnings
from typing import Any

import pytest

VERSION = "0.5.1"


def labml_nn(name: str) -> Any:
    """One of its modules. Skips the test where the package is not installed."""
    # Its docstrings hold escapes that Python warns of when it compiles them for the first time.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("labml_nn.transformers", reason="labml_nn is not installed")
        module = importlib.import_module(f"labml_nn.{name}")
    # Its attention reports to `tracker.debug`, which labml has no more since 0.5.
    if hasattr(module, "tracker") and not hasattr(module.tracker, "debug"):
        module.tracker = types.SimpleNamespace(debug=lambda name, value: None)
    return module
