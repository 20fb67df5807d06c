"""The block and the spatial gating unit (the paper's figure 1, in our own composition)."""

from svg import (
    CHANNELS,
    GMLP,
    TOKENS,
    arrow,
    box,
    cells,
    circle,
    drawing,
    faint,
    frame,
    legend,
    math,
    path,
    plus,
    product,
    solid,
    symbol,
    text,
    trapezium,
    turned,
)

EQ_1, EQ_2, EQ_4 = f"{GMLP}#eq-1", f"{GMLP}#eq-2", f"{GMLP}#eq-4"
FORWARD, UNIT, PROJECTION = (
    f"{GMLP}#GMLPBlock.forward",
    f"{GMLP}#SpatialGatingUnit.forward",
    f"{GMLP}#SpatialProjection.forward",
)


def tokens(x: float, y: float, width: float, height: float) -> str:
    """A matrix with a row for each of five tokens."""
    return cells(x, y, width, height, 5, 1, CHANNELS)


def block() -> str:
    x = 108
    steps = [
        symbol("X", math(x, 28, "X")),
        arrow((x, 38), (x, 60)),
        f'<a href="{FORWARD}">{box(x, 60, 76, 30, CHANNELS)}{text(x, 81, "norm")}</a>',
        arrow((x, 90), (x, 108)),
        symbol("U", trapezium(x, 108, 76, 136, 34), math(x, 132, "U"), link=EQ_1),
        arrow((x, 142), (x, 160)),
        symbol("sigma", circle(x, 174, 14, CHANNELS), math(x, 181, "\u03c3"), link=EQ_1),
        arrow((x, 188), (x, 206)),
        symbol("s", box(x, 206, 136, 40, TOKENS), math(x, 233, "s"), link=EQ_4),
        arrow((x, 246), (x, 264)),
        symbol("V", trapezium(x, 264, 106, 76, 34), math(x, 288, "V"), link=EQ_1),
        arrow((x, 298), (x, 322)),
        f'<a href="{FORWARD}" aria-label="residual">{plus(x, 334)}</a>',
        arrow((x, 346), (x, 368)),
        symbol("Y", math(x, 388, "X + Y")),
        arrow((x, 48), (18, 48), (18, 334), (x - 12, 334)),
        faint(turned(12, 190, "residual")),
    ]
    zoom = faint(
        path("M176 206L216 16M176 246L216 396", width=0.75, dash="3 3"),
        frame(216, 16, 340, 380, line=0.75),
        text(228, 38, "Spatial gating unit", anchor="start"),
    )
    a, b, w, width = 300, 476, 388, 80
    unit = [
        symbol(
            "Z1", cells(a - 40, 70, width, 70, 5, 1, CHANNELS), math(a, 111, "Z_{1}"), link=UNIT
        ),
        symbol(
            "Z2", cells(b - 40, 70, width, 70, 5, 1, CHANNELS), math(b, 111, "Z_{2}"), link=UNIT
        ),
        symbol("Z", math(388, 103, "Z")),
        arrow((376, 97), (344, 97)),
        arrow((400, 97), (432, 97)),
        faint(text(388, 128, "split")),
        faint(turned(248, 105, "tokens"), text(a, 62, "channels"), text(b, 62, "channels")),
        arrow((b, 140), (b, 156)),
        f'<a href="{UNIT}">{box(b, 156, 70, 28, CHANNELS)}{text(b, 176, "norm")}</a>',
        arrow((b, 184), (b, 212)),
        frame(346, 188, 207, 101, TOKENS, 1),
        tokens(b - 40, 212, width, 70),
        symbol(
            "W",
            solid(w - 35, 240, 70, 14, TOKENS, 0.6),
            cells(w - 35, 212, 70, 70, 5, 5, TOKENS),
            math(w, 204, "W"),
            link=EQ_2,
        ),
        faint(text(w, 308, "$n$ \u00d7 $n$")),
        symbol("b", math(534, 254, "+ b"), link=EQ_2),
        arrow((b, 289), (b, 334), (a + 12, 334)),
        faint(text(388, 326, "gate")),
        arrow((a, 140), (a, 322)),
        f'<a href="{UNIT}" aria-label="product">{product(a, 334)}</a>',
        arrow((a, 346), (a, 362)),
        symbol("Ztilde", math(a, 383, "s(Z)"), link=EQ_4),
    ]
    return drawing(
        "block",
        430,
        "The gMLP block and its spatial gating unit",
        "Left, the block: the input X is normalised, widened by U, activated by sigma, gated by s, "
        "narrowed by V, and added to X by the residual connection. Right, the gate s: Z is split "
        "along its channels into Z1 and Z2. Z2 is normalised and multiplied by W, an n by n matrix "
        "over tokens, plus b; the result is the gate, which multiplies Z1. Only W mixes tokens.",
        *steps,
        zoom,
        *unit,
        legend(420),
    )
