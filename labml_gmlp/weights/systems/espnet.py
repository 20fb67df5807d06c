r"""
# ESPnet

The `ConvolutionalGatingMLP` of ESPnet, Apache 2.0 licence: the gMLP of its Branchformer and
E-Branchformer, in which a depthwise convolution stands for $W$. Read in the code, not run.

ESPnet keeps the norm in front and the shortcut around it in the layers outside, which hold much
that is not gMLP, and no two of them alike. So what is read is one such part, what a
[`GMLPBlock`](../../blocks/gmlp.py) is without its norm and its shortcut:

    path = "encoder.encoders.3.cgmlp."
    part = {name[len(path) :]: v for name, v in state.items() if name.startswith(path)}
    model = weights.from_state(part)

* The norm of the gate has a constant of 1e-12, as all norms of ESPnet; torch's would be 1e-5
* `gate_activation` is in no weight, so it is an option; the identity by default, as there. The
  names of the others are from memory
* With `use_linear_after_conv` a linear layer across channels follows the convolution, inside the
  gate
* Padded frames are zeroed before the convolution here, given a `key_padding_mask`. ESPnet let them
  be read until its pull request 6660, so that weights from before were trained with it
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.gmlp import SpatialGatingUnit
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.special import OtherModel
from labml_gmlp.weights.translate.system import State, System, axis, inside
from labml_gmlp.weights.translate.table import Row, Table

GATE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "identity": None,
    "hardtanh": nn.functional.hardtanh,
    "relu": nn.functional.relu,
    "selu": nn.functional.selu,
    "swish": nn.functional.silu,
    "tanh": torch.tanh,
}


class ConvolutionAndLinear(nn.Module):
    r"""
    ## Convolution and linear layer

    $$f(Z) = f_{K,b}(Z) A + a$$

    ESPnet's `use_linear_after_conv`: the convolution keeps the channels apart, $A$ mixes them.

    * `n_channels` and `kernel_size` are those of `ConvolutionProjection`
    """

    causal = False

    def __init__(self, n_channels: int, kernel_size: int, **options: Any) -> None:
        super().__init__()
        self.convolution = ConvolutionProjection(n_channels, kernel_size, **options)
        self.linear = nn.Linear(n_channels, n_channels, **options)

    def forward(self, z: Tensor, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        r"""
        Returns $f(Z)$, `[B, n, c]`. Raises what `ConvolutionProjection` raises.
        """
        return self.linear(self.convolution(z, mask, cache))


class ConvolutionalGatingMLP(nn.Module):
    r"""
    ## Convolutional gating MLP

    $$Y = s(\sigma(X U)) V$$

    Eq. 1 as it is printed, without norm and shortcut.

    * `d_model` is $d$, and `d_ffn` the number of channels of $Z$, even
    * `sgu` is $s$
    """

    def __init__(self, d_model: int, sgu: SpatialGatingUnit, **options: Any) -> None:
        super().__init__()
        self.size = d_model
        self.proj_in = nn.Linear(d_model, sgu.d_ffn, **options)
        self.sgu = sgu
        self.proj_out = nn.Linear(sgu.d_out, d_model, **options)

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        r"""
        * `x` is $X$, `[B, n, d_model]`, normalised by whoever calls
        * `key_padding_mask` is boolean, `[B, n]`, true for a real frame

        Returns $Y$, `[B, n, d_model]`. Raises what `SpatialGatingUnit` raises.
        """
        z = nn.functional.gelu(self.proj_in(x))  # [B, n, d_ffn]
        return self.proj_out(self.sgu(z, None, key_padding_mask))


# $d$ is the width of the model, $h$ half of that of $Z$ and $k$ the length of the kernel.
BEFORE = (
    Row("proj_in.weight", "channel_proj1.0.weight", "2h d"),
    Row("proj_in.bias", "channel_proj1.0.bias", "2h"),
    Row("sgu.norm.weight", "csgu.norm.weight", "h"),
    Row("sgu.norm.bias", "csgu.norm.bias", "h"),
)
CONVOLUTION = (
    Row("weight", "csgu.conv.weight", "h k", reshape="h 1 k"),
    Row("bias", "csgu.conv.bias", "h"),
)
LINEAR = (
    Row("sgu.projection.linear.weight", "csgu.linear.weight", "h h"),
    Row("sgu.projection.linear.bias", "csgu.linear.bias", "h"),
)
AFTER = (
    Row("proj_out.weight", "channel_proj2.weight", "d h"),
    Row("proj_out.bias", "channel_proj2.bias", "d"),
)
FACTS = {"activation": "gelu", "sgu_norm_eps": 1e-12}


def _config(state: State, gate_activation: str = "identity") -> Config:
    if gate_activation not in GATE_ACTIVATIONS:
        raise WeightsError(
            f"gate_activation must be one of {list(GATE_ACTIVATIONS)}, got {gate_activation!r}"
        )
    return {
        "d_model": axis(state, "channel_proj1.0.weight", 1),
        "d_ffn": axis(state, "channel_proj1.0.weight", 0),
        "kernel_size": axis(state, "csgu.conv.weight", 2),
        "linear": any(name.startswith("csgu.linear.") for name in state),
        "gate_activation": gate_activation,
    }


def _table(c: Config) -> Table:
    if c["linear"]:
        gate = (*inside(CONVOLUTION, "sgu.projection.convolution.", ""), *LINEAR)
    else:
        gate = inside(CONVOLUTION, "sgu.projection.", "")
    return Table("ESPnet cgMLP", (*BEFORE, *gate, *AFTER))


def build(
    config: Config,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ConvolutionalGatingMLP:
    r"""
    Returns the model, `[B, n, d]` to `[B, n, d]`, for any $n$.
    """
    options: Config = {"device": device, "dtype": dtype}
    layer = ConvolutionAndLinear if config["linear"] else ConvolutionProjection
    sgu = SpatialGatingUnit(
        config["d_ffn"],
        projection=layer(config["d_ffn"] // 2, config["kernel_size"], **options),
        activation=GATE_ACTIVATIONS[config["gate_activation"]],
        norm_eps=config["sgu_norm_eps"],
        **options,
    )
    return ConvolutionalGatingMLP(config["d_model"], sgu, **options)


CGMLP = OtherModel(
    "ESPnet cgMLP",
    matches=lambda state: "csgu.conv.weight" in state and "channel_proj1.0.weight" in state,
    config=_config,
    table=_table,
    facts=FACTS,
    options={"gate_activation": f"what the gate goes through, of {list(GATE_ACTIVATIONS)}"},
    notes="one cgMLP, without the norm in front and the shortcut around it",
    build=build,
)

SYSTEMS: tuple[System, ...] = (CGMLP,)
