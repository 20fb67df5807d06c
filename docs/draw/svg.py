"""Shapes and text of the drawings, in one style.

A drawing has no style sheet: its colours are the text's colour and two custom properties of the
page, with values that suit light and dark pages where the page sets none.
"""

from xml.sax.saxutils import escape

TOKENS = "var(--drawing-tokens, #cf6318)"  # where tokens meet
CHANNELS = "var(--drawing-channels, #648fb8)"  # where each token is on its own
LABEL, LETTER, INDEX = 17, 22, 16.5  # font sizes; 16.5 of 560 is 9.6 pixels of 326
SANS = "system-ui, sans-serif"
SERIF = "'STIX Two Math', 'Cambria Math', 'DejaVu Math TeX Gyre', serif"
GMLP = "../../labml_gmlp/blocks/gmlp.py"


def drawing(name: str, height: int, title: str, description: str, *parts: str) -> str:
    """A complete SVG file, 560 wide.

    * `name` is the name of the file, with which its ids begin
    * `description` says in words what the drawing shows
    """
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" class="drawing" '
        f'viewBox="0 0 560 {height}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" font-family="{SANS}" font-size="{LABEL}" '
        'text-anchor="middle" fill="currentColor" stroke="none" style="color-scheme: light dark">'
    )
    texts = (
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description)}</desc>',
    )
    return "\n".join([head, *texts, *parts, "</svg>", ""])


def symbol(key: str, *parts: str, link: str = "", label: str = "") -> str:
    """A group that is highlighted with a symbol of docs/symbols.yml, and may be a link.

    A link without text needs a `label` for those who cannot see it.
    """
    group = f'<g data-s="{key}">{"".join(parts)}</g>'
    name = f' aria-label="{label}"' if label else ""
    return f'<a href="{link}"{name}>{group}</a>' if link else group


def text(x: float, y: float, words: str, *, anchor: str = "", size: float = LABEL) -> str:
    """A label in upright sans-serif, centred unless `anchor` is start or end.

    Letters between dollar signs are symbols.
    """
    more = f' text-anchor="{anchor}"' if anchor else ""
    more += f' font-size="{size:g}"' if size != LABEL else ""
    return f'<text x="{x:g}" y="{y:g}"{more}>{_words(words)}</text>'


def turned(x: float, y: float, words: str) -> str:
    """A label that reads upwards, centred at a point of its baseline."""
    return f'<text transform="translate({x:g} {y:g}) rotate(-90)">{_words(words)}</text>'


def _words(words: str) -> str:
    parts = [escape(part) for part in words.split("$")]
    parts[1::2] = [f'<tspan font-family="{SERIF}">{italic(part)}</tspan>' for part in parts[1::2]]
    return "".join(parts)


def italic(letters: str) -> str:
    """Latin and Greek letters as mathematical italics, as MathML shows them."""
    out = []
    for letter in letters:
        if letter == "h":
            out.append("\u210e")
        elif "A" <= letter <= "Z":
            out.append(chr(0x1D434 + ord(letter) - ord("A")))
        elif "a" <= letter <= "z":
            out.append(chr(0x1D44E + ord(letter) - ord("a")))
        elif "\u03b1" <= letter <= "\u03c9":
            out.append(chr(0x1D6FC + ord(letter) - 0x3B1))
        else:
            out.append(letter)
    return "".join(out)


def math(x: float, y: float, formula: str, *, anchor: str = "", size: float = LETTER) -> str:
    """A formula in italics, in which `_{...}` is an index."""
    more = f' text-anchor="{anchor}"' if anchor else ""
    first, *rest = formula.split("_{")
    out = [escape(italic(first))]
    for part in rest:
        index, after = part.split("}", 1)
        out.append(f'<tspan dy="5" font-size="{INDEX}">{escape(italic(index))}</tspan>')
        if after:
            out.append(f'<tspan dy="-5">{escape(italic(after))}</tspan>')
    return (
        f'<text x="{x:g}" y="{y:g}" font-family="{SERIF}" font-size="{size:g}"{more}>'
        f"{''.join(out)}</text>"
    )


