"""The plan of the repository: which folder may import which, and how large a folder may be."""

import ast
import collections
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "labml_gmlp"
EXPERIMENTS = REPOSITORY / "experiments"
RENDERER = REPOSITORY / "mkdocs-annotated" / "mkdocs_annotated"
MODULES_IN_A_FOLDER = 15


@functools.cache
def python_files(folder: Path = REPOSITORY) -> list[Path]:
    """The Python files of a folder, without hidden folders, where virtual environments are."""
    found = sorted(folder.glob("*.py"))
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and child.name != "node_modules":
            found += python_files(child)
    return found


def modules(folder: Path) -> list[Path]:
    return [path for path in python_files(folder) if path.name != "__init__.py"]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module([], [])  # test data that is not Python on purpose


def module_name(path: Path) -> str:
    root = REPOSITORY / "mkdocs-annotated" if path.is_relative_to(RENDERER) else REPOSITORY
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """The full name of everything that a file imports, anywhere in it."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = [*package[: len(package) + 1 - node.level], *base]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return frozenset(found)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def imports_any(path: Path, *names: str) -> list[str]:
    """The imports of a file that are one of these modules or packages, or inside of one."""
    return [
        found
        for found in sorted(imports(path))
        if any(found == name or found.startswith(f"{name}.") for name in names)
    ]


def test_imports_are_found_wherever_they_are(tmp_path, monkeypatch):
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


# ## Who imports whom
#
# Each folder, and the modules that it must not import.
ENGINE, TEXT, IMAGES, MODELS, REPORTING = (
    f"experiments.{room}" for room in ("engine", "text", "images", "models", "reporting")
)
WEIGHTS = "labml_gmlp.weights"
PRETRAINED = [f"{WEIGHTS}.{name}" for name in ("pretrained", "description", "hub", "__main__")]
RENDERER_ROOMS = [
    f"mkdocs_annotated.{room}" for room in ("source", "markdown", "site", "pages", "beside")
]
SOURCE, MARKDOWN, SITE, PAGES, BESIDE = RENDERER_ROOMS
PLUGIN = [f"mkdocs_annotated.{name}" for name in ("plugin", "options", "__main__")]

MUST_NOT_IMPORT = {
    "labml_gmlp": ["experiments", "benchmarks", "tests", "labml", "lightning_fabric", "mkdocs"],
    "labml_gmlp/blocks": ["labml_gmlp"],
    "labml_gmlp/models": ["labml_gmlp.weights", "labml_gmlp.flax"],
    "labml_gmlp/weights/errors.py": ["labml_gmlp"],
    "labml_gmlp/weights/formats": [f"{WEIGHTS}.translate", f"{WEIGHTS}.systems", *PRETRAINED],
    "labml_gmlp/weights/translate": [f"{WEIGHTS}.formats", f"{WEIGHTS}.systems", *PRETRAINED],
    "labml_gmlp/weights/systems": [f"{WEIGHTS}.formats", *PRETRAINED],
    "labml_gmlp/weights/__init__.py": PRETRAINED,
    "experiments/engine": [TEXT, IMAGES, MODELS, REPORTING],
    "experiments/text": [IMAGES],
    "experiments/images": [TEXT, MODELS, REPORTING],
    "mkdocs-annotated": ["labml_gmlp", "experiments", "benchmarks", "torch"],
    "mkdocs-annotated/mkdocs_annotated/source": [MARKDOWN, SITE, PAGES, BESIDE, *PLUGIN],
    "mkdocs-annotated/mkdocs_annotated/markdown": [SITE, PAGES, BESIDE, *PLUGIN],
    "mkdocs-annotated/mkdocs_annotated/site": [PAGES, BESIDE, *PLUGIN],
    "mkdocs-annotated/mkdocs_annotated/pages": [SITE, BESIDE, *PLUGIN],
    "mkdocs-annotated/mkdocs_annotated/beside": PLUGIN,
}

# Packages that only these files and folders may import.
ONLY_HERE = {
    "labml": ["experiments", "tests"],
    "lightning_fabric": ["experiments", "benchmarks", "tests"],
    "torch.distributed.tensor": ["experiments/engine/sharding.py", "tests"],
    "torch.distributed.fsdp": [
        "experiments/engine/sharding.py",
        "experiments/engine/devices.py",
        "tests",
    ],
    "flax": ["labml_gmlp/flax", "experiments/flax_autoregressive.py", "tests"],
    "jax": ["labml_gmlp/flax", "experiments/flax_autoregressive.py", "tests"],
    "optax": ["experiments/flax_autoregressive.py", "tests"],
    "labml_gmlp.flax": ["labml_gmlp/flax", "experiments/flax_autoregressive.py", "tests"],
    "numpy": [
        "labml_gmlp/weights",
        "labml_gmlp/flax/weights.py",
        "experiments",
        "tests",
        "docs/draw",
    ],
    "mkdocs": [
        "mkdocs-annotated/mkdocs_annotated/plugin.py",
        "mkdocs-annotated/mkdocs_annotated/options.py",
        "mkdocs-annotated/mkdocs_annotated/__main__.py",
        "mkdocs-annotated/mkdocs_annotated/pages/publish.py",
        "mkdocs-annotated/tests",
        "tests",
    ],
}


@pytest.mark.parametrize("place", MUST_NOT_IMPORT)
def test_a_folder_imports_nothing_above_it(place):
    path = REPOSITORY / place
    files = [path] if path.suffix else python_files(path)
    assert files, f"{place} has no Python file"
    wrong = {
        str(file.relative_to(REPOSITORY)): found
        for file in files
        if (found := imports_any(file, *MUST_NOT_IMPORT[place]))
    }
    assert not wrong


@pytest.mark.parametrize("package", ONLY_HERE)
def test_a_package_is_imported_only_where_it_belongs(package):
    allowed = [REPOSITORY / place for place in ONLY_HERE[package]]
    assert all(place.exists() for place in allowed)
    wrong = [
        str(path.relative_to(REPOSITORY))
        for path in python_files()
        if not any(path.is_relative_to(place) for place in allowed) and imports_any(path, package)
    ]
    assert not wrong


@pytest.mark.parametrize("path", modules(PACKAGE / "blocks"), ids=lambda path: path.stem)
def test_a_block_imports_only_torch_and_the_standard_library(path):
    assert roots(path) <= {"torch"} | sys.stdlib_module_names


@pytest.mark.parametrize("path", modules(PACKAGE / "flax"), ids=lambda path: path.stem)
def test_a_file_of_the_flax_port_imports_only_flax_and_the_standard_library(path):
    # weights.py converts between the two, so it also imports torch and numpy.
    both = {"numpy", "torch"} if path.stem == "weights" else set()
    assert roots(path) <= {"flax", "jax"} | both | sys.stdlib_module_names


def test_every_file_at_the_top_of_experiments_is_a_command_and_no_file_below_imports_one():
    commands = [path for path in modules(EXPERIMENTS) if path.parent == EXPERIMENTS]
    for path in commands:
        assert 'if __name__ == "__main__":' in path.read_text(), path
    names = [module_name(path) for path in commands]
    for path in modules(EXPERIMENTS):
        if path not in commands:
            assert not imports_any(path, *names), path


# ## How large a folder may be, and one name for one thing


def test_no_folder_has_more_than_15_modules():
    counts = collections.Counter(path.parent for path in modules(REPOSITORY))
    assert not {
        str(folder.relative_to(REPOSITORY)): n
        for folder, n in counts.items()
        if n > MODULES_IN_A_FOLDER
    }


def test_results_hold_data_and_pages_but_no_code():
    assert not python_files(REPOSITORY / "results")


@pytest.mark.parametrize("package", ["labml_gmlp", "labml_gmlp.flax", "experiments", "renderer"])
def test_no_class_name_is_used_twice_in_a_package(package):
    # The Flax port has the names of the torch classes on purpose.
    flax = python_files(PACKAGE / "flax")
    files = {
        "labml_gmlp": [path for path in python_files(PACKAGE) if path not in flax],
        "labml_gmlp.flax": flax,
        "experiments": python_files(EXPERIMENTS),
        "renderer": python_files(RENDERER),
    }[package]
    places = collections.defaultdict(list)
    for path in files:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(REPOSITORY)))
    assert not {name: found for name, found in places.items() if len(found) > 1}


# ## Copied files
#
# Every file of `blocks` and of the Flax port runs alone: copied into an empty folder, with
# nothing of this package importable. Each snippet builds a `layer` that maps `[2, 5, 4]` to the
# same shape. A new block needs no snippet if its script in `docs/examples` uses no other file.
BLOCKS_ALONE = {
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
    "multi_head": "layer = MultiHeadSpatialProjection(5, 2)",
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
FLAX_ALONE = {
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

# One interpreter runs all files of a package, each in a folder of its own, and prints a JSON object
# of the tracebacks. -I keeps this repository off its path; None makes an import fail.
PROGRAM = """
import json, pathlib, sys, traceback
sys.modules["labml_gmlp"] = None
{prepare}
failed = {{}}
for folder in sorted(pathlib.Path(".").iterdir()):
    name = folder.name
    sys.path.insert(0, str(folder.resolve()))
    try:
        names = dict(namespace)
        exec(f"from {{name}} import *", names)
        if name not in snippets:
            exec(examples[name].replace(f"labml_gmlp.blocks.{{name}}", name), names)
            continue
        run(snippets[name], names)
        {check}
        assert pathlib.Path(sys.modules[name].__file__).parent.samefile(folder)
    except BaseException:
        failed[name] = traceback.format_exc()
    finally:
        sys.path.pop(0)
        sys.modules.pop(name, None)
