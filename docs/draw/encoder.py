"""The encoder: layers that add to a residual stream, and a final norm."""

from svg import CHANNELS, TOKENS, arrow, box, drawing, faint, math, path, plus, symbol, text

PAGE = "../../labml_gmlp/blocks/encoder.py"


def encoder() -> str:
    y, parts = 120, []
    layers = (
        (50, 68, 144, "layer 0"),
        (168, 68, 262, "layer 1"),
        (304, 94, 436, "layer $L$\u22121"),
    )
    for branch, width, total, name in layers:
        x = (branch + total - 2) / 2
        parts += [
            arrow((branch, y), (branch, 48), (x - width / 2, 48)),
            f'<a href="{PAGE}#Encoder">{box(x, 28, width, 40, TOKENS)}{text(x, 54, name)}</a>',
            arrow((x + width / 2, 48), (total, 48), (total, y - 12)),
            plus(total, y),
        ]
    return drawing(
        "encoder",
        176,
        "The encoder",
        "L layers read from one residual stream, one after the other, and each adds its result to "
        "the stream. A final norm follows.",
        symbol("X", math(6, y + 7, "X_{0}", anchor="start")),
        path(f"M40 {y}H132M156 {y}H250M304 {y}H424", width=2.5),
        path(f"M274 {y}H304", width=2.5, dash="5 4"),
        *parts,
        faint(text(284, 54, "\u2026")),
        arrow((448, y), (466, y)),
        box(493, y - 16, 54, 32, CHANNELS),
        text(493, y + 6, "norm"),
        arrow((520, y), (538, y)),
        symbol("Y", math(549, y + 7, "Y")),
        faint(text(240, y + 44, "residual stream: each layer adds to it")),
    )
