r"""
# An autoregressive language model

The model reads a text and predicts the next character, at each position from what stands before it.
The paper trains masked language models only; this asks whether gMLP serves here too, and sets it
and its relatives beside a Transformer of the same size, on the same data in the same order.

```
python -m experiments.autoregressive
python -m experiments.autoregressive --corpus tiny_shakespeare --layer transformer
python -m experiments.autoregressive sample runs/NAME --prompt "def "
```
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.checkpoint import BEST
from experiments.engine.command import run, run_as_main
from experiments.engine.devices import pick_device
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.run_folder import read_record
from experiments.engine.settings.errors import check_choice, check_positive, user_errors
from experiments.engine.settings.flags import Parser, add_flags, from_dict, given_values
from experiments.engine.state import State, best_weights, load_run_checkpoint
from experiments.models.language import ENCODERS, LAYERS, make_model, shape_of
from experiments.reporting.pictures import NATS_PER_CHARACTER
from experiments.reporting.run_page import fenced, matrices, write_run
from experiments.text.corpus import load_corpus
from experiments.text.evaluation import describe, evaluate
from experiments.text.vocabulary import Vocabulary, check_vocabulary, from_description
from experiments.text.windows import Windows
from labml_gmlp import LanguageModel, generate
from labml_gmlp.storage import atomic_write


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""
    ## Settings

    What is read, and by which model. Two runs with the same settings, the same text and the same
    number of threads on the same CPU give the same losses, bit for bit.

    * `corpus` is python, tiny_shakespeare or the path of a UTF-8 text
    * `vocabulary` is characters, bytes or bpe
    * `n_tokens` is the size of the vocabulary, for bpe only
    * `layer` is gmlp, amlp, toeplitz, convolution, linear, additive, multiplicative or transformer;
      the other defaults follow it, and are for linear, additive and multiplicative those of gmlp
    * `encoder` is labml_gmlp or labml_nn, the package whose encoder stacks the layers
    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `n_heads` is the number of attention heads, for the transformer only
    * `d_attn` is the number of channels of the tiny attention, for amlp only
    * `kernel` is the length of the kernels in tokens, for convolution only
    * `dropout` is the share of a layer's results that training sets to zero
    * `seq_len` is the context in tokens
    """

    corpus: str = "python"
    vocabulary: str = "characters"
    n_tokens: int = 1024
    layer: str = "gmlp"
    encoder: str = "labml_gmlp"
    d_model: int = 128
    d_ffn: int = 512
    n_layers: int = 7
    n_heads: int = 4
    d_attn: int = 64
    kernel: int = 31
    dropout: float = 0.0
    seq_len: int = 64

    def __post_init__(self) -> None:
        check_choice("layer", self.layer, LAYERS)
        check_choice("encoder", self.encoder, ENCODERS)
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "d_attn", "kernel", "seq_len")
        check_positive(self, ("n_tokens", *sizes))
        check_vocabulary(self.vocabulary, self.n_tokens)
        shape_of(self)


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
# Each brings the settings that are its defaults: sizes that give all the same number of
# parameters, and a peak rate. Neither half of it nor twice was better by more than the seeds
# differ: the results page has the sweep.
DEFAULTS = {
    "gmlp": (Settings(), Training()),
    "amlp": (Settings(layer="amlp", n_layers=5), Training()),
    "toeplitz": (Settings(layer="toeplitz", d_ffn=528), Training()),
    "convolution": (Settings(layer="convolution", d_ffn=496), Training()),
    "transformer": (Settings(layer="transformer", d_ffn=448, n_layers=4), Training(lr=2e-3)),
}


