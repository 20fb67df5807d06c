"""Every piece of code on the page "Take a block" runs and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "take.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_each_python_block_prints_what_it_promises(code):
    if "labml_gmlp.adapters" in code:
        pytest.importorskip("labml_gmlp.adapters", reason="the adapters come with their own branch")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    assert done.stdout.splitlines() == promised


def test_each_file_of_the_table_and_each_class_in_it_exists():
    rows = re.findall(
        r"\[(\w+\.py)\]\((labml_gmlp/[\w/]+)\.md\) \| `(\w+)` \|$", PAGE, re.MULTILINE
    )
    assert rows
    for name, path, class_name in rows:
        file = ROOT / f"{path}.py"
        assert file.name == name
        assert f"class {class_name}(" in file.read_text(encoding="utf-8")
