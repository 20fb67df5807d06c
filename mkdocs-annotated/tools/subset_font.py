r"""Make the subset of STIX Two Math that the theme ships.

# The font subset

The theme ships a subset of STIX Two Math 2.11 under the SIL Open Font License 1.1. The complete
font is part of the package ziamath. The npm package @fontsource/stix-two-math lacks the features
`ssty`, `dtls` and `flac`, which primes and accents need. To make the subset again:

    python -m pip install ziamath==0.13 "fonttools>=4.50" "brotli>=1.1"
    python tools/subset_font.py

The licence text beside it is the file LICENSE of the npm package:

    npm install @fontsource/stix-two-math@5
    cp node_modules/@fontsource/stix-two-math/LICENSE mkdocs_annotated/theme/fonts/OFL.txt

The subset keeps the MATH table, which makes radicals and braces grow, and the features that
browsers use in formulas: script forms, composition, marks, dotless letters, flat accents.
"""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FONTS = Path(__file__).parents[1] / "mkdocs_annotated" / "theme" / "fonts"
FEATURES = ["ssty", "ccmp", "mark", "mkmk", "dtls", "flac"]
RANGES = [
    (0x0020, 0x007E),  # ASCII
    (0x00A0, 0x00FF),  # Latin-1: degree, plus-minus, times, macron, letters in `\text`
    (0x0131, 0x0131),  # dotless i
    (0x0237, 0x0237),  # dotless j
    (0x02C6, 0x02DD),  # spacing accents: hat, check, breve, dot, tilde
    (0x0300, 0x0338),  # combining accents
    (0x0391, 0x03F6),  # Greek
    (0x2010, 0x2044),  # dashes, bars, quotes, dots, primes, overline, fraction slash
    (0x2057, 0x2064),  # quadruple prime, invisible operators
    (0x20D0, 0x20EF),  # combining arrows and marks over symbols
    (0x2100, 0x214F),  # letter-like: R, C, N, Z, ell, aleph, Planck
    (0x2190, 0x21FF),  # arrows
    (0x2200, 0x22FF),  # operators; U+221A is the radical
    (0x2308, 0x230B),  # ceiling, floor
    (0x2320, 0x2321),  # halves of a tall integral
    (0x239B, 0x23B3),  # pieces of tall brackets
    (0x23B4, 0x23B5),  # brackets over and under
    (0x23DC, 0x23E1),  # braces over and under
    (0x25A0, 0x25A1),  # squares
    (0x25B2, 0x25CB),  # triangles, lozenge, circles
    (0x25E6, 0x25EF),  # small and large circle
    (0x27E6, 0x27EF),  # white and angle brackets
    (0x27F5, 0x27FF),  # long arrows
    (0x2A00, 0x2A0C),  # large operators with dot, plus, times
    (0x2A3F, 0x2A3F),  # amalgamation
    (0x2A7D, 0x2ABF),  # slanted comparisons
    (0x1D400, 0x1D4CF),  # letters: bold, italic, bold italic, script
    (0x1D504, 0x1D56B),  # Fraktur, double-struck
    (0x1D5A0, 0x1D5D3),  # sans-serif
    (0x1D670, 0x1D6A5),  # monospace, dotless i and j
    (0x1D6A8, 0x1D755),  # Greek: bold, italic, bold italic
    (0x1D7CE, 0x1D7EB),  # digits: bold, double-struck, sans-serif
    (0x1D7F6, 0x1D7FF),  # digits: monospace
]

# Characters that are often an index keep their glyphs for small sizes. The others are scaled, which
# saves a quarter of the file.
SCRIPT_FORMS = [
    (0x0020, 0x007E),
    (0x0391, 0x03F6),
    (0x2010, 0x2064),
    (0x2200, 0x22FF),
    (0x1D434, 0x1D467),
    (0x1D6E2, 0x1D71B),
]


def drop_script_forms(font: TTFont) -> None:
    """Remove all characters outside `SCRIPT_FORMS` from the feature `ssty`."""
    cmap = font.getBestCmap()
    keep = {cmap[u] for first, last in SCRIPT_FORMS for u in range(first, last + 1) if u in cmap}
    table = font["GSUB"].table
    records = [r for r in table.FeatureList.FeatureRecord if r.FeatureTag == "ssty"]
    for index in {i for record in records for i in record.Feature.LookupListIndex}:
        for part in table.LookupList.Lookup[index].SubTable:
            part = getattr(part, "ExtSubTable", part)
            forms = part.alternates if hasattr(part, "alternates") else part.mapping
            for glyph in set(forms) - keep:
                del forms[glyph]


def complete_font() -> Path:
    """Return the file of the complete font.

    Raises `SystemExit` if ziamath does not contain it.
    """
    for file in files("ziamath") or ():
        if file.name == "STIXTwoMath-Regular.ttf":
            return Path(str(file.locate()))
    raise SystemExit("ziamath no longer contains STIXTwoMath-Regular.ttf")


def main() -> None:
    options = subset.Options()
    options.layout_features = FEATURES
    options.flavor = "woff2"
    options.hinting = False
    options.notdef_outline = True
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # names, copyright, licence
    # Without a new date the file is reproducible.
    options.recalc_timestamp = False
    font = subset.load_font(str(complete_font()), options)
    drop_script_forms(font)
    worker = subset.Subsetter(options)
    worker.populate(unicodes=[u for first, last in RANGES for u in range(first, last + 1)])
    worker.subset(font)
    FONTS.mkdir(parents=True, exist_ok=True)
    target = FONTS / "STIXTwoMath-subset.woff2"
    subset.save_font(font, str(target), options)
    print(f"{target.name}: {target.stat().st_size} bytes, {len(font.getGlyphOrder())} glyphs")


if __name__ == "__main__":
    main()
