r"""The MkDocs plugin.

# The plugin

The plugin adds one page per module before MkDocs reads the navigation, so links, titles and strict
checks treat source pages like all others. After MkDocs has rendered the Markdown of a source page,
the plugin puts the code beside the prose.

Only this module, [options](options.py), [publish](pages/publish.py) and the
[command](__main__.py) import MkDocs.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import quote, unquote, urljoin, urlsplit

import rcssmin
import rjsmin
from jinja2 import Environment
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from mkdocs.utils.templates import TemplateContext

from mkdocs_annotated.beside.artifacts import ArtifactPaths, Artifacts
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown import difference
from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.drawing import Drawing, read_drawing
from mkdocs_annotated.markdown.markup import MarkupExtension
from mkdocs_annotated.markdown.math import MathExtension, equation_ids
from mkdocs_annotated.markdown.prose import split_rows
from mkdocs_annotated.markdown.references import ReferenceExtension
from mkdocs_annotated.options import AnnotatedConfig
from mkdocs_annotated.pages import page as pages
from mkdocs_annotated.pages.article import Article, read_article
from mkdocs_annotated.pages.publish import StagedBuild
from mkdocs_annotated.pages.summary import first_sentences
from mkdocs_annotated.site import coverage, navigation, search
from mkdocs_annotated.site.addresses import code_host_url, link_resolver
from mkdocs_annotated.site.cross_references import CrossReferences
from mkdocs_annotated.site.links import DefinitionIndex, LinkTarget, index_module, read_inventory
from mkdocs_annotated.site.symbols import SymbolTable, read_symbols
from mkdocs_annotated.source import blocks
from mkdocs_annotated.source.files import SourceFile, display_path, find_modules, find_mounted_files

log = get_plugin_logger(__name__)

THEME = Path(__file__).parent / "theme"
MINIFIERS: dict[str, Callable[[str], str]] = {".css": rcssmin.cssmin, ".js": rjsmin.jsmin}
LATEX_ERROR_LEVELS = {"warn": logging.WARNING, "info": logging.INFO}
EXTENSIONS = (
    "tables",
    "fenced_code",
    "toc",
    "admonition",
    "attr_list",
    "footnotes",
    "sane_lists",
    "md_in_html",
)


class AnnotatedPlugin(BasePlugin[AnnotatedConfig]):  # type: ignore[no-untyped-call, unused-ignore]
    """The MkDocs plugin `annotated`.

    In a live preview one object serves all builds. `on_config` starts each of them.
    """

    def __init__(self) -> None:
        self.dirty = False
        self.base = Path()
        self.staged: StagedBuild | None = None
        self.math = MathExtension()
        self.markup = MarkupExtension()
        self.references = ReferenceExtension()
        self.fences = difference.DifferenceExtension()
        self.cross_references = CrossReferences((), DefinitionIndex((), {}), SymbolTable(""))
        self.contexts: dict[str, tuple[RenderContext, str]] = {}  # by URI, with the Markdown
        self.articles: dict[str, Article] = {}  # by URI
        self.uris: dict[str, str] = {}  # by absolute path
        self.artifacts = Artifacts()
        self.coverage_page = coverage.CoveragePage("", ())
        self.search_pages: dict[str, search.SearchPage] = {}  # by the address of the page
        self.nav_order: dict[str, int] = {}  # by the address of the page
        self.drawn_links: list[tuple[str, int, File, str]] = []  # path, line, page, anchor

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        self.dirty = dirty

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        self.base = Path(config.config_file_path or "mkdocs.yml").resolve().parent
        watched = [
            *self.config.source_folders(self.base).values(),
            *self.config.mounted_folders(self.base).values(),
            THEME,
        ]
        watched += self.artifact_paths().watched()
        files = (self.config.coverage, self.config.symbols, self.config.inventory)
        watched += [self.base / each for each in files if each]
        # By default MkDocs logs a link to a missing anchor as info; a strict build should fail.
        if config.validation.links.anchors == logging.INFO:
            config.validation.links.anchors = logging.WARNING
        config.watch.extend(str(path) for path in watched if str(path) not in config.watch)
        self.extend_markdown(config)
        if not self.dirty:
            # A dirty build compares with the files of the last build, so it cannot be staged.
            self.staged = StagedBuild(config.site_dir, strict=config.strict)
            config.site_dir = str(self.staged.folder)
        return config

    def extend_markdown(self, config: MkDocsConfig) -> None:
        extensions: list[Any] = config.markdown_extensions
        extensions.extend(name for name in EXTENSIONS if name not in extensions)
        if not any("hilite" in name or "highlight" in name for name in map(str, extensions)):
            extensions.append("codehilite")
            config.mdx_configs["codehilite"] = {"guess_lang": False, "css_class": "hl"}
        extensions += [self.math, self.markup, self.references, self.fences]

    def on_files(self, files: Files, /, *, config: MkDocsConfig) -> Files:
        self.articles, self.contexts, self.search_pages = {}, {}, {}
        self.drawn_links = []
        uris: dict[str, str] = {}
        for file in files:
            minify = MINIFIERS.get(PurePath(file.src_uri).suffix)
            # A file of the site that replaces one of the theme stays unchanged.
            if minify and file.src_dir == str(THEME):
                file.content_string = minify(file.content_string)
        taken = {file.dest_uri: file.src_uri for file in files}
        for folder in self.config.source_folders(self.base).values():
            for source in find_modules(folder, self.base):
                article = self.article(source)
                self.articles[source.uri] = article
                content = article.document.markdown
                file = File.generated(config, source.uri, content=content)
                _add(files, taken, file, source.display_path)
                uris[str(source.path)] = source.uri
                copied = blocks.to_script(blocks.copyable_code(article.module.source))
                file = File.generated(config, blocks.script_path(source), content=copied)
                _add(files, taken, file, source.display_path)
        for address, folder in self.config.mounted_folders(self.base).items():
            for item in find_mounted_files(folder, address):
                file = File.generated(config, item.uri, abs_src_path=str(item.path))
                _add(files, taken, file, display_path(item.path, self.base))
                uris[str(item.path)] = item.uri
        self.load_artifacts(files, taken, config)
        if self.config.coverage:
            self.add_coverage(files, taken, config)
            # A link to an entry, `docs/coverage.yml#eq-1`, leads to its place on the page.
            uris[str(self.base / self.config.coverage)] = self.coverage_uri
        self.uris = {file.abs_src_path: file.src_uri for file in files if file.abs_src_path} | uris
        self.cross_references = self.read_cross_references()
        if config.nav:
            pages = [file.src_uri for file in files.documentation_pages()]
            config.nav = navigation.expand_folders(config.nav, pages)
        image = self.config.card.image
        if image and files.get_file_from_path(image) is None:
            raise PluginError(f"plugins.annotated.card.image: no file {image!r} on the site")
        return files

    def on_nav(self, nav: Navigation, /, *, config: MkDocsConfig, files: Files) -> Navigation:
        if self.config.reading_order:
            try:
                navigation.link_in_reading_order(nav, self.config.reading_order)
            except ValueError as error:
                raise PluginError(f"plugins.annotated.reading_order: {error}") from error
        self.nav_order = {page.url: i for i, page in enumerate(nav.pages)}
        return nav

    def article(self, source: SourceFile) -> Article:
        try:
            article = read_article(source)
        except SourceError as error:
            raise PluginError(str(error)) from error
        for warning in article.module.warnings:
            # Usually LaTeX in a docstring that is not raw.
            level = LATEX_ERROR_LEVELS.get(self.config.latex_errors, logging.WARNING)
            log.log(level, f"{source.display_path}:{warning.number}: {warning.text}")
        return article

    def artifact_paths(self) -> ArtifactPaths:
        shapes, exhibits = self.config.shapes, self.config.exhibits or ""
        return ArtifactPaths(self.base, shapes.folder, shapes.examples, exhibits)

    def load_artifacts(self, files: Files, taken: dict[str, str], config: MkDocsConfig) -> None:
        """Read shapes and exhibits, and add pictures that are not on the site yet."""
        try:
            self.artifacts = self.artifact_paths().load(
                (each.source, each.module) for each in self.articles.values()
            )
        except (SourceError, ValueError) as error:
            raise PluginError(str(error)) from error
        known = {file.abs_src_path for file in files}
        for picture in self.artifacts.pictures():
            if str(picture) not in known:
                name = display_path(picture, self.base)
                uri = "exhibits/" + name.replace("../", "")
                _add(files, taken, File.generated(config, uri, abs_src_path=str(picture)), name)

    def add_coverage(self, files: Files, taken: dict[str, str], config: MkDocsConfig) -> None:
        """Add the page of the coverage map, and remove the map from the files of the site."""
        path, name, uri = self.base / self.config.coverage, self.config.coverage, self.coverage_uri
        if not path.is_file():
            raise PluginError(f"plugins.annotated.coverage: no file {name!r} in {self.base}")
        sources = {article.source.display_path: article for article in self.articles.values()}
        try:
            entries, errors = coverage.read_coverage(path, name)
        except SourceError as error:
            raise PluginError(str(error)) from error
        defined = {path: article.names for path, article in sources.items()}
        _raise_first(errors or [*coverage.check(entries, defined.get, self.base)])

        def test_url(path: str) -> str:
            return code_host_url(self.config.source_url, config.repo_url or "", path)

        def code_url(anchor: str) -> str:
            path, separator, fragment = anchor.partition("#")
            page = posixpath.relpath(sources[path].source.uri, posixpath.dirname(uri) or ".")
            return page + separator + fragment

        self.coverage_page = coverage.render(entries, code_url, test_url)
        for file in [each for each in files if each.abs_src_path == str(path)]:
            files.remove(file)
        _add(files, taken, File.generated(config, uri, content=self.coverage_page.markdown), name)

    @property
    def coverage_uri(self) -> str:
        return self.config.coverage_page.strip("/")

    def read_cross_references(self) -> CrossReferences:
        indexed = [
            index_module(each.module, each.source.name, uri, each.source.display_path)
            for uri, each in self.articles.items()
        ]
        symbols, inventory = SymbolTable(""), {}
        try:
            if self.config.inventory:
                inventory = read_inventory(*self.named_file(self.config.inventory))
            if self.config.symbols:
                symbols = read_symbols(*self.named_file(self.config.symbols))
        except SourceError as error:
            raise PluginError(str(error)) from error
        symbols.find_in_code(indexed, [display_path(Path(path), self.base) for path in self.uris])
        return CrossReferences(indexed, DefinitionIndex(indexed, inventory), symbols)

    def named_file(self, value: str) -> tuple[Path, str]:
        """Return the path of a file of the configuration, and the path that messages show."""
        path = self.base / value
        return path, display_path(path, self.base)

    # Run last, after all other plugins have changed the lines of the document.
    @event_priority(-100)
    def on_page_markdown(
        self, markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files
    ) -> str:
        article = self.articles.get(page.file.src_uri)
        if article is None:
            context = self.page_context(page, markdown)
        else:
            link = link_resolver(self.uris, page.file.src_uri, str(article.source.path))
            context = article.context(trusted=self.config.raw_html, link=link)
            page.meta = {"title": article.document.title, **page.meta, **article.front_matter}
            if not self.config.raw_html:
                # MkDocs treats a title as HTML and puts it into every menu.
                page.meta["title"] = escape(str(page.meta["title"]))
        context.lenient = self.config.latex_errors != "error"
        context.draw = lambda url: self.draw_url(url, page, files, context)
        self.math.context = self.markup.context = self.references.context = self.fences.context = (
            context
        )
        self.fences.sources = None if article else self.comparable_modules(page, files)
        uri, module = page.file.src_uri, article.module if article else None
        self.contexts[uri] = (context, markdown)
        self.references.resolve = self.cross_references.prose_linker(uri, module)
        return markdown

    def comparable_modules(self, page: Page, files: Files) -> dict[str, difference.ModulePage]:
        """Return the modules that a page may compare, by path."""
        return {
            each.source.display_path: (each.module, files.src_uris[uri].url_relative_to(page.file))
            for uri, each in self.articles.items()
        }

    def draw_url(self, url: str, page: Page, files: Files, context: RenderContext) -> str:
        """Return the HTML of the drawing that a page links to, or an empty string."""
        folder = posixpath.dirname(page.file.src_uri)
        file = files.get_file_from_path(posixpath.normpath(posixpath.join(folder, unquote(url))))
        if file is None or not file.abs_src_path or not file.src_uri.endswith(".svg"):
            return ""
        path = Path(file.abs_src_path)
        try:
            drawing = read_drawing(path, display_path(path, self.base))
        except SourceError as error:
            context.errors.append(error)
            return ""
        return self.draw(drawing, page, files, context) if drawing else ""

    def draw(self, drawing: Drawing, page: Page, files: Files, context: RenderContext) -> str:
        """Return the HTML of a drawing on a page, and note its links and symbols."""
        resolve = link_resolver(self.uris, page.file.src_uri, str(self.base / drawing.path))
        folder = posixpath.dirname(page.file.src_uri)

        def link(url: str, line: int) -> str:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                return url
            target: File | None = page.file
            if parts.path:
                uri = unquote(urlsplit(resolve(url)).path)
                target = files.get_file_from_path(posixpath.normpath(posixpath.join(folder, uri)))
            if target is None:
                context.errors.append(SourceError(drawing.path, line, f"no file {parts.path}"))
                return ""
            if parts.fragment:
                self.drawn_links.append((drawing.path, line, target, unquote(parts.fragment)))
            relative = "" if target is page.file else quote(target.url_relative_to(page.file))
            return f"{relative}#{parts.fragment}" if parts.fragment else relative

        for symbol, line in drawing.symbols():
            if not self.cross_references.show_symbol(page.file.src_uri, symbol):
                message = (
                    f"no symbol {symbol} in {self.config.symbols or 'plugins.annotated.symbols'}"
                )
                context.errors.append(SourceError(drawing.path, line, message))
        context.drawings += 1
        return drawing.html(context.drawings, link)

    @event_priority(100)
    def on_page_content(
        self, html: str, /, *, page: Page, config: MkDocsConfig, files: Files
    ) -> str:
        _raise_first(self.math.context.errors)
        for warning in self.math.context.warnings:
            log.log(LATEX_ERROR_LEVELS[self.config.latex_errors], str(warning))
        article = self.articles.get(page.file.src_uri)
        uri = page.file.src_uri
        if page.present_anchor_ids is not None:
            page.present_anchor_ids |= equation_ids(html)
        if article is None:
            self.index_page(page, search.section_entries(difference.remove_tables(html)))
            return self.cross_references.mark_symbols(uri, self.math.context.path, html)
        try:
            rendered = split_rows(html, article.document)
            # The search index holds the prose before symbols are marked in it.
            self.index_page(page, search.row_entries(article.module, rendered))
            rendered = self.cross_references.mark_rows(uri, article.module, rendered)
        except SourceError as error:
            raise PluginError(str(error)) from error
        if page.present_anchor_ids is not None:
            page.present_anchor_ids |= pages.anchor_ids(article.module)

        def address(target: LinkTarget) -> str:
            file = files.get_file_from_path(target.uri)
            if target.url or file is None:
                return target.url
            relative = "" if file is page.file else quote(get_relative_url(file.url, page.url))
            return f"{relative}#{target.fragment}" if target.fragment else relative

        by_path = {file.abs_src_path: file for file in files}
        extras = self.artifacts.for_page(
            article.source,
            lambda picture: by_path[str(picture)].url_relative_to(page.file),
            lambda drawing: self.draw(drawing, page, files, self.math.context),
        )
        _raise_first(self.math.context.errors)
        extras = replace(extras, marks=self.cross_references.code_marks(uri, address))
        return pages.assemble(article.module, rendered, extras)

    def index_page(self, page: Page, entries: tuple[search.SearchEntry, ...]) -> None:
        title = search.plain_text(str(page.title or ""))
        self.search_pages[page.url] = search.SearchPage(page.url, title, entries)

    def on_env(self, env: Environment, /, *, config: MkDocsConfig, files: Files) -> Environment:
        errors = self.cross_references.symbols.all_errors()
        if config.validation.links.anchors >= logging.WARNING:
            errors += self.links_to_missing_anchors(files)
        for error in errors:
            log.warning(str(error))
        return env

    def links_to_missing_anchors(self, files: Files) -> list[SourceError]:
        """Return an error for each link to a missing anchor, with its line.

        MkDocs would name only the page.
        """
        found: list[SourceError] = []
        for file in files.documentation_pages():
            if file.page is None or file.src_uri not in self.contexts:
                continue
            context, text = self.contexts[file.src_uri]
            for target, links in (file.page.links_to_anchors or {}).items():
                known = target.page.present_anchor_ids if target.page else None
                for anchor in [each for each in links if known is not None and each not in known]:
                    del links[anchor]  # so that MkDocs does not report it again
                    where = "this page" if target is file else f"the page {target.src_uri}"
                    before = re.split(rf"#{re.escape(anchor)}(?![\w.-])", text, maxsplit=1)[0]
                    index = before.count("\n") if before != text else 0
                    context.report(index, f"no anchor #{anchor} on {where}")
            found += context.errors
        for path, line, target, anchor in self.drawn_links:
            known = target.page.present_anchor_ids if target.page else None
            if known is not None and anchor not in known:
                message = f"no anchor #{anchor} on the page {target.src_uri}"
                found.append(SourceError(path, line, message))
        return found

    def on_page_context(
        self, context: TemplateContext, /, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> TemplateContext:
        article = self.articles.get(page.file.src_uri)
        values: dict[str, Any] = context  # type: ignore[assignment]  # a theme may use any key
        values["annotated_source"] = article.source.site_path if article else ""
        if article:
            values["annotated_blocks"] = blocks.script_path(article.source)
            values["annotated_origin"] = code_host_url(
                self.config.source_url, config.repo_url or "", article.source.display_path
            )
        values["annotated_summary"] = (
            page.meta.get("summary")
            or first_sentences(page.content or "")
            or config.site_description
            or ""
        )
        if config.site_url and self.config.card.image:
            values["annotated_card"] = urljoin(config.site_url, quote(self.config.card.image))
            values["annotated_card_alt"] = self.config.card.alt
        values["annotated_symbols"] = self.cross_references.legend(page.file.src_uri)
        return context

    # Run last, so that files which other plugins write are published as well.
    @event_priority(-100)
    def on_post_build(self, *, config: MkDocsConfig) -> None:
        index = Path(config.site_dir) / search.ADDRESS
        # A dirty build reads only some pages; keep the complete index of the last build.
        if not (self.dirty and index.exists()):
            index.parent.mkdir(parents=True, exist_ok=True)
            index.write_text(
                search.index_script(sorted(self.search_pages.values(), key=self.place_in_nav)),
                encoding="utf-8",
                newline="\n",
            )
        if self.staged:
            self.staged.publish()
            config.site_dir = str(self.staged.site)

    def place_in_nav(self, page: search.SearchPage) -> int:
        return self.nav_order.get(page.address, len(self.nav_order))

    def on_build_error(self, *, error: Exception) -> None:
        if self.staged:
            self.staged.discard()

    def page_context(self, page: Page, markdown: str) -> RenderContext:
        """Return the state for rendering an ordinary page.

        Its lines are those of its file, offset by the front matter.
        """
        if self.config.coverage and page.file.src_uri == self.coverage_uri:
            return RenderContext(self.config.coverage, self.coverage_page.lines)
        path = page.file.abs_src_path
        content = page.file.content_string.replace("\r\n", "\n")
        start = len(content) - len(markdown) if content.endswith(markdown) else 0
        offset = content.count("\n", 0, start)
        name = display_path(Path(path), self.base) if path else page.file.src_uri
        return RenderContext(
            name, line_offset=offset, resolve_link=link_resolver(self.uris, page.file.src_uri, path)
        )


def _raise_first(errors: Sequence[SourceError]) -> None:
    """Raise the first mistake as `PluginError`, after logging all others."""
    if errors:
        for error in errors[1:]:
            log.error(str(error))
        raise PluginError(str(errors[0]))


def _add(files: Files, taken: dict[str, str], file: File, origin: str) -> None:
    """Add a file to the site.

    Raises `PluginError` if its address is taken, since MkDocs would silently drop one of the files.
    """
    if file.dest_uri in taken:
        other = taken[file.dest_uri]
        raise PluginError(f"{origin}:1: the address {file.dest_uri} is already taken by {other}")
    taken[file.dest_uri] = origin
    files.append(file)
