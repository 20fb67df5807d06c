r"""
# Adapters

Our layers in the stacks of others, and the layers of others in ours. Each package has its own order
of axes and its own sense of *true*, and a mask that crosses the border unturned raises nothing: it
lets each position read exactly what it must not.

| | here | labml_nn | torch.nn |
| --- | --- | --- | --- |
| order | `[B, n, d]` | `[n, B, d]` | `[n, B, d]`, or `[B, n, d]` with `batch_first` |
| call | `layer(x, mask, ...)` | `layer(x=x, mask=mask)` | `layer(src, src_mask=..., ...)` |
| mask | `[n, n]`, `[B, n, n]` | `[n, n, 1]`, `[n, n, B]` | `[n, n]`, `[B h, n, n]` |
| padding | `[B, n]` | a mask `[1, n, B]` | `[B, n]` |
| true means | may read | may read | must **not** read; or numbers to add, $-\infty$ |
| layers | built one by one | copies of one | copies of one |

Four classes cross it, and their names say which way:

| | labml_nn | torch.nn |
| --- | --- | --- |
| ours to theirs | `ForLabml` | `ForTorch` |
| theirs to ours | `FromLabml` | `FromTorch` |

An adapter has no parameters. The layer stays in it as `layer`, and so its parameters have this word
in front of their names.

**All layers start equal** in the stacks of both hosts, as they copy the one layer that they are
given, and torch warns of it too. An adapter that drew new weights whenever it is copied would
destroy trained ones. The remedy is to put layers of one's own in the place of the copies, and it is
the same for `torch.nn.TransformerEncoder`:

```
layers = [ForLabml(GMLPBlock(d_model, d_ffn, seq_len)) for _ in range(n_layers)]
encoder = labml_nn.transformers.Encoder(layers[0], n_layers)
encoder.layers = nn.ModuleList(layers)
```

This file needs torch and nothing else: it knows how the other packages call, and imports none.
"""

from typing import Any

import torch
from torch import Tensor, nn


class ForLabml(nn.Module):
    r"""
    ## Our layer in labml_nn's encoder

    For `labml_nn.transformers.Encoder(layer, n_layers)`. It calls by keyword, and says padding with
    a mask that has one row for all positions.

    * `layer` is one of ours: `size`, and `forward(x, mask, key_padding_mask)`

    Raises `TypeError` for a `layer` that is no module or has no `size`.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.size = _size(layer)
        self.layer = layer

    def forward(self, *, x: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""
        * `x` is `[n, B, d]`
        * `mask` is boolean, true where position $i$ may read position $j$: `[n, n, 1]`, or
          `[n, n, B]` with one for each sequence, or `[1, n, 1]` and `[1, n, B]`, which are the same
          for all $i$

        Returns `[n, B, d]`.

        Raises `ValueError` for an `x` or a mask of another shape, `TypeError` for a mask that is
        not boolean, and what the layer raises.
        """
        _check_input("x", x, self.size, "[n, B, d={}]")
        n, batch, _ = x.shape
        pairs, real = None, None
        if mask is not None:
            _check_mask("mask", mask, (n, n, 1), (n, n, batch), (1, n, 1), (1, n, batch))
            # What no position may read is padding, and our layers mask it without a matrix for each
            # sequence.
            if mask.shape[0] == 1:
                real = mask[0].T.expand(batch, n)  # [B, n]
            else:
                pairs = mask[..., 0] if mask.shape[2] == 1 else mask.permute(2, 0, 1)
        return self.layer(x.transpose(0, 1), pairs, real).transpose(0, 1)


