r"""Whole sites built by MkDocs, and mistakes that stop a build."""

from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from mkdocs_annotated.plugin import THEME


def mistakes(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno > 20)


def test_the_example_has_a_page_per_module(example_site: Path):
    pages = {p.relative_to(example_site).as_posix() for p in example_site.rglob("*.html")}
    assert pages == {
        "404.html",
        "index.html",
        "measured/area.html",
        "pairs.html",
        "shapes/circle.html",
        "shapes/index.html",
        "shapes/polygon.html",
    }
    assert (example_site / "measured" / "area.svg").is_file()
    assert (example_site / "measured" / "area.csv").is_file()


def test_links_between_files_are_links_between_pages(example_site: Path):
    start = (example_site / "index.html").read_text()
    assert 'href="shapes/circle.html"' in start
    assert 'href="shapes/polygon.html#Polygon.area"' in start
    assert 'href="measured/area.html"' in start
    polygon = (example_site / "shapes" / "polygon.html").read_text()
    assert 'href="circle.html#Circle.area"' in polygon
    circle = (example_site / "shapes" / "circle.html").read_text()
    assert 'id="Circle.area"' in circle


def test_titles_and_summaries_come_from_the_docstring(example_site: Path):
    circle = (example_site / "shapes" / "circle.html").read_text()
    assert "<title>The circle - Shapes, annotated</title>" in circle
    assert '<meta name="description" content="The circle, exactly and by corners.">' in circle


def test_formulas_work_on_ordinary_pages(example_site: Path):
    start = (example_site / "index.html").read_text()
    assert re.search(r'<math data-latex="A = \\pi r\^2">', start)
    assert "costs $0" in start


def test_pages_make_no_request_to_other_hosts(example_site: Path):
    for path in (*example_site.rglob("*.html"), *example_site.rglob("*.css")):
        found = re.findall(
            r"""(?:src|href|url)[=(]["']?((?:https?:)?//[^"')]+)""", path.read_text()
        )
        assert found == [], path


def gzipped_size(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 6))


def test_style_and_script_are_at_most_ten_kilobytes_gzipped(example_site: Path):
    files = [*(example_site / "css").iterdir(), *(example_site / "js").iterdir()]
    assert {file.name for file in THEME.rglob("*.css")} < {file.name for file in files}
    assert {file.name for file in THEME.rglob("*.js")} < {file.name for file in files}
    assert sum(map(gzipped_size, files)) <= 10 * 1024


def test_pages_are_at_most_twenty_kilobytes_gzipped(example_site: Path):
    sizes = {path.name: gzipped_size(path) for path in example_site.rglob("*.html")}
    assert {name: size for name, size in sizes.items() if size > 20 * 1024} == {}


def test_style_and_script_are_minified(example_site: Path):
    for path in (THEME / "css" / "annotated.css", THEME / "js" / "annotated.js"):
        served = (example_site / path.relative_to(THEME)).read_text()
        assert "/*" in path.read_text()
        assert "/*" not in served
        assert len(served) < 0.9 * path.stat().st_size


def test_a_style_sheet_that_replaces_the_theme_is_unchanged(project):
    written = project.write("theme/css/annotated.css", "/* mine */\nbody { color: red; }\n")
    project.write("docs/css/own.css", "/* mine too */\n")
    project.write(
        "mkdocs.yml",
        "site_name: P\ntheme: {name: annotated, custom_dir: theme}\nplugins: [annotated]\n",
    )
    build(load_config(str(project.root / "mkdocs.yml"), strict=True))
    assert (project.site / "css/annotated.css").read_text() == written.read_text()
    assert (project.site / "css/own.css").read_text() == "/* mine too */\n"


def test_the_font_comes_with_its_licence(example_site: Path):
    assert {p.name for p in (example_site / "fonts").iterdir()} == {
        "OFL.txt",
        "STIXTwoMath-subset.woff2",
    }


