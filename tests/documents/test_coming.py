"""The page "Weights from other packages" has every system."""

import sys
from pathlib import Path

from labml_gmlp import weights

PAGE = (Path(__file__).parents[2] / "docs" / "coming.md").read_text(encoding="utf-8")

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
