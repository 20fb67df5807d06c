"""The pages of this site are small, labelled, and know the addresses that a build is given."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
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


ADDRESSES = {
    "GMLP_REPO_URL": ("repo_url", "https://git.example/a/b"),
    "GMLP_SITE_URL": ("site_url", "https://a.example/b/"),
}


def test_the_addresses_come_from_the_environment(monkeypatch):
    for name, (key, value) in ADDRESSES.items():
        monkeypatch.delenv(name, raising=False)
        assert load_config(str(ROOT / "mkdocs.yml"))[key] == ""
        monkeypatch.setenv(name, value)
        assert load_config(str(ROOT / "mkdocs.yml"))[key] == value


def test_the_workflow_that_publishes_the_site_sets_the_addresses():
    text = (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    [job] = yaml.safe_load(text)["jobs"].values()
    [build_step] = [step for step in job["steps"] if step.get("run") == "make site"]
    assert set(build_step["env"]) == set(ADDRESSES)


@pytest.mark.parametrize("address", ["", "https://git.example/a/b"])
def test_the_start_page_clones_the_repository_whose_address_is_known(address):
    path = ROOT / "docs" / "hooks.py"
    spec = importlib.util.spec_from_file_location("hooks", path)
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    config = SimpleNamespace(repo_url=address)
    shown = hooks.on_page_markdown(page, page=None, config=config, files=None)
    [cloned] = re.findall(r"^git clone (\S+)", shown, re.MULTILINE)
    assert cloned == (address or hooks.UNKNOWN)


def test_a_guided_path_of_eight_pages_begins_at_the_start_page(site: Path):
    path, seen = site / "index.html", []
    while path not in seen:
        seen.append(path)
        found = re.search(r'<a rel="next" href="([^"]+)"', path.read_text(encoding="utf-8"))
        path = (path.parent / found[1]).resolve() if found else path
    names = [each.relative_to(site.resolve()).as_posix() for each in seen[1:]]
    assert len(names) == 8
    assert names[0] == "labml_gmlp/blocks/gmlp.html"
    assert names[-1] == "coverage.html"
