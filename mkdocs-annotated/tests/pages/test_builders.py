r"""Builds from the command line: another builder, and the live preview."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "example"
PACKAGE = Path(__file__).parents[2]
MAP = """
title: Before
entries:
  - {id: A, kind: claim, where: B, says: C, status: not reproduced, why: D}
"""
TIMEOUT = 30.0  # seconds, enough for a busy machine


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGE), "NO_MKDOCS_2_WARNING": "1"}


def run(builder: str, site: Path) -> dict[str, bytes]:
    command = [sys.executable, "-W", "ignore", "-m", builder, "build", "--strict", "--quiet"]
    command += ["--config-file", str(EXAMPLE / "mkdocs.yml"), "--site-dir", str(site)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = [path for path in sorted(site.rglob("*")) if path.is_file()]
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in files}


def test_another_builder_makes_the_same_site(tmp_path: Path):
    if importlib.util.find_spec("properdocs") is None:
        pytest.skip("properdocs is not installed")
    ours, theirs = run("mkdocs", tmp_path / "ours"), run("properdocs", tmp_path / "theirs")
    # The sitemap contains the date of the build and the time of compression.
    for site in (ours, theirs):
        site.pop("sitemap.xml.gz", None)
    assert ours == theirs
    assert len(ours) > 10


@pytest.fixture
def preview(project) -> Iterator[str]:
    """The URL of a running `mkdocs serve`."""
    project.write("docs/map.yml", MAP)
    project.write(
        "mkdocs.yml",
        "site_name: P\ntheme: annotated\nuse_directory_urls: false\n"
        "plugins: [{annotated: {sources: [shapes], coverage: docs/map.yml}}]\n",
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "serve", "--quiet"]
    command += ["--dev-addr", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=project.root, env=environment()) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            assert "Start" in wait_for(f"{address}/index.html", "Start")
            yield address
        finally:
            server.terminate()


def wait_for(address: str, text: str) -> str:
    end = time.monotonic() + TIMEOUT
    page = ""
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                page = answer.read().decode()
        except OSError:
            page = ""
        if text in page:
            return page
        time.sleep(0.1)
    raise AssertionError(f"{text!r} did not appear on {address} in {TIMEOUT} s")


def test_a_preview_rebuilds_after_changes_and_after_a_mistake(project, preview: str):
    project.write("shapes/__init__.py", '"""\n# Second version\n"""\n')
    wait_for(f"{preview}/shapes/index.html", "Second version")
    project.write("docs/map.yml", MAP.replace("Before", "Afterwards"))
    wait_for(f"{preview}/coverage.html", "Afterwards")
    project.write("shapes/__init__.py", "# $\\nope$\nx = 1\n")
    time.sleep(1.0)  # MkDocs does not answer until the mistake is corrected
    project.write("shapes/__init__.py", '"""\n# Third version\n"""\n')
    assert "livereload" in wait_for(f"{preview}/shapes/index.html", "Third version")
