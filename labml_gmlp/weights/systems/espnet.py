r"""Weights of the `ConvolutionalGatingMLP` of ESPnet.

# ESPnet

The gMLP of ESPnet's Branchformer and E-Branchformer, in which a depthwise convolution replaces $W$;
Apache 2.0 licence. The table follows its source code, which was not run.

In ESPnet, the norm before this layer and the residual connection around it belong to larger layers,
which contain much beside gMLP and differ from each other. So only this layer is read: a
[`GMLPBlock`](../../blocks/gmlp.py) without its norm and residual connection.

    prefix = "encoder.encoders.3.cgmlp."
    layer = {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
    model = weights.from_state(layer)

* The norm of the gate has an epsilon of 1e-12, as all norms of ESPnet; torch's default is 1e-5
* The weights do not record `gate_activation`, so it is an option; the default is the identity, as
  in ESPnet. The names of the other activations were not compared with ESPnet's
* With `use_linear_after_conv`, a linear layer across channels follows the convolution inside the
  gate
* Given a `key_padding_mask`, padded frames are zeroed before the convolution here. ESPnet read them
  until its pull request 6660, so earlier weights were trained with padding
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.gmlp import SpatialGatingUnit
from labml_gmlp.models.amlp import AMLPGatingUnit
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import CustomSystem, State, System, prefixed, size_of
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
    r"""A depthwise convolution across tokens, then a linear layer across channels.

    $$f(Z) = f_{K,b}(Z) A + a$$

    The projection of ESPnet's `use_linear_after_conv`.

    * `n_channels` and `kernel_size` are those of `ConvolutionProjection`
    * `options` are `device` and `dtype`

    For example:

        sgu = SpatialGatingUnit(64, projection=ConvolutionAndLinear(32, kernel_size=31))

    Raises `ValueError` for a number of channels or a kernel size that is not a positive integer.
    """

    causal = False

    def __init__(self, n_channels: int, kernel_size: int, **options: Any) -> None:
        super().__init__()
        self.convolution = ConvolutionProjection(n_channels, kernel_size, **options)
        self.linear = nn.Linear(n_channels, n_channels, **options)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Returns $f(Z)$, `[B, n, c]`, as `ConvolutionProjection` does and with its arguments."""
        return self.linear(self.convolution(z, mask))


class ConvolutionalGatingMLP(nn.Module):
    r"""A gMLP block without its norm and its residual connection.

    $$Y = s(\sigma(X U)) V$$

    This is Eq. 1 of the paper as printed.

    * `d_model` is $d$
    * `sgu` is $s$; its `d_ffn` is the number of channels of $Z$
    * `options` are `device` and `dtype`

    For example:

        sgu = SpatialGatingUnit(64, projection=ConvolutionProjection(32, 31))
        layer = ConvolutionalGatingMLP(16, sgu)
    """

    def __init__(self, d_model: int, sgu: SpatialGatingUnit, **options: Any) -> None:
        super().__init__()
        self.size = d_model
        self.proj_in = nn.Linear(d_model, sgu.d_ffn, **options)
        self.sgu = sgu
        self.proj_out = nn.Linear(sgu.d_out, d_model, **options)

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        r"""Returns $Y$, `[B, n, d_model]`.

        * `x` is $X$, `[B, n, d_model]`, already normalised
        * `key_padding_mask` is boolean, `[B, n]`, true for a real frame
        """
        z = nn.functional.gelu(self.proj_in(x))  # [B, n, d_ffn]
        return self.proj_out(self.sgu(z, None, key_padding_mask))


# $d$ is the width of the model, $h$ half the width of $Z$ and $k$ the kernel size.
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
        "d_model": size_of(state, "channel_proj1.0.weight", 1),
        "d_ffn": size_of(state, "channel_proj1.0.weight", 0),
        "kernel_size": size_of(state, "csgu.conv.weight", 2),
        "linear": any(name.startswith("csgu.linear.") for name in state),
        "gate_activation": gate_activation,
    }


def _table(c: Config) -> Table:
    if c["linear"]:
        gate = (*prefixed(CONVOLUTION, "sgu.projection.convolution.", ""), *LINEAR)
    else:
        gate = prefixed(CONVOLUTION, "sgu.projection.", "")
    return Table("ESPnet cgMLP", (*BEFORE, *gate, *AFTER))


def build(
    config: Config,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ConvolutionalGatingMLP:
    """Returns the layer, from `[B, n, d]` to `[B, n, d]` for any $n$."""
    options: Config = {"device": device, "dtype": dtype}
    layer = ConvolutionAndLinear if config["linear"] else ConvolutionProjection
    sgu = AMLPGatingUnit(
        config["d_ffn"],
        projection=layer(config["d_ffn"] // 2, config["kernel_size"], **options),
        activation=GATE_ACTIVATIONS[config["gate_activation"]],
        norm_eps=config["sgu_norm_eps"],
        **options,
    )
    return ConvolutionalGatingMLP(config["d_model"], sgu, **options)


CGMLP = CustomSystem(
    "ESPnet cgMLP",
    matches=lambda state: "csgu.conv.weight" in state and "channel_proj1.0.weight" in state,
    config=_config,
    table=_table,
    facts=FACTS,
    options={"gate_activation": f"the activation of the gate, one of {list(GATE_ACTIVATIONS)}"},
    notes="one cgMLP, without its norm and its residual connection",
    build=build,
)

SYSTEMS: tuple[System, ...] = (CGMLP,)
