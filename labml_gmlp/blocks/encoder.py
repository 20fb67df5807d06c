r"""
# The encoder

A stack of $L$ layers and a last norm. It knows nothing of what a layer does: gMLP and the
Transformer, and any mixture of the two, go through the same few lines, so that a comparison
compares the layers and nothing else.

A layer is any module that keeps this protocol:

* an attribute `size`, its width $d$
* `forward(x, mask=None)`, from `[B, n, d]` to `[B, n, d]`
* `key_padding_mask` as a third argument, if it is to see padded batches
* `cache` as a fourth, if it is to write one token at a time

This file needs torch and nothing else, so that it can be copied into any code.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Encoder(nn.Module):
    r"""
    ## Encoder

    $$X_{l+1} = \mathrm{layer}_l(X_l), \quad l = 0, \dots, L - 1, \qquad Y = \mathrm{norm}(X_L)$$

    The layers bring their own norms and shortcuts. As the shortcut is never normalised inside them,
    its scale grows with depth; the last norm brings it back.

    * `make_layer` builds one layer. It is called once for each, as `make_layer()`, or as
      `make_layer(index)` if it has an argument without a default: so a rate or a window may change
      with depth
    * `n_layers` is $L$
    * `checkpoint_layers` keeps only the input of each layer for the backward pass and computes the
      rest once more there: less memory for about a third more time. With a cache, layers keep all
    * `norm_eps` is added to the variance in the last norm

    Raises `ValueError` for an `n_layers` that is not a positive whole number, for a `make_layer`
    that returns the same object twice and for layers of different `size`; `TypeError` for a
    `make_layer` that needs more than the index, and for a layer that is no module or has no `size`.
    """

    def __init__(
        self,
        make_layer: Callable[..., nn.Module],
        n_layers: int,
        *,
        checkpoint_layers: bool = False,
        norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if type(n_layers) is not int or n_layers < 1:
            raise ValueError(f"n_layers must be a positive whole number, got {n_layers!r}")
        takes_index = _takes_index(make_layer)
        # A factory and not a layer: copying one layer, as is often done, gives all layers the same
        # initial weights.
        layers = [make_layer(i) if takes_index else make_layer() for i in range(n_layers)]
        self.size = _common_size(layers)
        self.checkpoint_layers = checkpoint_layers
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(self.size, eps=norm_eps, device=device, dtype=dtype)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        r"""
        * `x` is $X_0$, `[B, n, d]`
        * `mask` is boolean, true where position $i$ may read position $j$, and goes to each layer
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token
        * `cache` holds what all layers read before; `x` then follows on it

        Returns $Y$, `[B, n, d]`.
        """
        # Layers of other packages know `x` and `mask`, often by keyword alone; they must not be
        # asked about padding or a cache that is not there.
        options: dict[str, Any] = {"mask": mask}
        if key_padding_mask is not None:
            options["key_padding_mask"] = key_padding_mask
        if cache is not None:
            options["cache"] = cache
        n = x.shape[1]
        for layer in self.layers:
            # Computing a layer once more would extend its cache once more.
            if self.checkpoint_layers and cache is None and torch.is_grad_enabled():
                x = checkpoint(layer, x=x, **options, use_reentrant=False)
            else:
                x = layer(x=x, **options)
        # Only after the last layer have all of them read the new positions.
        if cache is not None:
            cache.advance(n)
        return self.norm(x)


# ## Checks
#
# A class and a `functools.partial` are callables too, so the signature, not the kind, decides
# whether the index is wanted.
def _takes_index(make_layer: Callable[..., Any]) -> bool:
    needed = [
        p
        for p in inspect.signature(make_layer).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise TypeError(
            f"make_layer must need no argument, or the index alone, "
            f"got one that needs {[p.name for p in needed]}; wrap it: lambda: Layer(...)"
        )
    return bool(needed)


# The mistake this finds is `lambda: layer`, which returns one object again and again: $L$ layers
# that share their weights.
def _common_size(layers: list[nn.Module]) -> int:
    for i, layer in enumerate(layers):
        if not isinstance(layer, nn.Module) or not isinstance(getattr(layer, "size", None), int):
            raise TypeError(
                f"make_layer must return a module with a whole number `size`, "
                f"got {type(layer).__name__} for layer {i}"
            )
        if any(layer is earlier for earlier in layers[:i]):
            raise ValueError(
                f"make_layer must build a new layer at each call, got the same one for layer {i}"
            )
    sizes = sorted({int(layer.size) for layer in layers})  # type: ignore[arg-type]
    if len(sizes) > 1:
        raise ValueError(f"all layers must have one size, got {sizes}")
    return sizes[0]
