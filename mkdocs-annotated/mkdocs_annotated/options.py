r"""
# The options

What stands under `annotated:` in `mkdocs.yml`. All paths start at the folder of that file.
"""

from __future__ import annotations

from mkdocs.config import config_options as c
from mkdocs.config.base import Config


# MkDocs leaves the hook that runs for each subclass without types.
class ShapesConfig(Config):  # type: ignore[no-untyped-call, unused-ignore]
    r"""
    * `folder` is the one that `mkdocs-annotated trace` writes and the build reads
    * `examples` maps modules to the scripts that call them
    """

    # Not `data`: that is where a configuration keeps its own values.
    folder = c.Type(str, default="docs/shapes")
    examples = c.DictOfItems(c.Type(str), default={})


class AnnotatedConfig(Config):  # type: ignore[no-untyped-call, unused-ignore]
    r"""
    * `sources` are folders of Python packages, relative to the configuration file
    * `folders` maps addresses on the site to folders of pages and pictures outside of `docs_dir`;
      with a `?` behind it a folder may be missing
    * `raw_html` lets HTML in comments and docstrings through to the page
    * `shapes` shows the shapes of arrays beside the code
    * `exhibits` is the YAML file that places results of runs beside the code
    * `latex_errors` is what LaTeX that cannot be rendered is: an `error` stops at its page; with
      `warn` or `info` it is listed, and shown as it is written
    * `source_url` is the address of a file on a code host, with `{path}` and `{line}` in it; for
      GitHub and GitLab it follows from `repo_url`
    * `coverage` is a file that maps a paper to code and tests, `coverage_page` the page made of it
    * `symbols` is the file that ties the symbols of equations to names in the code
    * `inventory` is the file with the addresses of names that other projects define
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
