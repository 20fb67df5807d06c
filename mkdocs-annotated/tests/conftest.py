r"""Fixtures for all tests: a page rendered in memory, and a whole site built on disk."""

from __future__ import annotations

import functools
import http.server
import shutil
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import markdown
import pytest
from hypothesis import settings
from hypothesis.errors import InvalidArgument
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs_annotated.markdown import prose
from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.markup import MarkupExtension
from mkdocs_annotated.markdown.math import MathExtension
from mkdocs_annotated.pages import page
from mkdocs_annotated.source.parse import parse

# Property tests take the same 20 examples in every run, unless another conftest.py chose a profile.
try:
    settings.get_profile("derandomised")
except InvalidArgument:
    settings.register_profile(
        "derandomised", derandomize=True, deadline=None, max_examples=20, database=None
    )
    settings.load_profile("derandomised")

EXAMPLE = Path(__file__).parent / "example"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]


@pytest.fixture
def render() -> Callable[..., SimpleNamespace]:
    """Render source text without MkDocs."""

    def run(source: str, *, trusted: bool = False, dedent: bool = True) -> SimpleNamespace:
        module = parse(textwrap.dedent(source).lstrip("\n") if dedent else source, "example.py")
        doc = prose.join_rows(module, "example", "example.py")
        names = [[anchor.name for anchor in row.anchors] for row in module.rows]
        context = RenderContext(
            "example.py", doc.source_lines, 0, trusted, doc.marker, doc.row_starts, names
        )
        html = markdown.markdown(
            doc.markdown,
            extensions=[
                *("toc", "tables", "fenced_code", "admonition", "footnotes", "attr_list"),
                *("sane_lists", MathExtension(context), MarkupExtension(context)),
            ],
        )
        pieces = prose.split_rows(html, doc)
        return SimpleNamespace(
            module=module,
            doc=doc,
            rows=pieces.rows,
            tail=pieces.footnotes,
            html=page.assemble(module, pieces),
            problems=[str(problem) for problem in context.errors],
        )

    return run


@pytest.fixture
def project(tmp_path: Path) -> SimpleNamespace:
    """A project with a start page; tests add files and build it."""
    root = tmp_path / "project"

    def write(path: str, text: str) -> Path:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return file

    def make(*, strict: bool = True, options: str = "sources: [shapes]") -> Path:
        write(
            "mkdocs.yml",
            f"site_name: Project\ntheme: annotated\nuse_directory_urls: false\n"
            f"plugins: [{{annotated: {{{options}}}}}]\n",
        )
        build(load_config(str(root / "mkdocs.yml"), strict=strict))
        return root / "site"

    write("docs/index.md", "# Start\n")
    write("shapes/__init__.py", '"""\n# Shapes\n"""\n')
    return SimpleNamespace(root=root, site=root / "site", write=write, build=make)


@pytest.fixture(scope="session")
def example_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("example") / "site"
    build(load_config(str(EXAMPLE / "mkdocs.yml"), site_dir=str(site), strict=True))
    return site


# Chromium, for the tests marked `browser`.


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        launched.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Do not log requests."""


@pytest.fixture(scope="session")
def origin(example_site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(example_site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def open_page(browser) -> Iterator[Callable[..., SimpleNamespace]]:
    """Open a URL in a browser page; calls with the same options share one page."""
    opened: dict[str, SimpleNamespace] = {}

    def new_page(options: dict[str, object]) -> SimpleNamespace:
        context = browser.new_context(**options)
        page = context.new_page()
        seen = SimpleNamespace(page=page, context=context, requests=[], errors=[])
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.errors.append(message.text))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        return seen

    def open_url(url: str, width: int = 1400, **options: object) -> SimpleNamespace:
        key = repr(sorted(options.items()))
        if key not in opened:
            opened[key] = new_page(options)
        seen = opened[key]
        # Leave the page, so that the same URL with another fragment loads it anew.
        seen.page.goto("about:blank")
        seen.page.emulate_media(media="null")
        seen.page.set_viewport_size({"width": width, "height": 800})
        seen.page.mouse.move(0, 0)
        seen.requests.clear()
        seen.errors.clear()
        seen.page.goto(url)
        return seen

    yield open_url
    for seen in opened.values():
        seen.context.close()


@pytest.fixture
def visit(open_page, origin: str) -> Callable[..., SimpleNamespace]:
    """Open a page of the example site."""
    return lambda path, width=1400, **options: open_page(f"{origin}/{path}", width, **options)