def faint(*parts: str) -> str:
    """Parts that matter less."""
    return f'<g opacity=".75">{"".join(parts)}</g>'


def path(d: str, *, colour: str = "currentColor", width: float = 1.5, dash: str = "") -> str:
    """A line without a fill."""
    more = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width:g}"{more}/>'


def arrow(*points: tuple[float, float], colour: str = "currentColor") -> str:
    """A line through points, with a head at the last one."""
    (x0, y0), (x, y) = points[-2:]
    length = max(abs(x - x0), abs(y - y0))
    dx, dy = (x - x0) / length, (y - y0) / length
    line = "M" + "L".join(f"{px:g} {py:g}" for px, py in [*points[:-1], (x - 5 * dx, y - 5 * dy)])
    a, b = (x - 8 * dx - 4 * dy, y - 8 * dy + 4 * dx), (x - 8 * dx + 4 * dy, y - 8 * dy - 4 * dx)
    head = f"M{x:g} {y:g}L{a[0]:g} {a[1]:g}L{b[0]:g} {b[1]:g}Z"
    return path(line, colour=colour) + f'<path d="{head}" fill="{colour}"/>'


def rectangle(
    x: float, y: float, width: float, height: float, colour: str, opacity: float = 0.22
) -> str:
    """A rectangle with a thin border in the colour of its faint fill."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}" '
        f'fill-opacity="{opacity:g}" stroke="{colour}" stroke-width="1.5"/>'
    )


def frame(
    x: float, y: float, width: float, height: float, colour: str = "currentColor", line: float = 1.5
) -> str:
    """The border of a rectangle."""
    return path(f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}Z", colour=colour, width=line)


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A rectangle centred at `x`, with its upper side at `y`."""
    return rectangle(x - width / 2, y, width, height, colour)


def circle(x: float, y: float, radius: float, colour: str) -> str:
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{colour}" fill-opacity=".22" '
        f'stroke="{colour}" stroke-width="1.5"/>'
    )


def trapezium(x: float, y: float, top: float, bottom: float, height: float) -> str:
    """A layer that widens or narrows the channels."""
    corners = f"{x - top / 2:g},{y:g} {x + top / 2:g},{y:g} "
    corners += f"{x + bottom / 2:g},{y + height:g} {x - bottom / 2:g},{y + height:g}"
    return (
        f'<polygon points="{corners}" fill="{CHANNELS}" fill-opacity=".22" stroke="{CHANNELS}" '
        'stroke-width="1.5"/>'
    )


def cells(
    x: float, y: float, width: float, height: float, rows: int, columns: int, colour: str
) -> str:
    """A matrix: a faint rectangle with lines between its rows and columns."""
    down, right = height / rows, width / columns
    lines = "".join(f"M{x:g} {y + down * i:g}h{width:g}" for i in range(1, rows))
    lines += "".join(f"M{x + right * j:g} {y:g}v{height:g}" for j in range(1, columns))
    inner = path(lines, colour=colour, width=0.75) if lines else ""
    return rectangle(x, y, width, height, colour) + inner


def solid(x: float, y: float, width: float, height: float, colour: str, opacity: float) -> str:
    """A rectangle without a border."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}" '
        f'fill-opacity="{opacity:g}"/>'
    )


def plus(x: float, y: float) -> str:
    """A sum of two lines."""
    return circle(x, y, 12, CHANNELS) + path(f"M{x - 6:g} {y:g}h12M{x:g} {y - 6:g}v12")


def product(x: float, y: float) -> str:
    """An elementwise product of two lines."""
    return circle(x, y, 12, CHANNELS) + f'<circle cx="{x:g}" cy="{y:g}" r="3"/>'


def legend(y: float, tokens: str = "tokens meet", channels: str = "each token alone") -> str:
    """What the two colours mean."""
    return (
        box(126, y - 13, 16, 16, CHANNELS)
        + text(142, y, channels, anchor="start")
        + box(330, y - 13, 16, 16, TOKENS)
        + text(346, y, tokens, anchor="start")
    )
