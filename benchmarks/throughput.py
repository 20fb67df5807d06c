r"""Measures tokens per second of the autoregressive experiment against labml-nn.

# Training throughput

```
python -m benchmarks.throughput
```

The sizes are those of labml-nn's experiment: 6 layers, 256 characters, $d$ = 512, $e$ = 2048,
batches of 32. The rounds alternate between labml-nn's language model in a plain float32 loop with
torch's default AdamW, and our experiment as `python -m experiments.autoregressive` runs it, with
log and progress, in float32 and in bfloat16. A ratio compares times of the same round.
"""

import argparse
import contextlib
import io
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from labml_nn.transformers.gmlp import GMLPBlock
from labml_nn.transformers.models import EmbeddingsWithPositionalEncoding, Encoder, Generator
from torch import Tensor, nn

from experiments.autoregressive import AutoregressiveSettings, next_token_loss
from experiments.engine.devices import Precision, has_bf16, make_fabric
from experiments.engine.experiment import Task, Training
from experiments.engine.loop import train
from experiments.engine.optimiser import make_optimizer
from experiments.engine.order import BatchSplit
from experiments.engine.run_folder import environment, write_json
from experiments.engine.state import State
from experiments.models.language import layer_sizes, make_model

N_TOKENS = 65
SIZES = AutoregressiveSettings(d_model=512, d_ffn=2048, n_layers=6, seq_len=256)
BATCH = 32
CPU = torch.device("cpu")

# Runs a number of steps and returns the seconds they took.
Steps = Callable[[int], float]


class LabmlLanguageModel(nn.Module):
    """The model of labml-nn's experiment: sequence first, and causal by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = EmbeddingsWithPositionalEncoding(SIZES.d_model, N_TOKENS)
        block = GMLPBlock(SIZES.d_model, SIZES.d_ffn, SIZES.seq_len)
        self.encoder = Encoder(block, SIZES.n_layers)
        self.generator = Generator(N_TOKENS, SIZES.d_model)
        self.mask = torch.ones(SIZES.seq_len, SIZES.seq_len, 1).tril().bool()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.generator(self.encoder(self.embed(tokens), self.mask))


def batches() -> Tensor:
    return torch.randint(N_TOKENS, (BATCH, SIZES.seq_len + 1))


def labml() -> tuple[nn.Module, Steps]:
    model = LabmlLanguageModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def steps(number: int) -> float:
        began = time.perf_counter()
        for _ in range(number):
            window = batches().T
            logits = model(window[:-1])
            nats = nn.functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
            optimizer.zero_grad()
            nats.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return time.perf_counter() - began

    return model, steps


def ours(precision: Precision) -> tuple[nn.Module, Steps]:
    fabric = make_fabric(CPU, 1, "ddp", precision)
    model = make_model("gmlp", layer_sizes(SIZES), N_TOKENS, causal=True, seed=0)
    wrapper = fabric.setup_module(model)
    optimizer = make_optimizer(model, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.1)
    stepper: Any = fabric.setup_optimizers(optimizer)

    def read(step: int, split: BatchSplit) -> Any:
        while True:
            window = batches()
            yield window[:, :-1], window[:, 1:]

    task = Task(
        model=model,
        data={},
        about="random tokens",
        batches=read,
        loss=next_token_loss,
        evaluate=lambda model, fabric: {"nats_per_char": 0.0},
        monitor="nats_per_char",
        describe=str,
    )

    def steps(number: int) -> float:
        settings = Training(batch=BATCH, steps=number, lr=1e-4, warmup=0)
        state = State({}, model, optimizer)
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            train(
                *(task, settings, state, wrapper, stepper, fabric, 1, Path(folder)),
                lambda step, values: None,
            )
        # The time of the steps, without the final checkpoint.
        return state.seconds

    return model, steps


def table(record: dict[str, Any]) -> str:
    """A Markdown table of the median tokens per second and ratio of each model."""
    tokens = BATCH * SIZES.seq_len
    rows = ["| model | parameters | tokens/s | times labml-nn |", "| --- | --- | --- | --- |"]
    for name, seconds in record["seconds"].items():
        ratios = [
            theirs / own for theirs, own in zip(record["seconds"]["labml-nn"], seconds, strict=True)
        ]
        speed = tokens / statistics.median(seconds)
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if name != "labml-nn" else ""
        rows.append(
            f"| {name} | {record['parameters'][name]:,} | {speed:,.0f} "
            f"| {statistics.median(ratios):.2f}{spread} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare training throughput with labml-nn.")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--steps", type=int, default=2, help="steps per round (default: 2)")
    parser.add_argument("--save", type=Path, help="write all results to a JSON file")
    arguments = parser.parse_args()
    competitors = {"labml-nn": labml(), "ours, float32": ours("float32")}
    if has_bf16(CPU):
        competitors["ours, bf16"] = ours("bf16")
    command = shlex.join(["python", "-m", "benchmarks.throughput", *sys.argv[1:]])
    record: dict[str, Any] = {
        "environment": environment(CPU, command),
        "parameters": {
            name: sum(p.numel() for p in model.parameters())
            for name, (model, _) in competitors.items()
        },
        "seconds": {name: [] for name in competitors},
    }
    for _, steps in competitors.values():
        steps(1)
    for number in range(arguments.rounds):
        for name, (_, steps) in competitors.items():
            record["seconds"][name].append(steps(arguments.steps) / arguments.steps)
        print(number + 1, json.dumps({n: s[-1] for n, s in record["seconds"].items()}), flush=True)
    print(table(record))
    if arguments.save:
        write_json(arguments.save, record)


if __name__ == "__main__":
    main()
