r"""
# Generation

Text from a causal model, one token after another. Each token costs a whole forward pass here; this
is the plain definition of what sampling means.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def generate(
    model: nn.Module,
    prompt: Tensor,
    n_new: int,
    *,
    seq_len: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    r"""
    ## Sampling

    $$p(t_{i+1} = v \mid t_1, \dots, t_i) =
      \mathrm{softmax}_v \left( \frac{\mathrm{logits}_{iv}}{\tau} \right)$$

    Draws tokens one by one and yields each as soon as it is known. Beyond `seq_len` tokens the
    model reads the last `seq_len` only: the window slides, and what left it is forgotten.

    * `model` maps tokens `[1, n]` to logits `[1, n, n_tokens]` and is causal
    * `prompt` are the tokens to start from, `[n]`, at least one
    * `n_new` is the number of tokens to draw
    * `seq_len` is the longest sequence that the model takes
    * `temperature` is $\tau$; towards 0 the likeliest token wins, and at 0 it always does
    * `top_k` draws from the $k$ likeliest tokens only; `None` means from all
    * `generator` makes the draw repeatable; it lives on the device of `prompt`

    Yields `n_new` tokens as whole numbers.

    Raises `ValueError` for an empty or batched `prompt`, an `n_new` below 0, a `temperature` that
    is below 0 or infinite, and a `seq_len` or `top_k` below 1.
    """
    if prompt.dim() != 1 or not len(prompt):
        raise ValueError(f"prompt must be [n] with at least one token, got {list(prompt.shape)}")
    if n_new < 0:
        raise ValueError(f"n_new must be at least 0, got {n_new}")
    if seq_len < 1:
        raise ValueError(f"seq_len must be at least 1, got {seq_len}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    return _draw(model, prompt, n_new, seq_len, temperature, top_k, generator)


# Apart from `generate`, because a function that yields runs nothing before the first token is asked
# for, not even its checks.
@torch.no_grad()
def _draw(
    model: nn.Module,
    tokens: Tensor,
    n_new: int,
    seq_len: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Iterator[int]:
    for _ in range(n_new):
        tokens = tokens[-seq_len:]
        logits = model(tokens[None])[0, -1]  # [n_tokens]
        # What equals the last of the $k$ likeliest stays in too.
        if top_k is not None and top_k < len(logits):
            logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
        if temperature == 0:
            token = logits.argmax(keepdim=True)  # [1]
        else:
            # The largest logit becomes 0, so that no small $\tau$ can make it infinite; in double
            # precision, as single precision would round some of them to 0.
            p = torch.softmax((logits - logits.max()).double() / temperature, dim=-1)
            token = torch.multinomial(p, 1, generator=generator)  # [1]
        tokens = torch.cat([tokens, token])
        yield int(token)
