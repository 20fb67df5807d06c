"""Every piece of code on the page "Take a block" runs and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "take.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_each_python_block_prints_what_it_promises(code):
    if "labml_nn" in code:
        pytest.importorskip("labml_nn", reason="labml-nn is not installed")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    assert done.stdout.splitlines() == promised


def test_each_file_of_the_table_and_each_class_in_it_exists():
    rows = [line.split("|")[2:4] for line in PAGE.splitlines() if ".md)" in line and "|" in line]
    found = {
        file: class_name
        for files, names in rows
        for file, class_name in zip(
            re.findall(r"\[\w+\.py\]\(([\w/]+)\.md\)", files),
            re.findall(r"`(\w+)`", names),
            strict=True,
        )
    }
    blocks = {
        f"labml_gmlp/blocks/{path.stem}" for path in (ROOT / "labml_gmlp/blocks").glob("[!_]*.py")
    }
    assert blocks <= set(found)
    for file, class_name in found.items():
        assert f"class {class_name}(" in (ROOT / f"{file}.py").read_text(encoding="utf-8")
