r"""Adapters between our layers and those of labml_nn and torch.

# Adapters

Use our layers in the encoders of labml_nn and torch, and their layers in ours. Each package has its
own order of axes and its own meaning of *true* in a mask. A torch mask passed on without inversion
raises no error; each position then reads exactly those that it must not.

| | here | labml_nn | torch.nn |
| --- | --- | --- | --- |
| order | `[B, n, d]` | `[n, B, d]` | `[n, B, d]`, or `[B, n, d]` with `batch_first` |
| call | `layer(x, mask, ...)` | `layer(x=x, mask=mask)` | `layer(src, src_mask=..., ...)` |
| mask | `[n, n]`, `[B, n, n]` | `[n, n, 1]`, `[n, n, B]` | `[n, n]`, `[B h, n, n]` |
| padding | `[B, n]` | a mask `[1, n, B]` | `[B, n]` |
| true means | may read | may read | must **not** read; or floats to add, $-\infty$ |
| layers | built one by one | copies of one | copies of one |

There are four adapters:

| | labml_nn | torch.nn |
| --- | --- | --- |
| our layer in their encoder | `ForLabml` | `ForTorch` |
| their layer in our encoder | `FromLabml` | `FromTorch` |

An adapter has no parameters of its own. It holds the layer as `layer`, so the names of the layer's
parameters get the prefix `layer.`.

**All layers of their encoders start with equal weights**, because both packages deep-copy the one
layer they receive; torch's documentation warns of this too. An adapter must not draw new weights
when it is copied, since that would destroy trained ones. Replace the copies instead. The same works
for `torch.nn.TransformerEncoder`:

```
layers = [ForLabml(GMLPBlock(d_model, d_ffn, seq_len)) for _ in range(n_layers)]
encoder = labml_nn.transformers.Encoder(layers[0], n_layers)
encoder.layers = nn.ModuleList(layers)
```

This file imports only torch and the standard library.
"""

import torch
from torch import Tensor, nn


class ForLabml(nn.Module):
    r"""One of our layers as a layer of labml_nn's encoder.

    ## Our layer in labml_nn

    `labml_nn.transformers.Encoder` calls its layers by keyword. It expresses padding as a mask with
    one row for all positions.

    * `layer` has an integer attribute `size` and `forward(x, mask, key_padding_mask)`

    Raises `TypeError` if `layer` is not a module with an integer `size`.

    ```python
    layer = ForLabml(GMLPBlock(d_model=512, d_ffn=2048, seq_len=256))
    encoder = labml_nn.transformers.Encoder(layer, n_layers=6)
    ```
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.size = _size(layer)
        self.layer = layer

    def forward(self, *, x: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Applies the layer to a sequence-first batch.

        * `x` is `[n, B, d]`
        * `mask` is boolean, true where position $i$ may read position $j$: `[n, n, 1]`, or
          `[n, n, B]` with a mask for each sequence. `[1, n, 1]` and `[1, n, B]` apply to all $i$

        Returns `[n, B, d]`.

        Raises `ValueError` if `x` or `mask` has another shape, or if $n$ exceeds the `seq_len` of
        the layer; `TypeError` if `mask` is not boolean.
        """
        _check_input("x", x, self.size, "[n, B, d={}]")
        n, batch, _ = x.shape
        own_mask, key_padding_mask = None, None
        if mask is not None:
            _check_mask("mask", mask, (n, n, 1), (n, n, batch), (1, n, 1), (1, n, batch))
            # One row for all positions is padding. Our layers mask it without a matrix for each
            # sequence.
            if mask.shape[0] == 1:
                key_padding_mask = mask[0].T.expand(batch, n)  # [B, n]
            else:
                own_mask = mask[..., 0] if mask.shape[2] == 1 else mask.permute(2, 0, 1)
        return self.layer(x.transpose(0, 1), own_mask, key_padding_mask).transpose(0, 1)


