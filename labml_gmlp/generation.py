r"""Text generation with a causal language model, one token at a time.

# Generation

Each token is drawn from the model's [filtered probabilities](sampling.py). With `use_cache=False`
the model reads the whole text again for each token. Otherwise an [incremental
copy](incremental.py) of it reads each token once and generates the same text.

The paper has no causal model; generation is our addition.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from labml_gmlp.incremental import IncrementalModel, incremental
from labml_gmlp.sampling import check_filters, distribution


def generate_batch(
    model: nn.Module,
    prompts: Sequence[Tensor],
    n_new: int,
    *,
    seq_len: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Iterable[int] = (),
    seed: int | None = None,
    slide: int | None = None,
    use_cache: bool = True,
) -> Iterator[tuple[int, int]]:
    r"""Generates one text for each prompt, all in one batch.

    ## Several texts at once

    $$t_{i+1} \sim p(\,\cdot \mid t_1, \dots, t_i)$$

    Each token is yielded as soon as it is drawn. Prompts may differ in length and are not padded:
    the model reads all rows up to the same position, and a row whose prompt is longer takes its
    next token from the prompt instead of drawing one.

    * `model` is causal and maps tokens `[B, n]` to logits `[B, n, n_tokens]`. Call `model.eval()`
      first if it has dropout; the mode is not changed here
    * `prompts` are the tokens to start from, each `[n]` with $n \ge 1$, on the model's device
    * `n_new` is the largest number of tokens to draw for each prompt
    * `seq_len` is the longest sequence that the model accepts; `None` means any
    * `temperature`, `top_k`, `top_p` and `repetition_penalty` are the filters of
      [`distribution`](sampling.py)
    * `stop_tokens` end a text; the stop token is yielded as its last token
    * `seed` makes the draws reproducible. Row $b$ draws with the seed `seed + b`, so its text does
      not depend on the other rows. `None` draws from torch's global generator
    * `slide` is the number of oldest tokens dropped when the text outgrows `seq_len`. The rest is
      read again in one pass. 1 keeps the most context, and costs such a pass for each token; `None`
      means 1, with a warning
    * `use_cache=False` reads the whole text again for each token, for models that
      [`incremental`](incremental.py) does not know

    Yields pairs of the index of the prompt and the token, both `int`.

    Raises before the first token: `ValueError` if there is no prompt; if a prompt is empty or not
    1-D; if `n_new` or a stop token is not a non-negative integer; if `seq_len` is not a positive
    integer; if `slide` is not an integer from 1 to `seq_len`; if `seed` is not an integer in [0,
    2**63); if `temperature` is negative or not finite, `top_k` not a positive integer, `top_p`
    outside (0, 1], or `repetition_penalty` not positive and finite. `TypeError` if a prompt is not
    an integer tensor, and what `incremental` raises if `use_cache` is true.

    Raises while drawing: `ValueError` if the logits have another shape or no finite maximum.

    Warns with `UserWarning` if the text outgrows `seq_len` and `slide` is `None`.
    """
    prompts = list(prompts)
    if not prompts:
        raise ValueError("prompts must hold at least one prompt, got none")
    for b, prompt in enumerate(prompts):
        _check_prompt(f"prompts[{b}]", prompt)
    stops = list(stop_tokens)
    check_filters(temperature, top_k, top_p, repetition_penalty)
    _check_options(n_new, seq_len, stops, seed, slide)
    if use_cache:
        model = _incremental(model)
    # The last token is drawn but never read.
    n_read = max(len(prompt) for prompt in prompts) + n_new - 1
    if use_cache and slide is None and seq_len is not None and n_new and n_read > seq_len:
        warnings.warn(
            f"the text of up to {n_read + 1} tokens outgrows seq_len={seq_len}, so each further "
            f"token costs a full pass; pass a larger slide, slide=1 to accept this, or "
            f"seq_len=None for a model of any length",
            stacklevel=2,
        )
    generators: list[torch.Generator | None] = [None] * len(prompts)
    if seed is not None:
        generators = [torch.Generator().manual_seed(seed + b) for b in range(len(prompts))]
    window = _SlidingWindow(model, prompts[0].device, seq_len, slide or 1)
    next_p = functools.partial(
        distribution,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    return _draw(window, [prompt.tolist() for prompt in prompts], n_new, next_p, generators, stops)


# A generator function runs nothing until its first token is requested. This part is separate so
# that the checks of `generate_batch` run at the call.
@torch.no_grad()
def _draw(
    window: "_SlidingWindow",
    texts: list[list[int]],
    n_new: int,
    next_p: Callable[[Tensor, list[int]], Tensor],
    generators: list[torch.Generator | None],
    stops: list[int],
) -> Iterator[tuple[int, int]]:
    ends = [len(text) + n_new for text in texts]
    active = list(range(len(texts))) if n_new else []
    while active:
        # Read all rows up to the length of the shortest. Only rows of that length draw a token; the
        # others still have tokens of their prompt.
        n = min(len(texts[b]) for b in active)
        # Rows are independent, so finished ones can be filled with any token.
        for text in texts:
            text += [0] * (n - len(text))
        logits = window.read(texts, n)  # [B, n_tokens]
        for b in [b for b in active if len(texts[b]) == n]:
            p = next_p(logits[b], texts[b])
            # If one token has probability 1, take it without advancing the generator.
            certain = p.max() == 1
            token = int(p.argmax() if certain else torch.multinomial(p, 1, generator=generators[b]))
            texts[b].append(token)
            if token in stops or len(texts[b]) == ends[b]:
                active.remove(b)
            yield b, token


def generate(
    model: nn.Module,
    prompt: Tensor,
    n_new: int,
    *,
    seq_len: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Iterable[int] = (),
    seed: int | None = None,
    slide: int | None = None,
    use_cache: bool = True,
) -> Iterator[int]:
    r"""Generates one text from one prompt.

    ## One text

    The arguments are those of `generate_batch`, except:

    * `prompt` holds the tokens to start from, `[n]` with $n \ge 1$

    Yields up to `n_new` tokens as `int`, each as soon as it is drawn.

    Raises and warns as `generate_batch`.

    ```python
    for token in generate(model, torch.tensor([3, 1]), 20, seq_len=256, temperature=0.8):
        print(token)
    ```
    """
    _check_prompt("prompt", prompt)
    pairs = generate_batch(
        model,
        [prompt],
        n_new,
        seq_len=seq_len,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        stop_tokens=stop_tokens,
        seed=seed,
        slide=slide,
        use_cache=use_cache,
    )
    return (token for _, token in pairs)


class _SlidingWindow:
    r"""The part of the text that the model sees.

    ## Sliding window
    """

    def __init__(
        self, model: nn.Module, device: torch.device, seq_len: int | None, slide: int
    ) -> None:
        self.model = model
        self.device = device
        self.seq_len = seq_len
        self.slide = slide
        self.start = 0

    def window_start(self, n: int) -> int:
        r"""Returns the index of the first token that the model sees of a text of `n` tokens.

        $$\mathrm{start}(n) = s \left\lceil \frac{\max(0, n - n_{\max})}{s} \right\rceil$$

        for $n_{\max}$ = `seq_len` and $s$ = `slide`. It depends on $n$ alone, so prompts and
        generated tokens are treated alike.
        """
        if self.seq_len is None or n <= self.seq_len:
            return 0
        return math.ceil((n - self.seq_len) / self.slide) * self.slide

    def read(self, texts: list[list[int]], n: int) -> Tensor:
        r"""Reads the tokens up to `n`, an incremental model only those that it has not read yet.

        * `texts` have at least $n$ tokens each, and start with the texts of the previous call

        Returns the logits of token $n + 1$, `[B, n_tokens]`.
        """
        start = self.window_start(n)
        if isinstance(self.model, IncrementalModel):
            # When the window moves, every token moves to another row of $W$: start afresh.
            if start != self.start:
                self.model.clear()
            self.start = start
            start += self.model.position
        tokens = torch.tensor([text[start:n] for text in texts], device=self.device)
        logits = self.model(tokens)
        if logits.dim() != 3 or logits.shape[:2] != tokens.shape:
            raise ValueError(
                f"model must return [B, n, n_tokens] with [B, n] = {list(tokens.shape)}, "
                f"got {list(logits.shape)}"
            )
        return logits[:, -1]


# ## Checks
def _check_prompt(name: str, prompt: Tensor) -> None:
    kind = prompt.dtype if isinstance(prompt, Tensor) else type(prompt).__name__
    if kind not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"{name} must be an integer tensor, got {kind}")
    if prompt.dim() != 1 or not len(prompt):
        raise ValueError(f"{name} must be [n] with at least one token, got {list(prompt.shape)}")


def _check_options(
    n_new: int,
    seq_len: int | None,
    stops: list[int],
    seed: int | None,
    slide: int | None,
) -> None:
    if type(n_new) is not int or n_new < 0:
        raise ValueError(f"n_new must be a non-negative integer, got {n_new!r}")
    if seq_len is not None and (type(seq_len) is not int or seq_len < 1):
        raise ValueError(f"seq_len must be a positive integer, got {seq_len!r}")
    if slide is not None and (type(slide) is not int or slide < 1):
        raise ValueError(f"slide must be a positive integer, got {slide!r}")
    if slide is not None and seq_len is not None and slide > seq_len:
        raise ValueError(f"slide must be at most seq_len={seq_len}, got {slide}")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise ValueError(f"seed must be an integer in [0, 2**63), got {seed!r}")
    for token in stops:
        if type(token) is not int or token < 0:
            raise ValueError(f"stop_tokens must be non-negative integers, got {token!r}")


def _incremental(model: nn.Module) -> IncrementalModel:
    try:
        return incremental(model)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}; use_cache=False needs no such model") from error
