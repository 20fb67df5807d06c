r"""Where names lead: definitions of the site, and addresses outside of it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.site.cross_references import entry
from mkdocs_annotated.site.links import Entry, Index, Target, read_inventory
from mkdocs_annotated.source.parse import parse

TORCH = {"torch.nn.Linear": "https://torch/Linear", "functools.partial": "https://python/partial"}
BLOCK = """
    import torch
    from torch import nn as layers
    from functools import partial

    SIZE = 3

    class Base:
        def shared(self): ...

    class Gate(Base):
        limit = 2

        def __init__(self, size):
            self.size = size
            self.layer = layers.Linear(size, SIZE)

        def forward(self, x):
            def inner(y): return y
            self.size = SIZE
            return self.layer(inner(self.shared(self.size, self.limit, x.size)))
    """
FILES = {
    "pkg": ("pkg/__init__.py", "from pkg.block import Gate as Gate\nfrom .block import SIZE\n"),
    "pkg.block": ("pkg/block.py", BLOCK),
    "pkg.use": (
        "pkg/use.py",
        """
        import pkg
        import pkg.block as b
        from pkg import Gate
        from .block import Gate as Other, SIZE

        def run(Gate, n):
            return Gate(n), b.Gate.forward, pkg.Gate, Other.limit, pkg.block.SIZE

        def call(n: Gate):
            SIZE = n
            return SIZE + len([Gate for Gate in n]), (lambda Other: Other)
        """,
    ),
}


@pytest.fixture
def index() -> Index:
    entries = []
    for name, (path, text) in FILES.items():
        module = parse(textwrap.dedent(text).lstrip("\n"), path)
        entries.append(entry(module, name, path.replace(".py", ".md"), path))
    return Index(entries, TORCH)


def leads(index: Index, name: str) -> list[tuple[int, str, str]]:
    found = []
    for each, target in index.code(index.entries[name]):
        where = target.url or f"{target.uri.removeprefix('pkg/')}#{target.fragment}"
        found.append((each.line, each.dotted, where))
    return found


def test_members_of_the_same_class_and_module_lead_to_their_definitions(index: Index):
    assert leads(index, "pkg.block") == [
        (3, "functools.partial", "https://python/partial"),
        (10, "Base", "block.md#Base"),
        (15, "layers.Linear", "https://torch/Linear"),
        (15, "SIZE", "block.md#L5"),
        (19, "self.size", "block.md#L14"),
        (19, "SIZE", "block.md#L5"),
        (20, "self.layer", "block.md#L15"),
        (20, "inner", "block.md#Gate.forward.inner"),
        (20, "self.shared", "block.md#Base.shared"),
        (20, "self.size", "block.md#L14"),
        (20, "self.limit", "block.md#L11"),
    ]


def test_imported_names_lead_to_other_pages_and_shadowed_ones_nowhere(index: Index):
    found = leads(index, "pkg.use")
    assert [each for each in found if each[0] >= 6] == [
        (7, "b", "block.md#"),
        (7, "b.Gate", "block.md#Gate"),
        (7, "b.Gate.forward", "block.md#Gate.forward"),
        (7, "pkg", "__init__.md#"),
        (7, "pkg.Gate", "block.md#Gate"),
        (7, "Other", "block.md#Gate"),
        (7, "Other.limit", "block.md#L11"),
        (7, "pkg", "__init__.md#"),
        (7, "pkg.block", "block.md#"),
        (7, "pkg.block.SIZE", "block.md#L5"),
        (9, "Gate", "block.md#Gate"),
    ]


def test_names_in_imports_lead_through_what_a_package_hands_on(index: Index):
    assert [each for each in leads(index, "pkg.use") if 3 <= each[0] < 6] == [
        (3, "pkg", "__init__.md#"),
        (3, "pkg.Gate", "block.md#Gate"),
        (4, ".block", "block.md#"),
        (4, ".block.Gate", "block.md#Gate"),
        (4, ".block.SIZE", "block.md#L5"),
    ]


def test_imports_in_a_circle_lead_nowhere():
    a = entry(parse("from b import x\nx\n"), "a", "a.md", "a.py")
    b = entry(parse("from a import x\n"), "b", "b.md", "b.py")
    assert [name.dotted for name, _ in Index([a, b], {}).code(a)] == ["b"]


@pytest.mark.parametrize(
    ("text", "within", "expected"),
    [
        ("Gate", "", Target("pkg/block.md", "Gate")),
        ("Gate.forward", "Base", Target("pkg/block.md", "Gate.forward")),
        ("forward", "Gate", Target("pkg/block.md", "Gate.forward")),
        ("forward()", "Gate.__init__", Target("pkg/block.md", "Gate.forward")),
        ("self.size", "Gate.forward", Target("pkg/block.md", "L14")),
        ("SIZE", "Gate", Target("pkg/block.md", "L5")),
        ("layers.Linear", "", Target(url="https://torch/Linear")),
        ("torch.nn.Linear", "", Target(url="https://torch/Linear")),
        ("partial", "", Target(url="https://python/partial")),
        ("pkg.use", "", Target("pkg/use.md")),
        ("pkg.use.run", "", Target("pkg/use.md", "run")),
        ("call()", "", Target("pkg/use.md", "call")),
        # Arguments, itself, attributes without their object, and what nobody defined.
        *[(text, "Gate", None) for text in ("size", "Gate", "limit", "None", "a b", "x=1", "")],
        ("x", "Gate.forward", None),
        ("run", "", None),
        ("nobody.knows", "", None),
        ("pkg.block", "", None),
    ],
)
def test_a_name_in_prose_leads_where_it_can_only_mean_one_thing(
    index: Index, text: str, within: str, expected: Target | None
):
    assert index.prose(text, index.entries["pkg.block"], within) == expected


def test_a_name_that_two_modules_define_stays_plain_elsewhere():
    text = "class A:\n    def f(self): ...\n"
    entries = [entry(parse(text), name, f"{name}.md", f"{name}.py") for name in ("a", "b")]
    assert Index(entries, {}).prose("A.f") is None
    assert Index(entries[:1], {}).prose("A.f") == Target("a.md", "A.f")


def test_inventories_are_read_with_the_line_of_each_mistake(tmp_path: Path):
    file = tmp_path / "inventory.yml"
    file.write_text("# ours\ntorch.nn: https://x/y\n")
    assert read_inventory(file, "i.yml") == {"torch.nn": "https://x/y"}
    for text, line in {
        "a: https://x\nb: javascript:x\n": "i.yml:2: the address of b must begin with https://",
        "a b: https://x\n": "i.yml:1: 'a b' is no dotted name",
        "a: https://x\na: https://y\n": "i.yml:2: a stands here twice",
        "- a\n": "i.yml:1: an inventory holds `dotted.name: address` lines",
        "a: https://x\nb: [\n": "i.yml:3: this is not YAML",
    }.items():
        file.write_text(text)
        with pytest.raises(SourceError, match=re.escape(line)):
            read_inventory(file, "i.yml")
    with pytest.raises(SourceError, match=r"i\.yml:1: this inventory cannot be read"):
        read_inventory(tmp_path / "none.yml", "i.yml")


def test_links_of_a_site_lead_to_places_that_exist(project: SimpleNamespace):
    project.write("shapes/a.py", 'class A:\n    """`A.f`, `B`."""\n\n    def f(self): ...\n')
    project.write("shapes/b.py", "from shapes.a import A\n\n\nclass B(A):\n    pass\n")
    project.write("docs/index.md", "# Start\n\nSee `A.f`, `shapes.b`, `B` and `len`.\n")
    site = project.build()
    html = (site / "shapes/b.html").read_text()
    assert "<a href=a.html#A>A</a>" in html
    assert "<i class=nc>B</i>(<a href=a.html#A>A</a>)" in html
    start = (site / "index.html").read_text()
    assert "<a href=shapes/a.html#A.f><code>A.f</code></a>" in start
    assert "<a href=shapes/b.html><code>shapes.b</code></a>" in start
    assert "<code>len</code>." in start
    assert "<code>len</code></a>" not in start
    prose = (site / "shapes/a.html").read_text()
    assert "<a href=#A.f><code>A.f</code></a>, <a href=b.html#B><code>B</code></a>" in prose


def test_an_inventory_that_is_missing_stops_the_build(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(Abort):
        project.build(options="sources: [shapes], inventory: docs/none.yml")
    assert caplog.messages == ["docs/none.yml:1: this inventory cannot be read"]


def test_the_index_survives_names_that_no_scope_explains():
    odd = "class A:\n    def f(*self): self.x = 1\n    f = 1\n    del f\nself.y = A.f.x\n"
    made: Entry = entry(parse(odd), "odd", "odd.md", "odd.py")
    assert [name.dotted for name, _ in Index([made], {}).code(made)] == ["A", "A.f"]
