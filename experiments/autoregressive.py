r"""Trains a language model that predicts the next character, and samples text from it.

# Autoregressive language model

The paper trains masked language models only. This experiment asks whether gMLP also works
autoregressively. It compares several forms of gMLP with a Transformer of the same size, on the same
data in the same order.

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
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from experiments.engine.checkpoint import BEST
from experiments.engine.command import run, run_as_main
from experiments.engine.devices import pick_device
from experiments.engine.experiment import Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.run_folder import read_record
from experiments.engine.settings.errors import check_positive, user_errors
from experiments.engine.settings.flags import Parser, add_flags, given_values
from experiments.engine.settings.types import check_choices, from_dict
from experiments.engine.state import State, best_weights, load_run_checkpoint
from experiments.models.language import LayerName, layer_sizes, make_model
from experiments.reporting.pictures import NATS_PER_CHARACTER
from experiments.reporting.run_page import fenced, matrices, write_run
from experiments.text.corpus import load_corpus
from experiments.text.evaluation import describe, evaluate, next_token_loss
from experiments.text.vocabulary import Vocabulary, check_vocabulary, restore_vocabulary
from experiments.text.windows import Windows
from labml_gmlp import LanguageModel, generate
from labml_gmlp.storage import atomic_write


@dataclass(frozen=True, kw_only=True)
class AutoregressiveSettings:
    r"""The text and the model of an autoregressive run.

    ## Settings

    ```python
    settings = AutoregressiveSettings(corpus="tiny_shakespeare", layer="amlp", n_layers=5)
    ```

    Two runs with the same settings, the same text and the same number of threads on the same CPU
    have the same losses, bit for bit.

    Raises `ValueError` for an unknown vocabulary, layer or encoder, a size below 1, `dropout`
    outside $[0, 1)$, `n_tokens` out of range, and for bpe if the package tokenizers is not
    installed.
    """

    # Text: python, tiny_shakespeare or the path of a UTF-8 file.
    corpus: str = "python"
    # Unit of text that becomes one token.
    vocabulary: Literal["characters", "bytes", "bpe"] = "characters"
    # Size of the vocabulary, for bpe only.
    n_tokens: int = 1024  # tokens
    # Layer to stack; other defaults depend on it. For linear, additive and multiplicative they are
    # those of gmlp.
    layer: LayerName = "gmlp"
    # Package whose encoder stacks the layers.
    encoder: Literal["labml_gmlp", "labml_nn"] = "labml_gmlp"
    # Width of the residual stream.
    d_model: int = 128  # channels
    # Width inside a layer.
    d_ffn: int = 512  # channels
    # Depth of the model.
    n_layers: int = 7  # layers
    # Attention heads, for transformer only.
    n_heads: int = 4
    # Width of the tiny attention, for amlp only.
    d_attn: int = 64  # channels
    # Kernel size, for convolution only.
    kernel: int = 31  # tokens
    # Dropout probability.
    dropout: float = 0.0
    # Context length.
    seq_len: int = 64  # tokens

    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "d_attn", "kernel", "seq_len")
        check_positive(self, ("n_tokens", *sizes))
        check_vocabulary(self.vocabulary, self.n_tokens)
        layer_sizes(self)


@dataclass(frozen=True)
class SampleSettings:
    r"""The settings of the command that samples from a trained model.

    ## Settings of sampling

    ```python
    sample = SampleSettings(Path("runs/NAME"), prompt="ROMEO:", temperature=0.7)
    ```

    Raises `ValueError` for a negative number of `characters` and for a `seed` out of range.
    """

    # Folder of the run.
    run: Path
    # Text to continue; if empty, a line break or the first known character.
    prompt: str = ""
    # Length of the sample.
    characters: int = 500  # tokens
    # Sampling temperature: below 1 favours likely tokens, and 0 always takes the likeliest.
    temperature: float = 0.8
    # Sample from this many of the likeliest tokens only.
    top_k: int | None = None
    # Seed of the sample.
    seed: int = 0
    # Device, cpu or cuda; by default the GPU if there is one.
    device: str | None = None

    def __post_init__(self) -> None:
        if self.characters < 0:
            raise ValueError(f"characters must be at least 0, got {self.characters}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in [0, 2**31), got {self.seed}")


# ## The layers compared
#
# Each layer has its own defaults: sizes that give all models about the same number of parameters,
# and a peak learning rate. Neither half nor twice that rate was better by more than the spread over
# seeds; the results page has the sweep.
DEFAULTS = {
    "gmlp": (AutoregressiveSettings(), Training()),
    "amlp": (AutoregressiveSettings(layer="amlp", n_layers=5), Training()),
    "toeplitz": (AutoregressiveSettings(layer="toeplitz", d_ffn=528), Training()),
    "convolution": (AutoregressiveSettings(layer="convolution", d_ffn=496), Training()),
    "transformer": (
        AutoregressiveSettings(layer="transformer", d_ffn=448, n_layers=4),
        Training(lr=2e-3),
    ),
}


def build(
    settings: AutoregressiveSettings, training: Training, launch: Launch, fabric: Fabric
) -> Task:
    r"""Loads the corpus and builds the model, the batches and the evaluation.

    ## The task

    $$\ell = - \frac{1}{B n} \sum_{b,i} \ln p(t_{b,i+1} \mid t_{b,1}, \dots, t_{b,i})$$

    for a batch of $B$ windows of $n$ tokens. Each token is predicted from those before it in its
    window.

    Raises `ValueError` for a text that [`load_corpus`](text/corpus.py) refuses, for sizes that
    [`make_model`](models/language.py) refuses, and for `encoder="labml_nn"` if labml_nn cannot be
    imported, with the strategy fsdp or with `checkpoint_layers`.
    """
    if settings.encoder != "labml_gmlp" and launch.strategy == "fsdp":
        # FSDP shards the layers of our encoder only.
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
            layer_sizes(settings),
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
        loss=next_token_loss,
        evaluate=lambda model, fabric: evaluate(
            model, corpus.validation, corpus.validation_characters, settings.seq_len, fabric
        ),
        monitor="nats_per_char",
        describe=describe,
    )


def load_best_model(
    checkpoint: dict[str, Any],
) -> tuple[AutoregressiveSettings, Vocabulary, LanguageModel]:
    """Returns the settings, the vocabulary, and the model with the best weights.

    Raises `ValueError` if the checkpoint's settings or vocabulary are not valid.
    """
    identity = checkpoint["identity"]
    settings, training = from_dict((AutoregressiveSettings, Training), identity["settings"])
    vocabulary = restore_vocabulary(identity["data"]["vocabulary"])
    model = make_model(
        settings.layer,
        layer_sizes(settings),
        len(vocabulary),
        causal=True,
        seed=training.seed,
        encoder=settings.encoder,
    )
    model.load_state_dict(best_weights(checkpoint))
    return settings, vocabulary, model.eval()


def stream_sample(
    checkpoint: dict[str, Any], sample: SampleSettings, device: torch.device
) -> Iterator[str]:
    r"""Yields the prompt, and then the text of each token as soon as it is sampled.

    ## Sampling

    * `checkpoint` is that of a run
    * `sample` are the prompt and the sampling parameters
    * `device` runs the model

    Raises `ValueError` for a checkpoint that `load_best_model` refuses, a prompt with unknown
    characters, a negative or non-finite `temperature`, and `top_k` below 1.
    """
    settings, vocabulary, model = load_best_model(checkpoint)
    prompt = sample.prompt or vocabulary.default_prompt
    tokens = generate(
        model.to(device),
        vocabulary.encode_prompt(prompt).to(device),
        sample.characters,
        seq_len=settings.seq_len,
        temperature=sample.temperature,
        top_k=sample.top_k,
        seed=sample.seed,
        # The text is longer than the context. Slide by one token, so that each token has the
        # longest possible context.
        slide=1,
        # Only our encoder has a cache.
        use_cache=settings.encoder == "labml_gmlp",
    )
    return itertools.chain([prompt], vocabulary.decode_stream(tokens))


def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
    r"""Samples from the best checkpoint, writes the page of the run, and prints the result.

    ## After training

    * `folder` is the folder of the run
    * `record` is the content of its `settings.json`
    * `state` is the state at the last step
    * `fabric` provides the device
    """
    best = load_run_checkpoint(folder / BEST)
    sample = "".join(stream_sample(best, SampleSettings(folder), fabric.device))
    metrics = best["best"]
    atomic_write(folder / "sample.txt", sample.encode())
    write_run(
        folder,
        record,
        state,
        title=f"{record['settings']['layer']} on {record['data']['name']}",
        headline=(
            f"**{metrics['nats_per_char']:.4f} nats per character** "
            f"({metrics['bits_per_char']:.4f} bits, perplexity {metrics['perplexity']:.3f}) "
            f"over the whole validation split"
        ),
        curve=NATS_PER_CHARACTER,
        parts=[*matrices(folder, state.model, best, causal=True), "## Sample", fenced(sample)],
    )
    print(f"validation: {describe(metrics)} at step {metrics['step']}")
    print(f"sample:\n{sample}\n\nrun: {folder}")


def sample_command(arguments: Sequence[str]) -> None:
    r"""Runs the `sample` command: prints the prompt and each token as soon as it is sampled.

    ## The sample command

    * `arguments` are those after `sample`

    Raises `UserError` for a run, settings, a prompt or a device that cannot be used.
    """
    parser = Parser(
        f"{EXPERIMENT.program} sample",
        "RUN [--flag value ...]",
        "Sample text from a trained model.",
    )
    add_flags(parser, SampleSettings)
    namespace = parser.parse_args(arguments)
    with user_errors():
        sample = SampleSettings(**given_values(SampleSettings, namespace))
        read_record(sample.run)
        device = pick_device(sample.device)
        texts = stream_sample(load_run_checkpoint(sample.run / BEST), sample, device)
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
