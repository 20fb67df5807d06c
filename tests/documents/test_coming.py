"""What can run of the page "Coming from elsewhere" does what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "coming.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_each_python_block_prints_what_it_promises(code):
    for package in ("labml_nn", "g_mlp_pytorch", "safetensors"):
        if package in code:
            pytest.importorskip(package, reason=f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    assert done.stdout.splitlines() == promised


def test_each_system_has_a_section_or_a_link():
    from labml_gmlp import weights

    files = {Path(sys.modules[system.table.__module__].__file__).stem for system in weights.SYSTEMS}
    sections = {"labml_nn", "g_mlp_pytorch", "timm", "paddlevit", "saurav", "espnet"}
    for name in files - sections:
        assert f"systems/{name}.md" in PAGE, name
    for head in (
        "labml-nn",
        "g-mlp-pytorch",
        "timm",
        "PaddleViT",
        "SauravMaheshkar/gMLP",
        "ESPnet",
    ):
        assert f"\n## {head}\n" in PAGE
