r"""The aMLP block: a gMLP block whose gate also adds the output of a tiny attention.

# The aMLP block

The paper's second model, aMLP, adds one small attention head to the gate of each block:

$$s(Z) = Z_1 \odot \left( f_{W,b}(Z_2) + \mathrm{tiny}(\mathrm{norm}(X)) \right)$$

$W$ mixes positions in the same way for every input; the [tiny
attention](../blocks/tiny_attention.py) looks at the tokens. On MNLI, which compares two sentences,
gMLP-base is behind BERT and aMLP-base is not (paper,
[source](../../docs/coverage.yml#language-models)).

Two options of g-mlp-pytorch stand here too, since the paper's block has neither: a [token
shift](../blocks/token_shift.py) and an activation of the gate.

To copy this file, copy [gmlp.py](../blocks/gmlp.py) with it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit


class AMLPBlock(GMLPBlock):
    r"""A gMLP block with tiny attention, or with a token shift, or with both.

    ## The block

    ```python
    attention = TinyAttention(d_model=64, d_out=128)
    block = AMLPBlock(64, 256, seq_len=128, attention=attention)
    ```

    * `attention` reads the normalised $X$, and the gate adds its output; it is called as
      `attention(x, mask, key_padding_mask)` and returns `[B, n, sgu.d_out]`
    * `token_shift` is applied to the normalised $X$; it is called as `token_shift(x,
      key_padding_mask)`
    * `sgu` replaces the default `AMLPGatingUnit`; it takes `attended` as fourth argument
    * the other arguments are those of `GMLPBlock`

    Raises what `GMLPBlock` raises, and `ValueError` if `attention` or `token_shift` is not causal
    in a causal block.
    """

    def __init__(
        self,
        d_model: int,
        d_ffn: int,
        seq_len: int | None = None,
        *,
        attention: nn.Module | None = None,
        token_shift: nn.Module | None = None,
        causal: bool = False,
        sgu: nn.Module | None = None,
        **options: Any,
    ) -> None:
        # fold: checks
        _check_causal("attention", attention, causal)
        _check_causal("token_shift", token_shift, causal)
        # The parts of a gMLP block, whose unit becomes one that can add attention.
        super().__init__(d_model, d_ffn, seq_len, causal=causal, sgu=sgu, **options)
        if sgu is None:
            unit: Any = self.sgu
            weight = unit.norm.weight
            self.sgu = AMLPGatingUnit(
                d_ffn, projection=unit.projection, device=weight.device, dtype=weight.dtype
            )
        self.token_shift = token_shift
        self.attention = attention
        # Optimisers store their state by the order of the parameters, which stays that of the
        # forward pass.
        for name in ("proj_in", "sgu", "proj_out", "dropout"):
            self._modules[name] = self._modules.pop(name)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Returns $X + Y$, `[B, n, d_model]`; values at padded positions are arbitrary.

        The arguments and errors are those of `GMLPBlock.forward`.
        """
        # fold: checks
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ValueError(f"x must be [B, n, d_model={self.size}], got {list(x.shape)}")
        # $\mathrm{norm}(X)$
        normalised = self.norm(x)  # [B, n, d_model]
        # Both branches below read the shifted tokens.
        if self.token_shift is not None:
            normalised = self.token_shift(normalised, key_padding_mask)
        # $Z = \sigma(X U)$
        z = self.activation(self.proj_in(normalised))  # [B, n, d_ffn]
        # $\mathrm{tiny}(\mathrm{norm}(X))$ reads the input of the block, before $U$ widens it.
        attended = []
        if self.attention is not None:
            attended = [self.attention(normalised, mask, key_padding_mask)]  # [B, n, d_ffn / 2]
        # $\tilde{Z} = s(Z)$
        z_tilde = self.sgu(z, mask, key_padding_mask, *attended)  # [B, n, d_ffn / 2]
        # $X + \tilde{Z} V$
        return x + self.dropout(self.proj_out(z_tilde))


class AMLPGatingUnit(SpatialGatingUnit):
    r"""A spatial gating unit that adds the output of an attention to its gate.

    ## The gate with attention

    $$s(Z) = Z_1 \odot g\left( f_{W,b}(Z_2) + A \right)$$

    for the output $A$ of the attention and an activation $g$, the identity in the paper.

    ```python
    unit = AMLPGatingUnit(d_ffn=256, seq_len=128, activation=torch.tanh)
    y = unit(torch.randn(8, 100, 256), attended=torch.randn(8, 100, 128))  # [8, 100, 128]
    ```

    * `activation` is $g$; `None` means the identity
    * the other arguments are those of `SpatialGatingUnit`

    Raises what `SpatialGatingUnit` raises.
    """

    def __init__(
        self,
        d_ffn: int,
        seq_len: int | None = None,
        *,
        activation: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(d_ffn, seq_len, **options)
        self.activation = activation

    def forward(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        attended: Tensor | None = None,
    ) -> Tensor:
        r"""Returns $s(Z)$, `[B, n, d_ffn / 2]`; values at padded positions are arbitrary.

        * `attended` is $A$, `[B, n, d_ffn / 2]`
        * the other arguments and the errors are those of `SpatialGatingUnit.forward`
        """
        # fold: checks
        if z.dim() != 3 or z.shape[-1] != self.d_ffn:
            raise ValueError(f"z must be [B, n, d_ffn={self.d_ffn}], got {list(z.shape)}")
        # Eq. 4, as in the spatial gating unit
        z1, z2 = z.chunk(2, dim=-1)  # [B, n, d_ffn / 2] each
        z2 = self.norm(z2)
        # Padded tokens must not be read, as in the spatial gating unit.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, z.shape[:2])
            z2 = z2.masked_fill(~key_padding_mask[..., None], 0.0)
        # $f_{W,b}(Z_2) + A$
        gate = self.projection(z2, mask)  # [B, n, d_ffn / 2]
        if attended is not None:
            gate = gate + attended
        if self.activation is not None:
            gate = self.activation(gate)
        return z1 * gate


# fold: argument checks
def _check_causal(name: str, layer: nn.Module | None, causal: bool) -> None:
    if causal and layer is not None and getattr(layer, "causal", None) is not True:
        raise ValueError(f"{name} must be causal in a causal layer, got {type(layer).__name__}")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
