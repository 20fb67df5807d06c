r"""
# Generation

Text from a causal model, one token after another, each drawn [as asked for](sampling.py). The plain
definition reads the whole text again for each token, and `use_cache=False` does just that. With a
[cache](cache.py) the model reads each token once, and writes the same text.

Nothing here is from the paper, which has no causal model.
"""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from labml_gmlp.cache import Cache
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
    r"""
    ## Several texts at once

    $$t_{i+1} \sim p(\,\cdot \mid t_1, \dots, t_i)$$

    Draws the texts token by token and gives each token as soon as it is known. The prompts may
    differ in length and are not padded: all rows are read up to one common position, and where a
    row still has tokens of its prompt, these are its next ones instead of drawn ones.

    * `model` maps tokens `[B, n]` to logits `[B, n, n_tokens]` and is causal. Its mode is left as
      it is, as torch does: call `model.eval()` where there is dropout
    * `prompts` are the tokens to start from, each `[n]` with at least one, on the model's device
    * `n_new` is the largest number of tokens to draw for each
    * `seq_len` is the longest sequence that the model takes; `None` means any
    * `temperature`, `top_k`, `top_p` and `repetition_penalty` are the filters of
      [`distribution`](sampling.py)
    * `stop_tokens` end a text. The stop token itself is the last one given
    * `seed` makes the draws repeatable: row $b$ draws with `seed + b`, whatever the other rows are,
      and gives what it would give alone with that seed. `None` draws from torch's own generator
    * `slide` is the number of oldest tokens that leave when the text outgrows `seq_len`; what is
      left is read again, in one pass. 1 forgets as little as possible and costs such a pass for
      each token; `None` does the same, and warns of it
    * `use_cache` set to false reads all again for each token, which any model can do

    Yields the number of the prompt and the token, as whole numbers.

    Raises `ValueError` for no prompts or an empty or batched one, an `n_new` below 0, a `seq_len`
    that is not a positive whole number, a `slide` outside of 1 to `seq_len`, a `seed` or a stop
    token below 0, and what `distribution` raises; `TypeError` for prompts that are not tensors of
    whole numbers and for a model without a cache. All this at once, not at the first token. During
    the draw, `ValueError` for logits of another shape or without a finite maximum, and for a cache
    that the model did not use.

    Warns with a `UserWarning` of the costly slide.
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
        _check_takes_cache(model)
    # The last token is only given, never read.
    n_read = max(len(prompt) for prompt in prompts) + n_new - 1
    if use_cache and slide is None and seq_len is not None and n_new and n_read > seq_len:
        warnings.warn(
            f"a text of up to {n_read + 1} tokens outgrows seq_len={seq_len}, and each token "
            f"beyond costs a full pass: give a larger slide, slide=1 if that is wanted, or "
            f"seq_len=None for a model of any length",
            stacklevel=2,
        )
    generators: list[torch.Generator | None] = [None] * len(prompts)
    if seed is not None:
        generators = [torch.Generator().manual_seed(seed + b) for b in range(len(prompts))]
    reader = _Reader(
        model, prompts[0].device, seq_len, slide or 1, Cache(seq_len) if use_cache else None
    )
    next_p = functools.partial(
        distribution,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    return _write(reader, [prompt.tolist() for prompt in prompts], n_new, next_p, generators, stops)


# Apart from `generate_batch`, because a function that yields runs nothing before the first token is
# asked for, not even its checks.
@torch.no_grad()
def _write(
    reader: "_Reader",
    texts: list[list[int]],
    n_new: int,
    next_p: Callable[[Tensor, list[int]], Tensor],
    generators: list[torch.Generator | None],
    stops: list[int],
) -> Iterator[tuple[int, int]]:
    ends = [len(text) + n_new for text in texts]
    active = list(range(len(texts))) if n_new else []
    while active:
        # The shortest text decides how far all are read. Those as short as it draw; the others
        # still have tokens of their prompt, and what the model says before these is not needed.
        n = min(len(texts[b]) for b in active)
        # Rows are independent: what fills up a text that has ended meets no other.
        for text in texts:
            text += [0] * (n - len(text))
        logits = reader.read(texts, n)  # [B, n_tokens]
        for b in [b for b in active if len(texts[b]) == n]:
            p = next_p(logits[b], texts[b])
            # Where one token has it all, nothing is random and no random number is spent.
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
    r"""
    ## One text

    `generate_batch` with one prompt.

    * `prompt` are the tokens to start from, `[n]`, at least one

    Yields up to `n_new` tokens as whole numbers, each as soon as it is known.

    Raises and warns as `generate_batch` does.
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


