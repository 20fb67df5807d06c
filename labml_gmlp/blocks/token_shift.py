r"""Token shift: some channels are read from a neighbouring position, without parameters.

# Token shift

Token shift is not in the paper. g-mlp-pytorch offers it as an option after the norm of the block,
and so does [`AMLPBlock`](../models/amlp.py).

This file imports only torch and the standard library, so you can copy it alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TokenShift(nn.Module):
    r"""Shifts each group of channels along the tokens by its own distance.

    ## Token shift

    $$\mathrm{shift}(X)_{ic} = X_{i - s_k, \, c} \quad \text{for channel } c \text{ in group } k$$

    The channels form as many equal groups as there are shifts. Group $k$ is read from $s_k$
    positions earlier; outside the sequence $X$ is zero. Channels left over after the last group are
    not shifted.

    ```python
    shift = TokenShift((0, 1))
    block = AMLPBlock(d_model=64, d_ffn=256, seq_len=128, causal=True, token_shift=shift)
    ```

    * `shifts` are the $s_k$: `(0, 1)` delays half of the channels by one token, `(-1, 0, 1)` reads
      both neighbours

    The attribute `causal` is true if no shift is negative.

    Raises `ValueError` if `shifts` is empty, and `TypeError` if it is not a sequence of integers.
    """

    def __init__(self, shifts: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(shifts, Sequence) or any(type(shift) is not int for shift in shifts):
            raise TypeError(f"shifts must be a sequence of integers, got {shifts!r}")
        if not shifts:
            raise ValueError("shifts must have at least one entry, got ()")
        self.shifts = tuple(shifts)
        self.causal = min(shifts) >= 0

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        r"""Returns $\mathrm{shift}(X)$, `[B, n, d]`; values at padded positions are arbitrary.

        * `x` is the normalised $X$, `[B, n, d]`, with $d$ at least the number of shifts
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        Raises `ValueError` if `x` or the mask has the wrong shape, and `TypeError` if the mask is
        not boolean.
        """
        # fold: checks
        if x.dim() != 3 or x.shape[-1] < len(self.shifts):
            wanted = f"[B, n, d] with d at least {len(self.shifts)}, one channel for each shift"
            raise ValueError(f"x must be {wanted}, got {list(x.shape)}")
        # Padding counts as outside the sequence.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, tuple(x.shape[:2]))
            x = x.masked_fill(~key_padding_mask[..., None], 0.0)
        n, width = x.shape[1], x.shape[2] // len(self.shifts)
        # The largest shift in each direction.
        before, after = max(0, *self.shifts), max(0, *(-shift for shift in self.shifts))
        # Position $i$ becomes row `before` + $i$, so $i - s_k$ is a row too.
        x = nn.functional.pad(x, (0, 0, before, after))  # [B, before + n + after, d]
        *groups, rest = x.split([width] * len(self.shifts) + [x.shape[2] % len(self.shifts)], dim=2)
        moved = [
            group[:, before - shift : before - shift + n]
            for group, shift in zip(groups, self.shifts, strict=True)
        ]
        return torch.cat([*moved, rest[:, before : before + n]], dim=2)

    def extra_repr(self) -> str:
        return f"shifts={self.shifts}"


# fold: argument checks
def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
