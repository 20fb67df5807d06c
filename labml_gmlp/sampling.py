r"""
# Sampling

From the logits of a language model to the chances of the next token. What is drawn from them, and
how they come about, is in [generation](generation.py).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def distribution(
    logits: Tensor,
    text: Sequence[int] = (),
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
) -> Tensor:
    r"""
    ## The distribution of the next token

    Four filters, in this order, each on what the one before it left.

    The repetition penalty $\theta$ lowers each token $v$ that stands in the text already, the
    prompt included, whether once or often:

    $$a_v = \begin{cases} \ell_v / \theta & \ell_v > 0 \\ \theta \, \ell_v & \ell_v \le 0
      \end{cases}$$

    It is that of CTRL (Keskar et al., 2019), which divides only; dividing a negative logit would
    raise it, so later implementations multiply it, and so do we.

    The temperature $\tau$ sharpens below 1 and flattens above:

    $$p_v = \frac{\exp(a_v / \tau)}{\sum_u \exp(a_u / \tau)}$$

    Of the tokens, top-k leaves the $k$ likeliest, and as many as are just as likely as the last of
    them. Top-p leaves the smallest set of the likeliest whose chances, after top-k, sum to $q$ or
    more; at least one, and of equals the first. What is left is scaled to sum to 1.

    * `logits` are $\ell$, `[n_tokens]`
    * `text` are the tokens so far
    * `temperature` is $\tau$; at 0 the likeliest token has it all
    * `top_k` is $k$ and `top_p` is $q$; `None` means no such filter
    * `repetition_penalty` is $\theta$; 1 means none

    Returns $p$, `[n_tokens]`, on the CPU in double precision: single precision would round some
    chances to 0, and so a seed draws the same tokens on any device.

    Raises `ValueError` for logits without a finite maximum, a `temperature` that is below 0 or
    infinite, a `top_k` that is not a positive whole number, a `top_p` outside of (0, 1], and a
    `repetition_penalty` that is not above 0 and finite.
    """
    check_filters(temperature, top_k, top_p, repetition_penalty)
    a = logits.detach().to("cpu").double()
    if repetition_penalty != 1 and len(text):
        seen = torch.tensor(sorted(set(text)))
        score = a[seen]
        penalised = torch.where(score > 0, score / repetition_penalty, score * repetition_penalty)
        a = a.index_put((seen,), penalised)
    largest = a.max()
    if not largest.isfinite():
        raise ValueError(f"model must return logits with a finite maximum, got {largest.item()}")
    if temperature == 0:
        return torch.zeros_like(a).index_fill_(0, a.argmax(), 1.0)
    # The largest logit becomes 0, so that no small $\tau$ can make it infinite.
    a = (a - largest) / temperature
    if top_k is not None and top_k < len(a):
        a = a.masked_fill(a < a.topk(top_k).values[-1], -torch.inf)
    p = torch.softmax(a, dim=-1)
    # At $q = 1$ all stay; a sum of rounded numbers may reach 1 before its end.
    if top_p is not None and top_p < 1:
        ordered, order = p.sort(descending=True, stable=True)
        # A token stays if those before it have not reached $q$ yet. Nothing is before the first.
        reached = ordered.cumsum(0)[:-1] >= top_p
        p[order[1:][reached]] = 0.0
        p = p / p.sum()
    return p


def check_filters(
    temperature: float, top_k: int | None, top_p: float | None, repetition_penalty: float
) -> None:
    r"""Raises what `distribution` raises for its options."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ValueError(f"top_k must be a positive whole number, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    if not 0 < repetition_penalty < math.inf:
        raise ValueError(f"repetition_penalty must be finite and above 0, got {repetition_penalty}")
