"""The projections that replace W: Toeplitz, convolution, and tiny attention beside it."""

from svg import (
    CHANNELS,
    GMLP,
    TOKENS,
    arrow,
    box,
    cells,
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

BLOCKS = "../../labml_gmlp/blocks"


def toeplitz() -> str:
    n, cell, high, row = 5, 44, 36, 1
    left, top = 170, 130  # corner of the matrix
    strip = (560 - (2 * n - 1) * cell) / 2

    def entry(x: float, y: float, offset: int) -> str:
        # One opacity for each diagonal: faint for the last token, strong for the first.
        opacity = 0.06 + 0.07 * (offset + n - 1)
        index = str(offset).replace("-", "\u2212")
        return solid(x, y, cell, high, TOKENS, opacity) + math(x + 22, y + 23, f"w_{{{index}}}")

    offsets = [entry(strip + (n - 1 - k) * cell, 36, k) for k in range(n - 1, -n, -1)]
    entries = [entry(left + j * cell, top + i * high, i - j) for i in range(n) for j in range(n)]
    window, width, y = strip + (n - 1 - row) * cell, n * cell, top + row * high
    return drawing(
        "toeplitz",
        346,
        "A Toeplitz matrix",
        "Above, the 2n - 1 weights w, one for each offset i - j of two tokens. Below, the matrix "
        "W: each diagonal is one weight. Row i is a window of n weights, and the window moves by "
        "one from row to row.",
        faint(text(280, 22, "one weight for each offset $i \u2212 j$")),
        symbol("w", *offsets, link=f"{BLOCKS}/toeplitz.py#ToeplitzProjection"),
        symbol("W", *entries, link=f"{BLOCKS}/toeplitz.py#dense_product"),
        frame(strip, 36, (2 * n - 1) * cell, high, line=0.75),
        frame(left, top, width, n * high, line=0.75),
        frame(window, 36, width, high),
        frame(left, y, width, high),
        path(
            f"M{window} {36 + high}L{left} {y}M{window + width} {36 + high}L{left + width} {y}",
            width=0.75,
            dash="3 3",
        ),
        symbol("W", math(left - 22, top + 98, "W")),
        faint(
            text(404, y + 24, "row 2:", anchor="start"),
            text(404, y + 46, "the window", anchor="start"),
            text(404, y + 84, "row 3: one", anchor="start"),
            text(404, y + 106, "step to the left", anchor="start"),
            text(280, 336, "each diagonal is one weight"),
        ),
    )


def convolution() -> str:
    y, cell, width = 44, 30, 108
    first, centre = y + 2 * cell, y + 3.5 * cell
    link = f"{BLOCKS}/convolution.py#ConvolutionProjection"
    return drawing(
        "convolution",
        300,
        "A depthwise convolution over tokens",
        "Left, Z: rows are tokens, columns are channels. For token i, a window of k tokens around "
        "it is multiplied by K, which has one kernel of length k for each channel, and summed over "
        "the window. This gives row i of the result. Tokens outside the window are not read.",
        symbol(
            "Z",
            cells(44, y, width, 7 * cell, 7, 3, CHANNELS),
            math(44 + width / 2, 34, "Z"),
            link=link,
        ),
        solid(44, first, width, 3 * cell, TOKENS, 0.18),
        frame(44, first, width, 3 * cell, TOKENS, 2.5),
        faint(turned(24, centre, "tokens"), text(98, 276, "channels")),
        product(182, centre),
        symbol(
            "kernel",
            cells(212, first, width, 3 * cell, 3, 3, TOKENS),
            math(212 + width / 2, first - 10, "K"),
            link=link,
        ),
        faint(
            text(266, first + 113, "one kernel"),
            text(266, first + 134, "per channel"),
            turned(344, centre, "$k$ tokens"),
        ),
        arrow((358, centre), (432, centre)),
        text(392, centre - 9, "sum"),
        cells(434, y, width, 7 * cell, 7, 3, TOKENS),
        solid(434, first + cell, width, cell, TOKENS, 0.6),
        math(434 + width / 2, 34, "f"),
        faint(text(488, 276, "row $i$ is written")),
    )


def tiny_attention() -> str:
    a, b, c = 80, 230, 452
    page = f"{BLOCKS}/tiny_attention.py#TinyAttention"
    gate = f"{GMLP}#eq-4"
    return drawing(
        "tiny_attention",
        414,
        "aMLP: tiny attention beside the spatial projection",
        "The normalised input of the block goes two ways. Through U and the activation it becomes "
        "Z, which is split into Z1 and Z2; Z2 is normalised and projected by W and b. The tiny "
        "attention reads the normalised input itself. Its output is added to the projection of Z2, "
        "and the sum is the gate that multiplies Z1.",
        symbol("X", math(b, 24, "X")),
        arrow((b, 32), (b, 48)),
        box(b, 48, 70, 28, CHANNELS),
        text(b, 68, "norm"),
        arrow((b, 76), (b, 100)),
        trapezium(b, 100, 70, 126, 32),
        symbol("U", math(b - 16, 123, "U"), link=f"{GMLP}#eq-1"),
        symbol("sigma", math(b + 16, 123, "\u03c3"), link=f"{GMLP}#eq-1"),
        arrow((b, 132), (b, 178)),
        path(f"M{b} 150H{a}V178"),
        symbol("Z1", math(a + 22, 180, "Z_{1}")),
        symbol("Z2", math(b + 22, 168, "Z_{2}")),
        box(b, 178, 70, 28, CHANNELS),
        text(b, 198, "norm"),
        arrow((b, 206), (b, 226)),
        symbol("W", box(b, 226, 96, 44, TOKENS), math(b, 254, "f_{W,b}"), link=f"{GMLP}#eq-2"),
        arrow((b, 270), (b, 304)),
        plus(b, 316),
        arrow((b + 35, 62), (c, 62), (c, 108)),
        symbol(
            "tiny",
            box(c, 108, 196, 150, TOKENS),
            text(c, 134, "tiny attention"),
            link=page,
        ),
        symbol("q", math(c - 45, 172, "q")),
        symbol("kj", math(c, 172, "k")),
        symbol("v", math(c + 45, 172, "v")),
        text(c, 206, "softmax over tokens"),
        faint(text(c, 238, "one small head")),
        arrow((c, 258), (c, 316), (b + 12, 316)),
        arrow((b - 12, 316), (a + 12, 316)),
        text((a + b) / 2, 306, "gate"),
        arrow((a, 150), (a, 304)),
        product(a, 316),
        arrow((a, 328), (a, 350)),
        symbol("Ztilde", math(a, 372, "s(Z)"), link=gate),
        legend(402),
    )
