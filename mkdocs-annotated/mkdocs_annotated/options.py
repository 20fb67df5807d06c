r"""The options of the plugin, under `annotated:` in `mkdocs.yml`.

# Options

All paths are relative to the folder of `mkdocs.yml`.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config import config_options as c
from mkdocs.config.base import Config
from mkdocs.exceptions import PluginError


# MkDocs does not annotate `Config.__init_subclass__`, which runs for each subclass.
class ShapesConfig(Config):  # type: ignore[no-untyped-call, unused-ignore]
    r"""The options under `shapes:`.

    * `folder` is where `mkdocs-annotated trace` writes the shapes and the build reads them
    * `examples` maps modules to the scripts that call them, or a folder of modules to a folder with
      a script at the same path for some of them
    """

    # Not called `data`, because that is an attribute of `Config`.
    folder = c.Type(str, default="docs/shapes")
    examples = c.DictOfItems(c.Type(str), default={})


class CardConfig(Config):  # type: ignore[no-untyped-call, unused-ignore]
    r"""The options under `card:`, the picture of the site in previews of links.

    * `image` is a picture of the site, relative to `docs_dir`
    * `alt` describes it
    """

    image = c.Type(str, default="")
    alt = c.Type(str, default="")


class AnnotatedConfig(Config):  # type: ignore[no-untyped-call, unused-ignore]
    r"""The options of the plugin.

    * `sources` are folders of Python packages
    * `folders` maps addresses on the site to folders outside `docs_dir` with pages, pictures and
      data; a folder whose path ends in `?` may be missing
    * `raw_html` allows HTML in comments and docstrings
    * `shapes` shows the shapes of arrays beside the code
    * `exhibits` is the YAML file that places results of runs beside the code
    * `latex_errors` says how LaTeX that cannot be rendered is reported: `error` stops the build,
      `warn` and `info` log it at that level and show the LaTeX source
    * `source_url` is the URL of a file on a code host, with `{path}` and `{line}`; for GitHub and
      GitLab the default follows from `repo_url`
    * `coverage` is the file that maps a paper to code and tests, `coverage_page` the page made
      from it
    * `symbols` is the file that maps the symbols of equations to names in the code
    * `inventory` is the file with the URLs of names that other projects define
    * `reading_order` are titles at the top of `nav`; their pages link to the previous and the next
      page, and all others to none
    * `card` is the picture of previews of links, which need `site_url`

    ```yaml
    plugins:
      - annotated:
          sources: [shapes]
    ```
    """

    sources = c.ListOfItems(c.Type(str), default=[])
    folders = c.DictOfItems(c.Type(str), default={})
    raw_html = c.Type(bool, default=False)
    shapes = c.SubConfig(ShapesConfig)
    exhibits = c.Optional(c.Type(str))
    latex_errors = c.Choice(("error", "warn", "info"), default="error")
    source_url = c.Type(str, default="")
    coverage = c.Type(str, default="")
    coverage_page = c.Type(str, default="coverage.md")
    symbols = c.Type(str, default="")
    inventory = c.Type(str, default="")
    reading_order = c.ListOfItems(c.Type(str), default=[])
    card = c.SubConfig(CardConfig)

    def source_folders(self, base: Path) -> dict[str, Path]:
        """Return the source folders by their name on the site.

        * `base` is the folder of the configuration

        Raises `PluginError` if a folder does not exist or two have the same name.
        """
        found: dict[str, Path] = {}
        for value in self.sources:
            path = (base / value).resolve()
            if not path.is_dir():
                raise PluginError(f"plugins.annotated.sources: no folder {value!r} in {base}")
            if path.name in found:
                raise PluginError(f"plugins.annotated.sources: two folders named {path.name!r}")
            found[path.name] = path
        return found

    def mounted_folders(self, base: Path) -> dict[str, Path]:
        """Return the mounted folders that exist, by their address on the site.

        * `base` is the folder of the configuration

        Raises `PluginError` if a folder does not exist and its path does not end in `?`.
        """
        found: dict[str, Path] = {}
        for address, value in self.folders.items():
            path = (base / value.removesuffix("?")).resolve()
            if path.is_dir():
                found[address.strip("/")] = path
            elif not value.endswith("?"):
                raise PluginError(
                    f"plugins.annotated.folders.{address}: no folder {value!r} in {base}; "
                    f"write '{value}?' if it may be missing"
                )
        return found
