"""The direction of the arrows: experiments -> models -> blocks."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "labml_gmlp"
BLOCKS = sorted(path for path in (PACKAGE / "blocks").glob("*.py") if path.name != "__init__.py")


def python_files(folder: Path) -> list[Path]:
    """Without hidden folders, where virtual environments live."""
    found = sorted(folder.glob("*.py"))
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            found += python_files(child)
    return found


def imports(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it, by its full name."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        # Material of some test, broken on purpose: what Python cannot read imports nothing.
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*path.relative_to(REPOSITORY).parts[: -node.level], *base]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def test_imports_are_found_wherever_they_stand(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "REPOSITORY", tmp_path)
    path = tmp_path / "a" / "b" / "c.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import one, two.three as x\n"
        "from four.five import six\n"
        "from . import seven\n"
        "from .eight import nine\n"
        "from ..ten import eleven\n"
        "def f():\n"
        "    try:\n"
        "        import twelve\n"
        "    except ImportError: ...\n"
        "text = 'import thirteen'\n"
    )
    assert imports(path) == {
        "one",
        "two.three",
        "four.five.six",
        "a.b.seven",
        "a.b.eight.nine",
        "a.ten.eleven",
        "twelve",
    }


FLAX = sorted(path for path in (PACKAGE / "flax").glob("*.py") if path.name != "__init__.py")


def test_there_are_files_to_read():
    assert {"encoder", "gmlp", "toeplitz", "transformer"} <= {path.stem for path in BLOCKS}
    assert len(python_files(PACKAGE)) > len(BLOCKS)


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_a_block_imports_only_torch_and_the_standard_library(path):
    assert roots(path) <= {"torch"} | sys.stdlib_module_names


@pytest.mark.parametrize("path", FLAX, ids=lambda path: path.stem)
def test_a_file_of_the_flax_twin_imports_only_flax_and_the_standard_library(path):
    # What carries weights to torch and back knows both.
    both = {"numpy", "torch"} if path.stem == "weights" else set()
    assert roots(path) <= {"flax", "jax"} | both | sys.stdlib_module_names


def test_only_the_flax_twin_and_its_training_import_jax():
    known = [*FLAX, REPOSITORY / "experiments" / "flax_autoregressive.py"]
    for path in python_files(REPOSITORY):
        if path not in known and not path.is_relative_to(REPOSITORY / "tests"):
            assert not roots(path) & {"flax", "jax", "optax"}, path
            if path != PACKAGE / "flax" / "__init__.py":
                assert not any(name.startswith("labml_gmlp.flax") for name in imports(path)), path


@pytest.mark.parametrize(
    "path",
    [path for path in python_files(PACKAGE) if path not in FLAX],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_the_library_imports_nothing_that_stands_above_it_nor_what_it_does_not_need(path):
    above = {"experiments", "labml", "lightning", "lightning_fabric", "tests", "benchmarks"}
    # Files of weights are partly numpy's; the core imports nothing of that package.
    numpy = set() if path.parent.name == "weights" else {"numpy"}
    assert not roots(path) & (above | numpy | {"matplotlib", "mkdocs", "mkdocs_annotated"})


@pytest.mark.parametrize(
    "path",
    python_files(PACKAGE / "blocks") + python_files(PACKAGE / "models"),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_blocks_know_no_models(path):
    models = {name for name in imports(path) if name.startswith("labml_gmlp.models")}
    assert not models or path.parent.name == "models"


def test_the_site_generator_imports_nothing_of_the_library():
    folder = REPOSITORY / "mkdocs-annotated"
    if not folder.exists():
        pytest.skip("mkdocs-annotated is not there yet")
    for path in python_files(folder):
        assert not roots(path) & {"labml_gmlp", "experiments"}, path


def test_only_experiments_import_labml_and_lightning():
    # Tests may, to try out what the experiments do with them.
    known = [REPOSITORY / "experiments", REPOSITORY / "tests"]
    for path in python_files(REPOSITORY):
        if not any(path.is_relative_to(folder) for folder in known):
            assert not roots(path) & {"labml", "lightning", "lightning_fabric"}, path


# What a taker does: one file in an empty folder, one layer, one step. Each maps `x` to `y`.
ALONE = {
    "convolution": "layer = ConvolutionProjection(4, 3)",
    "encoder": """
        class Layer(nn.Linear):
            size = 4
            def forward(self, x, mask=None):
                return super().forward(x)
        layer = Encoder(lambda: Layer(4, 4), 2)
    """,
    "gates": """
        class Projection(nn.Module):
            causal = True
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(5, 5))
                self.bias = nn.Parameter(torch.ones(5))
            def forward(self, z, mask=None):
                return self.weight @ z + self.bias[:, None]
        layer = MultiplicativeGate(4, Projection())
    """,
    "gmlp": "layer = GMLPBlock(4, 6, 5, causal=True)",
    "mixer": "layer = MixerBlock(4, 5, 3, 7)",
    "stochastic_depth": "layer = StochasticDepth(0.5)",
    "tiny_attention": "layer = TinyAttention(4, 4, 3, causal=True)",
    "token_shift": "layer = TokenShift((0, 1))",
    "toeplitz": """
        layer = nn.Sequential(
            ToeplitzProjection(6, fft_from=4),
            ToeplitzProjection(6, causal=True, n_heads=2),
            DecayedToeplitzProjection(6),
        )
    """,
    "transformer": "layer = TransformerLayer(4, 2, 6, causal=True)",
    "windowed": "layer = WindowedProjection(2, n_heads=2)",
}


# The same for the twin, which may be copied too. `y` is of the shape of `x`.
ALONE_IN_FLAX = {
    "encoder": """
        class Layer(nnx.Linear):
            size = 4
            def __call__(self, x, mask=None):
                return super().__call__(x)
        y = Encoder(lambda: Layer(4, 4, rngs=rngs), 2, rngs=rngs)(x)
    """,
    "gmlp": "y = GMLPBlock(4, 6, 5, causal=True, rngs=rngs)(x)",
    "language": """
        class Identity(nnx.Module):
            size = 4
            def __call__(self, x, mask, key_padding_mask):
                return x
        y = LanguageModel(4, Identity(), rngs=rngs)(jnp.ones((2, 5), int))
    """,
    "tiny_attention": "y = TinyAttention(4, 4, 3, causal=True, rngs=rngs)(x)",
    "toeplitz": "y = ToeplitzProjection(6, fft_from=4, rngs=rngs)(x)",
    "vision": """
        class Identity(nnx.Module):
            size = 4
            def __call__(self, x):
                return x
        y = ImageClassifier(Identity(), 4, image_size=6, patch_size=3, rngs=rngs)
        y = y(jnp.ones((2, 3, 6, 6)))[:, None].repeat(5, 1)
    """,
}


@pytest.mark.parametrize(
    "path", [path for path in FLAX if path.stem != "weights"], ids=lambda path: path.stem
)
def test_a_file_of_the_flax_twin_runs_alone_in_an_empty_folder(path, tmp_path):
    pytest.importorskip("flax", reason="the twin needs the extra flax")
    assert path.stem in ALONE_IN_FLAX, f"ALONE_IN_FLAX must say how to call {path.name}"
    shutil.copy(path, tmp_path)
    program = f"""
