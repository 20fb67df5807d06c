r"""
# Alignment

Two spans of symbols: the second has those of the first in another order. At each place of the
second, the model says where in the first its symbol stands. Where the spans begin and how long they
are differs from row to row, so that a position alone hardly tells which other one belongs to it.

$W$ is learned once and used for every input; attention computes anew who reads whom. The paper
finds that gMLP falls behind BERT on MNLI, where two sentences are compared, and that a tiny
attention makes up for it (as reported). This task is our choice: it asks for nothing but the
comparison.

```
python -m experiments.alignment
python -m experiments.alignment --layer amlp
```
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.command import run, run_as_main
from experiments.engine.devices import BatchSplit
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.settings.errors import check_choice, check_positive
from experiments.engine.settings.flags import from_dict
from experiments.engine.validation import sum_over_rows
from experiments.models.language import make_model, shape_of
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import plain_report

VARIANTS = ("gmlp", "amlp", "transformer")
# Tokens: what fills the room around the spans, what stands before the second, then the symbols,
# then an answer for each position.
FILLER, SEPARATOR, FIRST_SYMBOL = 0, 1, 2
# What the loss skips.
NOT_ASKED = -100
# Above any seed of training.
VALIDATION_SEED = 2**31


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""
    ## Settings

    * `layer` is gmlp, amlp or transformer; the other defaults follow it
    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `n_heads` is the number of attention heads, for the transformer only
    * `d_attn` is the number of channels of the tiny attention, for amlp only
    * `seq_len` is the length of a row in tokens
    * `symbols` is the number of different symbols
    * `shortest` and `longest` bound the number of symbols in a span
    * `rows` is the number of rows to validate
    """

    layer: str = "gmlp"
    d_model: int = 64
    d_ffn: int = 256
    n_layers: int = 4
    n_heads: int = 4
    d_attn: int = 32
    seq_len: int = 32
    symbols: int = 256
    shortest: int = 4
    longest: int = 12
    rows: int = 2_000

    def __post_init__(self) -> None:
        check_choice("layer", self.layer, VARIANTS)
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


# ## The variants
#
# All have about 0.12 million parameters. There are twice as many symbols as the gate of gMLP has
# channels, so that no channel can stand for one symbol.
DEFAULTS: dict[str, tuple[Settings, Training]] = {
    "gmlp": (Settings(), Training(batch=48, warmup=100)),
    "amlp": (Settings(layer="amlp", d_ffn=240, n_layers=3), Training(batch=48, warmup=100)),
    "transformer": (
        Settings(layer="transformer", d_ffn=136, n_layers=3),
        Training(batch=48, warmup=100, lr=2e-3),
    ),
}


def draw(settings: Settings, seed: int, step: int, row: int) -> tuple[Tensor, Tensor]:
    r"""
    ## A row

    ```
    . . c a d b . | a b d c . .
    ```

    is asked for 3, 5, 4, 2 at the last four symbols. The length of the spans, the symbols and their
    order in the second span are drawn uniformly; two random places divide the room that is left.

    Returns tokens and targets, `[seq_len]` each, which follow from `seed`, `step` and `row` alone.
    """
    random = np.random.default_rng((seed, step, row))
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
    targets = np.full(settings.seq_len, NOT_ASKED)
    targets[second : second + m] = FIRST_SYMBOL + settings.symbols + first + order
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def guess(settings: Settings) -> float:
    r"""
    ## What a guess gets

    $$1 - \frac{\text{rows}}{\text{questions}} = 1 - \frac{1}{\bar m}$$

    with $\bar m$ the mean length of a span. Whoever sees where the spans lie, and not what stands
    in them, is right at one of $m$ places. That holds for what $W$ alone adds up; gMLP as a whole
    is not bound by it, since its gate multiplies what stands at one place with what stands at
    others: with a channel for each symbol, that too is a comparison.

    Returns the error rate.
    """
    return 1 - 2 / (settings.shortest + settings.longest)


def training_batches(
    settings: Settings, training: Training, step: int, share: BatchSplit
) -> Iterator[Batch]:
    """Yields tokens and targets, `[rows, seq_len]` each, from `step` on."""
    shares = share.rows(training.batch)
    while True:
        for rows in shares:
            yield _stacked(settings, training.seed, step, rows)
        step += 1


def _stacked(settings: Settings, seed: int, step: int, rows: range) -> tuple[Tensor, Tensor]:
    tokens, targets = zip(*(draw(settings, seed, step, row) for row in rows), strict=True)
    return torch.stack(tokens), torch.stack(targets)


def asked_loss(model: nn.Module, batch: Batch) -> Tensor:
    r"""
    ## Loss

    The mean of $-\ln p$ of the right place, over the questions of each row and then over the rows:
    the mean of micro-batches is then that of the batch, whatever the lengths of their spans.
    """
    return _measure(model, batch)[:, 0].mean()


# Of each row: the mean loss of its questions, how many there are, and how many are answered wrong.
def _measure(model: nn.Module, batch: Batch) -> Tensor:
    tokens, targets = batch
    logits = model(tokens).float()  # [B, n, n_tokens]
    losses = nn.functional.cross_entropy(
        logits.mT, targets, ignore_index=NOT_ASKED, reduction="none"
    )
    asked = targets != NOT_ASKED
    count = asked.sum(1)
    wrong = ((logits.argmax(-1) != targets) & asked).sum(1)
    return torch.stack([losses.sum(1) / count, count, wrong], dim=1)  # [B, 3]


def evaluate(
    model: nn.Module, fabric: Fabric, settings: Settings, rows: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """Returns the loss, the mean over rows, and the error rate, over all questions."""
    loss, count, wrong = sum_over_rows(model, fabric, rows, _measure)
    return {"nats": loss / settings.rows, "error": wrong / count}


def describe(settings: Settings, found: dict[str, float]) -> str:
    """An evaluation in a line."""
    return (
        f"{found['error']:.2%} wrong, {found['nats']:.4f} nats per question "
        f"(a guess: {guess(settings):.2%})"
    )


def build(settings: Settings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""
    ## The task

    Raises `ValueError` for sizes that will not do.
    """
    model = make_model(
        settings.layer,
        shape_of(settings),
        settings.n_tokens,
        causal=False,
        seed=training.seed,
        checkpoint_layers=launch.checkpoint_layers,
    )
    validation = _stacked(settings, VALIDATION_SEED, 0, range(settings.rows))
    return Task(
        model=model,
        data={"name": "alignment"},
        about=(
            f"alignment of two spans of {settings.shortest} to {settings.longest} of "
            f"{settings.symbols} symbols, {settings.rows:,} rows to validate"
        ),
        batches=lambda step, share: training_batches(settings, training, step, share),
        loss=asked_loss,
        evaluate=lambda model, fabric: evaluate(model, fabric, settings, validation),
        monitor="error",
        describe=lambda found: describe(settings, found),
    )


CURVE = Curve("nats", "nats per question")
EXPERIMENT = Experiment(
    name="alignment",
    about="Train a model to say which places of two spans belong together.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"alignment-{settings.layer}",
    build=build,
    finish=plain_report(
        lambda record: f"{record['settings']['layer']} on alignment",
        lambda record, found: describe(
            from_dict((Settings, Training), record["settings"])[0], found
        ),
        CURVE,
    ),
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