class ForTorch(nn.Module):
    r"""One of our layers as a layer of `torch.nn.TransformerEncoder`.

    ## Our layer in torch

    Build the encoder with `enable_nested_tensor=False`. Otherwise torch warns that it cannot use
    nested tensors, which it does for its own layer only.

    * `layer` has an integer attribute `size` and `forward(x, mask, key_padding_mask)`
    * `batch_first` is the order of the axes of `src`; the default is sequence first, as in torch

    Raises `TypeError` if `layer` is not a module with an integer `size`.

    ```python
    layer = ForTorch(GMLPBlock(d_model=512, d_ffn=2048, seq_len=256), batch_first=True)
    encoder = nn.TransformerEncoder(layer, num_layers=6, enable_nested_tensor=False)
    ```
    """

    def __init__(self, layer: nn.Module, *, batch_first: bool = False) -> None:
        super().__init__()
        self.size = _size(layer)
        self.layer = layer
        self.batch_first = batch_first

    # torch's encoder reads `self_attn.batch_first` from its first layer.
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
        r"""Applies the layer, called as torch calls its own.

        * `src` is `[n, B, d]`, or `[B, n, d]` with `batch_first`
        * `src_mask` is `[n, n]` or `[B, n, n]`: boolean, true where position $i$ must not read
          position $j$; or floating point, $-\infty$ there and 0 elsewhere, as torch's encoder
          passes it
        * `src_key_padding_mask` is `[B, n]`, in the same two forms
        * `is_causal` is torch's hint that `src_mask` is the causal mask; only the mask is used

        Returns a tensor of the shape of `src`.

        Raises `ValueError` if a tensor has another shape, if a mask holds other numbers than 0 and
        $-\infty$, if `is_causal` is true without a mask, or if $n$ exceeds the `seq_len` of the
        layer; `TypeError` if a mask is neither boolean nor floating point.
        """
        order = "[B, n, d={}]" if self.batch_first else "[n, B, d={}]"
        _check_input("src", src, self.size, order)
        # torch rejects this too: the hint does not replace the mask.
        if is_causal and src_mask is None:
            raise ValueError("src_mask must be given with is_causal=True, which is only a hint")
        x = src if self.batch_first else src.transpose(0, 1)  # [B, n, d]
        batch, n, _ = x.shape
        mask = _inverted("src_mask", src_mask, (n, n), (batch, n, n))
        key_padding_mask = _inverted("src_key_padding_mask", src_key_padding_mask, (batch, n))
        y = self.layer(x, mask, key_padding_mask)
        return y if self.batch_first else y.transpose(0, 1)


