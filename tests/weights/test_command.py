"""Weights from file to file, by function and from the command line."""

import subprocess
import sys

import pytest
import torch

from labml_gmlp import (
    weights,
)
from labml_gmlp.weights.__main__ import main as weights_main
from tests.support.other_packages import CASES, assert_same, made


@pytest.mark.parametrize("case", ["gMLP, heads", "labml encoder, causal and short"])
def test_a_file_is_loaded_and_written_back_in_bytes(case, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    state, (system, _, _, _, options) = made(case).state_dict(), CASES[case]
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


def test_the_command_line_says_what_a_file_holds(capsys, tmp_path):
    torch.save(made("timm gMLP, no squares").state_dict(), path := tmp_path / "a.pt")
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


def test_the_command_line_converts(capsys, tmp_path):
    state = made("gMLPVision").state_dict()
    torch.save({"module." + name: value for name, value in state.items()}, tmp_path / "a.pt")
    arguments = ["convert", str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--to", "timm"]
    assert run(capsys, *arguments, "--approximate") == (0, "", "")
    want = weights.to_state(weights.from_state(state), "timm gmlp", approximate=True)
    assert_same(weights.files.read(tmp_path / "b.pt"), want)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "{0}/none.pt"], "{0}/none.pt must be a file of weights, got No such file"),
        (["inspect", "{0}/bad.pt"], "{0}/bad.pt must be a file of weights in"),
        (["inspect", "{0}/a.pt", "-o", "causal"], "option must be NAME=VALUE, got 'causal'"),
        (["inspect", "{0}/a.pt", "-o", "depth=2"], "depth is no option of g-mlp-pytorch gMLP"),
        (["convert", "{0}/a.pt", "{0}/b.pt", "--to", "keras"], "to must be one of ["),
        (["convert", "{0}/a.pt", "{0}/b.pt", "--to", "timm"], "timm gmlp computes something else"),
        (["convert", "{0}/a.pt", "{0}/b.xyz", "--to", "g-mlp-pytorch"], "path must end with one"),
        (["convert", "{0}/a.pt", "{0}/no/b.pt", "--to", "g-mlp-pytorch"], "[Errno 2] No such file"),
    ],
)  # fmt: skip
def test_bad_input_takes_one_line_and_status_two(capsys, tmp_path, arguments, message):
    torch.save(made("gMLP").state_dict(), tmp_path / "a.pt")
    (tmp_path / "bad.pt").write_bytes(b"nothing of this kind")
    status, out, err = run(capsys, *(text.format(tmp_path) for text in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("python -m labml_gmlp.weights: " + message.format(tmp_path))
    assert err.count("\n") == 1
    assert not (tmp_path / "b.pt").exists()


def test_the_core_does_not_import_this_package():
    code = (
        "import sys, labml_gmlp; sys.exit(any('weights' in n for n in sys.modules if 'gmlp' in n))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
