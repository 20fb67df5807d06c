r"""Line charts as SVG: means over seeds as lines, the range of the seeds as bands.

# Charts

Text is text, so it scales and can be read by a screen reader. Axes and labels have the colour of
the text around them, and each line has one colour for light and one for dark pages. A line is
labelled at its end, so no colour has to be looked up in a legend.

The same data gives the same file, byte for byte, on any machine.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

# The colour of a line on a light page and on a dark one. All are dark or light enough for text.
COLOURS = (
    ("#33557f", "#8ab4f8"),
    ("#b3261e", "#f28b82"),
    ("#2c6e49", "#81c995"),
    ("#8a5a00", "#e6b450"),
    ("#6b4c9a", "#c9a3fb"),
    ("#00707a", "#78d9ec"),
)
# In pixels. On a phone of 360 pixels a chart has 0.6 of its width, and letters of 9.6 pixels.
WIDTH, HEIGHT = 540, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 138, 36, 52
LETTER, LINE = 16, 19  # height of a letter and of a line of text
LONGEST_LABEL = 15  # letters
# A chart opened on its own takes the colours of the browser. A page that includes the chart drops
# this style, so the colours of the page apply.
STANDALONE = (
    "color-scheme:light dark;color:light-dark(#1f2328,#e3e6ea);background:light-dark(#fff,#15181c)"
)


@dataclass(frozen=True)
class ChartPoint:
    r"""A mean over seeds, with the lowest and the highest seed."""

    x: float
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, x: float, values: Sequence[float]) -> "ChartPoint":
        """The point of some values, one for each seed."""
        return cls(x, sum(values) / len(values), min(values), max(values))


@dataclass(frozen=True)
class ChartLine:
    r"""One line of a chart.

    * `points` are sorted by `x`
    * `colour` is an index into `COLOURS`
    * `notes` are short texts beside the points
    * `faint` draws a thin pale line without marks
    * `marks` draws a dot at each point
    """

    points: Sequence[ChartPoint]
    colour: int = 0
    notes: Sequence[str] = ()
    faint: bool = False
    marks: bool = True


@dataclass(frozen=True)
class Axis:
    r"""An axis: its range, its ticks, and the place of a value between 0 and 1.

    * `low` and `high` are the ends
    * `ticks` are the values with a label
    * `log` makes equal ratios equal distances
    """

    low: float
    high: float
    ticks: Sequence[float] = field(default_factory=list)
    log: bool = False

    def place(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, count: int = 5) -> Axis:
    """An axis from about `low` to about `high`, with ticks at 1, 2 or 5 times a power of ten."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((k * power for k in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, [round(k * step, 12) for k in range(first, last + 1)])


def log_axis(low: float, high: float, steps: Sequence[int]) -> Axis:
    """A logarithmic axis a little wider than its values, with ticks at `steps` times powers of ten.

    Both `low` and `high` are positive.
    """
    margin = max((high / low) ** 0.06, 1.02)
    low, high = low / margin, high * margin
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return Axis(low, high, [tick for tick in ticks if low <= tick <= high], log=True)


def line_chart(
    lines: Mapping[str, ChartLine],
    *,
    name: str,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    x: Axis | None = None,
    y: Axis | None = None,
) -> bytes:
    r"""Draws lines over one axis, as an SVG.

    * `lines` are the lines by their label; a label that begins with a space is not shown
    * `name` begins the ids of the file, so that one page can show several charts
    * `title` and `description` are read instead of the chart by a screen reader
    * `x_label` and `y_label` name the axes with their units
    * `x` and `y` are the axes; by default they are linear and include all points
    """
    points = [point for line in lines.values() for point in line.points] or [ChartPoint(0, 0, 0, 1)]
    x = x or linear_axis(min(p.x for p in points), max(p.x for p in points), 4)
    y = y or linear_axis(*_with_margin(min(p.low for p in points), max(p.high for p in points)))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" font-family="system-ui, sans-serif" '
        f'font-size="{LETTER}" style="{STANDALONE}">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description)}</desc>',
        *_axes(x, y, x_label, y_label),
    ]
    for line in lines.values():
        out += _line(line, x, y)
    out += _labels(lines, x, y)
    return ("\n".join([*out, "</svg>"]) + "\n").encode()


def describe_ends(lines: Mapping[str, ChartLine]) -> str:
    """The last value of each line, in words, for the description of a chart."""
    ends = [f"{plain(name)} {line.points[-1].mean:.3g}" for name, line in lines.items()]
    return f"At the right end: {', '.join(ends)}."


def plain(label: str) -> str:
    """A label without dollar signs."""
    return label.replace("$", "")


def number(value: float) -> str:
    """A number as short as possible: thousands with a comma, millions as M."""
    if value >= 1e6 or (value >= 1e5 and value % 1e4 == 0):
        return f"{value / 1e6:g} M"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _h(axis: Axis, value: float) -> str:
    return f"{LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT):.1f}"


def _v(axis: Axis, value: float) -> str:
    # A value below or above the axis is drawn at its end.
    return f"{HEIGHT - BOTTOM - min(1, max(0, axis.place(value))) * (HEIGHT - TOP - BOTTOM):.1f}"