class FromLabml(nn.Module):
    r"""A layer of labml_nn as a layer of our encoder.

    ## A layer of labml_nn

    It wraps layers such as `labml_nn.transformers.TransformerLayer` and
    `labml_nn.transformers.gmlp.GMLPBlock`, or a whole labml_nn `Encoder`, for our language model.
    The attention of labml_nn 0.5.1 calls `labml.tracker.debug`, which labml 0.5 removed; define
    it as a function that does nothing.

    * `layer` is called as `layer(x=x, mask=mask)`, sequence first
    * `causal` hides later positions; layers of labml_nn have no such setting
    * `size` is the width $d$, for a `layer` without the attribute `size`, such as `Encoder`

    Raises `TypeError` if `layer` is not a module, or no integer `size` is known.

    ```python
    from labml_nn.transformers.gmlp import GMLPBlock as LabmlBlock

    encoder = Encoder(lambda: FromLabml(LabmlBlock(512, 2048, 256), causal=True), n_layers=6)
    ```
    """

    def __init__(self, layer: nn.Module, *, causal: bool = False, size: int | None = None) -> None:
        super().__init__()
        self.size = _size(layer, size)
        self.layer = layer
        self.causal = causal

    def forward(
        self, x: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Applies the layer to a batch-first batch.

        * `x` is `[B, n, d]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$.
          Each $i$ must be able to read some $j$, or softmax gives NaN
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        Returns `[B, n, d]`. Values at padded positions are arbitrary; ignore them.

        Raises `ValueError` if a tensor has another shape, and if masks differ between sequences but
        the layer takes one for all, as labml_nn's `GMLPBlock` does; `TypeError` if a mask is not
        boolean.
        """
        _check_input("x", x, self.size, "[B, n, d={}]")
        may_read = _may_read(x, mask, key_padding_mask, self.causal)
        if may_read is not None:
            # `[B, i, j]` to `[i, j, B]`; a mask for all sequences is a batch of one.
            may_read = (may_read if may_read.dim() == 3 else may_read[None]).permute(1, 2, 0)
        try:
            return self.layer(x=x.transpose(0, 1), mask=may_read).transpose(0, 1)
        except AssertionError as e:
            # labml_nn asserts the shape of the mask without a message.
            if may_read is None or may_read.shape[2] == 1:
                raise
            raise ValueError(
                f"mask must be the same for all sequences, without padding, for "
                f"{type(self.layer).__name__}, got {may_read.shape[2]} masks"
            ) from e


class FromTorch(nn.Module):
    r"""A `torch.nn.TransformerEncoderLayer` as a layer of our encoder.

    ## A layer of torch

    * `layer` is the torch layer, with `batch_first` or without
    * `causal` hides later positions

    Raises `TypeError` if `layer` is not a `torch.nn.TransformerEncoderLayer`.

    ```python
    def make_layer():
        return FromTorch(nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True), causal=True)

    encoder = Encoder(make_layer, n_layers=6)
    ```
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
        self, x: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Applies the layer to a batch-first batch.

        * `x` is `[B, n, d]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`, true where position $i$ may read position $j$.
          Each $i$ must be able to read some $j$, or softmax gives NaN
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        Returns `[B, n, d]`. Values at padded positions are arbitrary; ignore them.

        Raises `ValueError` if a tensor has another shape, and `TypeError` if a
        mask is not boolean.
        """
        _check_input("x", x, self.size, "[B, n, d={}]")
        attention = self.layer.self_attn
        options: dict[str, Tensor] = {}
        may_read = _may_read(x, mask, key_padding_mask, self.causal)
        if key_padding_mask is not None and mask is None and not self.causal:
            options["src_key_padding_mask"] = ~key_padding_mask
        elif may_read is not None:
            # torch expects masks that differ between sequences along the axis of the heads.
            if may_read.dim() == 3:
                may_read = may_read.repeat_interleave(attention.num_heads, dim=0)  # [B h, n, n]
            options["src_mask"] = ~may_read
        # Given the hint, torch may ignore the mask, so both must agree exactly.
        hint = self.causal and mask is None and key_padding_mask is None
        if attention.batch_first:
            return self.layer(x, **options, is_causal=hint)
        return self.layer(x.transpose(0, 1), **options, is_causal=hint).transpose(0, 1)


# ## Masks
#
# Joins all masks into one, `[n, n]` or `[B, n, n]`; for padding alone `[B, 1, n]`. If there is
# another mask beside the padding, a padded position may read itself. Otherwise padding before the
# text could read nothing under a causal mask. Softmax would give NaN, and the next layer would
# spread it through the sequence, as happens in labml_nn and in torch's fast path for inference.
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


# Inverts a mask of torch. Other numbers than 0 and $-\infty$ are attention biases, added before
# softmax. A gate has no softmax, so they are refused instead of silently dropped.
def _inverted(name: str, mask: Tensor | None, *shapes: tuple[int, ...]) -> Tensor | None:
    if mask is None:
        return None
    if isinstance(mask, Tensor) and mask.is_floating_point():
        may_read = mask == 0
        if not bool((may_read | mask.isneginf()).all()):
            other = mask[~(may_read | mask.isneginf())][0].item()
            raise ValueError(f"{name} must hold 0 and -inf only, got {other:g}")
    elif isinstance(mask, Tensor) and mask.dtype == torch.bool:
        may_read = ~mask
    else:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name} must be a boolean tensor or one of 0 and -inf, got {kind}")
    _check_mask(name, may_read, *shapes)
    return may_read


# ## Argument checks
def _size(layer: nn.Module, size: int | None = None) -> int:
    found = getattr(layer, "size", None) if size is None else size
    if not isinstance(layer, nn.Module) or type(found) is not int:
        raise TypeError(
            f"layer must be a module with an integer `size`, got {type(layer).__name__}"
        )
    return found


def _check_input(name: str, x: Tensor, size: int, shape: str) -> None:
    if x.dim() != 3 or x.shape[-1] != size:
        raise ValueError(f"{name} must be {shape.format(size)}, got {list(x.shape)}")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
