r"""A stack of layers of any kind with a final norm, in Flax.

# The encoder in Flax

gMLP blocks and any other layers run through the same few lines, so that a comparison of models
compares only their layers.

A layer is a module with

* an attribute `size`, its width $d$
* `__call__(x, mask=None)` from `[B, n, d]` to `[B, n, d]`
* `key_padding_mask` as a third argument, if it supports padded batches

This is the port of [the torch encoder](../blocks/encoder.py). `nnx.remat` replaces
`checkpoint_layers`.

This file imports only JAX, Flax and the standard library, so you can copy it alone.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


class Encoder(nnx.Module):
    r"""A stack of $L$ layers followed by a layer norm.

    ## Encoder

    $$X_{l+1} = \mathrm{layer}_l(X_l), \quad l = 0, \dots, L - 1, \qquad Y = \mathrm{norm}(X_L)$$

    Each layer has its own norm and residual connection. The residual stream itself is never
    normalised, so its scale grows with depth; the final norm corrects that.

    ```python
    rngs = nnx.Rngs(0)
    encoder = Encoder(lambda: GMLPBlock(64, 256, seq_len=128, rngs=rngs), n_layers=6, rngs=rngs)
    y = encoder(jnp.ones((8, 100, 64)))  # [8, 100, 64]
    ```

    * `make_layer` builds a new layer at each call. If it has a required argument, it gets the index
      of the layer, so a setting can change with depth
    * `n_layers` is $L$
    * `norm_eps` is the epsilon of the final norm
    * `rngs` and `param_dtype` are for the final norm; `make_layer` passes its own to the layers

    Raises `ValueError` if `n_layers` is not a positive integer, if `make_layer` returns the same
    object twice or layers of different `size`; `TypeError` if it requires more than the index, or
    returns something other than a module with an integer `size`.
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
            raise ValueError(f"n_layers must be a positive integer, got {n_layers!r}")
        takes_index = _takes_index(make_layer)
        # Copying a single layer, as is common, would give all layers the same initial weights.
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
        r"""Returns $Y$, `[B, n, d]`.

        * `x` is $X_0$, `[B, n, d]`
        * `mask` is boolean, true where position $i$ may read position $j$; each layer gets it
        * `key_padding_mask` is boolean, `[B, n]`, true for a real token

        The layers check their input and raise `ValueError` or `TypeError`.
        """
        # Other layers may accept only `x` and `mask`; pass the padding mask only when it is given.
        options: dict[str, Any] = {"mask": mask}
        if key_padding_mask is not None:
            options["key_padding_mask"] = key_padding_mask
        for layer in self.layers:
            x = layer(x=x, **options)
        return self.norm(x)


# ## Argument checks
#
# The signature decides whether `make_layer` gets the index: classes and `functools.partial` are
# callables too.
def _takes_index(make_layer: Callable[..., Any]) -> bool:
    needed = [
        p
        for p in inspect.signature(make_layer).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise TypeError(
            f"make_layer must require no argument or only the index, "
            f"got {[p.name for p in needed]}; wrap it: lambda: Layer(...)"
        )
    return bool(needed)


# A typical mistake is `lambda: layer`: all layers are then one object and share their weights.
def _common_size(layers: list[nnx.Module]) -> int:
    for i, layer in enumerate(layers):
        if not isinstance(layer, nnx.Module) or not isinstance(getattr(layer, "size", None), int):
            raise TypeError(
                f"make_layer must return a module with an integer `size`, "
                f"got {type(layer).__name__} for layer {i}"
            )
        if any(layer is earlier for earlier in layers[:i]):
            raise ValueError(
                f"make_layer must build a new layer at each call, got the same object for layer {i}"
            )
    sizes = sorted({int(layer.size) for layer in layers})  # type: ignore[attr-defined]
    if len(sizes) > 1:
        raise ValueError(f"all layers must have the same size, got {sizes}")
    return sizes[0]