class _Reader:
    r"""
    ## Reading

    Gives the logits after the first $n$ tokens, reading no more of them than it must.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        seq_len: int | None,
        slide: int,
        cache: Cache | None,
    ) -> None:
        self.model = model
        self.device = device
        self.seq_len = seq_len
        self.slide = slide
        self.cache = cache
        self.start = 0

    def window_start(self, n: int) -> int:
        r"""
        $$\mathrm{start}(n) = s \left\lceil \frac{\max(0, n - n_{\max})}{s} \right\rceil$$

        for $n_{\max}$ = `seq_len` and $s$ = `slide`. It depends on $n$ alone, not on how the text
        came to be so long: a prompt and a text drawn are read alike.
        """
        if self.seq_len is None or n <= self.seq_len:
            return 0
        return math.ceil((n - self.seq_len) / self.slide) * self.slide

    def read(self, texts: list[list[int]], n: int) -> Tensor:
        r"""
        * `texts` are at least $n$ tokens each, of which the first are those of the last call

        Returns the logits of token $n + 1$, `[B, n_tokens]`.
        """
        start = self.window_start(n)
        options = {}
        if self.cache is not None:
            # Each position moves to another row of $W$, so nothing of the old window is of use.
            if start != self.start:
                self.cache.clear()
            self.start = start
            start += self.cache.position
            options["cache"] = self.cache
        tokens = torch.tensor([text[start:n] for text in texts], device=self.device)
        logits = self.model(tokens, **options)
        if logits.dim() != 3 or logits.shape[:2] != tokens.shape:
            raise ValueError(
                f"model must return [B, n, n_tokens] with [B, n] = {list(tokens.shape)}, "
                f"got {list(logits.shape)}"
            )
        if self.cache is not None and self.cache.position != n - self.start:
            raise ValueError(
                f"model must advance its cache to {n - self.start} tokens, got "
                f"{self.cache.position}; use_cache=False needs none"
            )
        return logits[:, -1]


# ## Checks
def _check_prompt(name: str, prompt: Tensor) -> None:
    kind = prompt.dtype if isinstance(prompt, Tensor) else type(prompt).__name__
    if kind not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"{name} must be a tensor of whole numbers, got {kind}")
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
        raise ValueError(f"n_new must be a whole number of at least 0, got {n_new!r}")
    if seq_len is not None and (type(seq_len) is not int or seq_len < 1):
        raise ValueError(f"seq_len must be a positive whole number, got {seq_len!r}")
    if slide is not None and (type(slide) is not int or slide < 1):
        raise ValueError(f"slide must be a positive whole number, got {slide!r}")
    if slide is not None and seq_len is not None and slide > seq_len:
        raise ValueError(f"slide must be at most seq_len={seq_len}, got {slide}")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise ValueError(f"seed must be a whole number in [0, 2**63), got {seed!r}")
    for token in stops:
        if type(token) is not int or token < 0:
            raise ValueError(f"stop_tokens must be whole numbers of at least 0, got {token!r}")


def _check_takes_cache(model: nn.Module) -> None:
    parameters = inspect.signature(model.forward).parameters
    if "cache" not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise TypeError(
            f"model must take a cache beside its tokens, got {type(model).__name__}; "
            f"use_cache=False needs none"
        )
