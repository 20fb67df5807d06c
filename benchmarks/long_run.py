r"""Measures the memory and the time of a step over a long run, to find leaks.

# Long run

```
python -m benchmarks.long_run
python -m benchmarks.long_run --labml
```

Trains a tiny model for many steps and logs every step, so that anything the engine keeps per step
accumulates. The first tenth is warm-up; growth after that is a leak.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.autoregressive import AutoregressiveSettings, build
from experiments.engine.devices import make_fabric
from experiments.engine.experiment import Training
from experiments.engine.launch import Launch
from experiments.engine.loop import train
from experiments.engine.optimiser import make_optimizer
from experiments.engine.run_folder import hardware
from experiments.engine.settings.errors import check_positive
from experiments.engine.state import State
from experiments.engine.tracking import tracking

PARTS = 10


def resident() -> float:
    """Resident memory of this process in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def long_run(steps: int, labml: bool, folder: Path) -> None:
    """Prints the memory and the median time of a step after each tenth of the run."""
    device = torch.device("cpu")
    fabric = make_fabric(device, 1, "ddp", "float32")
    corpus = folder / "text.txt"
    corpus.write_text("".join(random.Random(0).choices("abc \n", k=2_000)), encoding="utf-8")
    settings = AutoregressiveSettings(corpus=str(corpus), d_model=4, d_ffn=4, n_layers=1, seq_len=4)
    part = steps // PARTS
    training = Training(
        batch=1,
        steps=steps,
        warmup=0,
        log_every=1,
        evaluate_every=steps,
        save_every=part,
        ema=0.99,
    )
    task = build(settings, training, Launch(data=folder), fabric)
    model = fabric.setup_module(task.model)
    optimizer = make_optimizer(task.model, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    state = State({"settings": asdict(settings)}, task.model, optimizer)
    stepper: Any = fabric.setup_optimizers(optimizer)
    times: list[float] = []
    last = time.perf_counter()

    with tracking(labml, "long_run", folder, asdict(settings)) as track:

        def record(step: int, values: dict[str, float]) -> None:
            nonlocal last
            track(step, values)
            now = time.perf_counter()
            times.append(now - last)
            last = now
            if "loss" in values and step % part == 0:
                median = 1e6 * statistics.median(times)
                print(f"{step:7}  {resident():6.1f} MB  {median:7.1f} us a step", flush=True)
                times.clear()

        train(task, training, state, model, stepper, fabric, 1, folder, record)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure memory and time over a long run.")
    parser.add_argument(
        "--steps", type=int, default=100_000, help="number of steps (default: 100000)"
    )
    parser.add_argument("--labml", action="store_true", help="also track with labml")
    arguments = parser.parse_args()
    check_positive(arguments, ["steps"])
    print(f"{hardware(torch.device('cpu'))}; labml {'on' if arguments.labml else 'off'}")
    # labml still writes for a moment after the end, while the folder is being removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        long_run(arguments.steps, arguments.labml, Path(folder))


if __name__ == "__main__":
    main()
