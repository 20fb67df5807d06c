r"""Times a training step of gMLP against other implementations.

# A training step

```
python -m benchmarks.blocks
```

Times one gMLP block and a stack of six: forward pass, backward pass and a step of fused AdamW, in
float32 and, for ours, also under autocast to bfloat16. In each round every implementation runs one
step, in random order, so that background load affects all alike. A ratio compares steps of the same
round; above 1, ours in float32 is faster.

The other implementations are unchanged. The stack of labml-nn is its `Encoder`, that of
g-mlp-pytorch its `gMLP` without embedding, that of timm a sequence of its blocks, which have no
causal mask.

The peak is the speed of a large float32 matrix product on the same threads. The matrix products of
a step, one forward and two backward, take $3 (3 n d e / 2 + n^2 e / 2)$ multiply-adds for each
sequence and layer, with $e$ = `d_ffn`.
"""

import argparse
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from g_mlp_pytorch import gMLP
from labml_nn.transformers.gmlp import GMLPBlock as LabmlBlock
from labml_nn.transformers.models import Encoder as LabmlEncoder
from torch import Tensor, nn

from benchmarks.peers import timm_mixer
from experiments.engine.run_folder import environment, write_json
from labml_gmlp import Encoder, GMLPBlock

D_MODEL, D_FFN, SEQ_LEN, BATCH = 512, 2048, 256, 8

Forward = Callable[[Tensor], Tensor]


class LabmlBlocks(nn.Module):
    """Blocks of labml-nn: sequence first, and causal by a mask."""

    def __init__(self, n_layers: int, causal: bool) -> None:
        super().__init__()
        block = LabmlBlock(D_MODEL, D_FFN, SEQ_LEN)
        self.stack = LabmlEncoder(block, n_layers) if n_layers > 1 else block
        self.mask = torch.ones(SEQ_LEN, SEQ_LEN, 1).tril().bool() if causal else None

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x=x, mask=self.mask)


def ours(n_layers: int, causal: bool) -> nn.Module:
    def block() -> GMLPBlock:
        return GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=causal)

    return Encoder(block, n_layers) if n_layers > 1 else block()


def g_mlp_pytorch(n_layers: int, causal: bool) -> nn.Module:
    model = gMLP(dim=D_MODEL, depth=n_layers, seq_len=SEQ_LEN, ff_mult=4, causal=causal)
    if n_layers > 1:
        model.to_logits = nn.LayerNorm(D_MODEL)
    return model


def timm(n_layers: int, causal: bool) -> nn.Module:
    block = timm_mixer().SpatialGatingBlock
    layers = [block(D_MODEL, SEQ_LEN, D_FFN / D_MODEL) for _ in range(n_layers)]
    return nn.Sequential(*layers, *([nn.LayerNorm(D_MODEL)] if n_layers > 1 else []))


# Our block under torch's autocast, for processors that multiply in bfloat16.
BFLOAT16 = "ours, autocast to bfloat16"

IMPLEMENTATIONS: dict[str, Callable[[int, bool], nn.Module]] = {
    "ours": ours,
    "labml-nn": LabmlBlocks,
    "g-mlp-pytorch": g_mlp_pytorch,
    "timm": timm,
}


def make_step(name: str, n_layers: int, causal: bool, precision: torch.dtype) -> Callable[[], None]:
    model = IMPLEMENTATIONS[name](n_layers, causal)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    shape = (SEQ_LEN, BATCH, D_MODEL) if name == "labml-nn" else (BATCH, SEQ_LEN, D_MODEL)
    x = torch.randn(shape)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            y = model(x)
        y.square().mean().backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def peak(rounds: int = 10, n: int = 2048) -> float:
    """Floating-point operations per second of the fastest of several large matrix products."""
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2 * n**3 / min(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(rounds))


def products(n_layers: int) -> float:
    """Floating-point operations in the matrix products of a step."""
    channels = SEQ_LEN * (D_MODEL * D_FFN + D_FFN // 2 * D_MODEL)
    tokens = SEQ_LEN**2 * D_FFN // 2
    return 3 * 2 * BATCH * n_layers * (channels + tokens)


def spread(values: list[float], digits: int) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def compare(n_layers: int, causal: bool, rounds: int) -> dict[str, list[float]]:
    names = [name for name in IMPLEMENTATIONS if not (causal and name == "timm")]
    steps = {name: make_step(name, n_layers, causal, torch.float32) for name in names}
    steps[BFLOAT16] = make_step("ours", n_layers, causal, torch.bfloat16)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name in random.sample(list(steps), len(steps)):
            took = seconds(steps[name])
            # The first two rounds are warm-up.
            if number >= 2:
                times[name].append(took)
    return times


def table(record: dict[str, Any]) -> str:
    """A Markdown table of medians and quartiles, one row for each implementation and setting."""
    lines = [
        "| layers | causal | implementation | ms a step | time / ours | of the peak |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in record["results"]:
        for name, own in result["seconds"].items():
            ratios = [t / o for t, o in zip(own, result["seconds"]["ours"], strict=True)]
            speed = products(result["n_layers"]) / statistics.median(own)
            lines.append(
                f"| {result['n_layers']} | {'yes' if result['causal'] else 'no'} | {name} "
                f"| {spread([1e3 * t for t in own], 1)} | {spread(ratios, 3)} "
                f"| {speed / record['peak']:.0%} |"
            )
    peak = f"The peak is {record['peak'] / 1e9:.0f} GFLOP/s, in float32."
    return "\n".join([*lines, "", peak])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training steps of gMLP implementations.")
    parser.add_argument(
        "--rounds", type=int, default=25, help="steps of each implementation (default: 25)"
    )
    parser.add_argument(
        "--threads", type=int, help="threads of torch (default: torch's own choice)"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write all times to a JSON file")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    command = shlex.join(["python", "-m", "benchmarks.blocks", *sys.argv[1:]])
    record: dict[str, Any] = {"environment": environment(torch.device("cpu"), command)}
    peaks, results = [peak()], []
    for n_layers in (1, 6):
        for causal in (False, True):
            print(f"layers: {n_layers}, causal: {causal}", file=sys.stderr, flush=True)
            times = compare(n_layers, causal, arguments.rounds)
            results.append({"n_layers": n_layers, "causal": causal, "seconds": times})
            peaks.append(peak())
    # Background load can only lower the measured peak, so take the highest.
    record |= {"peak": max(peaks), "results": results}
    print(f"{record['environment']['hardware']}; torch {record['environment']['torch']}\n")
    print(table(record))
    if arguments.save:
        write_json(arguments.save, record)


if __name__ == "__main__":
    main()
