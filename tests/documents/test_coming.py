"""The page "Weights from other packages": its code runs, and it has every system."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from labml_gmlp import weights
from tests.support.labml_layers import labml_nn

PAGE = (Path(__file__).parents[2] / "docs" / "coming.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_each_python_block_prints_what_its_comments_say(code):
    if "labml_nn" in code:
        labml_nn("transformers.gmlp")
    for package in ("g_mlp_pytorch", "safetensors"):
        if package in code:
            pytest.importorskip(package, reason=f"{package} is not installed")
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {"__name__": "__main__"})
    assert printed.getvalue().splitlines() == promised


# Systems with a section. The others are linked.
SECTIONS = {
    "labml_nn": "labml-nn",
    "g_mlp_pytorch": "g-mlp-pytorch",
    "timm": "timm",
    "paddlevit": "PaddleViT",
    "saurav": "SauravMaheshkar/gMLP",
    "espnet": "ESPnet",
}


def test_each_system_has_a_section_or_a_link():
    files = {Path(sys.modules[system.table.__module__].__file__).stem for system in weights.SYSTEMS}
    assert SECTIONS.keys() <= files
    for name in files:
        if name in SECTIONS:
            assert f"\n## {SECTIONS[name]}\n" in PAGE
        else:
            assert f"systems/{name}.md" in PAGE, name
