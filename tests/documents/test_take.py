"""The table of the page "Take a block" has every block."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "take.md").read_text(encoding="utf-8")


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
