"""The pages of this site are small enough to read on a slow line."""

from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from benchmarks.pages import sizes, theme_files

ROOT = Path(__file__).parents[2]
# Gzipped, as a server sends them.
PAGE = 20 * 1024
STYLE_AND_SCRIPT = 10 * 1024


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("built") / "site"
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(made)))
    return made


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("data-blocks=", {"labml_gmlp/blocks/gmlp.html", "experiments/autoregressive.html"}),
        ('class="diff"', {"variants.html", "layers.html", "flax.html"}),
    ],
    ids=["annotated source", "differences"],
)
def test_every_page_is_at_most_twenty_kilobytes(site: Path, mark: str, expected: set[str]):
    pages = [path for path in site.rglob("*.html") if mark in path.read_text("utf-8")]
    found = sizes(site, pages)
    assert expected <= set(found)
    assert {name: size for name, size in found.items() if size.gzipped > PAGE} == {}


def test_style_and_script_are_at_most_ten_kilobytes(site: Path):
    files = theme_files(site)
    assert {path.suffix for path in files} == {".css", ".js"}
    assert sum(size.gzipped for size in sizes(site, files).values()) <= STYLE_AND_SCRIPT
