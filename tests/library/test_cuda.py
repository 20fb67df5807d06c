"""The models and an experiment on a CUDA device."""

import copy

import pytest
import torch

from experiments.engine.run_folder import read_metrics
from labml_gmlp import (
    AMLPBlock,
    Encoder,
    GMLPBlock,
    LanguageModel,
    StochasticDepth,
    TinyAttention,
    TransformerLayer,
    generate_batch,
)
from tests.support.helpers import (
    assert_the_past_cannot_see_the_future,
    kept_tokens,
    random,
    random_mask,
    randomised,
    with_another_future,
)
from tests.support.small_runs import command, data, small, text_file

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

LAYERS = {
    "GMLPBlock": lambda: GMLPBlock(12, 10, 6, causal=True),
    "aMLP": lambda: AMLPBlock(
        12, 10, 6, causal=True, attention=TinyAttention(12, 5, 4, causal=True)
    ),
    "TransformerLayer": lambda: TransformerLayer(12, 3, 7, causal=True),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
def test_cuda_equals_the_cpu(name, masked):
    torch.manual_seed(0)
    layer, x = randomised(LAYERS[name]()), random(2, 5, 12)
    masks = [random_mask("a mask each", 2, 5), kept_tokens([3, 5], 5)] if masked else []
    kept = kept_tokens([3, 5] if masked else [5, 5], 5)
    on_cuda = copy.deepcopy(layer).to("cuda")
    got = on_cuda(x.to("cuda"), *[mask.to("cuda") for mask in masks]).cpu()
    torch.testing.assert_close(got[kept], layer(x, *masks)[kept], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("t", [1, 4])
def test_on_cuda_the_past_cannot_see_the_future(name, t):
    torch.manual_seed(0)
    layer, x = randomised(LAYERS[name]()).to("cuda"), random(2, 6, 12).to("cuda")
    assert_the_past_cannot_see_the_future(layer, x, with_another_future(x, t), t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_on_cuda_attention_without_positions_is_zero_and_has_finite_gradients(dtype):
    torch.manual_seed(0)
    layer = TinyAttention(12, 5, 8, out_bias=False, device="cuda", dtype=dtype)
    x = torch.randn(2, 6, 12, device="cuda", dtype=dtype, requires_grad=True)
    mask = torch.ones(6, 6, dtype=torch.bool, device="cuda")
    mask[2] = False
    y = layer(x, mask)
    assert not y[:, 2].any()
    y.float().square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_on_cuda_stochastic_depth_draws_for_each_sequence():
    torch.manual_seed(0)
    y = torch.ones(64, 3, 2, device="cuda")
    kept = StochasticDepth(0.5)(y).flatten(1)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert (kept == kept[:, :1]).all()


@pytest.mark.parametrize("name", LAYERS)
def test_a_seed_generates_the_same_text_on_cuda_and_on_the_cpu(name):
    torch.manual_seed(0)
    model = randomised(LanguageModel(9, Encoder(LAYERS[name], 2), n_positions=6))
    texts = []
    for device in ("cpu", "cuda"):
        prompts = [torch.tensor([1, 2], device=device), torch.tensor([3], device=device)]
        pairs = generate_batch(model.to(device), prompts, 20, seq_len=6, slide=2, seed=0, top_p=0.9)
        texts.append(list(pairs))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--precision=float32"],
        ["--compile"],
        [f"--devices={torch.cuda.device_count()}"],
        [f"--devices={torch.cuda.device_count()}", "--strategy=fsdp"],
    ],
)
def test_a_run_on_cuda_starts_with_the_loss_of_the_cpu_and_resumes(more, tmp_path):
    corpus, losses = text_file(tmp_path), []
    batch = 4 * max(1, torch.cuda.device_count())
    for device, flags in (("cpu", ["--precision=float32"]), ("cuda", more)):
        run = tmp_path / device
        arguments = small(corpus, run, device=device, batch=batch, log_every=1)
        done = command(*(a for a in arguments if not a.startswith("--precision")), *flags)
        assert done.returncode == 0, done.stderr
        losses.append(read_metrics(run / "metrics.jsonl")[0]["loss"])
    # bfloat16 has a precision of 8 bits.
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    again = command("--no-labml", f"--resume={tmp_path / 'cuda'}", f"--data={data()}")
    assert again.returncode == 0, again.stderr
