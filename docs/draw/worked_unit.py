"""The spatial gating unit with numbers: three tokens, four channels, every step by hand.

The norm has no epsilon here, and each half has two channels, so that a pair such as (3, 1)
becomes (1, -1): all numbers are exact in two decimals.
"""

import torch
from svg import GMLP, TOKENS, arrow, drawing, faint, math, path, product, solid, symbol, text
from torch import Tensor

from labml_gmlp.blocks.gmlp import SpatialGatingUnit

Z = torch.tensor([[2.0, 1, 3, 1], [1, 3, 0, 4], [4, 2, 7, 5]])
W = torch.tensor([[0.5, 0.2, 0.1], [0.3, 0.4, 0.2], [0.1, 0.6, 0.3]])
ROW = 26  # height of a row of numbers


def worked_unit_numbers() -> dict[str, Tensor]:
    """Every matrix of the drawing, computed by the layers."""
    unit = SpatialGatingUnit(d_ffn=4, seq_len=3, norm_eps=0.0)
    with torch.no_grad():
        unit.projection.weight.copy_(W)
        z1, z2 = Z.chunk(2, dim=-1)
        normalised = unit.norm(z2)
        gate = unit.projection(normalised[None])[0]
        s = unit(Z[None])[0]
    b = unit.projection.bias.detach()
    return {"Z1": z1, "Z2": z2, "norm": normalised, "W": W, "b": b, "gate": gate, "s": s}


def number(value: float | Tensor) -> str:
    return f"{round(float(value), 2) + 0.0:g}".replace("-", "\u2212")


def matrix(
    x: float, y: float, values: Tensor, column: float, mark: tuple[int, int, int, int] | None = None
) -> str:
    """A matrix of numbers in brackets.

    * `mark` is a part to mark: its first row and column, and how many rows and columns
    """
    rows = values.reshape(len(values), -1)
    height, width = len(rows) * ROW, rows.shape[1] * column
    out = []
    if mark:
        i, j, down, right = mark
        out.append(solid(x + j * column, y + i * ROW, right * column, down * ROW, TOKENS, 0.3))
    out.append(path(f"M{x + 5:g} {y:g}h-5v{height:g}h5M{x + width - 5:g} {y:g}h5v{height:g}h-5"))
    for i, numbers in enumerate(rows.tolist()):
        for j, value in enumerate(numbers):
            out.append(text(x + (j + 0.5) * column, y + i * ROW + 19, number(value)))
    return "".join(out)


def worked_unit() -> str:
    v = worked_unit_numbers()
    wide, narrow = 44, 34
    one, two, three = 36, 160, 316  # the upper sides of the three lines of matrices
    unit, projection = f"{GMLP}#SpatialGatingUnit.forward", f"{GMLP}#SpatialProjection.forward"
    pairs = zip(v["W"][0], v["norm"][:, 0], strict=True)
    terms = [f"{number(w)} \u00d7 {bracketed(z)}" for w, z in pairs]
    by_hand = f"{' + '.join(terms)} + {number(v['b'][0])} = {number(v['gate'][0, 0])}"
    factors = f"{number(v['Z1'][0, 0])} \u00d7 {number(v['gate'][0, 0])}"
    return drawing(
        "worked_unit",
        404,
        "The spatial gating unit with numbers",
        "Three tokens with four channels. Z is split into Z1 and Z2, Z2 is normalised, multiplied "
        "by W and increased by b, which gives the gate; Z1 times the gate is s(Z). The first "
        f"number of the gate is {by_hand}, and that of s(Z) is {factors} = {number(v['s'][0, 0])}.",
        # Split and norm
        symbol("Z1", math(66, 26, "Z_{1}"), link=unit),
        symbol("Z2", math(134, 26, "Z_{2}"), link=unit),
        matrix(32, one, torch.cat([v["Z1"], v["Z2"]], dim=1), narrow),
        path(f"M100 {one}v{3 * ROW}", dash="3 3"),
        arrow((174, one + 39), (238, one + 39)),
        f'<a href="{unit}">{text(203, one + 30, "norm")}</a>',
        matrix(246, one, v["norm"], wide, mark=(0, 0, 3, 1)),
        faint(
            text(350, one + 32, "per token: mean 0,", anchor="start"),
            text(350, one + 54, "variance 1", anchor="start"),
        ),
        # Projection
        symbol("W", math(32 + 1.5 * wide, two - 10, "W"), link=projection),
        matrix(32, two, v["W"], wide, mark=(0, 0, 1, 3)),
        matrix(180, two, v["norm"], wide, mark=(0, 0, 3, 1)),
        math(285, two + 46, "+"),
        symbol("b", math(322, two - 10, "b"), link=projection),
        matrix(302, two, v["b"], 40, mark=(0, 0, 1, 1)),
        math(360, two + 46, "="),
        f'<a href="{projection}">{text(378 + wide, two - 10, "gate")}</a>',
        matrix(378, two, v["gate"], wide, mark=(0, 0, 1, 1)),
        text(32, two + 105, by_hand, anchor="start"),
        # Product
        symbol("Z1", math(32 + narrow, three - 10, "Z_{1}"), link=unit),
        matrix(32, three, v["Z1"], narrow, mark=(0, 0, 1, 1)),
        product(122, three + 39),
        matrix(144, three, v["gate"], wide, mark=(0, 0, 1, 1)),
        text(144 + wide, three - 10, "gate"),
        math(252, three + 46, "="),
        symbol("Ztilde", math(272 + wide, three - 10, "s(Z)"), link=f"{GMLP}#eq-4"),
        matrix(272, three, v["s"], wide, mark=(0, 0, 1, 1)),
        text(382, three + 19, f"{factors} = {number(v['s'][0, 0])}", anchor="start"),
    )


def bracketed(value: Tensor) -> str:
    return f"({number(value)})" if value < 0 else number(value)
