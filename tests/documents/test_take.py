"""The code on the page "Take a block" runs and prints the output in its comments."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "take.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


# Runs each block in its own namespace and returns what it prints, or its traceback.
RUNNER = """
import contextlib, io, json, sys, traceback
results = []
for code in json.load(sys.stdin):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(code, {"__name__": "__main__"})
    except BaseException:
        out.write(traceback.format_exc())
    results.append(out.getvalue().splitlines())
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def printed():
    """The lines that each block prints, all run in one fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(BLOCKS),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_each_python_block_prints_the_output_in_its_comments(index, printed):
    code = BLOCKS[index]
    if "labml_nn" in code:
        pytest.importorskip("labml_nn", reason="labml-nn is not installed")
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    assert printed[index] == promised


def test_the_table_lists_all_block_files_and_existing_classes():
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
