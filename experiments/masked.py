r"""
# A masked language model

The task of the paper's models of language: characters are hidden, and the model restores them from
what stands on both sides. Here it repeats, small, the ablation of the gate and the restriction of
$W$ to a Toeplitz matrix, with a Transformer beside them.

The paper follows BERT (as reported). Of BERT's protocol this keeps what is hidden: 15 % of the
positions, of which 80 % show a token `[MASK]`, 10 % a random token, and 10 % their own. Unlike the
paper, tokens are characters, masks are drawn anew in each pass, and there is no pair of sentences.

```
python -m experiments.masked
python -m experiments.masked --corpus tiny_shakespeare --layer toeplitz
```
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.command import run, run_as_main
from experiments.engine.devices import BatchSplit
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.settings.errors import check_choice, check_positive
from experiments.engine.validation import sum_over_rows
from experiments.models.language import make_model, shape_of
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import plain_report
from experiments.reporting.toeplitz_fraction import toeplitz_fractions
from experiments.text.corpus import Corpus, load_corpus
from experiments.text.windows import Windows

VARIANTS = ("gmlp", "linear", "additive", "multiplicative", "toeplitz", "transformer")
# What the loss skips.
NOT_CHOSEN = -100
# Of the chosen positions, those that show `[MASK]`, and those that show a random token.
MASKED, RANDOM = 0.8, 0.1
# All validate on the same masks, whatever their seed.
VALIDATION_SEED = 2**31


def n_chosen(n: int, share: float) -> int:
    r"""
    ## How many are hidden

    As many in each sequence of `n` characters, as in BERT's code: so the mean over a sequence, over
    micro-batches and over a batch weigh each character alike. At least one.
    """
    return max(1, round(n * share))


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""
    ## Settings

    * `corpus` is python, tiny_shakespeare or the path of a UTF-8 text
    * `layer` is gmlp, linear, additive, multiplicative, toeplitz or transformer; the other defaults
      follow it
    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `n_heads` is the number of attention heads, for the transformer only
    * `dropout` is the share of a layer's results that training sets to zero
    * `seq_len` is the length of a sequence in characters
    * `chosen` is the share of the characters to restore
    * `maskings` is the number of times that validation reads the text, each time with other
      characters hidden
    """

    corpus: str = "python"
    layer: str = "gmlp"
    d_model: int = 128
    d_ffn: int = 512
    n_layers: int = 6
    n_heads: int = 4
    dropout: float = 0.0
    seq_len: int = 128
    chosen: float = 0.15
    maskings: int = 2

    def __post_init__(self) -> None:
        check_choice("layer", self.layer, VARIANTS)
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "seq_len", "maskings")
        check_positive(self, sizes)
        if not 0 < self.chosen <= 1:
            raise ValueError(f"chosen must lie in (0, 1], got {self.chosen}")
        most = self.seq_len // n_chosen(self.seq_len, self.chosen)
        if self.maskings > most:
            raise ValueError(
                f"maskings must be at most {most}, where each character has been hidden with "
                f"seq_len={self.seq_len} and chosen={self.chosen}, got {self.maskings}"
            )
        shape_of(self)


# ## The variants
#
# All have about 0.7 million parameters. Without a split, `proj_out` reads twice as many channels:
# three quarters of `d_ffn` give equal parameters at equal depth (the paper's counts, 92 million
# from memory and 102 million, fit two thirds). At an equal `d_ffn` these gates would have 28 %
# more. A Toeplitz $W$ has 255 numbers in the place of 16,384; at an equal `d_ffn` the model would
# have 14 % fewer, and the wider layers make up for it.
DEFAULTS: dict[str, tuple[Settings, Training]] = {
    "gmlp": (Settings(), Training()),
    "linear": (Settings(layer="linear", d_ffn=384), Training()),
    "additive": (Settings(layer="additive", d_ffn=384), Training()),
    "multiplicative": (Settings(layer="multiplicative", d_ffn=384), Training()),
    "toeplitz": (Settings(layer="toeplitz", d_ffn=592), Training()),
    "transformer": (Settings(layer="transformer", d_ffn=400, n_layers=4), Training(lr=1e-3)),
}


