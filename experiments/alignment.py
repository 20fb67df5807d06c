r"""Trains a model to align two spans of symbols: is attention needed to compare them?

# Alignment

The second span contains the symbols of the first in another order. At each symbol of the second
span, the model predicts its position in the first. Start and length of the spans vary between rows,
so the positions alone say little about which symbols belong together.

$W$ is learned once and used for every input, while attention computes its weights from the input.
The paper finds that gMLP falls behind BERT on MNLI, where two sentences are compared, and that a
tiny attention closes the gap ([source](../docs/coverage.yml#language-models)). This task is our
choice: it needs the comparison and nothing else.

```
python -m experiments.alignment
python -m experiments.alignment --layer amlp
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
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
from experiments.engine.settings.types import check_choices, from_dict
from experiments.engine.validation import sum_over_rows
from experiments.models.language import layer_sizes, make_model
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import plain_report

# Tokens: the filler around the spans, the separator before the second span, the symbols, and then
# one answer for each position.
FILLER, SEPARATOR, FIRST_SYMBOL = 0, 1, 2
# The target at all positions without a query, as in `cross_entropy`.
IGNORE_INDEX = -100
# Training seeds are below it.
VALIDATION_SEED = 2**31


def sample_row(
    settings: AlignmentSettings, seed: int, step: int, row: int
) -> tuple[Tensor, Tensor]:
    r"""Samples one row, which depends on the seed, the step and the row number only.

    ## A row

    ```
    . . c a d b . | a b d c . .
    ```

    The targets at the last four symbols are 3, 5, 4, 2. The length of the spans, the symbols, and
    their order in the second span are uniformly random. Two random places divide the filler.

    * `settings` are the settings of the run
    * `seed`, `step` and `row` seed the generator

    Returns tokens and targets, `[seq_len]` each. Targets are `IGNORE_INDEX` outside the second
    span.
    """
    random = row_generator(seed, step, row)
    m = int(random.integers(settings.shortest, settings.longest + 1))
    spare = settings.seq_len - 2 * m - 1
    first, middle = np.sort(random.integers(0, spare + 1, 2))
    second = middle + m + 1
    symbols = FIRST_SYMBOL + random.permutation(settings.symbols)[:m]
    order = random.permutation(m)
    tokens = np.full(settings.seq_len, FILLER)
    tokens[first : first + m] = symbols
    tokens[second - 1] = SEPARATOR
    tokens[second : second + m] = symbols[order]
    targets = np.full(settings.seq_len, IGNORE_INDEX)
    targets[second : second + m] = FIRST_SYMBOL + settings.symbols + first + order
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def random_baseline(settings: AlignmentSettings) -> float:
    r"""The error rate of a model that sees where the spans are, but not which symbols they contain.

    ## Random baseline

    $$1 - \frac{\text{rows}}{\text{queries}} = 1 - \frac{1}{\bar m}$$

    with $\bar m$ the mean length of a span: such a model picks one of $m$ positions at random. $W$
    alone cannot do better. gMLP as a whole can, because its gate multiplies a position with a sum
    of other positions; with a channel for each symbol, that compares symbols too.
    """
    return 1 - 2 / (settings.shortest + settings.longest)


def training_batches(
    settings: AlignmentSettings, training: Training, step: int, split: BatchSplit
) -> Iterator[Batch]:
    r"""Yields the micro-batches of one process, without end.

    ## Training batches

    * `settings` and `training` are the settings of the run
    * `step` is the first step
    * `split` selects the rows of the process

    Yields tokens and targets, `[rows, seq_len]` each.
    """
    for number, rows in micro_batches(step, training.batch, split):
        yield _sample_rows(settings, training.seed, number, rows)


def _sample_rows(
    settings: AlignmentSettings, seed: int, step: int, rows: range
) -> tuple[Tensor, Tensor]:
    tokens, targets = zip(*(sample_row(settings, seed, step, row) for row in rows), strict=True)
    return torch.stack(tokens), torch.stack(targets)


def alignment_loss(model: nn.Module, batch: Batch) -> Tensor:
    r"""The mean loss over the queries of each row, averaged over rows, in nats.

    ## Loss

    Every row has the same weight, whatever the length of its spans. The mean over micro-batches
    then equals the mean over the batch.
    """
    return _row_metrics(model, batch)[:, 0].mean()


# For each row: the mean loss of its queries, their number, and the number of errors.
def _row_metrics(model: nn.Module, batch: Batch) -> Tensor:
    tokens, targets = batch
    logits = model(tokens).float()  # [B, n, n_tokens]
    losses = nn.functional.cross_entropy(
        logits.mT, targets, ignore_index=IGNORE_INDEX, reduction="none"
    )
    queries = targets != IGNORE_INDEX
    count = queries.sum(1)
    wrong = ((logits.argmax(-1) != targets) & queries).sum(1)
    return torch.stack([losses.sum(1) / count, count, wrong], dim=1)  # [B, 3]


def evaluate(
    model: nn.Module, fabric: Fabric, settings: AlignmentSettings, rows: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """Returns `nats`, the mean loss over rows, and `error`, the error rate over all queries."""
    loss, count, wrong = sum_over_rows(model, fabric, rows, _row_metrics)
    return {"nats": loss / settings.rows, "error": wrong / count}


def describe(settings: AlignmentSettings, metrics: dict[str, float]) -> str:
    """The metrics of `evaluate` in one line."""
    return (
        f"{metrics['error']:.2%} wrong, {metrics['nats']:.4f} nats per query "
        f"(random baseline: {random_baseline(settings):.2%})"
    )


def build(settings: AlignmentSettings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""Builds the model, the batches and the evaluation.

    ## The task

    Raises `ValueError` for sizes that [`make_model`](models/language.py) refuses.
    """
    model = make_model(
        settings.layer,
        layer_sizes(settings),
        settings.n_tokens,
        causal=False,
        seed=training.seed,
        checkpoint_layers=launch.checkpoint_layers,
    )
    validation = _sample_rows(settings, VALIDATION_SEED, 0, range(settings.rows))
    return Task(
        model=model,
        data={"name": "alignment"},
        about=(
            f"alignment of two spans of {settings.shortest} to {settings.longest} of "
            f"{settings.symbols} symbols, {settings.rows:,} rows to validate"
        ),
        batches=lambda step, split: training_batches(settings, training, step, split),
        loss=alignment_loss,
        evaluate=lambda model, fabric: evaluate(model, fabric, settings, validation),
        monitor="error",
        describe=lambda metrics: describe(settings, metrics),
    )


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    r"""The rows and the model of an alignment run.

    ## Settings

    ```python
    settings = AlignmentSettings(layer="amlp", d_ffn=240, n_layers=3)
    ```

    Raises `ValueError` for an unknown layer, a size below 1, and spans longer than `seq_len` or the
    number of symbols allows.
    """

    # Layer to stack; other defaults depend on it.
    layer: Literal["gmlp", "amlp", "transformer"] = "gmlp"
    # Width of the residual stream.
    d_model: int = 64  # channels
    # Width inside a layer.
    d_ffn: int = 256  # channels
    # Depth of the model.
    n_layers: int = 4  # layers
    # Attention heads, for transformer only.
    n_heads: int = 4
    # Width of the tiny attention, for amlp only.
    d_attn: int = 32  # channels
    # Length of a row.
    seq_len: int = 32  # tokens
    # Number of different symbols.
    symbols: int = 256
    # Minimum length of a span.
    shortest: int = 4  # symbols
    # Maximum length of a span.
    longest: int = 12  # symbols
    # Size of the validation set.
    rows: int = 2_000  # rows

    # fold: checks
    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("d_model", "d_ffn", "n_layers", "n_heads", "d_attn", "seq_len", "symbols", "rows")
        check_positive(self, (*sizes, "shortest"))
        most = min(self.symbols, (self.seq_len - 1) // 2)
        if not self.shortest <= self.longest <= most:
            raise ValueError(
                f"longest must lie in [shortest={self.shortest}, {most}] with "
                f"symbols={self.symbols} and seq_len={self.seq_len}, got {self.longest}"
            )

    @property
    def n_tokens(self) -> int:
        return FIRST_SYMBOL + self.symbols + self.seq_len


# ## The layers compared
#
# All models have about 0.12 million parameters. There are twice as many symbols as the gate of gMLP
# has channels, so it cannot reserve a channel for each symbol.
DEFAULTS: dict[str, tuple[AlignmentSettings, Training]] = {
    "gmlp": (AlignmentSettings(), Training(batch=48, warmup=100)),
    "amlp": (
        AlignmentSettings(layer="amlp", d_ffn=240, n_layers=3),
        Training(batch=48, warmup=100),
    ),
    "transformer": (
        AlignmentSettings(layer="transformer", d_ffn=136, n_layers=3),
        Training(batch=48, warmup=100, lr=2e-3),
    ),
}


# ## The experiment
CURVE = Curve("nats", "nats per query")
EXPERIMENT = Experiment(
    name="alignment",
    about="Train a model to align two spans of symbols.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"alignment-{settings.layer}",
    build=build,
    finish=plain_report(
        lambda record: f"{record['settings']['layer']} on alignment",
        lambda record, metrics: describe(
            from_dict((AlignmentSettings, Training), record["settings"])[0], metrics
        ),
        CURVE,
    ),
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
