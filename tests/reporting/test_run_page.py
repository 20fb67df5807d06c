"""The figures and the page of a run."""

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from experiments.autoregressive import AutoregressiveSettings
from experiments.engine.checkpoint import load_checkpoint
from experiments.engine.devices import make_fabric
from experiments.engine.experiment import Training
from experiments.engine.state import State
from experiments.reporting.pictures import NATS_PER_CHARACTER, Curve, loss_curve, spatial_matrices
from experiments.reporting.run_page import (
    LOSS_CURVE,
    SPATIAL_MATRICES,
    SPATIAL_NUMBERS,
    fenced,
    matrices,
    page,
    read_matrices,
    write_run,
)
from labml_gmlp import (
    ConvolutionProjection,
    Encoder,
    GMLPBlock,
    LanguageModel,
    MultiHeadSpatialProjection,
    SpatialGatingUnit,
    SpatialProjection,
    ToeplitzProjection,
    WindowedProjection,
)
from tests.support.helpers import properties

CPU = torch.device("cpu")
SVG = "{http://www.w3.org/2000/svg}"


def record_of(corpus: str = "python", command: str = "python -m this") -> dict[str, Any]:
    return {
        "settings": {**asdict(AutoregressiveSettings(corpus=corpus)), **asdict(Training())},
        "data": {
            "name": corpus,
            "sha256": "ab" * 32,
            "vocabulary": {"name": "letters", "characters": "abc"},
        },
        "launch": {"devices": 2, "precision": "bf16"},
        "environment": {"command": command, "commit": "", "torch": "2.13.0"},
    }


RESULT = {
    "validation": {
        "step": 1_500,
        "nats_per_char": 1.66949,
        "bits_per_char": 2.40857,
        "perplexity": 5.30946,
    },
    "parameters": 806_400,
    "seconds": 61.4,
}


def page_of(sample: str = "a sample", title: str = "gmlp on python", **record: str) -> str:
    parts = ["## Sample", fenced(sample)]
    return page(record_of(**record), RESULT, title, "**1.6695 nats per character**", parts)


def fenced_blocks(markdown: str) -> tuple[list[str], list[str]]:
    """The code blocks and the lines outside of them, by the rules of CommonMark."""
    blocks: list[str] = []
    outside: list[str] = []
    fence, inside = "", list[str]()
    for line in markdown.split("\n"):
        closing = re.fullmatch(r" {0,3}([`~]{3,})[ \t]*", line)
        if fence:
            if closing and closing[1].startswith(fence) and not closing[1].strip(fence[0]):
                blocks.append("\n".join(inside))
                fence, inside = "", []
            else:
                inside.append(line)
        elif opening := re.match(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})", line):
            fence = opening[1]
        else:
            outside.append(line)
    assert not fence, "a fence that is never closed"
    return blocks, outside


def reported(folder, monkeypatch, projections, causal=True) -> list[torch.Tensor] | None:
    """The matrices drawn for a run whose blocks have these projections."""
    drawn = []
    monkeypatch.setattr(
        "experiments.reporting.run_page.spatial_matrices", lambda w: drawn.extend(w) or b""
    )
    encoder = Encoder(
        lambda i: GMLPBlock(4, 6, causal=True, sgu=SpatialGatingUnit(6, projection=projections[i])),
        len(projections),
    )
    model = LanguageModel(9, encoder)
    state = State({}, model, torch.optim.AdamW(model.parameters()), best=RESULT["validation"])
    state.save(folder / "best.pt", make_fabric(CPU, 1, "ddp", "float32"))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    parts = matrices(folder, model, load_checkpoint(folder / "best.pt"), causal=causal)
    described = {"title": "a run", "headline": "a result", "curve": NATS_PER_CHARACTER}
    write_run(folder, record_of(), state, **described, parts=parts)
    has = (folder / SPATIAL_MATRICES).exists()
    text = (folder / "index.md").read_text()
    assert (SPATIAL_MATRICES in text) == has
    assert ("would read the future" in text) == (has and causal)
    assert (folder / SPATIAL_NUMBERS).exists() == has
    if not has:
        return None
    # The recorded matrices are the drawn ones.
    for kept, shown in zip(read_matrices(folder), drawn, strict=True):
        assert np.array_equal(kept, shown)
    return [torch.from_numpy(weight) for weight in drawn]


