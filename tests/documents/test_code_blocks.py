"""The Python code on the pages runs and prints the output in its comments."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.support.labml_layers import labml_nn

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/index.md", "docs/take.md", "docs/coming.md"]
BLOCKS = {
    f"{page}-{i}": code
    for page in PAGES
    for i, code in enumerate(
        re.findall(
            r"^```python\n(.*?)^```",
            (ROOT / page).read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
    )
}


def test_every_page_has_code():
    assert {name.rpartition("-")[0] for name in BLOCKS} == set(PAGES)


@pytest.mark.parametrize("name", BLOCKS)
def test_each_python_block_prints_the_output_in_its_comments(name):
    code = BLOCKS[name]
    if "labml_nn" in code:
        labml_nn("transformers.gmlp")
    for package in ("g_mlp_pytorch", "safetensors"):
        if package in code:
            pytest.importorskip(package, reason=f"{package} is not installed")
    expected = re.findall(r"print\(.*\)  # (.*)", code)
    assert expected
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {"__name__": "__main__"})
    assert printed.getvalue().splitlines() == expected
