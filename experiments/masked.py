r"""Trains a language model that restores masked characters from both sides of their context.

# Masked language model

This is the task of the paper's language models. At a small scale, it repeats the ablation of the
gate and the restriction of $W$ to a Toeplitz matrix, and adds a Transformer for comparison.

Inputs and outputs follow BERT, as in the paper ([source](../docs/coverage.yml#linear-projections)).
From BERT we take the masking: 15 % of the positions are masked, of which 80 % become the token
`[MASK]`, 10 % a random token, and 10 % stay unchanged. Unlike the paper, tokens are characters, the
masks are sampled again in each epoch, and there are no sentence pairs.

```
python -m experiments.masked
python -m experiments.masked --corpus tiny_shakespeare --layer toeplitz
```
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.command import run, run_as_main
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.order import BatchSplit, micro_batches, row_generator
from experiments.engine.settings.errors import check_positive
from experiments.engine.settings.types import check_choices
from experiments.engine.validation import sum_over_rows
from experiments.models.language import layer_sizes, make_model
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import plain_report
from experiments.reporting.toeplitz_fraction import toeplitz_fractions
from experiments.text.corpus import Corpus, load_corpus
from experiments.text.windows import Windows

# The target at all positions that are not masked, as in `cross_entropy`.
IGNORE_INDEX = -100
# Of the masked positions, the fractions that become `[MASK]` and a random token.
MASK_FRACTION, RANDOM_FRACTION = 0.8, 0.1
# The seed of the validation masks, which are the same for all runs. Training seeds are below it.
VALIDATION_SEED = 2**31


def count_masked(n: int, fraction: float) -> int:
    """The number of masked positions in a sequence of `n`, at least 1.

    It is the same for all sequences, as in BERT's code, so the mean over micro-batches weights all
    masked characters equally.
    """
    return max(1, round(n * fraction))


def mask_tokens(
    tokens: Tensor, masked: Tensor, n_known: int, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    r"""Masks some positions of a sequence as BERT does.

    ## Masking

    Most masked positions become `[MASK]`. But `[MASK]` never occurs in real text, and a model could
    learn to ignore all other positions. Random and unchanged tokens prevent this: any position may
    be one that the model must predict (BERT).

    * `tokens` is one sequence, `[n]`
    * `masked` are the positions to mask
    * `n_known` is the size of the vocabulary; the next token, `n_known` itself, is `[MASK]`. Random
      tokens are any known character, including the correct one, but not token 0, the unknown one
    * `random` is the generator

    Returns inputs and targets, `[n]` each. Targets are `IGNORE_INDEX` at all other positions.
    """
    sampled = torch.from_numpy(random.random(len(masked)))
    random_tokens = torch.from_numpy(random.integers(1, n_known, len(masked)))
    original = tokens[masked]
    replacement = torch.where(sampled < MASK_FRACTION + RANDOM_FRACTION, random_tokens, original)
    replacement = torch.where(sampled < MASK_FRACTION, n_known, replacement)
    inputs, targets = tokens.clone(), torch.full_like(tokens, IGNORE_INDEX)
    inputs[masked], targets[masked] = replacement, original
    return inputs, targets


def training_batches(
    corpus: Corpus, settings: MaskedSettings, training: Training, step: int, split: BatchSplit
) -> Iterator[Batch]:
    r"""Yields the micro-batches of one process, without end.

    ## Training batches

    The windows come in the order of [`Windows`](text/windows.py). The masks depend on the seed, the
    step and the row only, so they differ between epochs and a resumed run needs no saved state.

    * `corpus` is the text
    * `settings` and `training` are the settings of the run
    * `step` is the first step
    * `split` selects the rows of the process

    Yields inputs and targets, `[rows, seq_len]` each.
    """
    n_known = len(corpus.vocabulary)
    count = count_masked(settings.seq_len, settings.chosen)
    windows = Windows(corpus.train, settings.seq_len, training.batch, training.seed)
    for number, rows in micro_batches(step, training.batch, split):
        read, _ = windows.rows(number, rows)
        examples = []
        for row, window in zip(rows, read, strict=True):
            random = row_generator(training.seed, number, row)
            masked = torch.from_numpy(random.permutation(settings.seq_len)[:count])
            examples.append(mask_tokens(window, masked, n_known, random))
        yield _stack(examples)


def validation_rows(corpus: Corpus, settings: MaskedSettings) -> tuple[Tensor, Tensor]:
    r"""Returns the masked validation split, the same for all layers and seeds.

    ## Validation rows

    The split is cut into adjacent windows; an incomplete window at the end is dropped. Each window
    is used `maskings` times, each time with other characters masked.

    * `corpus` is the text
    * `settings` are the settings of the run

    Returns inputs and targets, `[rows, seq_len]` each.

    Raises `ValueError` if the split is shorter than a window.
    """
    n = settings.seq_len
    # The first token belongs to the training split.
    tokens = corpus.validation[1:]
    if len(tokens) < n:
        raise ValueError(
            f"corpus must have at least seq_len={n} characters for validation, "
            f"got {len(tokens)} in {corpus.name}"
        )
    count = count_masked(n, settings.chosen)
    examples = []
    for row, window in enumerate(tokens[: len(tokens) // n * n].view(-1, n)):
        random = np.random.default_rng((VALIDATION_SEED, row))
        # Cut one permutation into disjoint sets, so that no position is masked twice.
        order = torch.from_numpy(random.permutation(n))
        for k in range(settings.maskings):
            masked = order[k * count : (k + 1) * count]
            examples.append(mask_tokens(window, masked, len(corpus.vocabulary), random))
    return _stack(examples)


def _stack(examples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*examples, strict=True)
    return torch.stack(inputs), torch.stack(targets)


def masked_loss(model: nn.Module, batch: Batch) -> Tensor:
    r"""The mean loss over the masked positions of a micro-batch, in nats.

    ## Loss

    $$\ell = - \frac{1}{|C|} \sum_{i \in C} \ln p(t_i \mid \text{inputs})$$

    over the masked positions $C$, including those that stay unchanged.
    """
    inputs, targets = batch
    logits = model(inputs).flatten(0, 1).float()
    return nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX)


# For each row: the loss summed over its masked positions, their number, and the number of errors.
def _row_sums(model: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    logits = model(inputs).float()  # [B, n, n_tokens]
    losses = nn.functional.cross_entropy(
        logits.mT, targets, ignore_index=IGNORE_INDEX, reduction="none"
    )
    masked = targets != IGNORE_INDEX
    wrong = (logits.argmax(-1) != targets) & masked
    return torch.stack([losses.sum(1), masked.sum(1), wrong.sum(1)], dim=1)  # [B, 3]


def evaluate(model: nn.Module, fabric: Fabric, rows: tuple[Tensor, Tensor]) -> dict[str, float]:
    r"""Evaluates a model on the masked validation split.

    ## Evaluation

    * `model` maps tokens to logits
    * `fabric` provides the device and the processes that split the rows
    * `rows` is the result of `validation_rows`

    Returns `nats_per_char` over the masked characters, the `perplexity` $e^\ell$, the `error` rate,
    and for models with a free $W$ `toeplitz_share`, the
    [Toeplitz fraction](reporting/toeplitz_fraction.py) averaged over layers.
    """
    loss, count, wrong = sum_over_rows(model, fabric, rows, _row_sums)
    nats = loss / count
    metrics = {
        "nats_per_char": nats,
        # The perplexity of a diverged run may overflow a float.
        "perplexity": math.exp(nats) if nats < 700 else math.inf,
        "error": wrong / count,
    }
    fractions = toeplitz_fractions(model)
    if fractions:
        # The key of recorded runs.
        metrics["toeplitz_share"] = sum(fractions) / len(fractions)
    return metrics


def describe(metrics: dict[str, float]) -> str:
    """The metrics of `evaluate` in one line."""
    line = (
        f"{metrics['nats_per_char']:.4f} nats per masked character, perplexity "
        f"{metrics['perplexity']:.3f}, {metrics['error']:.1%} wrong"
    )
    if "toeplitz_share" in metrics:
        line += f", W {metrics['toeplitz_share']:.0%} Toeplitz"
    return line


def build(settings: MaskedSettings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""Loads the corpus and builds the model, the batches and the evaluation.

    ## The task

    Raises `ValueError` for a text that [`load_corpus`](text/corpus.py) refuses or whose validation
    split is shorter than `seq_len`, and for sizes that [`make_model`](models/language.py) refuses.
    """
    corpus = load_corpus(settings.corpus, settings.seq_len, launch.data)
    rows = validation_rows(corpus, settings)
    model = make_model(
        settings.layer,
        layer_sizes(settings),
        # The last token is `[MASK]`.
        len(corpus.vocabulary) + 1,
        causal=False,
        seed=training.seed,
        checkpoint_layers=launch.checkpoint_layers,
    )
    return Task(
        model=model,
        data={
            "name": corpus.name,
            "sha256": corpus.sha256,
            "vocabulary": corpus.vocabulary.description(),
        },
        about=(
            f"{corpus.name}: {len(corpus.train):,} characters to train, "
            f"{int((rows[1] != IGNORE_INDEX).sum()):,} masked ones to validate, "
            f"{len(corpus.vocabulary)} tokens and [MASK]"
        ),
        batches=lambda step, split: training_batches(corpus, settings, training, step, split),
        loss=masked_loss,
        evaluate=lambda model, fabric: evaluate(model, fabric, rows),
        monitor="nats_per_char",
        describe=describe,
    )


