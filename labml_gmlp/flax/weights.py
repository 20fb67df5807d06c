r"""Copies weights between a torch model and the same model in Flax.

# Weights between torch and Flax

Both models have the same parameters under almost the same names. One table states the differences,
and both directions are derived from it.

```python
from_torch(flax_model, torch_model.state_dict())  # torch to Flax
torch_model.load_state_dict(to_torch(flax_model))  # Flax to torch
```
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor

# ## Table of parameters
#
# For a layer of Flax and its parameter: the name of the parameter in torch, and for each axis in
# torch its index in Flax. Flax computes $xA$ and torch $x A^\top$, so matrices are transposed. A
# convolution has its channels last in Flax and first in torch. All other parameters, such as $W$
# and $b$, have the same name and axes in both.
TABLE = {
    (nnx.Linear, "kernel"): ("weight", (1, 0)),
    (nnx.Conv, "kernel"): ("weight", (3, 2, 0, 1)),
    (nnx.LayerNorm, "scale"): ("weight", (0,)),
    (nnx.Embed, "embedding"): ("weight", (0, 1)),
}


def to_torch(model: nnx.Module) -> dict[str, Tensor]:
    r"""Returns the parameters of a Flax model as a state dict for the same model in torch.

    ## Flax to torch

    * `model` is a model of Flax

    The tensors are copies on the CPU, in the types of the parameters.
    """
    return {
        name: _tensor(np.asarray(parameter[...]).transpose(axes))
        for name, parameter, axes in _parameters(model)
    }


def from_torch(model: nnx.Module, state_dict: Mapping[str, Tensor]) -> None:
    r"""Sets the parameters of a Flax model from the state dict of the same model in torch.

    ## torch to Flax

    * `model` is a model of Flax; `nnx.eval_shape` builds one without drawing initial weights
    * `state_dict` is that of the torch model

    Parameters keep their type, as in torch's `load_state_dict`.

    Raises `ValueError` for missing or unexpected names and wrong shapes, listing all of them; the
    model is then unchanged.
    """
    wanted = {name: (parameter, axes) for name, parameter, axes in _parameters(model)}
    shapes = {
        name: tuple(parameter.shape[axis] for axis in axes)
        for name, (parameter, axes) in wanted.items()
    }
    faults = {
        "missing": [name for name in wanted if name not in state_dict],
        "unexpected": [name for name in state_dict if name not in wanted],
        "wrong shape": [
            f"{name} must be {list(shape)}, got {list(state_dict[name].shape)}"
            for name, shape in shapes.items()
            if name in state_dict and tuple(state_dict[name].shape) != shape
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
        raise ValueError(f"state_dict must match the model; {found}")
    for name, (parameter, axes) in wanted.items():
        back = [axes.index(axis) for axis in range(len(axes))]
        array = _array(state_dict[name]).transpose(back)
        # A copy, since the tensor may change later.
        parameter.set_value(jnp.array(array, dtype=parameter.dtype))


# Yields the name in torch, the parameter, and the axes. A parameter does not refer to its layer, so
# the layer is found by the path.
def _parameters(model: nnx.Module) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    for path, parameter in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        *parents, last = path
        layer: Any = model
        for step in parents:
            layer = layer[step] if isinstance(step, int) else getattr(layer, str(step))
        unchanged = last, tuple(range(parameter.ndim))
        name, axes = next(
            (
                entry
                for (kind, leaf), entry in TABLE.items()
                if isinstance(layer, kind) and leaf == last
            ),
            unchanged,
        )
        yield ".".join(map(str, [*parents, name])), getattr(layer, str(last)), axes


# numpy has no bfloat16, and torch does not accept that of JAX. float32 represents all its values.
def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
