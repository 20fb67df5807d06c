r"""The order of pages, folders in the navigation, and what other sites learn about a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from mkdocs_annotated.pages.summary import first_sentences
from mkdocs_annotated.site.navigation import expand_folders

NAV = """
nav:
  - Start: index.md
  - Reference:
      - More: more.md
      - Group: [other.md, last.md]
  - Read:
      - One: one.md
      - Two: [two.md]
      - Shapes: shapes/index.md
"""


@pytest.fixture
def site(project):
    for name in ("one", "two", "more", "other", "last"):
        project.write(f"docs/{name}.md", f"# {name.title()}\n\nThis is {name}.\n")

    def make(options: str = "sources: [shapes]", nav: str = NAV, extra: str = "") -> Path:
        project.write(
            "mkdocs.yml",
            "site_name: Project & more\ntheme: annotated\nuse_directory_urls: false\n"
            "site_description: All of it\n"
            f"plugins: [{{annotated: {{{options}}}}}]\n{extra}\n{nav}",
        )
        build(load_config(str(project.root / "mkdocs.yml"), strict=True))
        return project.site

    make.project = project
    return make


def neighbours(page: Path) -> dict[str, str]:
    links = re.findall(r'<a rel="(prev|next)" href="([^"]*)"', page.read_text())
    return dict(links)


def test_only_the_pages_of_the_reading_order_have_neighbours_in_that_order(site):
    built = site("sources: [shapes], reading_order: [Start, Read]")
    assert neighbours(built / "index.html") == {"next": "one.html"}
    assert neighbours(built / "one.html") == {"prev": "index.html", "next": "two.html"}
    assert neighbours(built / "two.html") == {"prev": "one.html", "next": "shapes/index.html"}
    assert neighbours(built / "shapes/index.html") == {"prev": "../two.html"}
    for name in ("more", "other", "last"):
        assert neighbours(built / f"{name}.html") == {}


def test_without_a_reading_order_all_pages_have_neighbours(site):
    built = site()
    assert neighbours(built / "last.html") == {"prev": "other.html", "next": "one.html"}


def test_an_unknown_title_in_the_reading_order_stops_the_build(site, caplog):
    with pytest.raises(Abort):
        site("sources: [shapes], reading_order: [Start, Raed]")
    assert "plugins.annotated.reading_order: no entry 'Raed' at the top of nav" in caplog.text


def test_a_folder_in_the_navigation_lists_its_pages_if_there_are_any(site):
    nav = "nav:\n  - index.md\n  - Runs: runs/*\n  - More: [more.md, notes/*]\n"
    assert "Runs" not in (site(nav=nav) / "index.html").read_text()
    for name in ("b", "a"):
        site.project.write(f"docs/runs/{name}/index.md", f"# Run {name}\n")
    site.project.write("docs/notes/n.md", "# A note\n")
    start = (site(nav=nav) / "index.html").read_text()
    assert "<summary>Runs</summary>" in start
    links = re.findall(r'<li><a href="([^"]*)">([^<]*)</a>', start)
    assert links[:2] == [("runs/a/index.html", "Run a"), ("runs/b/index.html", "Run b")]
    assert ("notes/n.html", "A note") in links


def test_folders_are_expanded_at_any_depth():
    nav = ["index.md", {"A": [{"B": "x/*"}, "y/*"]}, {"C": "c.md"}]
    pages = ["x/2.md", "x/1.md", "y/a.md", "xy/z.md"]
    assert expand_folders(nav, pages) == [
        "index.md",
        {"A": [{"B": ["x/1.md", "x/2.md"]}, "y/a.md"]},
        {"C": "c.md"},
    ]


def meta(page: Path) -> dict[str, str]:
    text = page.read_text()
    found = re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)">', text)
    return dict(found) | dict(re.findall(r'<link rel="(canonical)" href="([^"]*)">', text))


KNOWN = "repo_url: https://github.com/a/b\nsite_url: https://a.example/b"


def test_a_site_whose_address_is_known_says_so(site):
    site.project.write("docs/card.png", "")
    built = site("sources: [shapes], card: {image: card.png, alt: A page}", extra=KNOWN)
    found = meta(built / "one.html")
    assert found["canonical"] == found["og:url"] == "https://a.example/b/one.html"
    assert found["og:title"] == "One - Project &amp; more"
    assert found["og:description"] == found["description"] == "This is one."
    assert found["og:image"] == "https://a.example/b/card.png"
    assert found["og:image:alt"] == "A page"
    assert found["twitter:card"] == "summary_large_image"
    assert "https://a.example/b/shapes/index.html" in (built / "sitemap.xml").read_text()
    module = (built / "shapes/index.html").read_text()
    assert 'href="https://github.com/a/b/blob/HEAD/shapes/__init__.py"' in module
    assert '<a class="repo" href="https://github.com/a/b">' in module


@pytest.mark.parametrize("extra", ["", "repo_url: ''\nsite_url: ''"], ids=["absent", "empty"])
def test_a_site_whose_address_is_unknown_has_no_link_to_it(site, extra):
    site.project.write("docs/card.png", "")
    built = site("sources: [shapes], card: {image: card.png, alt: A page}", extra=extra)
    for path in built.rglob("*.html"):
        found = meta(path)
        assert not {"canonical", "og:url", "og:image", "og:image:alt"} & set(found), path
        assert 'class="repo"' not in path.read_text()
        assert "View source" not in path.read_text()
    assert meta(built / "one.html")["twitter:card"] == "summary"
    assert "<loc>" not in (built / "sitemap.xml").read_text()


def test_the_environment_may_give_the_addresses(site, monkeypatch):
    extra = 'repo_url: !ENV [P_REPO, ""]\nsite_url: !ENV [P_SITE, ""]'
    for value in ("", "https://github.com/a/b"):
        monkeypatch.setenv("P_REPO", value)
        monkeypatch.setenv("P_SITE", value and "https://a.example/")
        built = site(extra=extra)
        found = meta(built / "index.html")
        assert found.get("canonical", "") == (value and "https://a.example/index.html")
        assert ("View source" in (built / "shapes/index.html").read_text()) == bool(value)


def test_a_missing_picture_of_the_card_stops_the_build(site, caplog):
    with pytest.raises(Abort):
        site("sources: [shapes], card: {image: gone.png}")
    assert "plugins.annotated.card.image: no file 'gone.png' on the site" in caplog.text


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<h1>T</h1><p><img src="a"></p><p class="x">A &amp; <b>b</b>.</p>', "A & b."),
        ("<ul><li>No paragraph</li></ul>", ""),
        ("<p>One two. Three four. Five.</p>", "One two. Three four."),
        ("<p>Version 1.5 of everything, explained</p>", "Version 1.5 of\N{HORIZONTAL ELLIPSIS}"),
        ("<p>Four words of text.</p>", "Four words of text."),
    ],
)
def test_the_summary_is_the_first_sentences(html, expected):
    assert first_sentences(html, 20) == expected


def test_the_front_matter_may_give_the_summary(site):
    site.project.write("docs/one.md", "---\nsummary: In short.\n---\n# One\n\nAt length.\n")
    assert meta(site() / "one.html")["description"] == "In short."
