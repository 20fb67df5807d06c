r"""The size of each page of a built site, in bytes and gzipped.

# The size of the pages

```
mkdocs build && python -m benchmarks.pages
```

A web server sends a page compressed, so the gzipped size is what a reader downloads. The table
lists all pages, largest first, and then the style sheet and the script of the theme.
"""

import argparse
import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# gzip's own default; most servers and CDNs compress at this level or a higher one.
LEVEL = 6


class Size(NamedTuple):
    """The size of a file in bytes, plain and gzipped."""

    plain: int
    gzipped: int


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the size of each page of a built site.")
    parser.add_argument(
        "site", nargs="?", type=Path, default=Path("site"), help="built site (default: site)"
    )
    site = parser.parse_args().site
    pages = sizes(site, site.rglob("*.html"))
    if not pages:
        parser.error(f"no pages in {str(site)!r}; build the site with `mkdocs build` first")
    theme = sizes(site, theme_files(site))
    print(f"{'bytes':>9}  {'gzipped':>9}  file")
    for table in (pages, theme):
        for name, size in table.items():
            print(f"{size.plain:9,}  {size.gzipped:9,}  {name}")
        plain, gzipped = (sum(column) for column in zip(*table.values(), strict=True))
        print(f"{plain:9,}  {gzipped:9,}  all {len(table)}\n")


def theme_files(site: Path) -> list[Path]:
    """Return the style sheets and the scripts of the theme."""
    return [*site.glob("css/*.css"), *site.glob("js/*.js")]


def sizes(site: Path, files: Iterable[Path]) -> dict[str, Size]:
    """Return the size of each file by its path on the site, largest first."""
    found = {path.relative_to(site).as_posix(): size_of(path) for path in files}
    return dict(sorted(found.items(), key=lambda item: item[1].gzipped, reverse=True))


def size_of(path: Path) -> Size:
    data = path.read_bytes()
    return Size(len(data), len(gzip.compress(data, LEVEL)))


if __name__ == "__main__":
    main()
