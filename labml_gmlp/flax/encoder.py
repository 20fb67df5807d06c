r"""
# The encoder in Flax

A stack of $L$ layers and a last norm. It knows nothing of what a layer does: gMLP and the
Transformer, and any mixture of the two, go through the same few lines, so that a comparison
compares the layers and nothing else.

A layer is any module that keeps this protocol:

* an attribute `size`, its width $d$
* `__call__(x, mask=None)`, from `[B, n, d]` to `[B, n, d]`
* `key_padding_mask` as a third argument, if it is to see padded batches

This is the twin of [the encoder in torch](../blocks/encoder.py), without its cache and without
`checkpoint_layers`: `nnx.remat` does that for any layer.

This file needs JAX and Flax and nothing else, so that it can be copied into any code.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class Encoder(nnx.Module):
    r"""
    ## Encoder

    $$X_{l+1} = \mathrm{layer}_l(X_l), \quad l = 0, \dots, L - 1, \qquad Y = \mathrm{norm}(X_L)$$

    The layers bring their own norms and shortcuts. As the shortcut is never normalised inside them,
    its scale grows with depth; the last norm brings it back.

    * `make_layer` builds one layer. It is called once for each, as `make_layer()`, or as
      `make_layer(index)` if it has an argument without a default: so a rate or a window may change
      with depth
    * `n_layers` is $L$
    * `norm_eps` is added to the variance in the last norm
    * `rngs` and `param_dtype` are those of the last norm; `make_layer` brings its own

    Raises `ValueError` for an `n_layers` that is not a positive whole number, for a `make_layer`
    that returns the same object twice and for layers of different `size`; `TypeError` for a
    `make_layer` that needs more than the index, and for a layer that is no module or has no `size`.
    """

    def __init__(
        self,
        make_layer: Callable[..., nnx.Module],
        n_layers: int,
        *,
        norm_eps: float = 1e-5,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        if type(n_layers) is not int or n_layers < 1:
            raise ValueError(f"n_layers must be a positive whole number, got {n_layers!r}")
        takes_index = _takes_index(make_layer)
        # A factory and not a layer: copying one layer, as is often done, gives all layers the same
        # initial weights.
        layers = [make_layer(i) if takes_index else make_layer() for i in range(n_layers)]
        self.size = _common_size(layers)
        self.layers = nnx.List(layers)
        self.norm = nnx.LayerNorm(
            self.size, epsilon=norm_eps, use_fast_variance=False, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(
        self,
        x: Array,
        mask: Array | None = None,
        key_padding_mask: Array | None = None,
    ) -> Array:
        r"""
        * `x` is $X_0$, `[B, n, d]`
        * `mask` is boolean, true where position $i$ may read position $j$, and goes to each layer
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        Returns $Y$, `[B, n, d]`.
        """
        # Layers of other packages know `x` and `mask`, often by keyword alone; they must not be
        # asked about padding that is not there.
        options: dict[str, Any] = {"mask": mask}
        if key_padding_mask is not None:
            options["key_padding_mask"] = key_padding_mask
        for layer in self.layers:
            x = layer(x=x, **options)
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
def _common_size(layers: list[nnx.Module]) -> int:
    for i, layer in enumerate(layers):
        if not isinstance(layer, nnx.Module) or not isinstance(getattr(layer, "size", None), int):
            raise TypeError(
                f"make_layer must return a module with a whole number `size`, "
                f"got {type(layer).__name__} for layer {i}"
            )
        if any(layer is earlier for earlier in layers[:i]):
            raise ValueError(
                f"make_layer must build a new layer at each call, got the same one for layer {i}"
            )
    sizes = sorted({int(layer.size) for layer in layers})  # type: ignore[attr-defined]
    if len(sizes) > 1:
        raise ValueError(f"all layers must have one size, got {sizes}")
    return sizes[0]
