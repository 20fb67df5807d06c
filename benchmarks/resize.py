r"""Evaluates a trained model at other sequence lengths, without further training.

# Longer texts than in training

```
python -m experiments.autoregressive --corpus tiny_shakespeare --run runs/short
python -m benchmarks.resize runs/short
```

Evaluates the best checkpoint of a run on the whole validation split, with windows of 0.5, 1, 2 and
4 times the length in training. For longer windows `extend` continues $W$ along its diagonals.
`interpolate`, which stretches $W$, is not meant for text and is shown for comparison.
"""

import argparse
from pathlib import Path

import torch

from experiments.autoregressive import load_best_model
from experiments.engine.checkpoint import BEST, CheckpointError
from experiments.engine.devices import make_fabric
from experiments.engine.state import load_run_checkpoint
from experiments.text.corpus import load_corpus
from experiments.text.evaluation import evaluate
from labml_gmlp import extend, interpolate


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate a run on texts of other lengths.")
    parser.add_argument("run", type=Path, help="folder of a run with gMLP layers")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpora")
    arguments = parser.parse_args()
    try:
        checkpoint = load_run_checkpoint(arguments.run / BEST)
    except (CheckpointError, OSError) as error:
        parser.error(f"run must be the folder of a run: {error}")
    settings, _, model = load_best_model(checkpoint)
    n = settings.seq_len
    corpus = load_corpus(settings.corpus, n, arguments.data)
    models = {
        f"{n // 2} | corner of W": (model, n // 2),
        f"{n} | as trained": (model, n),
        f"{2 * n} | `extend`": (extend(model, 2 * n), 2 * n),
        f"{4 * n} | `extend`": (extend(model, 4 * n), 4 * n),
        f"{2 * n} | `interpolate`": (interpolate(model, 2 * n), 2 * n),
    }
    fabric = make_fabric(torch.device("cpu"), 1, "ddp", "float32")
    print("| tokens | W | nats/char |\n| --- | --- | --- |")
    for name, (resized, length) in models.items():
        found = evaluate(resized, corpus.validation, corpus.validation_characters, length, fabric)
        print(f"| {name} | {found['nats_per_char']:.4f} |", flush=True)


if __name__ == "__main__":
    main()