def _axes(x: Axis, y: Axis, x_label: str, y_label: str) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    yield '<g fill="none" stroke="currentColor" stroke-width="1">'
    for tick in y.ticks:
        yield f'<path d="M{LEFT} {_v(y, tick)}H{right}" stroke-opacity=".18"/>'
    yield f'<path d="M{LEFT} {bottom}H{right}" stroke-opacity=".7"/>'
    for tick in x.ticks:
        yield f'<path d="M{_h(x, tick)} {bottom}v5" stroke-opacity=".7"/>'
    yield '</g>\n<g fill="currentColor" stroke="none">'
    for tick in y.ticks:
        yield (
            f'<text x="{LEFT - 7}" y="{_v(y, tick)}" dy=".35em" text-anchor="end">'
            f"{number(tick)}</text>"
        )
    for tick in x.ticks:
        yield (
            f'<text x="{_h(x, tick)}" y="{bottom + LINE + 3}" text-anchor="middle">'
            f"{number(tick)}</text>"
        )
    yield f'<text x="4" y="{LETTER}">{escape(y_label)}</text>'
    yield f'<text x="{right}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>'
    yield "</g>"


def _line(line: ChartLine, x: Axis, y: Axis) -> Iterator[str]:
    yield _group(line.colour)
    where = [(_h(x, p.x), _v(y, p.mean), p) for p in line.points]
    if any(p.high > p.low for p in line.points):
        top = [f"{h} {_v(y, p.high)}" for h, _, p in where]
        base = [f"{h} {_v(y, p.low)}" for h, _, p in reversed(where)]
        yield (
            f'<path d="M{"L".join([*top, *base])}Z" fill="currentColor" '
            'fill-opacity=".2" stroke="none"/>'
        )
    width = 'stroke-width=".8" stroke-opacity=".45"' if line.faint else 'stroke-width="2"'
    path = "L".join(f"{h} {v}" for h, v, _ in where)
    yield f'<path d="M{path}" fill="none" stroke="currentColor" {width}/>'
    if line.marks and not line.faint:
        for h, v, _ in where:
            yield f'<circle cx="{h}" cy="{v}" r="3.5" fill="currentColor" stroke="none"/>'
    for note, (h, v, _) in zip(line.notes, where, strict=False):
        yield (
            f'<text x="{h}" y="{v}" dx="5" dy="-7" fill="currentColor" stroke="none">'
            f"{escape(note)}</text>"
        )
    yield "</g>"


# The labels right of the ends of the lines, moved apart where they would overlap.
def _labels(lines: Mapping[str, ChartLine], x: Axis, y: Axis) -> Iterator[str]:
    shown = [
        (float(_v(y, line.points[-1].mean)), float(_h(x, line.points[-1].x)), _wrap(label), line)
        for label, line in lines.items()
        if line.points and not label.startswith(" ")
    ]
    shown.sort(key=lambda each: each[0])
    heights = [len(text) * LINE for _, _, text, _ in shown]
    middles = _spread([v for v, *_ in shown], heights, TOP - LINE / 2, HEIGHT - BOTTOM + 8)
    right = WIDTH - RIGHT
    for (v, h, text, line), middle in zip(shown, middles, strict=True):
        yield _group(line.colour)
        yield (
            f'<path d="M{h + 5:.1f} {v:.1f}L{right + 12} {middle:.1f}" fill="none" '
            'stroke="currentColor" stroke-opacity=".6"/>'
        )
        first = middle - (len(text) - 1) * LINE / 2
        for k, part in enumerate(text):
            yield (
                f'<text x="{right + 16}" y="{first + k * LINE:.1f}" dy=".35em" '
                f'fill="currentColor" stroke="none">{_markup(part)}</text>'
            )
        yield "</g>"


def _group(colour: int) -> str:
    light, dark = COLOURS[colour % len(COLOURS)]
    return f'<g color="{light}" style="color:light-dark({light},{dark})">'


# A long label continues on a second line, after its comma if it has one.
def _wrap(label: str) -> list[str]:
    if len(plain(label)) <= LONGEST_LABEL or " " not in label:
        return [label]
    head, _, rest = label.partition(", ") if ", " in label else label.rpartition(" ")
    return [f"{head},", rest] if ", " in label else [head, rest]


# Mathematical letters are italic.
def _markup(label: str) -> str:
    return re.sub(r"\$(\w+)\$", r'<tspan font-style="italic">\1</tspan>', escape(label))


def _spread(
    wanted: Sequence[float], heights: Sequence[float], top: float, bottom: float
) -> list[float]:
    r"""Moves boxes as little as possible so that none overlaps the next.

    * `wanted` are their middles, from top to bottom
    * `heights` are their heights
    * `top` and `bottom` are the ends of the space they have

    Boxes that touch are one group, which is centred where its boxes want to be.
    """
    groups: list[tuple[float, float, int]] = []  # sum of wanted tops, height, number of boxes
    for middle, height in zip(wanted, heights, strict=True):
        groups.append((middle - height / 2, height, 1))
        while len(groups) > 1 and _top(groups[-2], top, bottom) + groups[-2][1] > _top(
            groups[-1], top, bottom
        ):
            sum1, height1, n1 = groups.pop()
            sum0, height0, n0 = groups.pop()
            groups.append((sum0 + sum1 - n1 * height0, height0 + height1, n0 + n1))
    out: list[float] = []
    for group in groups:
        place = _top(group, top, bottom)
        for height in heights[len(out) : len(out) + group[2]]:
            out.append(place + height / 2)
            place += height
    return out


def _top(group: tuple[float, float, int], top: float, bottom: float) -> float:
    wanted, height, n = group
    return max(top, min(bottom - height, wanted / n))
