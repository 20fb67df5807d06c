"""Random layers, masks, comparisons and hypothesis settings for the tests."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks import peers

FLOAT64 = torch.float64

# The tensors here are too small for several threads: on a busy machine they would mostly wait.
torch.set_num_threads(1)

# Property tests take the number of their examples from the profile in `conftest.py`.
properties = settings(deadline=None)

# hypothesis does not control torch's seed, so the seed is drawn like any other input.
seeds = st.integers(0, 2**32 - 1)

MASKS = ["no mask", "one mask", "a mask each"]
masks = st.sampled_from(MASKS)
# Each kind of mask, and each combination of a mask and padding.
MASKS_AND_PADDING = [
    ("no mask", False),
    ("one mask", False),
    ("no mask", True),
    ("a mask each", True),
]

# The absolute tolerance of a comparison of small sums of numbers near one, by precision.
TOLERANCES = {FLOAT64: 1e-12, torch.float32: 1e-5}
dtypes = st.sampled_from([*TOLERANCES])


def randomised(module: nn.Module) -> Any:
    """Draws every parameter from N(0, 0.25) in float64, so that each term of an equation counts.

    With larger values, attention would read almost only one position.
    """
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=FLOAT64)


def random_mask(kind: str, n_batch: int, n: int) -> Tensor | None:
    """Allows about half of the pairs; each position may read itself, as a softmax needs one."""
    if kind == "no mask":
        return None
    shape = (n, n) if kind == "one mask" else (n_batch, n, n)
    return (torch.rand(shape) < 0.5) | torch.eye(n, dtype=torch.bool)


def kept_tokens(lengths: list[int], n: int) -> Tensor:
    """A key padding mask, `[B, n]`, with the padding at the end."""
    return torch.arange(n) < torch.tensor(lengths)[:, None]


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def as_array(mask: Tensor | None) -> np.ndarray | None:
    return None if mask is None else mask.numpy()


def assert_equals_oracle(got: Tensor, want: np.ndarray, kept: Tensor | None = None) -> None:
    """Compares to 1e-12 where `kept`, `[B, n]`, is true; `None` means everywhere."""
    assert got.dtype == FLOAT64
    assert got.shape == want.shape
    there = torch.ones(got.shape[:2], dtype=torch.bool) if kept is None else kept
    wanted = torch.from_numpy(want)[there]
    torch.testing.assert_close(got[there], wanted, rtol=0, atol=1e-12)


def assert_raises(call: Callable[[], object], error: type[Exception], *parts: object) -> None:
    """The call raises `error` with a one-line message that names each of the `parts`.

    Parts are the argument, the bound and the value. The wording around them may change.
    """
    with pytest.raises(error) as raised:
        call()
    assert_names(str(raised.value), *parts)


def assert_names(message: str, *parts: object) -> None:
    """The message is one line and contains each part as a whole word or number."""
    assert message.strip() == message
    assert "\n" not in message, message
    for part in map(str, parts):
        before = r"(?<![\w.])" if part[:1].isalnum() else ""
        behind = r"(?!\w|\.\d)" if part[-1:].isalnum() else ""
        assert re.search(before + re.escape(part) + behind, message), f"{part!r} not in: {message}"


def assert_the_past_cannot_see_the_future(
    layer: Callable[[Tensor], Tensor], x: Tensor, changed: Tensor, t: int
) -> None:
    """`changed` differs from `x` at positions t, t + 1, ... and at no others."""
    before, after = layer(x), layer(changed)
    assert torch.equal(before[:, :t], after[:, :t])
    assert not torch.equal(before[:, t:], after[:, t:])


def assert_padding_equals_truncation(
    layer: Callable[..., Tensor], x: Tensor, mask: Tensor | None, lengths: list[int]
) -> None:
    """Each sequence gives the same output alone as in a batch padded at its end."""
    y = layer(x, mask, kept_tokens(lengths, x.shape[1]))
    for b, n in enumerate(lengths):
        own = None if mask is None else mask.expand(len(lengths), -1, -1)[b, :n, :n]
        alone = layer(x[b : b + 1, :n], own)
        torch.testing.assert_close(y[b : b + 1, :n], alone, rtol=0, atol=1e-12)


def assert_padding_is_never_read(layer: Callable[..., Tensor], x: Tensor, kept: Tensor) -> None:
    """A padding mask equals a mask of the pairs, and no bit depends on what is padded."""
    y = layer(x, None, kept)
    masked = layer(x, kept[:, None, :].expand(*kept.shape, kept.shape[1]))
    torch.testing.assert_close(y[kept], masked[kept], rtol=0, atol=1e-12)
    garbage = torch.where(kept[..., None], x, 1e6 * torch.randn_like(x))
    assert torch.equal(y[kept], layer(garbage, None, kept)[kept])


def with_another_future(x: Tensor, t: int) -> Tensor:
    return torch.cat([x[:, :t], torch.randn_like(x[:, t:])], dim=1)


def timm_mixer() -> Any:
    """Returns `timm.models.mlp_mixer`, or skips the test."""
    try:
        return peers.timm_mixer()
    except ImportError as error:
        pytest.skip(str(error))
