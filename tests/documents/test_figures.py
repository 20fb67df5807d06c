"""The drawings: safe to inline, readable on a phone, and true to the layers that they show."""

import ast
import io
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from matplotlib.pyplot import imread
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit
from labml_gmlp.blocks.transformer import TransformerLayer

REPOSITORY = Path(__file__).resolve().parents[2]
FIGURES = REPOSITORY / "docs" / "figures"
SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {"svg", "title", "desc", "a", "g", "text", "tspan", "path", "rect", "polygon", "circle"}
COLOUR = re.compile(r"none|currentColor|var\(--drawing-(tokens|channels), #[0-9a-f]{6}\)")
NARROW = 326  # pixels, the width of a drawing on a phone with 360
SMALLEST = 9.5  # pixels

SCRIPT = runpy.run_path(str(REPOSITORY / "docs" / "draw"))
DRAWINGS = SCRIPT["DRAWINGS"]
ROOTS = {path.stem: ElementTree.parse(path).getroot() for path in sorted(FIGURES.glob("*.svg"))}
each_drawing = pytest.mark.parametrize("name", ROOTS)


def test_the_files_are_what_their_scripts_draw():
    kept = {path.stem: path.read_text(encoding="utf-8") for path in FIGURES.glob("*.svg")}
    assert kept == {name: draw() for name, draw in DRAWINGS.items()}


@each_drawing
def test_a_drawing_describes_itself(name):
    root = ROOTS[name]
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert title.text
    assert description.text
    assert root.get("role") == "img"
    assert root.get("class") == "drawing"
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(each.startswith(f"{name}-") for each in ids)


@each_drawing
def test_a_drawing_holds_only_shapes_text_and_links_in_the_colours_of_the_page(name):
    for element in ROOTS[name].iter():
        assert element.tag.removeprefix(SVG) in SHAPES
        assert not [key for key in element.attrib if key.startswith("on")]
        for key in ("fill", "stroke"):
            assert COLOUR.fullmatch(element.get(key, "none"))


@each_drawing
def test_a_drawing_is_readable_on_a_phone(name):
    root = ROOTS[name]
    width = float(root.get("viewBox").split()[2])
    sizes = [float(e.get("font-size")) for e in root.iter() if e.get("font-size")]
    assert sizes
    assert min(sizes) * NARROW / width >= SMALLEST


@each_drawing
def test_each_link_of_a_drawing_has_a_name(name):
    for link in ROOTS[name].iter(f"{SVG}a"):
        assert link.get("aria-label") or "".join(link.itertext()).strip(), link.get("href")


@each_drawing
def test_the_symbols_of_a_drawing_are_those_of_the_site(name):
    symbols = yaml.safe_load((REPOSITORY / "docs" / "symbols.yml").read_text(encoding="utf-8"))
    used = {e.get("data-s") for e in ROOTS[name].iter() if e.get("data-s")}
    assert used <= set(symbols)


def names_of(source: str) -> set[str]:
    """The qualified names of all classes and functions of a module, and its numbered equations."""
    found = {f"eq-{number}" for number in re.findall(r"\\tag\{(\d+)\}", source)}

    def visit(node, scope):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                found.add(scope + child.name)
                visit(child, f"{scope}{child.name}.")

    visit(ast.parse(source), "")
    return found


@each_drawing
def test_the_links_of_a_drawing_have_a_target(name):
    for link in ROOTS[name].iter(f"{SVG}a"):
        file, _, anchor = link.get("href").partition("#")
        assert anchor in names_of((FIGURES / file).read_text(encoding="utf-8"))


def test_the_picture_of_learned_matrices_is_what_its_script_draws():
    kept = imread(FIGURES / "learned.png")
    drawn = imread(io.BytesIO(SCRIPT["learned"]()))
    # Another version of matplotlib may draw the letters a little differently.
    assert kept.shape == drawn.shape
    assert abs(kept - drawn).mean() < 0.01


# ## The worked example


def matrices_of_the_unit() -> list[torch.Tensor]:
    """What the drawing shows, in its order, from the layers of the library."""
    z = torch.tensor([[2.0, 1, 3, 1], [1, 3, 0, 4], [4, 2, 7, 5]])
    weight = torch.tensor([[0.5, 0.2, 0.1], [0.3, 0.4, 0.2], [0.1, 0.6, 0.3]])
    unit = SpatialGatingUnit(d_ffn=4, seq_len=3, norm_eps=0.0)
    # The bias is drawn as the layer initialises it.
    unit.load_state_dict({"projection.weight": weight}, strict=False)
    inputs, gates = [], []
    unit.norm.register_forward_hook(lambda layer, args, out: inputs.append(out[0]))
    unit.projection.register_forward_hook(lambda layer, args, out: gates.append(out[0]))
    with torch.no_grad():
        s = unit(z[None])[0]
    (normalised,), (gate,), bias = inputs, gates, unit.projection.bias.detach()
    return [z, normalised, weight, normalised, bias, gate, z[:, :2], gate, s]


def test_the_worked_example_shows_what_the_layers_compute():
    texts = ["".join(e.itertext()) for e in ROOTS["worked_unit"].iter(f"{SVG}text")]
    shown = [text.replace("\u2212", "-") for text in texts]
    shown = [float(text) for text in shown if re.fullmatch(r"-?[\d.]+", text)]
    computed = torch.cat([matrix.flatten() for matrix in matrices_of_the_unit()])
    torch.testing.assert_close(torch.tensor(shown), computed, rtol=0, atol=1e-6)


def test_the_products_of_the_worked_example_are_right():
    texts = ["".join(e.itertext()) for e in ROOTS["worked_unit"].iter(f"{SVG}text")]
    found = [text for text in texts if " = " in text]
    assert len(found) == 2
    for line in found:
        left, right = line.replace("\u2212", "-").replace("\u00d7", "*").split("=")
        assert eval(left) == pytest.approx(float(right))


# ## The cost


def multiply_adds(compute) -> int:
    # The other implementations of attention on a CPU are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("n", [3, 40])
def test_the_costs_of_the_chart_are_those_of_the_layers(n):
    d, e, x = 6, 20, torch.randn(1, n, 6)
    unit_cost, attention_cost, channels_cost = (
        DRAWINGS["cost"].__globals__[name]
        for name in ("unit_cost", "attention_cost", "channels_cost")
    )
    unit = SpatialGatingUnit(e, seq_len=n)
    assert multiply_adds(lambda: unit(torch.randn(1, n, e))) == unit_cost(n, e)

    block = GMLPBlock(d, e, seq_len=n)
    assert multiply_adds(lambda: block(x)) == channels_cost(n, d, e) + unit_cost(n, e)

    # Q, K, V and O, and the two layers of the feed-forward network
    layer, linear = TransformerLayer(d, n_heads=2, d_ffn=e), n * (4 * d * d + 2 * d * e)
    assert multiply_adds(lambda: layer(x)) == linear + attention_cost(n, d)
