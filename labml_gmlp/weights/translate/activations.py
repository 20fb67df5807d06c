r"""Activation functions by name.

# Activations
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.weights.errors import WeightsError

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "sigmoid": torch.sigmoid,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
# torch has the tanh approximation of GELU as a module only.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {**FUNCTIONS, "gelu_tanh": nn.GELU("tanh")}

_MODULES = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.Tanh: "tanh"}


def function_name(activation: Any) -> str | None:
    """Returns the name of a function in `FUNCTIONS`, or `None` if it is not one of them."""
    return next((name for name, f in FUNCTIONS.items() if activation is f), None)


def activation_name(activation: Any) -> str:
    r"""Returns the name in `ACTIVATIONS` of a function or of a module that computes it.

    Raises `WeightsError` for any other activation.
    """
    if isinstance(activation, nn.GELU):
        return "gelu" if activation.approximate == "none" else "gelu_tanh"
    name = _MODULES.get(type(activation)) or function_name(activation)
    if name is None:
        raise WeightsError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")
    return name