class ForTorch(nn.Module):
    r"""
    ## Our layer in torch's encoder

    For `torch.nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)`. Without the
    last argument torch warns that it cannot use nested tensors: its way around padding is made for
    its own layer alone.

    * `layer` is one of ours: `size`, and `forward(x, mask, key_padding_mask)`
    * `batch_first` is the order that the encoder is called with, and false unless told, as in torch

    Raises `TypeError` for a `layer` that is no module or has no `size`.
    """

    def __init__(self, layer: nn.Module, *, batch_first: bool = False) -> None:
        super().__init__()
        self.size = _size(layer)
        self.layer = layer
        self.batch_first = batch_first

    # The encoder asks its first layer for `self_attn.batch_first`, and for nothing else that a
    # layer of another class must have.
    @property
    def self_attn(self) -> nn.Module:
        return self

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        r"""
        * `src` is `[n, B, d]`, or `[B, n, d]` with `batch_first`
        * `src_mask` is `[n, n]` or `[B, n, n]`: boolean, true where position $i$ must not read
          position $j$, or numbers, $-\infty$ there and 0 elsewhere. torch's encoder makes numbers
          of any
        * `src_key_padding_mask` is `[B, n]`, boolean or numbers in the same sense
        * `is_causal` is a hint of torch that `src_mask` is the causal mask; the mask decides

        Returns a tensor of the shape of `src`.

        Raises `ValueError` for a tensor of another shape, for other numbers in a mask and for
        `is_causal` without a mask; `TypeError` for a mask of whole numbers, and what the layer
        raises.
        """
        order = "[B, n, d={}]" if self.batch_first else "[n, B, d={}]"
        _check_input("src", src, self.size, order)
        # torch refuses this too. A hint that masked by itself would leave out whoever forgets it.
        if is_causal and src_mask is None:
            raise ValueError("src_mask must be given beside is_causal=True, which is only a hint")
        x = src if self.batch_first else src.transpose(0, 1)  # [B, n, d]
        batch, n, _ = x.shape
        pairs = _turned("src_mask", src_mask, (n, n), (batch, n, n))
        real = _turned("src_key_padding_mask", src_key_padding_mask, (batch, n))
        y = self.layer(x, pairs, real)
        return y if self.batch_first else y.transpose(0, 1)


class FromLabml(nn.Module):
    r"""
    ## A layer of labml_nn in our encoder

    Such as `labml_nn.transformers.TransformerLayer` and `labml_nn.transformers.gmlp.GMLPBlock`; or
    its whole `Encoder`, as the encoder of our language model. (The attention of labml_nn 0.5.1
    calls `labml.tracker.debug`, which labml 0.5 has no more; one that does nothing serves.)

    * `layer` is called as `layer(x=x, mask=mask)`, sequence first
    * `causal` hides what lies after each position; layers of labml_nn know no such setting
    * `size` is the width $d$ of a `layer` that does not say it, as that `Encoder`

    Raises `TypeError` for a `layer` that is no module, or has no `size` and is given none.
    """

    def __init__(self, layer: nn.Module, *, causal: bool = False, size: int | None = None) -> None:
        super().__init__()
        self.size = _size(layer, size)
        self.layer = layer
        self.causal = causal

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `x` is `[B, n, d]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$,
          at least one for each $i$: softmax over none is not a number
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` must be `None`

        Returns `[B, n, d]`; at padded positions it means nothing.

        Raises `ValueError` for a tensor of another shape, for a `cache`, and for masks that differ
        between sequences where the layer takes one for all, as labml_nn's `GMLPBlock`; `TypeError`
        for a mask that is not boolean.
        """
        _check_no_cache(cache)
        _check_input("x", x, self.size, "[B, n, d={}]")
        may_read = _may_read(x, mask, key_padding_mask, self.causal)
        if may_read is not None:
            # `[B, i, j]` to `[i, j, B]`, and one mask for all is a batch of one.
            may_read = (may_read if may_read.dim() == 3 else may_read[None]).permute(1, 2, 0)
        try:
            return self.layer(x=x.transpose(0, 1), mask=may_read).transpose(0, 1)
        except AssertionError as e:
            # labml_nn asserts, without a word.
            if may_read is None or may_read.shape[2] == 1:
                raise
            raise ValueError(
                f"mask must be one for all sequences, and without padding, for "
                f"{type(self.layer).__name__}, got {may_read.shape[2]}"
            ) from e


class FromTorch(nn.Module):
    r"""
    ## A layer of torch in our encoder

    For `torch.nn.TransformerEncoderLayer`, with `batch_first` or without.

    * `layer` is one; a factory that makes each anew gives `Encoder` layers that differ
    * `causal` hides what lies after each position

    Raises `TypeError` for a `layer` of another class.
    """

    def __init__(self, layer: nn.TransformerEncoderLayer, *, causal: bool = False) -> None:
        super().__init__()
        if not isinstance(layer, nn.TransformerEncoderLayer):
            raise TypeError(
                f"layer must be a torch.nn.TransformerEncoderLayer, got {type(layer).__name__}"
            )
        self.size = layer.self_attn.embed_dim
        self.layer = layer
        self.causal = causal

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `x` is `[B, n, d]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$,
          at least one for each $i$
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` must be `None`

        Returns `[B, n, d]`; at padded positions it means nothing.

        Raises `ValueError` for a tensor of another shape and for a `cache`, `TypeError` for a mask
        that is not boolean.
        """
        _check_no_cache(cache)
        _check_input("x", x, self.size, "[B, n, d={}]")
        attention = self.layer.self_attn
        options: dict[str, Tensor] = {}
        may_read = _may_read(x, mask, key_padding_mask, self.causal)
        if key_padding_mask is not None and mask is None and not self.causal:
            options["src_key_padding_mask"] = ~key_padding_mask
        elif may_read is not None:
            # torch has no axis for a mask of each sequence: it lies along that of the heads.
            if may_read.dim() == 3:
                may_read = may_read.repeat_interleave(attention.num_heads, dim=0)  # [B h, n, n]
            options["src_mask"] = ~may_read
        # With the hint torch need not read the mask at all, so it must be true to the letter.
        hint = self.causal and mask is None and key_padding_mask is None
        if attention.batch_first:
            return self.layer(x, **options, is_causal=hint)
        return self.layer(x.transpose(0, 1), **options, is_causal=hint).transpose(0, 1)


