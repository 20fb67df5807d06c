r"""
# Token shift

Some channels are read from a neighbouring position, which lets tokens meet without a single weight.
It is not in the paper; g-mlp-pytorch has it as an option, behind the norm of the block, and there
it stands here too: `GMLPBlock(..., causal=True, token_shift=TokenShift((0, 1)))`.

This file needs torch and nothing else, so that it can be copied into any code.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TokenShift(nn.Module):
    r"""
    ## Token shift

    $$\mathrm{shift}(X)_{ic} = X_{i - s_k, \, c} \quad \text{for channel } c \text{ in group } k$$

    The channels are cut in as many equal groups as there are shifts, and group $k$ is read from
    $s_k$ positions earlier; outside of the sequence, $X$ is zero. Channels that are left over after
    the last group stay where they are.

    * `shifts` are the $s_k$: `(0, 1)` lets half of the channels lag by one token, `(-1, 0, 1)`
      reads on both sides
    * `causal` is an attribute: whether no shift is negative, which would read the future

    Raises `ValueError` for `shifts` without an entry, and `TypeError` for those that are no
    sequence of whole numbers.
    """

    def __init__(self, shifts: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(shifts, Sequence) or any(type(shift) is not int for shift in shifts):
            raise TypeError(f"shifts must be a sequence of whole numbers, got {shifts!r}")
        if not shifts:
            raise ValueError("shifts must have at least one entry, got none")
        self.shifts = tuple(shifts)
        self.causal = min(shifts) >= 0

    def forward(
        self, x: Tensor, key_padding_mask: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        r"""
        * `x` is the normalised $X$, `[B, n, d]`, with $d$ at least the number of shifts
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` holds the earlier positions; `x` then follows on them

        Returns $\mathrm{shift}(X)$, `[B, n, d]`; at padded positions it means nothing.

        Raises `ValueError` for an `x` or a mask of another shape and for a `cache` beside a
        negative shift, `TypeError` for a mask that is not boolean.
        """
        if x.dim() != 3 or x.shape[-1] < len(self.shifts):
            wanted = f"[B, n, d] with d at least {len(self.shifts)}, one channel for each shift"
            raise ValueError(f"x must be {wanted}, got {list(x.shape)}")
        # Padding is outside of the sequence.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, tuple(x.shape[:2]))
            x = x.masked_fill(~key_padding_mask[..., None], 0.0)
        n, width = x.shape[1], x.shape[2] // len(self.shifts)
        # How far the shifts reach to either side.
        before, after = max(0, *self.shifts), max(0, *(-shift for shift in self.shifts))
        zeros = before
        if cache is not None:
            if not self.causal:
                raise ValueError("cache needs shifts >= 0: earlier positions may not read new ones")
            # Of the earlier positions, those within reach; zeros stand for the ones before the
            # sequence only.
            first = max(0, cache.position - before)
            zeros = before - (cache.position - first)
            x = cache.extend(self, x)[:, first:]
        # Position $i$ of the new ones is row `before` + $i$ here, so that $i - s_k$ is a row too.
        x = nn.functional.pad(x, (0, 0, zeros, after))  # [B, before + n + after, d]
        *groups, rest = x.split([width] * len(self.shifts) + [x.shape[2] % len(self.shifts)], dim=2)
        moved = [
            group[:, before - shift : before - shift + n]
            for group, shift in zip(groups, self.shifts, strict=True)
        ]
        return torch.cat([*moved, rest[:, before : before + n]], dim=2)

    def extra_repr(self) -> str:
        return f"shifts={self.shifts}"


# ## Checks
#
# As in `gmlp.py`, and written again here because a block file stands alone.
def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