def test_sources_and_theme_are_watched(project):
    project.write(
        "mkdocs.yml",
        "site_name: P\ntheme: annotated\nplugins: [{annotated: {sources: [shapes]}}]\n",
    )
    config = load_config(str(project.root / "mkdocs.yml"))
    config.plugins.on_config(config)
    config.plugins.on_build_error(error=Exception())
    assert {str(project.root / "shapes"), str(THEME)} <= set(config.watch)


def test_a_source_folder_keeps_only_its_own_name(project):
    project.write("src/deep/inner/a.py", '"""Text."""\n')
    site = project.build(options="sources: [shapes, src/deep]")
    assert "<title>deep.inner.a - Project</title>" in (site / "deep/inner/a.html").read_text()


# Mistakes stop the build and keep the last good site.


@pytest.fixture
def fails(project, caplog):
    """Return the messages of a build that must fail and leave the site of `kept` unchanged."""
    kept = project.build() / "index.html"
    before = kept.stat().st_mtime_ns

    def build(files: dict[str, str], options: str = "sources: [shapes]") -> str:
        for path, text in files.items():
            project.write(path, text)
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(Abort):
            project.build(options=options)
        assert kept.stat().st_mtime_ns == before
        assert (project.site / "shapes" / "index.html").is_file()
        assert not (project.site / "shapes" / "bad.html").exists()
        assert {p.name for p in project.root.iterdir() if "site" in p.name} == {"site"}
        return mistakes(caplog)

    return build


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = = 1\n", "shapes/bad.py:1: "),
        ("# ```\n# x\ny = 1\n", "shapes/bad.py:1: "),
        ("# [a](javascript:b)\n", "shapes/bad.py:1: "),
        ('"""\n---\na: [\n---\n"""\n', "shapes/bad.py:3: the front matter"),
        ('"""\n---\ntext\n---\n"""\n', "shapes/bad.py:3: the front matter"),
        ('"""\n$\\beta$\n"""\n', "shapes/bad.py:2: \\b"),
        ("# [a](missing.py)\n", "contains a link 'missing.py'"),
    ],
)
def test_a_mistake_stops_the_build_and_keeps_the_site(fails, source: str, message: str):
    assert message in fails({"shapes/bad.py": source})


def test_all_formulas_that_fail_are_reported_at_once(fails):
    found = fails({"shapes/bad.py": "# $\\nope$\nx = 1\n# $\\never$\n"})
    assert re.search(r"shapes/bad\.py:1: LaTeX .*\\nope", found)
    assert re.search(r"shapes/bad\.py:3: LaTeX .*\\never", found)


def test_a_formula_on_an_ordinary_page_fails_with_its_line(fails):
    found = fails({"docs/bad.md": "---\ntitle: T\n---\n\n# T\n\n$\\nope$\n"})
    assert "docs/bad.md:7: LaTeX" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sources: [nowhere]", "plugins.annotated.sources: no folder 'nowhere'"),
        (
            "sources: [shapes, other/shapes]",
            "plugins.annotated.sources: two folders named 'shapes'",
        ),
        ("folders: {runs: runs}", "plugins.annotated.folders.runs: no folder 'runs'"),
    ],
)
def test_wrong_options_keep_the_site(fails, options: str, message: str):
    assert message in fails({"other/shapes/a.py": "x = 1\n"}, options)


def test_two_pages_at_one_address_are_an_error(fails):
    files = {"docs/shapes/circle.md": "# Circle\n", "shapes/circle.py": "x = 1\n"}
    message = fails(files)
    assert "address" in message
    assert "shapes/circle.html" in message


def test_a_folder_that_is_marked_as_optional_may_be_missing(project):
    site = project.build(options='folders: {runs: "runs?"}')
    assert not (site / "runs").exists()


