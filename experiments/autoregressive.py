r"""Trains a language model that predicts the next character, and samples text from it.

# Autoregressive language model

The paper trains masked language models only ([source](../docs/coverage.yml#causal-model)). Does
gMLP also work autoregressively? This experiment trains a causal gMLP, one of its variants or a
Transformer on the same text in the same order; [the results](../results/tiny_shakespeare/index.md)
compare them. The page follows one run: a text becomes tokens, windows of tokens train a model, its
loss gives a curve, and the best model writes a sample.

```
python -m experiments.autoregressive
python -m experiments.autoregressive --corpus tiny_shakespeare --layer transformer
python -m experiments.autoregressive sample runs/NAME --prompt "def "
```
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

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
from experiments.text.evaluation import describe, evaluate
from experiments.text.vocabulary import Vocabulary, check_vocabulary, restore_vocabulary
from experiments.text.windows import Windows
from labml_gmlp import LanguageModel, generate
from labml_gmlp.storage import atomic_write


def build(
    settings: AutoregressiveSettings, training: Training, launch: Launch, fabric: Fabric
) -> Task:
    r"""Turns a text into tokens, windows and a model.

    * `settings` are the text and the model, see below
    * `training` and `launch` are those of [every experiment](engine/experiment.py)
    * `fabric` provides the device

    Returns the task that the engine trains.

    Raises `ValueError` for a text that [`load_corpus`](text/corpus.py) refuses, for sizes that
    [`make_model`](models/language.py) refuses, and for `encoder="labml_nn"` if labml_nn cannot be
    imported, with the strategy fsdp or with `checkpoint_layers`.
    """
    # fold: argument check
    if settings.encoder != "labml_gmlp" and launch.strategy == "fsdp":
        # FSDP shards the layers of our encoder only.
        raise ValueError(
            f"strategy must be ddp with encoder={settings.encoder!r}, got {launch.strategy!r}"
        )
    # end fold
    # ## 1. Text to tokens
    #
    # The [corpus](text/corpus.py) is one long text; its last tenth is held out for validation. The
    # [vocabulary](text/vocabulary.py) gives each character of the training split a number, its
    # token. It can also split the text into bytes or into frequent pieces (bpe).
    corpus = load_corpus(
        settings.corpus,
        settings.seq_len,
        launch.data,
        vocabulary=settings.vocabulary,
        n_tokens=settings.n_tokens,
    )
    n_tokens = len(corpus.vocabulary)
    # ## 2. Tokens to windows
    #
    # A step reads a batch of windows of $n$ = `seq_len` tokens, in an [order](text/windows.py) that
    # depends only on the seed and the step. The targets are the same windows one token later: the
    # inputs `To b` have the targets `o be`. So one window gives $n$ predictions to learn from.
    windows = Windows(corpus.train, settings.seq_len, training.batch, training.seed)
    # ## 3. The model
    #
    # An embedding, a stack of layers and a [head](../labml_gmlp/models/language.py) that gives each
    # token of the vocabulary a logit. The layers are causal: position $i$ reads the positions up to
    # $i$, so no prediction can see its target.
    model = make_model(
        settings.layer,
        layer_sizes(settings),
        n_tokens,
        causal=True,
        seed=training.seed,
        encoder=settings.encoder,
        checkpoint_layers=launch.checkpoint_layers,
    )
    # The [engine](engine/loop.py) trains this task. At intervals it
    # [evaluates](text/evaluation.py) the model over the whole validation split, and it keeps the
    # weights with the lowest loss per character. The data are part of the record of the run, which
    # resumes only with the same text.
    return Task(
        model=model,
        batches=windows.batches,
        loss=next_token_loss,
        evaluate=lambda model, fabric: evaluate(
            model, corpus.validation, corpus.validation_characters, settings.seq_len, fabric
        ),
        monitor="nats_per_char",
        describe=describe,
        data={
            "name": corpus.name,
            "sha256": corpus.sha256,
            "vocabulary": corpus.vocabulary.description(),
        },
        about=(
            f"{corpus.name}: {len(corpus.train):,} tokens to train, "
            f"{len(corpus.validation) - 1:,} to validate, {n_tokens:,} in the vocabulary"
        ),
    )


def next_token_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    r"""The mean loss over all tokens of a micro-batch, in nats.

    ## 4. The loss

    $$\ell = - \frac{1}{B n} \sum_{b,i} \ln p(t_{b,i+1} \mid t_{b,1}, \dots, t_{b,i})$$

    for $B$ windows of $n$ tokens. Each token is predicted from those before it in its window. The
    softmax of the logits is $p$; `cross_entropy` takes it, the logarithm and the mean. A model that
    guesses among $m$ tokens has a loss of $\ln m$.

    * `batch` has inputs and targets, `[B, n]` each
    """
    inputs, targets = batch
    logits = model(inputs)  # [B, n, n_tokens]
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
    r"""Writes the page of the run with its curve and a sample, and prints the result.

    ## 5. The curve

    After the last step the run gets [a page](reporting/run_page.py) with the losses over the steps,
    the learned matrices $W$, a sample and all settings.

    * `folder` is the folder of the run
    * `record` is the content of its `settings.json`
    * `state` is the state at the last step
    * `fabric` provides the device
    """
    # The best evaluation counts, and its weights write the sample.
    best = load_run_checkpoint(folder / BEST)
    metrics = best["best"]
    sample = "".join(stream_sample(best, SampleSettings(folder), fabric.device))
    atomic_write(folder / "sample.txt", sample.encode())
    # The result in three units: nats are natural logarithms, bits logarithms to base 2, and the
    # perplexity is $e^\ell$ of a token.
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


def stream_sample(
    checkpoint: dict[str, Any], sample: SampleSettings, device: torch.device
) -> Iterator[str]:
    r"""Yields the prompt, and then the text of each token as soon as it is sampled.

    ## 6. The sample

    The model predicts a distribution over the next token. [`generate`](../labml_gmlp/generation.py)
    samples one token from it, appends it, and repeats. The results have
    [a sample](../results/tiny_shakespeare/index.md#a-sample).

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
        # Layers of labml_nn cannot be read token by token.
        use_cache=settings.encoder == "labml_gmlp",
    )
    return itertools.chain([prompt], vocabulary.decode_stream(tokens))


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

    # fold: checks
    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "d_attn", "kernel", "seq_len")
        check_positive(self, ("n_tokens", *sizes))
        check_vocabulary(self.vocabulary, self.n_tokens)
        layer_sizes(self)


# ## The models compared
#
# Each layer has its own defaults: sizes that give all models about the same number of parameters,
# and a peak learning rate. Neither half nor twice that rate was better by more than the spread over
# seeds; the [results](../results/tiny_shakespeare/index.md#learning-rates) have the sweep.
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

    # fold: checks
    def __post_init__(self) -> None:
        if self.characters < 0:
            raise ValueError(f"characters must be at least 0, got {self.characters}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in [0, 2**31), got {self.seed}")


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


# ## The experiment
#
# The [command](engine/command.py) reads the flags, which are the fields of the settings, and calls
# the functions above.
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
