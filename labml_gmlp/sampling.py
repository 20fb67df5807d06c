r"""Next-token probabilities from the logits of a language model.

# Sampling

Temperature, top-k, top-p and the repetition penalty. [Generation](generation.py) computes the
logits and draws from these probabilities.
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
    r"""Returns the probabilities of the next token, after all sampling filters.

    ## Distribution of the next token

    Four filters apply in this order: repetition penalty, temperature, top-k, top-p.

    The repetition penalty $\theta$ lowers the logit $\ell_v$ of each token $v$ that already occurs
    in the text or the prompt, once or more:

    $$a_v = \begin{cases} \ell_v / \theta & \ell_v > 0 \\ \theta \, \ell_v & \ell_v \le 0
      \end{cases}$$

    CTRL (Keskar et al., 2019) divides every logit, which would raise a negative one. Like later
    implementations, we multiply negative ones.

    A temperature $\tau$ below 1 sharpens the distribution, above 1 it flattens it:

    $$p_v = \frac{\exp(a_v / \tau)}{\sum_u \exp(a_u / \tau)}$$

    Top-k keeps the $k$ most likely tokens, including any that tie with the last of them. Top-p
    keeps the smallest set of most likely tokens whose probabilities, after top-k, sum to at least
    $q$: at least one token, and among equals the first. The rest is renormalised.

    * `logits` is $\ell$, `[n_tokens]`
    * `text` holds the tokens so far, for the repetition penalty
    * `temperature` is $\tau$; 0 means greedy: the most likely token gets probability 1
    * `top_k` is $k$; `None` disables the filter
    * `top_p` is $q$; `None` disables the filter
    * `repetition_penalty` is $\theta$; 1 disables it

    Returns $p$, `[n_tokens]`, in float64 on the CPU. Float32 would round small probabilities to 0,
    and a seed would draw other numbers on another device.

    Raises `ValueError` if the maximum of `logits` is not finite, `temperature` is negative or not
    finite, `top_k` is not a positive integer, `top_p` is outside (0, 1], or `repetition_penalty` is
    not positive and finite.

    ```python
    p = distribution(torch.tensor([1.0, 2.0, 0.5]), top_k=2)
    token = torch.multinomial(p, 1)
    ```
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
        raise ValueError(f"logits must have a finite maximum, got {largest.item()}")
    if temperature == 0:
        return torch.zeros_like(a).index_fill_(0, a.argmax(), 1.0)
    # Subtract the maximum first, so that dividing by a small $\tau$ cannot overflow to infinity.
    a = (a - largest) / temperature
    if top_k is not None and top_k < len(a):
        a = a.masked_fill(a < a.topk(top_k).values[-1], -torch.inf)
    p = torch.softmax(a, dim=-1)
    # $q = 1$ keeps every token. The rounded cumulative sum could reach 1 too early.
    if top_p is not None and top_p < 1:
        ordered, order = p.sort(descending=True, stable=True)
        # Keep a token if the more likely ones sum to less than $q$. The first always stays.
        reached = ordered.cumsum(0)[:-1] >= top_p
        p[order[1:][reached]] = 0.0
        p = p / p.sum()
    return p


def check_filters(
    temperature: float, top_k: int | None, top_p: float | None, repetition_penalty: float
) -> None:
    r"""Raises `ValueError` for filter options that `distribution` does not accept."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ValueError(f"top_k must be a positive integer, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
    if not 0 < repetition_penalty < math.inf:
        raise ValueError(
            f"repetition_penalty must be finite and positive, got {repetition_penalty}"
        )
