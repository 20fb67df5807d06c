r"""No page breaks a rule of axe-core, in light and dark, wide and narrow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ["index.html", "shapes/index.html", "shapes/circle.html", "shapes/polygon.html"]
PAGES += ["pairs.html", "measured/area.html", "404.html"]
LOOKS = [("light", 1400), ("dark", 1400), ("light", 390), ("dark", 390)]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe() -> str:
    path = Path(os.environ.get("AXE_CORE") or BESIDE)
    if not path.is_file():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core, or set AXE_CORE")
    return path.read_text(encoding="utf-8")


def violations(page, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("axe.run(document).then(result => result.violations)")
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
@pytest.mark.parametrize("path", PAGES)
def test_no_rule_is_broken(visit, axe: str, path: str, scheme: str, width: int):
    page = visit(path, width, color_scheme=scheme).page
    assert violations(page, axe) == []


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_no_rule_is_broken_while_searching_or_with_buttons_shown(visit, axe, scheme, width):
    page = visit("shapes/circle.html", width, color_scheme=scheme).page
    page.locator(".row").nth(1).hover()
    page.keyboard.press("j")
    assert violations(page, axe) == []
    page.keyboard.press("/")
    page.wait_for_function("window.annotatedIndex")
    page.keyboard.type("radius")
    page.wait_for_selector("#find a mark")
    assert violations(page, axe) == []


def test_a_broken_rule_is_detected(visit, axe: str):
    page = visit("index.html").page
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert any(found.startswith("button-name") for found in violations(page, axe))
