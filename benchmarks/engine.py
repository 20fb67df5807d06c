r"""
# What the training engine costs

```
python -m benchmarks.engine
```

Trains the same model by a plain loop and by the experiment's own `train`, in turn, and compares the
time of a step. The engine's time includes its log, its progress, labml and two checkpoints a round;
it leaves out nothing but the evaluation, whose text is one window here.
"""

import argparse
import contextlib
import dataclasses
import io
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from experiments.autoregressive import Settings, train
from experiments.checkpoint import State
from experiments.corpus import Corpus
from experiments.models import make_model
from experiments.optimisation import make_optimizer
from experiments.records import hardware
from experiments.tokens import Tokens
from experiments.vocabulary import Characters

N_TOKENS = 65


def plain_loop(settings: Settings, tokens: torch.Tensor) -> float:
    """Seconds of the steps alone: what one would write without any engine."""
    model = make_model(settings, N_TOKENS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, fused=True)
    began = time.perf_counter()
    for _ in range(settings.steps):
        starts = torch.randint(len(tokens) - settings.seq_len, (settings.batch,))
        window = torch.stack([tokens[s : s + settings.seq_len + 1] for s in starts])
        logits = model(window[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
    return time.perf_counter() - began


def engine(settings: Settings, tokens: torch.Tensor) -> float:
    """Seconds of `train` from its first to its last step, checkpoints included."""
    model = make_model(settings, N_TOKENS)
    optimizer = make_optimizer(
        model, lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay
    )
    vocabulary = Characters("".join(map(chr, range(33, 33 + N_TOKENS - 1))))
    train_tokens = Tokens(tokens)
    validation = train_tokens.part(0, settings.seq_len + 1)
    corpus = Corpus("benchmark", "", vocabulary, train_tokens, validation, settings.seq_len)
    state = State({"settings": asdict(settings)}, model, optimizer)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        began = time.perf_counter()
        train(settings, state, corpus, Path(folder), torch.device("cpu"), lambda step, values: None)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a plain loop and the engine in turn.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both (default: 5)")
    parser.add_argument("--steps", type=int, default=250, help="steps a round (default: 250)")
    arguments = parser.parse_args()
    settings = dataclasses.replace(Settings(), steps=arguments.steps)
    tokens = torch.randint(1, N_TOKENS, (1_000_000,))
    warm = dataclasses.replace(settings, steps=20, warmup=0)
    plain_loop(warm, tokens)
    engine(warm, tokens)
    print(f"{hardware(torch.device('cpu'))}; {arguments.steps} steps a round")
    print("round  plain steps/s  engine steps/s  engine time / plain time")
    ratios = []
    for number in range(arguments.rounds):
        plain, own = plain_loop(settings, tokens), engine(settings, tokens)
        ratios.append(own / plain)
        print(
            f"{number + 1:5}  {settings.steps / plain:13.1f}  {settings.steps / own:14.1f}  "
            f"{ratios[-1]:.3f}",
            flush=True,
        )
    print(f"ratio: min {min(ratios):.3f}, median {statistics.median(ratios):.3f}, ", end="")
    print(f"max {max(ratios):.3f}")


if __name__ == "__main__":
    main()