@dataclass(frozen=True, kw_only=True)
class MaskedSettings:
    r"""The text, the model and the masking of a masked run.

    ## Settings

    ```python
    settings = MaskedSettings(corpus="tiny_shakespeare", layer="toeplitz", d_ffn=592)
    ```

    Raises `ValueError` for an unknown layer, a size below 1, `dropout` outside $[0, 1)$, `chosen`
    outside $(0, 1]$, and `maskings` so large that a character would be masked twice.
    """

    # Text: python, tiny_shakespeare or the path of a UTF-8 file.
    corpus: str = "python"
    # Layer to stack; other defaults depend on it.
    layer: Literal["gmlp", "linear", "additive", "multiplicative", "toeplitz", "transformer"] = (
        "gmlp"
    )
    # Width of the residual stream.
    d_model: int = 128  # channels
    # Width inside a layer.
    d_ffn: int = 512  # channels
    # Depth of the model.
    n_layers: int = 6  # layers
    # Attention heads, for transformer only.
    n_heads: int = 4
    # Dropout probability.
    dropout: float = 0.0
    # Sequence length.
    seq_len: int = 128  # characters
    # Fraction of the characters to mask.
    chosen: float = 0.15
    # Number of times that validation reads the text, each time with other characters masked.
    maskings: int = 2

    # fold: checks
    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "seq_len", "maskings")
        check_positive(self, sizes)
        if not 0 < self.chosen <= 1:
            raise ValueError(f"chosen must lie in (0, 1], got {self.chosen}")
        most = self.seq_len // count_masked(self.seq_len, self.chosen)
        if self.maskings > most:
            raise ValueError(
                f"maskings must be at most {most} to mask each character at most once with "
                f"seq_len={self.seq_len} and chosen={self.chosen}, got {self.maskings}"
            )
        layer_sizes(self)


