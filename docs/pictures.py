"""Take the pictures in docs/images: `make site`, then `python docs/pictures.py`.

Needs Playwright, Chromium and Pillow. `card.png` is shown where a link to the site is shared,
`page.png` in the README.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parent
CARD = """
<style>
  body {{ margin: 0; width: 1200px; height: 630px; display: flex; align-items: center; gap: 40px;
         font-family: system-ui, sans-serif; color: #1f2328; background: #fff; }}
  main {{ padding-left: 70px; width: 460px; }}
  h1 {{ font-size: 58px; line-height: 1.1; margin: 0 0 28px; }}
  p {{ font-size: 29px; line-height: 1.35; margin: 0; color: #59636e; }}
  svg {{ width: 600px; }}
</style>
<main><h1>Pay Attention to MLPs, annotated</h1>
<p>gMLP in PyTorch: each equation of the paper beside the lines that compute it</p></main>
{drawing}
"""


def save(page: Page, name: str) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(DOCS / "images" / name, optimize=True)


def main(site: Path, chromium: str) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 630}, color_scheme="light")
        drawing = (DOCS / "figures" / "block.svg").read_text(encoding="utf-8")
        page.set_content(CARD.format(drawing=drawing))
        save(page, "card.png")
        page.set_viewport_size({"width": 1400, "height": 950})
        page.goto((site / "labml_gmlp" / "blocks" / "gmlp.html").as_uri())
        page.evaluate("document.fonts.ready")
        save(page, "page.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "site").resolve(), "/usr/bin/chromium")
