"""Write the drawings of the site: `python docs/draw`."""

from pathlib import Path

from block import block
from cost import cost
from encoder import encoder
from learned import learned
from projections import convolution, tiny_attention, toeplitz
from worked_unit import worked_unit

FIGURES = Path(__file__).resolve().parents[1] / "figures"
DRAWINGS = {
    "block": block,
    "worked_unit": worked_unit,
    "cost": cost,
    "toeplitz": toeplitz,
    "convolution": convolution,
    "tiny_attention": tiny_attention,
    "encoder": encoder,
}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (FIGURES / f"{name}.svg").write_text(draw(), encoding="utf-8")
    (FIGURES / "learned.png").write_bytes(learned())
