"""Files of weights converted by functions and from the command line."""

import ast
from pathlib import Path

import pytest
import torch

from labml_gmlp import weights
from labml_gmlp.weights.__main__ import main as weights_main
from tests.support.helpers import assert_names
from tests.support.packages import CASES, assert_same, make_random


@pytest.mark.parametrize("case", ["gMLP, heads", "labml encoder, causal and short"])
def test_a_file_is_loaded_and_written_back_unchanged(case, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    state, (system, _, _, _, options) = make_random(case).state_dict(), CASES[case]
    torch.save({"model": state, "ema": {}, "epoch": 3}, tmp_path / "a.pt")
    model = weights.load(tmp_path / "a.pt", **options)
    weights.save(model, tmp_path / "b.safetensors", to=system)
    got = weights.files.read(tmp_path / "b.safetensors")
    assert_same({name: got[name] for name in state}, state)
    assert len(got) == len(state)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = weights_main(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


def test_inspect_prints_the_system_the_configuration_and_the_names(capsys, tmp_path):
    torch.save(make_random("timm gMLP, no squares").state_dict(), path := tmp_path / "a.pt")
    status, out, err = run(capsys, "inspect", str(path), "-o", "image_size=[8, 15]")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["timm gmlp", "981 parameters"]
    assert "image_size       (8, 15)" in lines
    assert "norm_eps         1e-06" in lines
    there, *shape, here = next(line for line in lines if ".gate.proj.weight" in line).split()
    assert there == "blocks.0.mlp_channels.gate.proj.weight"
    assert " ".join(shape) == "[10, 10]"
    assert here == "encoder.layers.0.sgu.projection.weight"


def test_convert_writes_a_file_for_another_system(capsys, tmp_path):
    state = make_random("gMLPVision").state_dict()
    torch.save({"module." + name: value for name, value in state.items()}, tmp_path / "a.pt")
    arguments = ["convert", str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--to", "timm"]
    assert run(capsys, *arguments, "--approximate") == (0, "", "")
    want = weights.to_state(weights.from_state(state), "timm gmlp", approximate=True)
    assert_same(weights.files.read(tmp_path / "b.pt"), want)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["inspect", "{0}/none.pt"], ["{0}/none.pt", "No such file"]),
        (["inspect", "{0}/bad.pt"], ["{0}/bad.pt", "20 bytes"]),
        (["inspect", "{0}/a.pt", "-o", "causal"], ["option", "NAME=VALUE", "'causal'"]),
        (["inspect", "{0}/a.pt", "-o", "depth=2"], ["g-mlp-pytorch gMLP", "option depth"]),
        (["convert", "{0}/a.pt", "{0}/b.pt", "--to", "keras"], ["to", "'keras'", "'timm gmlp'"]),
        (["convert", "{0}/a.pt", "{0}/b.pt", "--to", "timm"], ["timm gmlp", "kind", "'language'"]),
        (["convert", "{0}/a.pt", "{0}/b.xyz", "--to", "g-mlp-pytorch"], ["path", "'b.xyz'"]),
        (["convert", "{0}/a.pt", "{0}/no/b.pt", "--to", "g-mlp-pytorch"], ["{0}/no/b.pt"]),
    ],
)  # fmt: skip
def test_bad_input_is_reported_on_one_line_with_status_two(capsys, tmp_path, arguments, parts):
    torch.save(make_random("gMLP").state_dict(), tmp_path / "a.pt")
    (tmp_path / "bad.pt").write_bytes(b"no weights in here..")
    status, out, err = run(capsys, *(text.format(tmp_path) for text in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("python -m labml_gmlp.weights: ")
    assert_names(err.removesuffix("\n"), *(part.format(tmp_path) for part in parts))
    assert not (tmp_path / "b.pt").exists()


def test_the_core_does_not_import_this_package():
    package = Path(weights.__file__).parents[1]
    core = [p for p in package.rglob("*.py") if "weights" not in p.relative_to(package).parts]
    assert len(core) > 20
    for path in core:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            assert not any(name.startswith("labml_gmlp.weights") for name in names), path
