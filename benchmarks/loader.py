r"""Times the data loader against a training step.

# Cost of the data loader

```
python -m benchmarks.loader
```

Alternates between reading batches of windows from a token file and training the default model, and
compares the time for a batch with that of a step: forward, backward, clipping, update. The tokens
are in the file cache of the system, as after the first pass over a text that fits into it.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from experiments.autoregressive import AutoregressiveSettings
from experiments.engine.optimiser import make_optimizer
from experiments.engine.run_folder import hardware
from experiments.models.language import LayerSizes, layer_sizes, make_model
from experiments.text.corpus import load_corpus
from experiments.text.windows import Windows

# Batch size and window of the default experiment and of labml-nn's. Both use the default model; it
# is smaller than labml-nn's, so the loader weighs more.
CASES = [(12, 64), (32, 256)]
# Batches are read in microseconds, so time this many for each step.
READS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the data loader against a training step.")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--steps", type=int, default=20, help="steps per round (default: 20)")
    arguments = parser.parse_args()
    print(f"{hardware(torch.device('cpu'))}; {arguments.steps} steps a round")
    print("batch x context  reading ms  step ms  reading / step: min, median, max")
    with tempfile.TemporaryDirectory() as folder:
        for batch, seq_len in CASES:
            sizes = layer_sizes(replace(AutoregressiveSettings(), seq_len=seq_len))
            reading, stepping = measure(
                sizes, batch, Path(folder), arguments.rounds, arguments.steps
            )
            ratios = [a / b for a, b in zip(reading, stepping, strict=True)]
            print(
                f"{batch:5} x {seq_len:7}  {1e3 * statistics.median(reading):10.3f}  "
                f"{1e3 * statistics.median(stepping):7.1f}  "
                f"{min(ratios):.2%}, {statistics.median(ratios):.2%}, {max(ratios):.2%}",
                flush=True,
            )


def measure(
    sizes: LayerSizes, batch: int, data: Path, rounds: int, steps: int
) -> tuple[list[float], list[float]]:
    """Seconds for reading a batch and for a step, in each round."""
    corpus = load_corpus("python", sizes.seq_len, data)
    windows = Windows(corpus.train, sizes.seq_len, batch, seed=0)
    model = make_model("gmlp", sizes, len(corpus.vocabulary), causal=True, seed=0)
    optimizer = make_optimizer(model, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)

    def read(n: int) -> float:
        began = time.perf_counter()
        for step in range(n):
            windows.batch_at(step)
        return (time.perf_counter() - began) / n

    def train(n: int) -> float:
        x, y = windows.batch_at(0)
        began = time.perf_counter()
        for _ in range(n):
            loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return (time.perf_counter() - began) / n

    read(READS), train(2)
    times = [(read(READS * steps), train(steps)) for _ in range(rounds)]
    return [reading for reading, _ in times], [step for _, step in times]


if __name__ == "__main__":
    main()
