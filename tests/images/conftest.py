"""Fixtures of the image tests."""

import shutil
from pathlib import Path

import pytest

from tests.support.image_trees import image_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """18 training and 12 validation images of 3 classes; tests must not change them."""
    return image_tree(tmp_path_factory.mktemp("session", numbered=True) / "images")


@pytest.fixture
def tree_copy(tree, tmp_path) -> Path:
    """A copy of `tree` that a test may change."""
    return Path(shutil.copytree(tree, tmp_path / "images"))
