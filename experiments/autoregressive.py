r"""
# An autoregressive language model

The model reads characters and predicts the next one, at each position from what stands before it.
The paper trains masked language models only; this asks whether gMLP serves here too, and sets it
beside a Transformer of the same size, on the same data in the same order.

```
python -m experiments.autoregressive
python -m experiments.autoregressive --corpus tiny_shakespeare --layer transformer
python -m experiments.autoregressive sample runs/NAME --prompt "def "
```
"""

import argparse
import dataclasses
import itertools
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from experiments.checkpoint import State, load_run_checkpoint
from experiments.corpus import Corpus, Windows, load_corpus
from experiments.evaluation import evaluate, in_words
from experiments.models import ENCODERS, LAYERS, make_model
from experiments.optimisation import make_optimizer, rate
from experiments.progress import Progress
from experiments.records import Metrics, environment, hardware
from experiments.report import write_report
from experiments.runs import (
    Launch,
    check_space,
    make_folder,
    new_folder,
    pick_device,
    read_record,
)
from experiments.settings import (
    LATER,
    Parser,
    UserError,
    add_flags,
    changed,
    check_positive,
    from_dict,
    given,
    run_command,
    user_errors,
)
from experiments.tracking import Track, tracking
from experiments.vocabulary import Characters
from labml_gmlp import generate