def hide(
    tokens: Tensor, chosen: Tensor, n_known: int, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    r"""
    ## Hiding

    Most of the chosen characters become `[MASK]`. A mask never stands in a text that is used, and
    so a model could learn to have nothing to say elsewhere; the random characters, and those that
    stay, keep any character from being above suspicion (BERT).

    * `tokens` are those of one sequence, `[n]`
    * `chosen` are the positions to restore
    * `n_known` is the size of the vocabulary; `[MASK]` is the token after it. A random token is any
      known character, perhaps the right one, and never token 0, which stands for the unknown
    * `random` draws the fate of each

    Returns the inputs, and the targets with `NOT_CHOSEN` at all other positions, `[n]` each.
    """
    fate = torch.from_numpy(random.random(len(chosen)))
    drawn = torch.from_numpy(random.integers(1, n_known, len(chosen)))
    was = tokens[chosen]
    becomes = torch.where(fate < MASKED, n_known, torch.where(fate < MASKED + RANDOM, drawn, was))
    inputs, targets = tokens.clone(), torch.full_like(tokens, NOT_CHOSEN)
    inputs[chosen], targets[chosen] = becomes, was
    return inputs, targets


def training_batches(
    corpus: Corpus, settings: Settings, training: Training, step: int, share: BatchSplit
) -> Iterator[Batch]:
    r"""
    ## What training reads

    The windows of the [corpus](text/corpus.py) in their order, hidden anew in each pass: by the
    seed, the step and the row alone.

    Yields inputs and targets, `[rows, seq_len]` each, from `step` on.
    """
    n_known = len(corpus.vocabulary)
    count = n_chosen(settings.seq_len, settings.chosen)
    windows = Windows(corpus.train, settings.seq_len, training.batch, training.seed)
    shares = share.rows(training.batch)
    while True:
        for rows in shares:
            read, _ = windows.rows(step, rows)
            hidden = []
            for row, window in zip(rows, read, strict=True):
                random = np.random.default_rng((training.seed, step, row))
                chosen = torch.from_numpy(random.permutation(settings.seq_len)[:count])
                hidden.append(hide(window, chosen, n_known, random))
            inputs, targets = zip(*hidden, strict=True)
            yield torch.stack(inputs), torch.stack(targets)
        step += 1


def validation_rows(corpus: Corpus, settings: Settings) -> tuple[Tensor, Tensor]:
    r"""
    ## What validation reads

    The validation part in windows edge to edge, without what is left at the end and fills none.
    Each is read `maskings` times with other characters hidden. The masks are the same for all
    models and seeds.

    Returns inputs and targets, `[rows, seq_len]` each.

    Raises `ValueError` for a part that fills no window.
    """
    n = settings.seq_len
    # The first token is the last of the training part.
    tokens = corpus.validation[1:]
    if len(tokens) < n:
        raise ValueError(
            f"corpus must have at least seq_len={n} characters for validation, "
            f"got {len(tokens)} in {corpus.name}"
        )
    count = n_chosen(n, settings.chosen)
    hidden = []
    for row, window in enumerate(tokens[: len(tokens) // n * n].view(-1, n)):
        random = np.random.default_rng((VALIDATION_SEED, row))
        # One order, cut in pieces: no position is hidden twice.
        order = torch.from_numpy(random.permutation(n))
        for k in range(settings.maskings):
            chosen = order[k * count : (k + 1) * count]
            hidden.append(hide(window, chosen, len(corpus.vocabulary), random))
    inputs, targets = zip(*hidden, strict=True)
    return torch.stack(inputs), torch.stack(targets)


def masked_loss(model: nn.Module, batch: Batch) -> Tensor:
    r"""
    ## Loss

    $$\ell = - \frac{1}{|C|} \sum_{i \in C} \ln p(t_i \mid \text{inputs})$$

    over the chosen positions $C$, those that were left as they are too.
    """
    inputs, targets = batch
    logits = model(inputs).flatten(0, 1).float()
    return nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=NOT_CHOSEN)


# Of each sequence: the loss summed over its chosen positions, their number, and how many of them
# are not the likeliest token.
def _measure(model: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    logits = model(inputs).float()  # [B, n, n_tokens]
    losses = nn.functional.cross_entropy(
        logits.mT, targets, ignore_index=NOT_CHOSEN, reduction="none"
    )
    chosen = targets != NOT_CHOSEN
    wrong = (logits.argmax(-1) != targets) & chosen
    return torch.stack([losses.sum(1), chosen.sum(1), wrong.sum(1)], dim=1)  # [B, 3]


def evaluate(model: nn.Module, fabric: Fabric, rows: tuple[Tensor, Tensor]) -> dict[str, float]:
    r"""
    ## Evaluation

    Returns nats per hidden character, the perplexity $e^\ell$, the share of wrong guesses, and for
    models with a free $W$ the [Toeplitz share](reporting/toeplitz_fraction.py), the mean over
    layers.
    """
    loss, count, wrong = sum_over_rows(model, fabric, rows, _measure)
    nats = loss / count
    found = {
        "nats_per_char": nats,
        # A loss in the thousands, as of a run that diverged, has no perplexity that fits a float.
        "perplexity": math.exp(nats) if nats < 700 else math.inf,
        "error": wrong / count,
    }
    shares = toeplitz_fractions(model)
    return {**found, "toeplitz_fraction": sum(shares) / len(shares)} if shares else found


def describe(found: dict[str, float]) -> str:
    """An evaluation in a line."""
    words = (
        f"{found['nats_per_char']:.4f} nats per hidden character, perplexity "
        f"{found['perplexity']:.3f}, {found['error']:.1%} wrong"
    )
    if "toeplitz_fraction" in found:
        words += f", W {found['toeplitz_fraction']:.0%} Toeplitz"
    return words


def build(settings: Settings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""
    ## The task

    Raises `ValueError` for a text or sizes that will not do.
    """
    corpus = load_corpus(settings.corpus, settings.seq_len, launch.data)
    rows = validation_rows(corpus, settings)
    model = make_model(
        settings.layer,
        shape_of(settings),
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
            f"{int((rows[1] != NOT_CHOSEN).sum()):,} hidden ones to validate, "
            f"{len(corpus.vocabulary)} tokens and [MASK]"
        ),
        batches=lambda step, share: training_batches(corpus, settings, training, step, share),
        loss=masked_loss,
        evaluate=lambda model, fabric: evaluate(model, fabric, rows),
        monitor="nats_per_char",
        describe=describe,
    )


CURVE = Curve("nats_per_char", "nats per hidden character")
EXPERIMENT = Experiment(
    name="masked",
    about="Train a language model that restores hidden characters.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"masked-{Path(settings.corpus).stem}-{settings.layer}",
    build=build,
    finish=plain_report(
        lambda record: f"{record['settings']['layer']}, masked, on {record['data']['name']}",
        lambda record, found: describe(found),
        CURVE,
    ),
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