print(json.dumps(failed))
"""


def failures(files: list[Path], snippets: dict[str, str], program: str, folder: Path) -> object:
    for path in files:
        (folder / path.stem).mkdir()
        (folder / path.stem / path.name).write_bytes(path.read_bytes())
    scripts = REPOSITORY / "docs" / "examples" / "blocks"
    examples = {path.stem: path.read_text() for path in scripts.glob("*.py")}
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{snippets = }\n{examples = }\n{program}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_block_file_runs_alone_in_an_empty_folder(tmp_path):
    program = PROGRAM.format(
        prepare="""import torch
from torch import nn
run, namespace = exec, {"torch": torch, "nn": nn}""",
        check="""x = torch.randn(2, 5, 4, requires_grad=True)
        y = names["layer"](x)
        assert y.shape == x.shape
        y.square().sum().backward()
        parameters = [x, *names["layer"].parameters()]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)""",
    )
    files = modules(PACKAGE / "blocks")
    assert {path.stem for path in files} >= set(BLOCKS_ALONE)
    assert failures(files, BLOCKS_ALONE, program, tmp_path) == {}


def test_every_file_of_the_flax_port_runs_alone_in_an_empty_folder(tmp_path):
    pytest.importorskip("flax", reason="the Flax port needs the extra flax")
    program = PROGRAM.format(
        prepare="""sys.modules["torch"] = None
import jax
import jax.numpy as jnp
from flax import nnx
jax.config.update("jax_disable_most_optimizations", True)
namespace = {"jnp": jnp, "nnx": nnx, "x": jnp.ones((2, 5, 4))}
def run(code, names):
    # One compiled program a snippet, instead of one for each of its operations.
    def traced():
        names["rngs"] = nnx.Rngs(0)
        exec(code, names)
        return names["y"]
    jit = jax.jit(traced, compiler_options={"xla_cpu_use_fusion_emitters": False})
    names["y"] = jit()""",
        check="""assert names["y"].shape == (2, 5, 4)
        assert jnp.isfinite(names["y"]).all()""",
    )
    files = [path for path in modules(PACKAGE / "flax") if path.stem != "weights"]
    assert failures(files, FLAX_ALONE, program, tmp_path) == {}