PROGRAM = "python -m experiments.autoregressive"


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""
    ## Settings

    All that a result depends on. Two runs with the same settings, the same text and the same number
    of threads on the same CPU give the same losses, bit for bit.

    * `corpus` is python, tiny_shakespeare or the path of a UTF-8 text
    * `layer` is gmlp or transformer; the other defaults follow it
    * `encoder` is labml_gmlp or labml_nn, the package whose encoder stacks the layers
    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `n_heads` is the number of attention heads, for the transformer only
    * `seq_len` is the context in characters
    * `batch` is the number of sequences a step
    * `steps` is the number of steps
    * `lr` is the peak learning rate
    * `warmup` is the number of steps until the peak
    * `weight_decay` is that of AdamW, on the matrices of linear layers
    * `beta1` and `beta2` are AdamW's averages of the gradient and of its square
    * `clip` is the largest norm of the gradient
    * `evaluate_every` is the number of steps between evaluations
    * `save_every` is the number of steps between checkpoints
    * `log_every` is the number of steps between lines of `metrics.jsonl`
    * `seed` decides initial weights, data order and samples
    """

    corpus: str = "python"
    layer: str = "gmlp"
    encoder: str = field(default="labml_gmlp", metadata=LATER)
    d_model: int = 128
    d_ffn: int = 512
    n_layers: int = 7
    n_heads: int = 4
    seq_len: int = 64
    batch: int = 12
    steps: int = 2_000
    lr: float = 4e-3
    warmup: int = 200
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    evaluate_every: int = 500
    save_every: int = 250
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise ValueError(f"layer must be {' or '.join(LAYERS)}, got {self.layer!r}")
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder must be {' or '.join(ENCODERS)}, got {self.encoder!r}")
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "seq_len", "batch", "steps")
        check_positive(self, (*sizes, "evaluate_every", "save_every", "log_every", "lr", "clip"))
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must lie in [0, steps={self.steps}), got {self.warmup}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and at least 0, got {self.weight_decay}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("lr", "clip"):
            if getattr(self, name) == math.inf:
                raise ValueError(f"{name} must be finite, got inf")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in [0, 2**31), got {self.seed}")


@dataclass(frozen=True)
class Sample:
    r"""
    ## Sample

    * `run` is the folder of a run
    * `prompt` is the text to go on with; by default a line break, or the first character that the
      model knows
    * `characters` is the number of characters to draw
    * `temperature` sharpens the choice below 1, and flattens it above
    * `top_k` draws from the likeliest characters only
    * `seed` makes the draw repeatable
    * `device` is cpu or cuda; by default the GPU if there is one
    """

    run: Path
    prompt: str = ""
    characters: int = 500
    temperature: float = 0.8
    top_k: int | None = None
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        if self.characters < 0:
            raise ValueError(f"characters must be at least 0, got {self.characters}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in [0, 2**31), got {self.seed}")


# ## The layers compared
#
# Each brings the settings that are its defaults: sizes that give both the same number of
# parameters, and the peak rate that was best for each in a sweep. The results page has the sweep.
DEFAULTS = {
    "gmlp": Settings(),
    "transformer": Settings(layer="transformer", d_ffn=448, n_layers=4, lr=2e-3),
}


def train(
    settings: Settings,
    state: State,
    corpus: Corpus,
    folder: Path,
    device: torch.device,
    track: Track,
) -> None:
    r"""
    ## The loop

    Set the rate, step, log, evaluate, save: from `state.step` to the last step.

    Raises `UserError` if the loss is no longer a number, before anything is saved of it.
    """
    model, optimizer = state.model, state.optimizer
    windows = Windows(corpus.train, settings.seq_len, settings.batch, settings.seed)
    metrics = Metrics(folder / "metrics.jsonl", before=state.step)
    devices = 1 if device.index is None else [device.index]
    fabric = Fabric(accelerator=device.type, devices=devices)
    progress = Progress(state.step, settings.steps)
    with metrics, progress:
        while state.step < settings.steps:
            began = time.perf_counter()
            lr = rate(state.step, lr=settings.lr, warmup=settings.warmup, steps=settings.steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            x, y = (part.to(device) for part in windows.at(state.step))
            loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            state.step += 1
            state.seconds += time.perf_counter() - began
            last = state.step == settings.steps
            logs = last or state.step % settings.log_every == 0
            evaluates = last or state.step % settings.evaluate_every == 0
            saves = evaluates or state.step % settings.save_every == 0

            if logs or saves:
                values = {"loss": loss.item(), "lr": lr, "grad_norm": norm.item()}
                check_finite(values, settings, state.step)
            if logs:
                metrics.write(step=state.step, seconds=round(state.seconds, 3), **values)
                track(state.step, values)
            progress.update(state.step, loss=loss)

            if evaluates:
                found = evaluate(
                    model, corpus.validation, corpus.validation_characters, settings.seq_len, fabric
                )
                check_finite(found, settings, state.step)
                metrics.write(step=state.step, **found)
                track(state.step, {f"validation.{name}": v for name, v in found.items()})
                progress.say(f"step {state.step}: validation {in_words(found)}")
                if state.best is None or found["nats_per_char"] < state.best["nats_per_char"]:
                    state.best = {"step": state.step, **found}
                    state.save(folder / "best.pt")
            # After the metrics: a checkpoint never knows of a step that they do not.
            if saves:
                state.save(folder / "last.pt")


def check_finite(values: dict[str, float], settings: Settings, step: int) -> None:
    """Raises `UserError` for a run that diverged: a rate that is too large is nearly always why."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"lr must be small enough to train, got {name}={value} at step {step} with "
                f"lr={settings.lr}"
            )


def sampling(checkpoint: dict[str, Any], sample: Sample, device: torch.device) -> Iterator[str]:
    r"""
    ## Sampling

    The prompt, and then one character after another, from the model of a checkpoint.

    Raises `ValueError` for a prompt with characters that are not in the training text.
    """
    settings = from_dict(Settings, checkpoint["identity"]["settings"])
    vocabulary = Characters(checkpoint["identity"]["vocabulary"])
    prompt = sample.prompt or vocabulary.start
    start = vocabulary.encode_known(prompt).to(device)
    model = make_model(settings, len(vocabulary)).to(device).eval()
    model.load_state_dict(checkpoint["model"])
    tokens = generate(
        model,
        start,
        sample.characters,
        seq_len=settings.seq_len,
        temperature=sample.temperature,
        top_k=sample.top_k,
        seed=sample.seed,
        # The text outgrows the window on purpose, and each character sees as much as it can.
        slide=1,
        # What is not ours keeps nothing of what it has read.
        use_cache=settings.encoder == "labml_gmlp",
    )
    return itertools.chain([prompt], vocabulary.stream(tokens))


