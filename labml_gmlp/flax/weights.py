r"""
# Weights between torch and Flax

A torch model and its Flax twin hold the same numbers under almost the same names. What differs is
said once, in the table below, and both directions are derived from it.

```python
from_torch(twin, model.state_dict())  # torch to Flax
model.load_state_dict(to_torch(twin))  # Flax to torch
```
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor

# ## The table
#
# A layer of Flax and its parameter, the parameter's name in torch, and which axis of Flax each axis
# of torch is. Flax writes $xA$ and torch $x A^\top$, so that matrices are transposed; a convolution
# has its channels last in Flax and first in torch. Everything else has the same name and axes in
# both, as $W$ and $b$ have.
TABLE = {
    (nnx.Linear, "kernel"): ("weight", (1, 0)),
    (nnx.Conv, "kernel"): ("weight", (3, 2, 0, 1)),
    (nnx.LayerNorm, "scale"): ("weight", (0,)),
    (nnx.Embed, "embedding"): ("weight", (0, 1)),
}


def to_torch(model: nnx.Module) -> dict[str, Tensor]:
    r"""
    ## From Flax to torch

    * `model` is a model of Flax

    Returns its parameters as a state dict for the torch twin, copied, on the CPU and of the same
    type.
    """
    return {
        name: _tensor(np.asarray(parameter[...]).transpose(axes))
        for name, parameter, axes in _parameters(model)
    }


def from_torch(model: nnx.Module, state_dict: Mapping[str, Tensor]) -> None:
    r"""
    ## From torch to Flax

    Sets the parameters of `model`. They keep their own type, as in torch's `load_state_dict`.

    * `model` is a model of Flax, or one that `nnx.eval_shape` only described: so no weights need be
      drawn before
    * `state_dict` is that of its torch twin

    Raises `ValueError` for names that are missing or left over and for other shapes, all of them at
    once; the model is then as it was.
    """
    wanted = {name: (parameter, axes) for name, parameter, axes in _parameters(model)}
    shapes = {
        name: tuple(parameter.shape[axis] for axis in axes)
        for name, (parameter, axes) in wanted.items()
    }
    faults = {
        "missing": [name for name in wanted if name not in state_dict],
        "left over": [name for name in state_dict if name not in wanted],
        "wrongly shaped": [
            f"{name} {list(state_dict[name].shape)} instead of {list(shape)}"
            for name, shape in shapes.items()
            if name in state_dict and tuple(state_dict[name].shape) != shape
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
        raise ValueError(f"state_dict must fit the model, got {found}")
    for name, (parameter, axes) in wanted.items():
        back = [axes.index(axis) for axis in range(len(axes))]
        array = _array(state_dict[name]).transpose(back)
        # A copy: the memory of a tensor may change later.
        parameter.set_value(jnp.array(array, dtype=parameter.dtype))


# Each parameter with its name in torch and its axes there. A parameter knows nothing of the layer
# that it belongs to, so the way to it is walked once more.
def _parameters(model: nnx.Module) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    for path, parameter in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        *way, last = path
        layer: Any = model
        for step in way:
            layer = layer[step] if isinstance(step, int) else getattr(layer, str(step))
        same = last, tuple(range(parameter.ndim))
        name, axes = next(
            (
                entry
                for (kind, leaf), entry in TABLE.items()
                if isinstance(layer, kind) and leaf == last
            ),
            same,
        )
        yield ".".join(map(str, [*way, name])), getattr(layer, str(last)), axes


# numpy has no bfloat16 of its own, and torch does not take that of JAX; both take a float32, which
# holds the same numbers.
def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