import sys, textwrap
sys.path.insert(0, ".")
sys.modules["labml_gmlp"] = sys.modules["torch"] = None
import jax.numpy as jnp
from flax import nnx
from {path.stem} import *
x, rngs = jnp.ones((2, 5, 4)), nnx.Rngs(0)
exec(textwrap.dedent({ALONE_IN_FLAX[path.stem]!r}))
assert y.shape == x.shape and jnp.isfinite(y).all()
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", BLOCKS, ids=lambda path: path.stem)
def test_a_block_file_runs_alone_in_an_empty_folder(path, tmp_path):
    assert path.stem in ALONE, f"ALONE must say how to build the layer of {path.name}"
    shutil.copy(path, tmp_path)
    program = f"""
import pathlib, sys, textwrap
# Isolated, Python does not look into the folder itself. Nor may it find an installed labml_gmlp.
sys.path.insert(0, ".")
sys.modules["labml_gmlp"] = None
import torch
from torch import nn
from {path.stem} import *
exec(textwrap.dedent({ALONE[path.stem]!r}))
x = torch.randn(2, 5, 4, requires_grad=True)
y = layer(x)
assert y.shape == x.shape
y.square().sum().backward()
assert all(p.grad is not None and p.grad.isfinite().all() for p in [x, *layer.parameters()])
assert pathlib.Path(sys.modules[{path.stem!r}].__file__).samefile({path.name!r})
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