def finish(folder: Path, record: dict[str, Any], state: State, device: torch.device) -> None:
    r"""
    ## At the end

    Draws a sample from the best checkpoint, writes the report, and prints the result.
    """
    best = load_run_checkpoint(folder / "best.pt")
    sample = "".join(sampling(best, Sample(folder), device))
    write_report(folder, record, state, sample)
    print(f"validation: {in_words(best['best'])} at step {best['best']['step']}")
    print(f"sample:\n{sample}\n\nrun: {folder}")


def train_command(arguments: Sequence[str]) -> None:
    r"""
    ## The command that trains

    Everything that can be wrong is found before the run's folder is made.

    Raises `UserError` for it.
    """
    parser = Parser(
        PROGRAM,
        "[--flag value ...]",
        f"Train a language model on characters. To draw text from it: {PROGRAM} sample RUN",
    )
    # The layer decides the other defaults, those in the help too; so it is looked up first.
    layer = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    layer.add_argument("--layer", nargs="?")
    defaults = DEFAULTS.get(layer.parse_known_args(arguments)[0].layer or "gmlp", Settings())
    add_flags(parser, Settings, defaults)
    add_flags(parser, Launch)
    namespace = parser.parse_args(arguments)
    launch = Launch(**given(Launch, namespace))
    asked = given(Settings, namespace)

    with user_errors():
        if launch.resume is None:
            settings = dataclasses.replace(defaults, **asked)
            written = asdict(settings)
            folder = new_folder(launch, settings.corpus, settings.layer)
        else:
            folder = launch.resume
            # As an older run wrote them, so that its checkpoints are its own.
            written = read_record(folder)["settings"]
            settings = from_dict(Settings, written)
            if launch.run is not None:
                raise ValueError(f"run must be left out beside resume, got {launch.run}")
            if difference := changed(asked, settings):
                name, value, present = difference
                raise ValueError(
                    f"{name} must stay {present!r} when {folder} is resumed, got {value!r}"
                )
        device = pick_device(launch.device)
        corpus = load_corpus(settings.corpus, settings.seq_len, launch.data)
        identity = {
            "settings": written,
            "corpus": corpus.sha256,
            "vocabulary": corpus.vocabulary.description()["characters"],
        }
        model = make_model(settings, len(corpus.vocabulary)).to(device)
        betas = (settings.beta1, settings.beta2)
        optimizer = make_optimizer(
            model, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay
        )
        state = State(identity, model, optimizer)
        # A run that was killed before its first checkpoint starts again.
        if launch.resume is not None and (folder / "last.pt").exists():
            state.load(folder / "last.pt")
            # The report at the end needs the best checkpoint: better to miss it now.
            if state.best is not None:
                state.check(folder / "best.pt")
        check_space(folder, model)
        if launch.resume is None:
            record = {
                "settings": written,
                "corpus": {"name": corpus.name, "sha256": corpus.sha256},
                "environment": environment(device, shlex.join([*PROGRAM.split(), *arguments])),
            }
            make_folder(folder, record)
        else:
            record = read_record(folder)

    print(
        f"{settings.layer}, {sum(p.numel() for p in model.parameters()):,} parameters, on "
        f"{corpus.name}: {len(corpus.train):,} characters to train, "
        f"{len(corpus.validation) - 1:,} to validate, {len(corpus.vocabulary)} tokens, "
        f"{hardware(device)}",
        file=sys.stderr,
    )
    with tracking(launch.labml, "autoregressive", folder, asdict(settings)) as track:
        train(settings, state, corpus, folder, device, track)
    finish(folder, record, state, device)


def sample_command(arguments: Sequence[str]) -> None:
    r"""
    ## The command that samples

    Prints the prompt and each character as soon as it is drawn.
    """
    parser = Parser(
        f"{PROGRAM} sample", "RUN [--flag value ...]", "Draw text from a trained model."
    )
    add_flags(parser, Sample)
    namespace = parser.parse_args(arguments)
    with user_errors():
        sample = Sample(**given(Sample, namespace))
        read_record(sample.run)
        device = pick_device(sample.device)
        characters = sampling(load_run_checkpoint(sample.run / "best.pt"), sample, device)
    for text in characters:
        print(text, end="", flush=True)
    print()


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["sample"]:
        return run_command(sample_command, arguments[1:])
    return run_command(train_command, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