def test_a_lenient_build_publishes_with_its_warnings(project):
    project.write("shapes/odd.py", "# [a](missing.py)\n")
    site = project.build(strict=False)
    assert (site / "shapes" / "odd.html").is_file()


def test_a_new_build_replaces_all_files_of_the_old_one_except_hidden_ones(project):
    project.write("docs/old.md", "# Old\n")
    site = project.build()
    (site / ".nojekyll").touch()
    assert (site / "old.html").is_file()
    (project.root / "docs" / "old.md").unlink()
    project.build()
    assert not (site / "old.html").exists()
    assert (site / ".nojekyll").is_file()


def test_an_ordinary_page_may_fold_markdown(project):
    table = "| a |\n| - |\n| $b$ |"
    fold = f'<details markdown="1">\n<summary>More</summary>\n\n{table}\n\n</details>'
    project.write("docs/index.md", f"# Start\n\n{fold}\n\nafter\n")
    html = (project.build() / "index.html").read_text()
    inside = html[html.index("<summary>More") : html.index("</details>", html.index("More"))]
    assert '<div class="scroll" tabindex="0"><table>' in inside
    assert "<math" in inside
    assert "<p>after</p>" in html


def test_html_in_comments_needs_an_option(project):
    project.write("shapes/html.py", "# a <b>b</b>\nx = 1\n")
    site = project.build()
    assert "&lt;b&gt;" in (site / "shapes" / "html.html").read_text()
    project.build(options="sources: [shapes], raw_html: true")
    assert "<b>b</b>" in (site / "shapes" / "html.html").read_text()


def test_the_package_renders_its_own_modules(project):
    site = project.build(options=f"sources: [shapes, {THEME.parent.as_posix()}]")
    page = (site / "mkdocs_annotated" / "source" / "parse.html").read_text()
    assert page.count('<div class="row') > 20


def source_link(project, *lines: str) -> str:
    project.write(
        "mkdocs.yml",
        "site_name: P\ntheme: annotated\nuse_directory_urls: false\n" + "\n".join(lines) + "\n",
    )
    build(load_config(str(project.root / "mkdocs.yml"), strict=True))
    page = (project.site / "shapes" / "index.html").read_text()
    return "".join(re.findall(r'<a href="([^"]*)">View source', page))


def test_a_page_links_to_its_file_on_a_code_host(project):
    plugin = "plugins: [{annotated: {sources: [shapes]}}]"
    assert source_link(project, plugin) == ""
    github = source_link(project, plugin, "repo_url: https://github.com/a/b/")
    assert github == "https://github.com/a/b/blob/HEAD/shapes/__init__.py"
    assert source_link(project, plugin, "repo_url: https://example.org/a") == ""
    own = "plugins: [{annotated: {sources: [shapes], source_url: 'https://h/{path}#L{line}'}}]"
    assert source_link(project, own) == "https://h/shapes/__init__.py#L1"


@pytest.mark.parametrize("level", ["warn", "info"])
def test_latex_errors_may_be_logged_instead_of_stopping_the_build(project, caplog, level: str):
    project.write("shapes/odd.py", "# Text $\\nope<b>$.\n#\n# $$\n# \\never\n# $$\nx = 1\n")
    options = f"sources: [shapes], latex_errors: {level}"
    with caplog.at_level(logging.INFO):
        site = project.build(strict=level == "info", options=options)
    listed = [r for r in caplog.records if "LaTeX cannot" in r.getMessage()]
    assert [r.getMessage().split(": LaTeX")[0][-16:] for r in listed] == [
        " shapes/odd.py:1",
        " shapes/odd.py:3",
    ]
    assert {r.levelname for r in listed} == {"WARNING" if level == "warn" else "INFO"}
    html = (site / "shapes" / "odd.html").read_text()
    assert "<code>$\\nope&lt;b&gt;$</code>" in html
    assert '<span class="eq" tabindex="0"><code>$$\n\\never\n$$</code></span>' in html