# ## The layers compared
#
# All models have about 0.7 million parameters. Without a split, `proj_out` has twice as many
# inputs, so three quarters of `d_ffn` give equal parameter counts at equal depth; with equal
# `d_ffn` these models would have 28 % more. A Toeplitz $W$ has 255 parameters instead of 16,384.
# With equal `d_ffn` the model would have 14 % fewer, so its layers are wider.
DEFAULTS: dict[str, tuple[MaskedSettings, Training]] = {
    "gmlp": (MaskedSettings(), Training()),
    "linear": (MaskedSettings(layer="linear", d_ffn=384), Training()),
    "additive": (MaskedSettings(layer="additive", d_ffn=384), Training()),
    "multiplicative": (MaskedSettings(layer="multiplicative", d_ffn=384), Training()),
    "toeplitz": (MaskedSettings(layer="toeplitz", d_ffn=592), Training()),
    "transformer": (
        MaskedSettings(layer="transformer", d_ffn=400, n_layers=4),
        Training(lr=1e-3),
    ),
}


# ## The experiment
CURVE = Curve("nats_per_char", "nats per masked character")
EXPERIMENT = Experiment(
    name="masked",
    about="Train a language model that restores masked characters.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"masked-{Path(settings.corpus).stem}-{settings.layer}",
    build=build,
    finish=plain_report(
        lambda record: f"{record['settings']['layer']}, masked, on {record['data']['name']}",
        lambda record, metrics: describe(metrics),
        CURVE,
    ),
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