@pytest.mark.parametrize("causal", [True, False])
def test_only_free_matrices_are_drawn(causal, tmp_path, monkeypatch):
    free = SpatialProjection(5, causal=True)
    others = [
        ToeplitzProjection(5, causal=True),
        ConvolutionProjection(3, 3, causal=True),
        WindowedProjection(2, causal=True),
        MultiHeadSpatialProjection(5, 3, causal=True),
    ]
    torch.nn.init.normal_(free.weight)
    [weight] = reported(tmp_path, monkeypatch, [others[0], free, *others[1:]], causal)
    want = free.weight.detach()
    assert torch.equal(weight, want.tril() if causal else want)


def test_the_matrices_of_averaged_weights_are_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "experiments.reporting.run_page.spatial_matrices", lambda w: drawn.extend(w) or b""
    )
    model = torch.nn.Sequential(SpatialProjection(4))
    itself, average = torch.randn(2, 4, 4)
    checkpoint = {"model": {"0.weight": itself}, "average": {"0.weight": average}}
    assert matrices(tmp_path, model, checkpoint, causal=False)
    assert torch.equal(torch.from_numpy(drawn[0]), average)


def test_other_projections_are_not_drawn(tmp_path, monkeypatch):
    assert reported(tmp_path, monkeypatch, [ToeplitzProjection(5, causal=True)]) is None


# ## The page


def test_the_page_links_the_figures_that_are_written():
    assert re.findall(r"!\[.+?\]\((.+?)\)", page_of()) == [LOSS_CURVE]


def test_a_run_without_spatial_matrices_does_not_mention_them(tmp_path):
    model = torch.nn.Linear(3, 3)
    checkpoint = {"model": model.state_dict(), "average": None}
    assert matrices(tmp_path, model, checkpoint, causal=True) == []
    assert list(tmp_path.iterdir()) == []
    assert "$W$" not in page_of()


def test_the_page_states_the_result_with_its_units():
    text = page_of()
    for part in (
        "# gmlp on python\n",
        "**1.6695 nats per character**",
        "at step 1500 of 2000; 806,400 parameters, 61 s.",
    ):
        assert part in text


def test_the_page_has_every_setting_and_no_empty_row():
    rows = dict(re.findall(r"^\| (.+?) \| `(.*)` \|$", page_of(), re.MULTILINE))
    for name, value in {**asdict(AutoregressiveSettings()), **asdict(Training())}.items():
        assert rows[name] == str(value)
    assert rows["data, sha256"] == "ab" * 32
    assert rows["data, vocabulary"] == "letters"
    assert (rows["devices"], rows["precision"]) == ("2", "bf16")
    assert rows["torch"] == "2.13.0"
    assert "commit" not in rows


@properties
@given(sample=st.text("`~ \na#|<$", max_size=60))
def test_no_sample_closes_its_code_block(sample):
    blocks, outside = fenced_blocks(page_of(sample))
    assert blocks == ["python -m this", sample]
    assert [line for line in outside if line.startswith("#")] == [
        "# gmlp on python",
        "## Loss",
        "## Sample",
        "## Settings",
        "## Where it ran",
    ]


def test_a_sample_with_a_fence_stays_inside_its_code_block():
    sample = "```\n# not a heading\n````text\n~~~\n`"
    assert fenced_blocks(page_of(sample))[0][1] == sample


@properties
@given(text=st.text())
def test_no_control_character_of_a_sample_reaches_the_page(text):
    shown = page_of(text)
    assert not re.search(r"[^\n\t -~\u00a1-\U0010ffff]", shown)
    assert not set(shown) & set("\x00\x0b\x0c\r\x1b\x7f\x85\u2028\u2029\u202e\ufeff")


def test_letters_of_all_scripts_reach_the_page():
    sample = "Grüße,\tжизнь\n世界 🐍"
    assert fenced_blocks(page_of(sample))[0][1] == sample


def test_no_control_character_of_a_file_name_reaches_the_page():
    name = "a\x0cb\x1bc\rd\u2028e.txt"
    shown = page_of(corpus=name, command=f"python -m this --corpus '{name}'", title=name)
    assert not set(shown) & set("\x0c\x1b\r\u2028")


def test_a_file_name_with_a_line_break_takes_no_second_line():
    assert not any(line.startswith("b.txt") for line in page_of(corpus="a\nb.txt").split("\n"))


def test_a_pipe_in_a_value_does_not_split_its_cell():
    row = next(r for r in page_of(corpus="a|b.txt").split("\n") if r.startswith("| corpus |"))
    # In a table an unescaped pipe ends a cell, even inside code.
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_a_command_with_backticks_stays_in_its_code_block():
    command = "python -m this --corpus '\n```\n# not a heading'"
    assert "# not a heading'" not in fenced_blocks(page_of(command=command))[1]


