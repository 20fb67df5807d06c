"""The parameter counts on the page of the variants are those of the layers."""

import re
from pathlib import Path

import pytest
from torch import nn

from labml_gmlp import (
    ConvolutionProjection,
    DecayedToeplitzProjection,
    MixerBlock,
    SpatialProjection,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    TransformerLayer,
    WindowedProjection,
)

PAGE = Path(__file__).parents[2] / "docs" / "variants.md"
# Different primes, so that no wrong formula gives the right count.
N, C, K, W, A, M, D = 31, 13, 7, 5, 3, 11, 2 * 17
LAYERS = {
    "SpatialProjection": SpatialProjection(N),
    "ToeplitzProjection": ToeplitzProjection(N),
    "DecayedToeplitzProjection": DecayedToeplitzProjection(N),
    "ConvolutionProjection": ConvolutionProjection(C, K),
    "WindowedProjection": WindowedProjection(W),
    "TinyAttention": TinyAttention(D, C, A),
    "TokenShift": TokenShift((0, 1)),
    "MixerBlock": nn.ModuleList(
        [(mixer := MixerBlock(D, N, M, 4 * D)).token_in, mixer.token_out],
    ),
    "TransformerLayer": nn.ModuleList(
        [(layer := TransformerLayer(D, 2, 4 * D)).attention_in, layer.attention_out],
    ),
}


def formulas() -> dict[str, str]:
    """Returns the parameter formula of each layer from the first table of the page."""
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").split("\n")]
    table = [row for row in rows if len(row) == 7 and row[1].strip().startswith("`")]
    return {row[1].split("`")[1]: row[3].strip() for row in table}


def value(formula: str) -> int:
    """Evaluates a LaTeX formula of sums, products and squares."""
    if formula == "none":
        return 0
    terms = re.findall(r"\d+|[A-Za-z]|[-+^]", formula.strip("$").replace(" ", ""))
    code = re.sub(r"(?<=\w) (?=\w)", "*", " ".join(terms)).replace("^", "**")
    return eval(code, {"N": N, "c": C, "k": K, "w": W, "a": A, "m": M, "d": D})


def test_the_page_has_a_formula_for_every_layer():
    assert set(formulas()) == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_the_formula_of_a_layer_gives_its_number_of_parameters(name):
    count = sum(parameter.numel() for parameter in LAYERS[name].parameters())
    assert value(formulas()[name]) == count
