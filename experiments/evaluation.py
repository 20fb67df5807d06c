r"""
# Evaluation
"""

import math

import torch
from torch import Tensor, nn

# Windows in one forward pass. It does not change the sum, only the memory that it takes.
WINDOWS_AT_ONCE = 128


@torch.inference_mode()
def evaluate(
    model: nn.Module, tokens: Tensor, characters: int, seq_len: int, fabric
) -> dict[str, float]:
    r"""
    ## The loss over the whole validation part

    $$\ell = - \frac{1}{N} \sum_{i=1}^{N} \ln p(t_i \mid t_{a(i)}, \dots, t_{i-1})$$

    The text is cut into windows of `seq_len` at fixed places, edge to edge; $a(i)$ is where the
    window of $i$ starts. Each of the $N$ characters is predicted exactly once, with between 1 and
    `seq_len` characters of context, and every evaluation sums the same terms.

    * `model` maps tokens to logits
    * `tokens` is one token of context and then the $N$ to predict, `[N + 1]`
    * `seq_len` is the length of a window in tokens

    Returns nats and bits per character, and the perplexity of a character, $e^\ell$.
    """
    model.eval()
    device = fabric.device
    inputs, targets = tokens[:-1], tokens[1:]
    whole = len(targets) // seq_len * seq_len
    batches = list(
        zip(
            inputs[:whole].view(-1, seq_len).split(WINDOWS_AT_ONCE),
            targets[:whole].view(-1, seq_len).split(WINDOWS_AT_ONCE),
            strict=True,
        )
    )
    # What is left at the end is a shorter window.
    if whole < len(targets):
        batches.append((inputs[None, whole:], targets[None, whole:]))
    total = 0.0
    for x, y in batches:
        logits = model(x.to(device))
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), y.to(device).flatten(), reduction="sum"
        )
        total += loss.item()
    model.train()
    nats = total / len(targets)
    return {
        "nats_per_char": nats,
        "bits_per_char": nats / math.log(2),
        # A loss in the thousands, as of a run that diverged, has no perplexity that fits a float.
        "perplexity": math.exp(nats) if nats < 700 else math.inf,
    }


def in_words(found: dict[str, float]) -> str:
    """What `evaluate` found, in a line."""
    return (
        f"{found['nats_per_char']:.4f} nats/char, {found['bits_per_char']:.4f} bits/char, "
        f"perplexity {found['perplexity']:.3f}"
    )
