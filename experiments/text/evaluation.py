r"""The loss of a causal language model over the whole validation split.

# Evaluation
"""

import math
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.text.tokens import Tokens

# Windows in one forward pass. They change the memory used, and the sum by rounding only.
WINDOWS_AT_ONCE = 128


# Not `inference_mode`: a sharded model reuses the parameters gathered here in the next step.
@torch.no_grad()
def evaluate(
    model: nn.Module, tokens: Tokens, characters: int, seq_len: int, fabric: Fabric
) -> dict[str, float]:
    r"""Evaluates a model over the whole validation split.

    ## Loss over the validation split

    $$\ell = - \frac{1}{C} \sum_{i=1}^{N} \ln p(t_i \mid t_{a(i)}, \dots, t_{i-1})$$

    The split is cut into adjacent windows of `seq_len` tokens at fixed places; $a(i)$ is the start
    of the window that contains $i$. Each of the $N$ tokens is predicted exactly once, from 1 to
    `seq_len` tokens of context, and every evaluation sums the same terms.

    The sum is divided by the number of characters $C$, not by the number of tokens, so that
    vocabularies that cut the text into more or fewer tokens can be compared.

    * `model` maps tokens to logits
    * `tokens` is one token of context followed by the $N$ tokens to predict
    * `characters` is $C$
    * `seq_len` is the length of a window in tokens
    * `fabric` provides the device and the processes that split the windows

    Returns `nats_per_char`, `bits_per_char` and the `perplexity` of a token, $e^{\ell C / N}$. If
    the tokens are characters, this is the perplexity of a character.
    """
    model.eval()
    n = len(tokens) - 1
    batches = _batches(n, seq_len)
    # A sum over a long text exceeds the 7 digits of float32.
    total = torch.zeros((), dtype=torch.float64, device=fabric.device)
    # All processes must run equally many forward passes, because each pass gathers the sharded
    # weights from all of them. A process without a batch repeats the last one, ignoring its loss.
    for first in range(0, len(batches), fabric.world_size):
        own = first + fabric.global_rank
        x, y = _windows(tokens, *batches[min(own, len(batches) - 1)], seq_len)
        logits = model(x.to(fabric.device))
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), y.to(fabric.device).flatten(), reduction="none"
        )
        if own < len(batches):
            total += losses.double().sum()
    total = cast(Tensor, fabric.all_reduce(total, reduce_op="sum"))
    model.train()
    nats, per_token = total.item() / characters, total.item() / n
    return {
        "nats_per_char": nats,
        "bits_per_char": nats / math.log(2),
        # The perplexity of a diverged run may overflow a float.
        "perplexity": math.exp(per_token) if per_token < 700 else math.inf,
    }


# Start and end of each batch among `n` tokens. The remainder is a shorter window in its own batch.
def _batches(n: int, seq_len: int) -> list[tuple[int, int]]:
    whole, size = n // seq_len * seq_len, WINDOWS_AT_ONCE * seq_len
    batches = [(start, min(start + size, whole)) for start in range(0, whole, size)]
    return batches if whole == n else [*batches, (whole, n)]


def _windows(tokens: Tokens, start: int, stop: int, seq_len: int) -> tuple[Tensor, Tensor]:
    read = tokens[start : stop + 1]
    length = min(seq_len, stop - start)
    return read[:-1].view(-1, length), read[1:].view(-1, length)


def describe(metrics: dict[str, float]) -> str:
    """The metrics of `evaluate` in one line."""
    return (
        f"{metrics['nats_per_char']:.4f} nats/char, {metrics['bits_per_char']:.4f} bits/char, "
        f"perplexity {metrics['perplexity']:.3f}"
    )
