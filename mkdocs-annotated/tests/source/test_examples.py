r"""Examples in docstrings give the output they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

from mkdocs_annotated import errors, markdown, source


def test_examples_in_docstrings_work():
    names = [errors.__name__]
    for package in (source, markdown):
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [module.name for module in found]
    results = [doctest.testmod(importlib.import_module(name)) for name in names]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) >= 20
