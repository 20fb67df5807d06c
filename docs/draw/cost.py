"""Multiply-adds of one layer over the number of tokens, for the sizes of gMLP-base."""

import math as m
from collections.abc import Callable

from svg import CHANNELS, GMLP, TOKENS, drawing, faint, path, symbol, text

D_MODEL, D_FFN = 512, 3072


def unit_cost(n: int, e: int = D_FFN) -> int:
    """W times Z2: an n by n matrix for each of e / 2 channels."""
    return n * n * e // 2


def attention_cost(n: int, d: int = D_MODEL) -> int:
    """Queries times keys, and weights times values: an n by n matrix for each of d channels."""
    return 2 * n * n * d


def channels_cost(n: int, d: int = D_MODEL, e: int = D_FFN) -> int:
    """U and V: a d by e and an e / 2 by d matrix for each token."""
    return n * d * e + n * d * e // 2


LEFT, RIGHT, TOP, BOTTOM = 76, 530, 36, 296
FEWEST, MOST = 32, 8192  # tokens
POWERS = ("1 M", "10 M", "100 M", "1 G", "10 G", "100 G")
LEAST, LARGEST = 10**6, 2 * 10**11  # multiply-adds


def place(n: float, cost: float) -> tuple[float, float]:
    """The point of the drawing for so many tokens and multiply-adds; both axes are logarithmic."""
    right = m.log(n / FEWEST) / m.log(MOST / FEWEST)
    up = m.log(cost / LEAST) / m.log(LARGEST / LEAST)
    return round(LEFT + (RIGHT - LEFT) * right, 1), round(BOTTOM - (BOTTOM - TOP) * up, 1)


def line(cost: Callable[[int], int], colour: str, *, width: float = 2.5, dash: str = "") -> str:
    # A power of n is a straight line.
    ends = [place(n, cost(n)) for n in (FEWEST, MOST)]
    return path(
        "M" + "L".join(f"{x:g} {y:g}" for x, y in ends), colour=colour, width=width, dash=dash
    )


def cost() -> str:
    equal = 3 * D_MODEL
    axes, labels = "", []
    for n in (32, 128, 512, 2048, 8192):
        x, _ = place(n, LEAST)
        axes += f"M{x:g} {TOP}V{BOTTOM}"
        labels.append(text(x, BOTTOM + 20, f"{n:,}"))
    for exponent, name in (
        (6, "1 M"),
        (7, "10 M"),
        (8, "100 M"),
        (9, "1 G"),
        (10, "10 G"),
        (11, "100 G"),
    ):
        _, y = place(FEWEST, 10**exponent)
        axes += f"M{LEFT} {y:g}H{RIGHT}"
        labels.append(text(LEFT - 8, y + 6, name, anchor="end"))
    x, y = place(equal, unit_cost(equal))
    return drawing(
        "cost",
        346,
        "Multiply-adds of one layer over the number of tokens",
        f"For d = {D_MODEL} and e = {D_FFN}, on logarithmic axes. The spatial gating unit takes "
        "n squared times e / 2, which is 1.5 times the 2 n squared d of attention at any n. Up to "
        f"{equal:,} tokens the channel projections U and V take more than the unit.",
        f'<g opacity=".25">{path(axes, width=0.75)}</g>',
        faint(*labels, text((LEFT + RIGHT) / 2, BOTTOM + 42, "tokens $n$")),
        symbol("U", line(channels_cost, CHANNELS), link=f"{GMLP}#eq-1", label="cost of U and V"),
        line(attention_cost, "currentColor", width=1.5, dash="6 4"),
        symbol("s", line(unit_cost, TOKENS), link=f"{GMLP}#eq-4", label="cost of the unit"),
        f'<circle cx="{x:g}" cy="{y:g}" r="4.5"/>',
        text(x + 20, y + 36, f"$n = 3d$ = {equal:,}", anchor="start"),
        text(LEFT, 18, f"multiply-adds, $d$ = {D_MODEL}, $e$ = {D_FFN:,}", anchor="start"),
        *key(70, CHANNELS, "$U$ and $V$: $3nde/2$"),
        *key(94, TOKENS, "unit: $n$\u00b2$e/2$"),
        *key(118, "currentColor", "attention: $2n$\u00b2$d$", width=1.5, dash="6 4"),
    )


def key(
    y: float, colour: str, words: str, *, width: float = 2.5, dash: str = ""
) -> tuple[str, str]:
    """One line of the legend."""
    line = path(f"M96 {y - 6:g}h30", colour=colour, width=width, dash=dash)
    return line, text(134, y, words, anchor="start")
