"""Line charts: where values are drawn, and that labels can be read."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.reporting.charts import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    ChartLine,
    ChartPoint,
    _spread,
    line_chart,
    linear_axis,
    log_axis,
    number,
)
from experiments.reporting.pictures import PER_CENT_WRONG, compare
from tests.support.helpers import properties

SVG = "{http://www.w3.org/2000/svg}"
NAMES = {"name": "x", "title": "a title", "description": "words", "x_label": "step"}


def drawn(lines: dict[str, ChartLine], **more: Axis) -> ET.Element:
    return ET.fromstring(line_chart(lines, **NAMES, y_label="loss", **more))


def texts(root: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def dots(root: ET.Element) -> list[tuple[float, float]]:
    return [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]


def test_a_mean_is_drawn_at_its_place_and_the_range_around_it():
    points = [ChartPoint.of(0, [1, 2, 6]), ChartPoint.of(10, [2, 2, 5])]
    root = drawn({"a": ChartLine(points)}, x=Axis(0, 10), y=Axis(0, 10))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / 10 * width, HEIGHT - BOTTOM - y / 10 * height

    assert dots(root) == [pytest.approx(at(0, 3), abs=0.06), pytest.approx(at(10, 3), abs=0.06)]
    [band] = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("fill-opacity")]
    corners = [tuple(map(float, pair.split())) for pair in re.findall(r"[\d.]+ [\d.]+", band)]
    expected = [at(0, 6), at(10, 5), at(10, 2), at(0, 1)]
    assert corners == [pytest.approx(corner, abs=0.06) for corner in expected]


def test_one_seed_has_no_band():
    root = drawn({"a": ChartLine([ChartPoint.of(0, [1]), ChartPoint.of(1, [2])])})
    assert not [path for path in root.iter(f"{SVG}path") if path.get("fill-opacity")]


def test_ratios_are_distances_on_a_logarithmic_axis():
    axis = log_axis(2, 32, (1, 2, 5))
    assert axis.place(8) - axis.place(4) == pytest.approx(axis.place(32) - axis.place(16))
    assert axis.ticks == [2, 5, 10, 20]
    assert 0 < axis.place(2) < 0.1
    assert 0.9 < axis.place(32) < 1


@properties
@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-3, 1e4))
def test_a_linear_axis_has_a_few_round_ticks_inside_of_it(low, width):
    axis = linear_axis(low, low + width)
    assert 2 <= len(axis.ticks) <= 11
    assert all(axis.low - 1e-6 <= tick <= axis.high + 1e-6 for tick in axis.ticks)
    assert all(a < b for a, b in pairwise(axis.ticks))


def test_a_flat_line_is_drawn_too():
    assert dots(drawn({"a": ChartLine([ChartPoint.of(1, [2.0])])}))
    assert drawn({}) is not None


@properties
@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from((19, 38))), max_size=7))
def test_labels_are_in_order_inside_the_chart_and_never_overlap(boxes):
    boxes = sorted(boxes)
    heights = [height for _, height in boxes]
    middles = _spread([middle for middle, _ in boxes], heights, 0, 300)
    edges = [(m - h / 2, m + h / 2) for m, h in zip(middles, heights, strict=True)]
    assert all(above[1] <= below[0] + 1e-6 for above, below in pairwise(edges))
    assert all(top >= -1e-6 and bottom <= 300 + 1e-6 for top, bottom in edges)


def test_labels_that_do_not_touch_stay_at_the_ends_of_their_lines():
    assert _spread([50, 150, 250], [19, 19, 38], 0, 300) == [50, 150, 250]


def test_the_label_of_a_line_is_text_with_italic_symbols():
    line = ChartLine([ChartPoint.of(0, [1]), ChartPoint.of(1, [2])])
    root = drawn({"gMLP, Toeplitz $W$": line, "a < b": line, " hidden": line})
    assert "a < b" in texts(root)
    assert [text for text in texts(root) if "gMLP" in text or "W" in text] == [
        "gMLP,",
        "Toeplitz W",
    ]
    assert [span.text for span in root.iter(f"{SVG}tspan")] == ["W"]
    assert not any("hidden" in text for text in texts(root))


def test_letters_have_nine_pixels_on_a_narrow_phone():
    # A phone of 360 pixels leaves 326 to the column of text.
    assert LETTER * 326 / WIDTH >= 9
    root = drawn({"a": ChartLine([ChartPoint.of(0, [1])])})
    sizes = {element.get("font-size") for element in root.iter() if element.get("font-size")}
    assert sizes == {str(LETTER)}


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", [0, 1], ids=["light", "dark"])
def test_each_colour_is_readable_as_text(page):
    background = luminance(("#ffffff", "#15181c")[page])
    for colours in COLOURS:
        low, high = sorted((luminance(colours[page]), background))
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (2.0, "2"), (2000, "2,000"), (5e5, "0.5 M"), (2e6, "2 M"), (-1500, "-1,500")],
)
def test_a_number_is_short(value, text):
    assert number(value) == text


def test_models_are_compared_by_all_seeds_in_the_unit_of_the_table():
    seeds = [[{"step": 5, "error": 0.5}, {"step": 10, "error": low}] for low in (0.1, 0.2, 0.3)]
    shown = compare({"a model": seeds}, PER_CENT_WRONG, "digits", {"a model": 1}).decode()
    assert "At the right end: a model 20." in shown
    assert 'id="digits-title"' in shown
    assert ">wrong, %</text>" in shown
    assert COLOURS[1][0] in shown
    # A step that some seed lacks is left out.
    fewer = compare({"a model": [*seeds, seeds[0][:1]]}, PER_CENT_WRONG, "digits", {})
    assert "a model 50." in fewer.decode()
