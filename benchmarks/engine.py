r"""Times the training engine against a plain loop.

# Cost of the training engine

```
python -m benchmarks.engine
```

Alternates between a plain training loop and the engine's `train` on the same model, and compares
the time of a step. The time of the engine includes its log, progress output and two checkpoints per
round, but neither evaluation nor labml. Both compute in float32.
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
from typing import Any

import torch
from torch import Tensor, nn

from experiments.autoregressive import AutoregressiveSettings, next_token_loss
from experiments.engine.devices import make_fabric
from experiments.engine.experiment import Task, Training
from experiments.engine.loop import train
from experiments.engine.optimiser import make_optimizer
from experiments.engine.run_folder import hardware
from experiments.engine.state import State
from experiments.models.language import layer_sizes, make_model
from experiments.text.tokens import Tokens
from experiments.text.windows import Windows

N_TOKENS = 65
CPU = torch.device("cpu")


def model_of(settings: AutoregressiveSettings, training: Training) -> nn.Module:
    return make_model(
        settings.layer, layer_sizes(settings), N_TOKENS, causal=True, seed=training.seed
    )


def plain_loop(settings: AutoregressiveSettings, training: Training, tokens: Tensor) -> float:
    """Seconds for the steps of a minimal training loop."""
    model = model_of(settings, training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, fused=True)
    began = time.perf_counter()
    for _ in range(training.steps):
        starts = torch.randint(len(tokens) - settings.seq_len, (training.batch,))
        window = torch.stack([tokens[s : s + settings.seq_len + 1] for s in starts])
        logits = model(window[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimizer.step()
    return time.perf_counter() - began


def engine(settings: AutoregressiveSettings, training: Training, tokens: Tensor) -> float:
    """Seconds of `train`, checkpoints included."""
    fabric = make_fabric(CPU, 1, "ddp", "float32")
    task = Task(
        model=model_of(settings, training),
        data={},
        about="benchmark",
        batches=Windows(Tokens(tokens), settings.seq_len, training.batch, training.seed).batches,
        loss=next_token_loss,
        evaluate=lambda model, fabric: {"error": 0.0},
        monitor="error",
        describe=lambda found: "nothing",
    )
    model = fabric.setup_module(task.model)
    optimizer = make_optimizer(
        task.model, lr=training.lr, betas=(0.9, 0.99), weight_decay=training.weight_decay
    )
    stepper: Any = fabric.setup_optimizers(optimizer)
    state = State({"settings": asdict(settings)}, task.model, optimizer)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        began = time.perf_counter()
        train(
            *(task, training, state, model, stepper, fabric, 1),
            Path(folder),
            lambda step, values: None,
        )
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the training engine against a plain loop.")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--steps", type=int, default=250, help="steps per round (default: 250)")
    arguments = parser.parse_args()
    settings, training = AutoregressiveSettings(), Training(steps=arguments.steps, warmup=0)
    tokens = torch.randint(1, N_TOKENS, (1_000_000,))
    warm = dataclasses.replace(training, steps=20, warmup=0)
    plain_loop(settings, warm, tokens)
    engine(settings, warm, tokens)
    print(f"{hardware(CPU)}; {arguments.steps} steps a round")
    print("round  plain steps/s  engine steps/s  engine time / plain time")
    ratios = []
    for number in range(arguments.rounds):
        plain = plain_loop(settings, training, tokens)
        own = engine(settings, training, tokens)
        ratios.append(own / plain)
        print(
            f"{number + 1:5}  {training.steps / plain:13.1f}  {training.steps / own:14.1f}  "
            f"{ratios[-1]:.3f}",
            flush=True,
        )
    print(f"ratio: min {min(ratios):.3f}, median {statistics.median(ratios):.3f}, ", end="")
    print(f"max {max(ratios):.3f}")


if __name__ == "__main__":
    main()
