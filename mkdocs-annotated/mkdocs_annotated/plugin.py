r"""
# The plugin

The only module that MkDocs talks to, and the only one besides [publish](pages/publish.py) that
knows of it. It adds one page per module before MkDocs looks at its navigation, so that links,
titles and strict checks treat source pages like all others, and lays the code beside the prose
after the Markdown is rendered.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority, get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from mkdocs.utils.templates import TemplateContext

from mkdocs_annotated.beside.beside import Beside, Configured
from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown import difference
from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.markup import MarkupExtension
from mkdocs_annotated.markdown.math import MathExtension
from mkdocs_annotated.markdown.prose import split_rows
from mkdocs_annotated.markdown.references import ReferenceExtension
from mkdocs_annotated.options import AnnotatedConfig
from mkdocs_annotated.pages import page as pages
from mkdocs_annotated.pages.article import Article, read_article
from mkdocs_annotated.pages.minify import SUFFIXES, minify, slim
from mkdocs_annotated.pages.publish import Aside
from mkdocs_annotated.site import coverage, search
from mkdocs_annotated.site.addresses import linker, on_code_host
from mkdocs_annotated.site.cross_references import Apparatus, entry
from mkdocs_annotated.site.links import Index, Target, read_inventory
from mkdocs_annotated.site.symbols import Symbols, read_symbols
from mkdocs_annotated.source import blocks
from mkdocs_annotated.source.files import SourceFile, display_path, find_modules, find_mounted_files

log = get_plugin_logger(__name__)

THEME = Path(__file__).parent / "theme"
EXTENSIONS = ("tables", "fenced_code", "toc", "admonition", "attr_list", "footnotes", "sane_lists")


class AnnotatedPlugin(BasePlugin[AnnotatedConfig]):  # type: ignore[no-untyped-call, unused-ignore]
    """One object serves all builds of a live preview; `on_config` starts each of them."""

    def __init__(self) -> None:
        self.dirty = False
        self.base = Path()
        self.aside: Aside | None = None
        self.math = MathExtension()
        self.markup = MarkupExtension()
        self.references = ReferenceExtension()
        self.fences = difference.DifferenceExtension()
        self.apparatus = Apparatus((), Index((), {}), Symbols(""))
        self.contexts: dict[str, tuple[RenderContext, str]] = {}
        self.articles: dict[str, Article] = {}
        self.uris: dict[str, str] = {}  # by absolute path
        self.beside = Beside()
        self.covered = coverage.Rendered("", ())
        self.index: dict[str, search.Indexed] = {}  # by the address of the page

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        self.dirty = dirty

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        self.base = Path(config.config_file_path or "mkdocs.yml").resolve().parent
        watched = [*self.source_folders().values(), *self.mounted_folders().values(), THEME]
        watched += self.configured_beside().watched()
        named = (self.config.coverage, self.config.symbols, self.config.inventory)
        watched += [self.base / each for each in named if each]
        # A link to an address that a page does not have is a mistake, not a remark.
        if config.validation.links.anchors == logging.INFO:
            config.validation.links.anchors = logging.WARNING
        config.watch.extend(str(path) for path in watched if str(path) not in config.watch)
        self.extend_markdown(config)
        if not self.dirty:
            # A dirty build compares with the files of the last one and needs them in place.
            self.aside = Aside(config.site_dir, strict=config.strict)
            config.site_dir = str(self.aside.folder)
        return config

    def extend_markdown(self, config: MkDocsConfig) -> None:
        extensions: list[Any] = config.markdown_extensions
        extensions.extend(name for name in EXTENSIONS if name not in extensions)
        if not any("hilite" in name or "highlight" in name for name in map(str, extensions)):
            extensions.append("codehilite")
            config.mdx_configs["codehilite"] = {"guess_lang": False, "css_class": "hl"}
        extensions += [self.math, self.markup, self.references, self.fences]

    def source_folders(self) -> dict[str, Path]:
        """Source folders by the name they have on the site."""
        found: dict[str, Path] = {}
        for value in self.config.sources:
            path = (self.base / value).resolve()
            if not path.is_dir():
                raise PluginError(f"plugins.annotated.sources: no folder {value!r} in {self.base}")
            if path.name in found:
                raise PluginError(f"plugins.annotated.sources: two folders named {path.name!r}")
            found[path.name] = path
        return found

    def mounted_folders(self) -> dict[str, Path]:
        """Mounted folders by their address; those that may be missing and are, left out."""
        found: dict[str, Path] = {}
        for address, value in self.config.folders.items():
            path = (self.base / value.removesuffix("?")).resolve()
            if path.is_dir():
                found[address.strip("/")] = path
            elif not value.endswith("?"):
                raise PluginError(
                    f"plugins.annotated.folders.{address}: no folder {value!r} in {self.base}; "
                    f"write '{value}?' if it may be missing"
                )
        return found

    def on_files(self, files: Files, /, *, config: MkDocsConfig) -> Files:
        self.articles, self.contexts, self.index = {}, {}, {}
        own: dict[str, str] = {}
        for file in files:
            # Only what the theme itself brings: a file that replaces one of it is its author's.
            if file.src_dir == str(THEME) and file.src_uri.endswith(SUFFIXES):
                file.content_string = minify(file.src_uri, file.content_string)
        taken = {file.dest_uri: file.src_uri for file in files}
        for folder in self.source_folders().values():
            for source in find_modules(folder, self.base):
                article = self.article(source)
                self.articles[source.uri] = article
                content = article.document.markdown
                file = File.generated(config, source.uri, content=content)
                _add(files, taken, file, source.display_path)
                own[str(source.path)] = source.uri
                taken_away = blocks.to_script(blocks.copyable_code(article.module.source))
                file = File.generated(config, blocks.script_path(source), content=taken_away)
                _add(files, taken, file, source.display_path)
        for address, folder in self.mounted_folders().items():
            for item in find_mounted_files(folder, address):
                file = File.generated(config, item.uri, abs_src_path=str(item.path))
                _add(files, taken, file, display_path(item.path, self.base))
                own[str(item.path)] = item.uri
        self.load_beside(files, taken, config)
        if self.config.coverage:
            self.add_coverage(files, taken, config)
        self.uris = {file.abs_src_path: file.src_uri for file in files if file.abs_src_path} | own
        self.apparatus = self.connect()
        return files

    def article(self, source: SourceFile) -> Article:
        try:
            article = read_article(source)
        except SourceError as error:
            raise PluginError(str(error)) from error
        for note in article.module.warnings:
            # Mostly LaTeX in a docstring that is not raw.
            level = LEVELS.get(self.config.latex_errors, logging.WARNING)
            log.log(level, f"{source.display_path}:{note.number}: {note.text}")
        return article

    def configured_beside(self) -> Configured:
        options = self.config.shapes
        return Configured(self.base, options.folder, options.examples, self.config.exhibits or "")

    def load_beside(self, files: Files, taken: dict[str, str], config: MkDocsConfig) -> None:
        """Reads shapes and exhibits; pictures from elsewhere become files of the site."""
        try:
            self.beside = self.configured_beside().load(
                (each.source, each.module) for each in self.articles.values()
            )
        except (SourceError, ValueError) as error:
            raise PluginError(str(error)) from error
        known = {file.abs_src_path for file in files}
        for picture in self.beside.pictures():
            if str(picture) not in known:
                name = display_path(picture, self.base)
                uri = "exhibits/" + name.replace("../", "")
                _add(files, taken, File.generated(config, uri, abs_src_path=str(picture)), name)

    def add_coverage(self, files: Files, taken: dict[str, str], config: MkDocsConfig) -> None:
        """The page of a coverage map; the map itself is no file of the site."""
        path, name, uri = self.base / self.config.coverage, self.config.coverage, self.coverage_uri
        if not path.is_file():
            raise PluginError(f"plugins.annotated.coverage: no file {name!r} in {self.base}")
        sources = {article.source.display_path: article for article in self.articles.values()}
        found, problems = coverage.load(path.read_text(encoding="utf-8"), name)
        defined = {shown: article.names for shown, article in sources.items()}
        _stop(problems or [*coverage.check(found, defined.get, self.base)])

        def host(path: str) -> str:
            return on_code_host(self.config.source_url, config.repo_url or "", path)

        def address(anchor: str) -> str:
            shown, mark, inner = anchor.partition("#")
            page = posixpath.relpath(sources[shown].source.uri, posixpath.dirname(uri) or ".")
            return page + mark + inner

        self.covered = coverage.render(found, address, host)
        for file in [each for each in files if each.abs_src_path == str(path)]:
            files.remove(file)
        _add(files, taken, File.generated(config, uri, content=self.covered.markdown), name)

    @property
    def coverage_uri(self) -> str:
        return self.config.coverage_page.strip("/")

    def connect(self) -> Apparatus:
        """Everything that needs all modules at once."""
        entries = [
            entry(each.module, each.source.name, uri, each.source.display_path)
            for uri, each in self.articles.items()
        ]
        symbols, inventory = Symbols(""), {}
        try:
            if self.config.inventory:
                inventory = read_inventory(*self.own_file(self.config.inventory))
            if self.config.symbols:
                symbols = read_symbols(*self.own_file(self.config.symbols))
        except SourceError as error:
            raise PluginError(str(error)) from error
        symbols.connect(entries, [display_path(Path(path), self.base) for path in self.uris])
        return Apparatus(entries, Index(entries, inventory), symbols)

    def own_file(self, value: str) -> tuple[Path, str]:
        path = self.base / value
        return path, display_path(path, self.base)

    # Last, so that the lines of the document are those that will be rendered.
    @event_priority(-100)
    def on_page_markdown(
        self, markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files
    ) -> str:
        article = self.articles.get(page.file.src_uri)
        if article is None:
            context = self.page_context(page, markdown)
        else:
            link = linker(self.uris, page.file.src_uri, str(article.source.path))
            context = article.context(trusted=self.config.raw_html, link=link)
            page.meta = {"title": article.document.title, **page.meta, **article.front}
            if not self.config.raw_html:
                # MkDocs takes a title for HTML, and puts it into every menu.
                page.meta["title"] = escape(str(page.meta["title"]))
        context.lenient = self.config.latex_errors != "error"
        self.math.context = self.markup.context = self.references.context = self.fences.context = (
            context
        )
        self.fences.sources = None if article else self.compared(page, files)
        uri, module = page.file.src_uri, article.module if article else None
        self.contexts[uri] = (context, markdown)
        self.references.resolve = self.apparatus.refer(uri, module)
        return markdown

    def compared(self, page: Page, files: Files) -> dict[str, difference.ModulePage]:
        """What a page may compare, by its path."""
        return {
            each.source.display_path: (each.module, files.src_uris[uri].url_relative_to(page.file))
            for uri, each in self.articles.items()
        }

    @event_priority(100)
    def on_page_content(
        self, html: str, /, *, page: Page, config: MkDocsConfig, files: Files
    ) -> str:
        _stop(self.math.context.errors)
        for doubt in self.math.context.warnings:
            log.log(LEVELS[self.config.latex_errors], str(doubt))
        article = self.articles.get(page.file.src_uri)
        uri = page.file.src_uri
        if article is None:
            self.remember(page, search.sections(difference.remove_tables(html)))
            return self.apparatus.page(uri, self.math.context.path, html)
        try:
            pieces = split_rows(html, article.document)
            # What is searched is the prose itself, without the links and symbols in it.
            self.remember(page, search.rows(article.module, pieces))
            pieces = self.apparatus.rows(uri, article.module, pieces)
        except SourceError as error:
            raise PluginError(str(error)) from error
        if page.present_anchor_ids is not None:
            page.present_anchor_ids |= pages.addresses(article.module)

        def address(target: Target) -> str:
            file = files.get_file_from_path(target.uri)
            if target.url or file is None:
                return target.url
            place = "" if file is page.file else quote(get_relative_url(file.url, page.url))
            return f"{place}#{target.fragment}" if target.fragment else place

        by_path = {file.abs_src_path: file for file in files}
        extras = self.beside.extras(
            article.source, lambda picture: by_path[str(picture)].url_relative_to(page.file)
        )
        extras = replace(extras, marks=self.apparatus.marks(uri, address))
        return pages.assemble(article.module, pieces, extras)

    def remember(self, page: Page, entries: tuple[search.Entry, ...]) -> None:
        title = search.text(str(page.title or ""))
        self.index[page.url] = search.Indexed(page.url, title, entries)

    def on_env(self, env: Environment, /, *, config: MkDocsConfig, files: Files) -> Environment:
        problems = self.apparatus.symbols.finish()
        if config.validation.links.anchors >= logging.WARNING:
            problems += self.lost_links(files)
        for problem in problems:
            log.warning(str(problem))
        return env

    def lost_links(self, files: Files) -> list[SourceError]:
        """Links to addresses that no page has; MkDocs would name the page, but not the line."""
        found: list[SourceError] = []
        for file in files.documentation_pages():
            if file.page is None or file.src_uri not in self.contexts:
                continue
            context, text = self.contexts[file.src_uri]
            for target, links in (file.page.links_to_anchors or {}).items():
                known = target.page.present_anchor_ids if target.page else None
                for anchor in [each for each in links if known is not None and each not in known]:
                    del links[anchor]  # reported here, and not again
                    where = "this page" if target is file else f"the page {target.src_uri}"
                    before = re.split(rf"#{re.escape(anchor)}(?![\w.-])", text, maxsplit=1)[0]
                    index = before.count("\n") if before != text else 0
                    context.report(index, f"there is no #{anchor} on {where}")
            found += context.errors
        return found

    def on_page_context(
        self, context: TemplateContext, /, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> TemplateContext:
        article = self.articles.get(page.file.src_uri)
        values: dict[str, Any] = context  # type: ignore[assignment]  # a theme may read any name
        values["annotated_source"] = article.source.site_path if article else ""
        if article:
            values["annotated_blocks"] = blocks.script_path(article.source)
            values["annotated_origin"] = on_code_host(
                self.config.source_url, config.repo_url or "", article.source.display_path
            )
        values["annotated_symbols"] = self.apparatus.legend(page.file.src_uri)
        return context

    # Last, so that no other plugin has to know how a page is written.
    @event_priority(-100)
    def on_post_page(self, output: str, /, *, page: Page, config: MkDocsConfig) -> str:
        return slim(output)

    # Last, so that what other plugins write is published as well.
    @event_priority(-100)
    def on_post_build(self, *, config: MkDocsConfig) -> None:
        index = Path(config.site_dir) / search.ADDRESS
        # A dirty build has seen some pages only; an old index is better than a part of one.
        if not (self.dirty and index.exists()):
            index.parent.mkdir(parents=True, exist_ok=True)
            index.write_text(search.script(self.index.values()), encoding="utf-8", newline="\n")
        if self.aside:
            self.aside.publish()
            config.site_dir = str(self.aside.site)

    def on_build_error(self, *, error: Exception) -> None:
        if self.aside:
            self.aside.drop()

    def page_context(self, page: Page, markdown: str) -> RenderContext:
        """A page that is its own file: lines differ by the front matter above them."""
        if self.config.coverage and page.file.src_uri == self.coverage_uri:
            return RenderContext(self.config.coverage, self.covered.lines)
        path = page.file.abs_src_path
        whole = page.file.content_string.replace("\r\n", "\n")
        known = whole.endswith(markdown)
        offset = whole.count("\n", 0, len(whole) - len(markdown)) if known else 0
        name = display_path(Path(path), self.base) if path else page.file.src_uri
        return RenderContext(
            name, line_offset=offset, resolve_link=linker(self.uris, page.file.src_uri, path)
        )


LEVELS = {"warn": logging.WARNING, "info": logging.INFO}


def _stop(problems: Sequence[SourceError]) -> None:
    """Ends the build with one mistake, after telling of all the others."""
    if problems:
        for problem in problems[1:]:
            log.error(str(problem))
        raise PluginError(str(problems[0]))


def _add(files: Files, taken: dict[str, str], file: File, origin: str) -> None:
    """Two files for one address would silently lose one of them."""
    if file.dest_uri in taken:
        other = taken[file.dest_uri]
        raise PluginError(f"{origin}:1: its address {file.dest_uri} is taken by {other}")
    taken[file.dest_uri] = origin
    files.append(file)