# ## Masks
#
# All that a position may read, as one mask: `[n, n]`, `[B, n, n]`; for padding alone `[B, 1, n]`.
# Where padding meets another mask, a position that is padding reads itself. It might read nothing
# otherwise, as padding before the text does under a causal mask; softmax over nothing is not a
# number, and in the next layer zero times that would spread through the sequence: labml_nn does
# so, and torch in its fast path for inference.
def _may_read(
    x: Tensor, mask: Tensor | None, key_padding_mask: Tensor | None, causal: bool
) -> Tensor | None:
    batch, n, _ = x.shape
    joined = None
    if mask is not None:
        _check_mask("mask", mask, (n, n), (batch, n, n))
        joined = mask
    if causal:
        past = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        joined = past if joined is None else joined & past
    if key_padding_mask is None:
        return joined
    _check_mask("key_padding_mask", key_padding_mask, (batch, n))
    real = key_padding_mask[:, None, :]  # [B, 1, n]
    if joined is None:
        return real
    itself = torch.eye(n, dtype=torch.bool, device=x.device) & ~key_padding_mask[:, :, None]
    return (joined & real) | itself  # [B, n, n]


# torch's sense of a mask to ours. Numbers between are scores to be added before softmax, such as a
# distance; a gate has no softmax, and leaving them out would be a silent mistake.
def _turned(name: str, mask: Tensor | None, *shapes: tuple[int, ...]) -> Tensor | None:
    if mask is None:
        return None
    if isinstance(mask, Tensor) and mask.is_floating_point():
        may_read = mask == 0
        if not bool((may_read | mask.isneginf()).all()):
            other = mask[~(may_read | mask.isneginf())][0].item()
            raise ValueError(f"{name} must hold 0 and -inf only, not scores, got {other:g}")
    elif isinstance(mask, Tensor) and mask.dtype == torch.bool:
        may_read = ~mask
    else:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name} must be a tensor, boolean or of 0 and -inf, got {kind}")
    _check_mask(name, may_read, *shapes)
    return may_read


# ## Checks
def _size(layer: nn.Module, size: int | None = None) -> int:
    found = getattr(layer, "size", None) if size is None else size
    if not isinstance(layer, nn.Module) or type(found) is not int:
        raise TypeError(
            f"layer must be a module with a whole number `size`, got {type(layer).__name__}"
        )
    return found


def _check_input(name: str, x: Tensor, size: int, shape: str) -> None:
    if x.dim() != 3 or x.shape[-1] != size:
        raise ValueError(f"{name} must be {shape.format(size)}, got {list(x.shape)}")


def _check_no_cache(cache: Any) -> None:
    if cache is not None:
        raise ValueError(
            f"cache must be None for a layer of another package, which keeps nothing, "
            f"got {type(cache).__name__}"
        )


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true for what may be read, got {kind}")
    if mask.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
