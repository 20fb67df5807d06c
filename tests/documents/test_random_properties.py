"""The property tests once more, with random examples and ten times as many of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_properties_hold_for_random_examples():
    selected = "hypothesis and not slow and not gpu and not network"
    command = ["-m", "pytest", "-q", "-n", "2", "-m", selected, "--hypothesis-profile=long"]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:]
