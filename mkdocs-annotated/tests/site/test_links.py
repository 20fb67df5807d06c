r"""Links of names to definitions on the site, and to URLs of the inventory."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import Abort
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.site.links import (
    DefinitionIndex,
    LinkTarget,
    index_module,
    read_inventory,
)
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
def index() -> DefinitionIndex:
    modules = []
    for name, (path, text) in FILES.items():
        module = parse(textwrap.dedent(text).lstrip("\n"), path)
        modules.append(index_module(module, name, path.replace(".py", ".md"), path))
    return DefinitionIndex(modules, TORCH)


def links(index: DefinitionIndex, name: str) -> list[tuple[int, str, str]]:
    found = []
    for each, target in index.code_links(index.modules[name]):
        where = target.url or f"{target.uri.removeprefix('pkg/')}#{target.fragment}"
        found.append((each.line, each.dotted, where))
    return found


def test_members_of_the_same_class_and_module_link_to_their_definitions(index: DefinitionIndex):
    assert links(index, "pkg.block") == [
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


def test_imported_names_link_to_other_pages_and_shadowed_ones_have_no_link(index: DefinitionIndex):
    found = links(index, "pkg.use")
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


def test_names_in_imports_link_through_re_exports(index: DefinitionIndex):
    assert [each for each in links(index, "pkg.use") if 3 <= each[0] < 6] == [
        (3, "pkg", "__init__.md#"),
        (3, "pkg.Gate", "block.md#Gate"),
        (4, ".block", "block.md#"),
        (4, ".block.Gate", "block.md#Gate"),
        (4, ".block.SIZE", "block.md#L5"),
    ]


def test_circular_imports_have_no_link():
    a = index_module(parse("from b import x\nx\n"), "a", "a.md", "a.py")
    b = index_module(parse("from a import x\n"), "b", "b.md", "b.py")
    assert [name.dotted for name, _ in DefinitionIndex([a, b], {}).code_links(a)] == ["b"]


@pytest.mark.parametrize(
    ("text", "within", "expected"),
    [
        ("Gate", "", LinkTarget("pkg/block.md", "Gate")),
        ("Gate.forward", "Base", LinkTarget("pkg/block.md", "Gate.forward")),
        ("forward", "Gate", LinkTarget("pkg/block.md", "Gate.forward")),
        ("forward()", "Gate.__init__", LinkTarget("pkg/block.md", "Gate.forward")),
        ("self.size", "Gate.forward", LinkTarget("pkg/block.md", "L14")),
        ("SIZE", "Gate", LinkTarget("pkg/block.md", "L5")),
        ("layers.Linear", "", LinkTarget(url="https://torch/Linear")),
        ("torch.nn.Linear", "", LinkTarget(url="https://torch/Linear")),
        ("partial", "", LinkTarget(url="https://python/partial")),
        ("pkg.use", "", LinkTarget("pkg/use.md")),
        ("pkg.use.run", "", LinkTarget("pkg/use.md", "run")),
        ("call()", "", LinkTarget("pkg/use.md", "call")),
        # Arguments, the definition itself, attributes without their object, undefined names.
        *[(text, "Gate", None) for text in ("size", "Gate", "limit", "None", "a b", "x=1", "")],
        ("x", "Gate.forward", None),
        ("run", "", None),
        ("nobody.knows", "", None),
        ("pkg.block", "", None),
    ],
)
def test_a_name_in_prose_links_to_its_only_possible_meaning(
    index: DefinitionIndex, text: str, within: str, expected: LinkTarget | None
):
    assert index.resolve_prose(text, index.modules["pkg.block"], within) == expected


def test_a_name_that_two_modules_define_has_no_link_on_other_pages():
    text = "class A:\n    def f(self): ...\n"
    modules = [index_module(parse(text), name, f"{name}.md", f"{name}.py") for name in ("a", "b")]
    assert DefinitionIndex(modules, {}).resolve_prose("A.f") is None
    assert DefinitionIndex(modules[:1], {}).resolve_prose("A.f") == LinkTarget("a.md", "A.f")


def test_a_mistake_in_an_inventory_has_its_line(tmp_path: Path):
    file = tmp_path / "inventory.yml"
    file.write_text("# ours\ntorch.nn: https://x/y\n")
    assert read_inventory(file, "i.yml") == {"torch.nn": "https://x/y"}
    for text, line in {
        "a: https://x\nb: javascript:x\n": "i.yml:2: the URL of b ",
        "a b: https://x\n": "i.yml:1: 'a b'",
        "a: https://x\na: https://y\n": "i.yml:2: a ",
    }.items():
        file.write_text(text)
        with pytest.raises(SourceError, match=re.escape(line)):
            read_inventory(file, "i.yml")


def test_links_on_pages_are_relative_to_the_page(project: SimpleNamespace):
    project.write("shapes/a.py", 'class A:\n    """`A.f`, `B`."""\n\n    def f(self): ...\n')
    project.write("shapes/b.py", "from shapes.a import A\n\n\nclass B(A):\n    pass\n")
    project.write("docs/index.md", "# Start\n\nSee `A.f`, `shapes.b`, `B` and `len`.\n")
    site = project.build()
    html = (site / "shapes/b.html").read_text()
    assert '<a href="a.html#A">A</a>' in html
    assert '<i class="nc">B</i>(<a href="a.html#A">A</a>)' in html
    start = (site / "index.html").read_text()
    assert '<a href="shapes/a.html#A.f"><code>A.f</code></a>' in start
    assert '<a href="shapes/b.html"><code>shapes.b</code></a>' in start
    assert "<code>len</code>." in start
    assert "<code>len</code></a>" not in start
    prose = (site / "shapes/a.html").read_text()
    assert '<a href="#A.f"><code>A.f</code></a>, <a href="b.html#B"><code>B</code></a>' in prose


def test_an_inventory_that_is_missing_stops_the_build(
    project: SimpleNamespace, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(Abort):
        project.build(options="sources: [shapes], inventory: docs/none.yml")
    assert [message.split(" ")[0] for message in caplog.messages] == ["docs/none.yml:1:"]


def test_the_index_accepts_names_without_a_scope():
    odd = "class A:\n    def f(*self): self.x = 1\n    f = 1\n    del f\nself.y = A.f.x\n"
    made = index_module(parse(odd), "odd", "odd.md", "odd.py")
    assert [name.dotted for name, _ in DefinitionIndex([made], {}).code_links(made)] == ["A", "A.f"]


def test_links_lead_to_numbered_equations_of_all_pages(project):
    project.write("shapes/m.py", 'r"""# M\n\n$$a \\tag{1}$$\n\n[here](#eq-1)\n"""\n')
    project.write(
        "docs/index.md", "# Start\n\n[there](../shapes/m.py#eq-1)\n\n$$b \\tag{7}$$\n\n[b](#eq-7)\n"
    )
    site = project.build()
    assert '<a href="#eq-1">here</a>' in (site / "shapes" / "m.html").read_text()
    assert '<a href="shapes/m.html#eq-1">there</a>' in (site / "index.html").read_text()


def test_a_link_to_an_equation_that_does_not_exist_fails_a_strict_build(project, caplog):
    project.write("shapes/m.py", 'r"""# M\n\n$$a \\tag{1}$$\n"""\n')
    project.write("docs/index.md", "# Start\n\n[there](../shapes/m.py#eq-2)\n")
    with pytest.raises(Abort):
        project.build()
    assert "docs/index.md:3: no anchor #eq-2 on the page shapes/m.md" in caplog.text
