"""The shapes beside the code are those of the current code."""

import json
from pathlib import Path

import pytest
from mkdocs.config import load_config
from mkdocs_annotated.beside.artifacts import ArtifactPaths
from mkdocs_annotated.beside.shapes import TracedModule
from mkdocs_annotated.beside.trace import trace_example
from mkdocs_annotated.source.files import find_modules
from mkdocs_annotated.source.scan import read_source

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = [REPOSITORY / "labml_gmlp", REPOSITORY / "experiments"]


def traced_modules() -> list[TracedModule]:
    plugin = load_config(str(REPOSITORY / "mkdocs.yml")).plugins["annotated"]
    options = plugin.config.shapes
    sources = [source for root in ROOTS for source in find_modules(root, REPOSITORY)]
    paths = ArtifactPaths(REPOSITORY, options.folder, options.examples)
    return paths.traced_modules(sources)


TRACED = traced_modules()


def test_every_block_and_model_page_has_an_example():
    wanted = [
        p
        for folder in ("blocks", "models")
        for p in (REPOSITORY / "labml_gmlp" / folder).glob("*.py")
    ]
    wanted = [path for path in wanted if path.name != "__init__.py"]
    assert {each.source.path for each in TRACED} >= set(wanted)


@pytest.mark.parametrize("module", TRACED, ids=lambda each: each.source.display_path)
def test_the_stored_shapes_are_those_of_a_new_run(module: TracedModule):
    kept = json.loads(module.data.read_text(encoding="utf-8"))
    assert kept["sha256"] == module.hashes()
    source = module.source
    text = read_source(source.path, source.display_path)
    fresh = trace_example(
        source.path, text, source.display_path, module.example, module.example_display_path, ROOTS
    )
    assert kept["notes"] == {str(line): note for line, note in fresh.items()}
    assert fresh
