r"""
# Evaluation
"""

import math
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.text.tokens import Tokens

# Windows in one forward pass. It does not change the sum, only the memory that it takes.
WINDOWS_AT_ONCE = 128


# Not `inference_mode`: a sharded model keeps what it gathers in an evaluation, and its next step
# must be able to use that.
@torch.no_grad()
def evaluate(
    model: nn.Module, tokens: Tokens, characters: int, seq_len: int, fabric: Fabric
) -> dict[str, float]:
    r"""
    ## The loss over the whole validation part

    $$\ell = - \frac{1}{C} \sum_{i=1}^{N} \ln p(t_i \mid t_{a(i)}, \dots, t_{i-1})$$

    The text is cut into windows of `seq_len` at fixed places, edge to edge; $a(i)$ is where the
    window of $i$ starts. Each of the $N$ tokens is predicted exactly once, with between 1 and
    `seq_len` tokens of context, and every evaluation sums the same terms.

    The sum is divided by the number $C$ of characters, not of tokens. It is what the model pays for
    the text, and vocabularies cut the same text into more or fewer tokens.

    * `model` maps tokens to logits
    * `tokens` is one token of context and then the $N$ to predict, $N + 1$ altogether
    * `characters` is $C$
    * `seq_len` is the length of a window in tokens
    * `fabric` has the processes that share the windows, and the device of each

    Returns nats and bits per character, and the perplexity of a token, $e^{\ell C / N}$. With
    characters as tokens that is the perplexity of a character.
    """
    model.eval()
    n = len(tokens) - 1
    places = _batches(n, seq_len)
    # float32 has 7 digits, and a sum over a long text needs them all for its own.
    total = torch.zeros((), dtype=torch.float64, device=fabric.device)
    # The parts of a sharded model are gathered by all processes together in each forward pass: so
    # each makes as many. Who has no batch left repeats the last one, which does not count.
    for first in range(0, len(places), fabric.world_size):
        own = first + fabric.global_rank
        x, y = _windows(tokens, *places[min(own, len(places) - 1)], seq_len)
        logits = model(x.to(fabric.device))
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), y.to(fabric.device).flatten(), reduction="none"
        )
        if own < len(places):
            total += losses.double().sum()
    total = cast(Tensor, fabric.all_reduce(total, reduce_op="sum"))
    model.train()
    nats, per_token = total.item() / characters, total.item() / n
    return {
        "nats_per_char": nats,
        "bits_per_char": nats / math.log(2),
        # A loss in the thousands, as of a run that diverged, has no perplexity that fits a float.
        "perplexity": math.exp(per_token) if per_token < 700 else math.inf,
    }


# Where each batch starts and ends among `n` tokens. What is left at the end is a shorter window,
# alone.
def _batches(n: int, seq_len: int) -> list[tuple[int, int]]:
    whole, size = n // seq_len * seq_len, WINDOWS_AT_ONCE * seq_len
    batches = [(start, min(start + size, whole)) for start in range(0, whole, size)]
    return batches if whole == n else [*batches, (whole, n)]


def _windows(tokens: Tokens, start: int, stop: int, seq_len: int) -> tuple[Tensor, Tensor]:
    read = tokens[start : stop + 1]
    length = min(seq_len, stop - start)
    return read[:-1].view(-1, length), read[1:].view(-1, length)


def describe(found: dict[str, float]) -> str:
    """What `evaluate` found, in a line."""
    return (
        f"{found['nats_per_char']:.4f} nats/char, {found['bits_per_char']:.4f} bits/char, "
        f"perplexity {found['perplexity']:.3f}"
    )