# ## The pictures


def metrics_of(n: int, evaluate_every: int = 5) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    for step in range(1, n + 1):
        lines.append({"step": step, "loss": 4 / step, "lr": 0.1, "grad_norm": 1.0})
        if step % evaluate_every == 0:
            lines.append({"step": step, "nats_per_char": 5 / step, "bits_per_char": 7 / step})
    return lines


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"step": 1, "loss": 2.0}],
        [{"step": 1, "nats_per_char": 2.0}],
        [{"step": 1, "loss": 2.0}, {"step": 1, "nats_per_char": 2.0}],
        [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 2.0}],
        metrics_of(19),
        metrics_of(100),
    ],
    ids=["nothing", "one loss", "one evaluation", "one of each", "flat", "short", "long"],
)
def test_the_loss_curve_is_a_reproducible_svg(metrics):
    first, second = loss_curve(metrics), loss_curve(metrics)
    assert first == second
    root = ET.fromstring(first)
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}path"))) > 5


def test_the_loss_curve_names_the_best_evaluation_only():
    shown = loss_curve(metrics_of(100)).decode()
    assert ">best 0.0500</text>" in shown
    assert "best at step 100, 0.0500 nats per character" in shown
    assert "best" not in loss_curve([{"step": 1, "loss": 2.0}]).decode()


def test_the_loss_curve_shows_the_metric_of_its_curve():
    metrics = [{"step": 1, "loss": 2.0}, {"step": 1, "error": 0.25, "nats_per_char": 0.125}]
    shown = loss_curve(metrics, Curve("error", "fraction of images")).decode()
    assert ">best 0.2500</text>" in shown
    assert ">fraction of images</text>" in shown


def test_another_run_has_another_curve():
    assert loss_curve(metrics_of(40)) != loss_curve(metrics_of(41))


def test_the_matrices_are_a_png_with_rows_of_up_to_three():
    torch.manual_seed(0)
    for n, columns, rows in ((1, 1, 1), (4, 3, 2)):
        matrices = [torch.randn(6, 6).tril().numpy() for _ in range(n)]
        pixels = imread(io.BytesIO(spatial_matrices(matrices)))
        height, width = pixels.shape[:2]
        # Inches a panel and of the colour bar, at 130 dots an inch.
        assert width == pytest.approx(130 * (2.2 * columns + 0.9), abs=2)
        assert height == pytest.approx(130 * 2.5 * rows, abs=2)


def test_all_matrices_have_one_scale():
    # Alone, a matrix of small numbers would be as strong as one of large numbers.
    small, large = np.full((4, 4), 0.25), np.full((4, 4), 1.0)
    pixels = imread(io.BytesIO(spatial_matrices([small, large])))
    row = pixels[pixels.shape[0] // 2, :, 3]
    left, right = row[130], row[130 + 286]
    assert left == pytest.approx(0.25, abs=0.01)
    assert right == pytest.approx(1, abs=0.01)


def test_zero_has_the_colour_of_the_page():
    pixels = imread(io.BytesIO(spatial_matrices([np.diag([1.0, 0.0, 0.0, 0.0])])))
    assert pixels[pixels.shape[0] // 2, 150, 3] < 0.01


def test_the_matrices_are_drawn_reproducibly():
    matrices = [np.arange(9.0).reshape(3, 3)]
    assert spatial_matrices(matrices) == spatial_matrices(matrices)


def test_red_is_positive_and_blue_negative():
    png = spatial_matrices([np.diag([3.0, -3.0])])
    # Without the colour bar, on its right. What is transparent has no colour.
    red, _, blue, opacity = imread(io.BytesIO(png))[:, :280].transpose(2, 0, 1)
    # The first row of the matrix is the upper one, its first column the left one.
    red_at, blue_at = (
        (opacity * (red - blue) > 0.2).nonzero(),
        (opacity * (blue - red) > 0.2).nonzero(),
    )
    for adds, subtracts in zip(red_at, blue_at, strict=True):
        assert len(adds) > 1_000
        assert len(subtracts) > 1_000
        assert adds.max() <= subtracts.min() + 1


def test_a_matrix_of_zeros_is_drawn_too():
    assert imread(io.BytesIO(spatial_matrices([np.zeros((4, 4))]))).ndim == 3