def build(settings: Settings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""
    ## The task

    $$\ell = - \frac{1}{B n} \sum_{b,i} \ln p(t_{b,i+1} \mid t_{b,1}, \dots, t_{b,i})$$

    for a batch of $B$ windows of $n$ tokens; each token is predicted from those before it.

    Raises `ValueError` or `OSError` for a text that cannot be used.
    """
    if settings.encoder != "labml_gmlp" and launch.strategy == "fsdp":
        # What is cut in parts are the layers of our encoder.
        raise ValueError(
            f"strategy must be ddp with encoder={settings.encoder!r}, got {launch.strategy!r}"
        )
    corpus = load_corpus(
        settings.corpus,
        settings.seq_len,
        launch.data,
        vocabulary=settings.vocabulary,
        n_tokens=settings.n_tokens,
    )
    windows = Windows(corpus.train, settings.seq_len, training.batch, training.seed)
    n_tokens = len(corpus.vocabulary)
    return Task(
        model=make_model(
            settings.layer,
            shape_of(settings),
            n_tokens,
            causal=True,
            seed=training.seed,
            encoder=settings.encoder,
            checkpoint_layers=launch.checkpoint_layers,
        ),
        data={
            "name": corpus.name,
            "sha256": corpus.sha256,
            "vocabulary": corpus.vocabulary.description(),
        },
        about=(
            f"{corpus.name}: {len(corpus.train):,} tokens to train, "
            f"{len(corpus.validation) - 1:,} to validate, {n_tokens:,} in the vocabulary"
        ),
        batches=windows.batches,
        loss=loss,
        evaluate=lambda model, fabric: evaluate(
            model, corpus.validation, corpus.validation_characters, settings.seq_len, fabric
        ),
        monitor="nats_per_char",
        describe=describe,
    )


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """The mean of $-\\ln p$ over all tokens of a micro-batch, in nats."""
    tokens, targets = batch
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def trained(checkpoint: dict[str, Any]) -> tuple[Settings, Vocabulary, LanguageModel]:
    """The settings, the vocabulary and the model of a checkpoint, with its best weights."""
    identity = checkpoint["identity"]
    settings, training = from_dict((Settings, Training), identity["settings"])
    vocabulary = from_description(identity["data"]["vocabulary"])
    model = make_model(
        settings.layer,
        shape_of(settings),
        len(vocabulary),
        causal=True,
        seed=training.seed,
        encoder=settings.encoder,
    )
    model.load_state_dict(best_weights(checkpoint))
    return settings, vocabulary, model.eval()


def sampling(checkpoint: dict[str, Any], sample: Sample, device: torch.device) -> Iterator[str]:
    r"""
    ## Sampling

    The prompt, and then one token after another, from the model of a checkpoint.

    Raises `ValueError` for a prompt with characters that are not in the training text.
    """
    settings, vocabulary, model = trained(checkpoint)
    prompt = sample.prompt or vocabulary.start
    start = vocabulary.encode_known(prompt).to(device)
    tokens = generate(
        model.to(device),
        start,
        sample.characters,
        seq_len=settings.seq_len,
        temperature=sample.temperature,
        top_k=sample.top_k,
        seed=sample.seed,
        # The text outgrows the window on purpose, and each token sees as much as it can.
        slide=1,
        # What is not ours keeps nothing of what it has read.
        use_cache=settings.encoder == "labml_gmlp",
    )
    return itertools.chain([prompt], vocabulary.stream(tokens))


def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
    r"""
    ## At the end

    Draws a sample from the best checkpoint, writes the report, and prints the result.
    """
    best = load_run_checkpoint(folder / BEST)
    sample = "".join(sampling(best, Sample(folder), fabric.device))
    found = best["best"]
    atomic_write(folder / "sample.txt", sample.encode())
    write_run(
        folder,
        record,
        state,
        title=f"{record['settings']['layer']} on {record['data']['name']}",
        headline=(
            f"**{found['nats_per_char']:.4f} nats per character** "
            f"({found['bits_per_char']:.4f} bits, perplexity {found['perplexity']:.3f}) "
            f"over the whole validation part"
        ),
        curve=NATS_PER_CHARACTER,
        parts=[*matrices(folder, state.model, best, causal=True), "## Sample", fenced(sample)],
    )
    print(f"validation: {describe(found)} at step {found['step']}")
    print(f"sample:\n{sample}\n\nrun: {folder}")


def sample_command(arguments: Sequence[str]) -> None:
    r"""
    ## The command that samples

    Prints the prompt and each token as soon as it is drawn.
    """
    parser = Parser(
        f"{EXPERIMENT.program} sample",
        "RUN [--flag value ...]",
        "Draw text from a trained model.",
    )
    add_flags(parser, Sample)
    namespace = parser.parse_args(arguments)
    with user_errors():
        sample = Sample(**given_values(Sample, namespace))
        read_record(sample.run)
        device = pick_device(sample.device)
        texts = sampling(load_run_checkpoint(sample.run / BEST), sample, device)
    for text in texts:
        print(text, end="", flush=True)
    print()


EXPERIMENT = Experiment(
    name="autoregressive",
    about="Train a language model that predicts the next character.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"{Path(settings.corpus).stem}-{settings.layer}",
    build=build,
    finish=finish,
    commands={"sample": sample_command},
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
