"""MkDocs hooks of this site."""

from typing import Any

UNKNOWN = "URL-OF-THE-REPOSITORY"


def on_page_markdown(markdown: str, *, config: Any, **_: object) -> str:
    """Write the address of the repository where a page clones it, if the build knows it."""
    return markdown.replace(UNKNOWN, config.repo_url) if config.repo_url else markdown
