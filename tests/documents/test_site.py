"""The pages of this site are small enough to read on a slow line."""

from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]
PAGE = 50 * 1024
STYLE_AND_SCRIPT = 15 * 1024


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("built") / "site"
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(made)))
    return made


def test_every_source_page_is_at_most_fifty_kilobytes(site):
    pages = [path for path in site.rglob("*.html") if "data-blocks=" in path.read_text("utf-8")]
    sizes = {str(path.relative_to(site)): path.stat().st_size for path in pages}
    assert {"labml_gmlp/blocks/gmlp.html", "experiments/autoregressive.html"} < set(sizes)
    assert {path: size for path, size in sizes.items() if size > PAGE} == {}


def test_every_page_of_differences_is_at_most_fifty_kilobytes(site):
    pages = [path for path in site.rglob("*.html") if "class=diff>" in path.read_text("utf-8")]
    sizes = {str(path.relative_to(site)): path.stat().st_size for path in pages}
    assert {"variants.html", "layers.html", "twins.html"} == set(sizes)
    assert {path: size for path, size in sizes.items() if size > PAGE} == {}


def test_style_and_script_are_at_most_fifteen_kilobytes(site):
    files = [*site.glob("css/*"), *site.glob("js/*")]
    assert {path.suffix for path in files} == {".css", ".js"}
    assert sum(path.stat().st_size for path in files) <= STYLE_AND_SCRIPT
