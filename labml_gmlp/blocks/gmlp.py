r"""The gMLP block, in which one learned matrix mixes the tokens instead of attention.

# The gMLP block

Does a Transformer need attention? *Pay Attention to MLPs* (Liu, Dai, So and Le, 2021, [arXiv
2105.08050](https://arxiv.org/abs/2105.08050)) stacks $L$ blocks without it. Each block mixes tokens
by a learned matrix over positions and a product:

$$Z = \sigma(X U), \qquad \tilde{Z} = s(Z), \qquad Y = \tilde{Z} V \tag{1}$$

* $X$ and $Y$ are $n$ tokens with $d$ channels each
* $U$ widens the channels to $e$, $V$ narrows them back, $\sigma$ is GELU
* $s$ is the *spatial gating unit*, the only step in which tokens meet

Without $s$, Eq. 1 is the feed-forward half of a Transformer layer.

Below stand the block (Eq. 1), the unit $s$ (Eq. 4) and the projection inside it (Eq. 2). Causal
models and padding masks are our additions. The file imports only torch and the standard library,
so you can copy it alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class GMLPBlock(nn.Module):
    r"""The gMLP block: a feed-forward layer with a spatial gating unit in the middle.

    ## The block

    ```python
    block = GMLPBlock(d_model=64, d_ffn=256, seq_len=128)
    y = block(torch.randn(8, 100, 64))  # [8, 100, 64]
    ```

    * `d_model` is $d$ and `d_ffn` is $e$, both in channels
    * `seq_len` is the longest sequence in tokens
    * `causal` keeps each token from reading later ones (not in the paper)
    * `sgu` replaces the default `SpatialGatingUnit`, then without `seq_len`
    * `dropout` is applied to $Y$, for example [stochastic depth](stochastic_depth.py)
    * `activation` is $\sigma$; that GELU is the exact one, not the tanh form, is our choice
    * `norm_eps` is the epsilon of the norm; `device` and `dtype` are those of the parameters

    Raises `ValueError` if a size is not a positive integer, if `d_ffn` is odd, if `seq_len` is
    given beside `sgu` or missing without it, and if `sgu` is not causal in a causal block.
    """

    def __init__(
        self,
        d_model: int,
        d_ffn: int,
        seq_len: int | None = None,
        *,
        causal: bool = False,
        sgu: Any = None,
        dropout: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] = nn.functional.gelu,
        norm_eps: float = 1e-5,
        **factory: Any,
    ) -> None:
        super().__init__()
        # fold: checks
        _check_size("d_model", d_model)
        _check_size("d_ffn", d_ffn)
        _check_given("sgu", sgu, seq_len, causal)
        # The norm stands in front (pre-norm). Eq. 1 leaves it out, and all biases; figure 1 of the
        # paper shows it.
        self.size = d_model
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, **factory)
        # $U$ leads from $d$ to $e$ channels; then follows $\sigma$.
        self.proj_in = nn.Linear(d_model, d_ffn, **factory)
        self.activation = activation
        # $s$ is the spatial gating unit, unless another gate is given. It halves the channels.
        if sgu is None:
            sgu = SpatialGatingUnit(d_ffn, seq_len, causal=causal, **factory)
        self.sgu = sgu
        # $V$ leads from $e / 2$ channels back to $d$.
        self.proj_out = nn.Linear(sgu.d_out, d_model, **factory)
        self.dropout = nn.Identity() if dropout is None else dropout

    def forward(
        self, x: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Returns $X + Y$, `[B, n, d_model]`; values at padded positions are arbitrary.

        * `x` is $X$, `[B, n, d_model]`
        * `mask` is boolean, `[n, n]` or `[B, n, n]`: true where position $i$ may read position $j$
        * `key_padding_mask` is boolean, `[B, n]`: true for a real token, false for padding

        Raises `ValueError` if `x` or a mask has the wrong shape or there are more than `seq_len`
        tokens, and `TypeError` if a mask is not boolean.
        """
        # fold: checks
        if x.dim() != 3 or x.shape[-1] != self.size:
            raise ValueError(f"x must be [B, n, d_model={self.size}], got {list(x.shape)}")
        # Eq. 1, $Z = \sigma(X U)$: each token on its own, as in a Transformer
        z = self.activation(self.proj_in(self.norm(x)))  # [B, n, d_ffn]
        # Eq. 1, $\tilde{Z} = s(Z)$: the tokens meet.
        z_tilde = self.sgu(z, mask, key_padding_mask)  # [B, n, d_ffn / 2]
        # Eq. 1, $Y = \tilde{Z} V$
        y = self.proj_out(z_tilde)  # [B, n, d_model]
        # The residual connection adds $X$ itself, not its norm. So one path leads through all
        # blocks without a norm, and gradients reach the first block along it undiminished.
        return x + self.dropout(y)  # [B, n, d_model]


class SpatialGatingUnit(nn.Module):
    r"""A gate that multiplies one half of the channels by a spatial projection of the other half.

    ## The spatial gating unit

    $$s(Z) = Z_1 \odot f_{W,b}(Z_2) \tag{4}$$

    $Z$ is split along its channels into two halves. $Z_1$ is carried through. $Z_2$ is normalised,
    projected along the tokens, and becomes the gate: it says how much of each channel of each token
    passes (paper, section 2.1).

    A linear layer across tokens would mix them too. The product does more. A channel of token $i$
    is multiplied by a channel of each token $j$, weighted by $W_{ij}$: the unit is quadratic in its
    input. Attention is cubic, since its weights depend on the tokens as well (paper, section 2.1).

    ```python
    unit = SpatialGatingUnit(d_ffn=256, seq_len=128)
    y = unit(torch.randn(8, 100, 256))  # [8, 100, 128]
    ```

    * `d_ffn` is $e$, the number of channels of $Z$, even
    * `seq_len` and `causal` are those of `SpatialProjection`
    * `projection` replaces the default $f_{W,b}$, then without `seq_len`; it is called as
      `projection(z2, mask)`
    * `norm_eps` is the epsilon of the norm; `device` and `dtype` are those of the parameters

    Raises `ValueError` if `d_ffn` is not a positive even integer, if `seq_len` is given beside
    `projection` or missing without it, and if `projection` is not causal in a causal unit.
    """

    def __init__(
        self,
        d_ffn: int,
        seq_len: int | None = None,
        *,
        causal: bool = False,
        projection: nn.Module | None = None,
        norm_eps: float = 1e-5,
        **factory: Any,
    ) -> None:
        super().__init__()
        # fold: checks
        _check_size("d_ffn", d_ffn)
        if d_ffn % 2:
            raise ValueError(f"d_ffn must be even to split Z into Z1 and Z2, got {d_ffn}")
        _check_given("projection", projection, seq_len, causal)
        # $Z$ has $e$ channels, $s(Z)$ has $e / 2$.
        self.d_ffn = d_ffn
        self.d_out = d_ffn // 2
        # Normalising $Z_2$ made the training of large language models stable (paper, section 2.1).
        self.norm = nn.LayerNorm(d_ffn // 2, eps=norm_eps, **factory)
        # $f_{W,b}$ is Eq. 2, unless another projection is given.
        if projection is None:
            projection = SpatialProjection(seq_len, causal=causal, **factory)
        self.projection = projection
        self.causal = getattr(projection, "causal", False)

    def forward(
        self, z: Tensor, mask: Tensor | None = None, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        r"""Returns $s(Z)$, `[B, n, d_ffn / 2]`; values at padded positions are arbitrary.

        * `z` is $Z$, `[B, n, d_ffn]`
        * `mask` and `key_padding_mask` are those of `GMLPBlock.forward`

        Raises what `GMLPBlock.forward` raises.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[-1] != self.d_ffn:
            raise ValueError(f"z must be [B, n, d_ffn={self.d_ffn}], got {list(z.shape)}")
        # $Z_1$ is the first half of the channels, $Z_2$ the second.
        z1, z2 = z.chunk(2, dim=-1)  # [B, n, d_ffn / 2] each
        # Each token is normalised over its channels.
        z2 = self.norm(z2)  # [B, n, d_ffn / 2]
        # A padded token must not be read, so its row of $Z_2$ becomes zero. This is done after the
        # norm, which would turn zeros into its bias. True marks a real token, unlike in torch's own
        # layers. Our addition; the paper has no padding mask.
        if key_padding_mask is not None:
            _check_mask("key_padding_mask", key_padding_mask, z.shape[:2])
            z2 = z2.masked_fill(~key_padding_mask[..., None], 0.0)  # [B, n, d_ffn / 2]
        # Eq. 2, $f_{W,b}(Z_2)$: the gate
        gate = self.projection(z2, mask)  # [B, n, d_ffn / 2]
        # Eq. 4, $s(Z) = Z_1 \odot f_{W,b}(Z_2)$
        return z1 * gate  # [B, n, d_ffn / 2]


class SpatialProjection(nn.Module):
    r"""A linear layer across tokens: it mixes positions with a learned matrix.

    ## The spatial projection

    $$f_{W,b}(Z) = W Z + b, \qquad W \in \mathbb{R}^{n \times n}, \quad b \in \mathbb{R}^n \tag{2}$$

    With indices, for position $i$ and channel $c$:

    $$f_{W,b}(Z)_{ic} = \sum_{j=1}^{n} W_{ij} Z_{jc} + b_i$$

    $W_{ij}$ says how much position $i$ reads from position $j$. Attention computes such weights
    from the tokens, anew for each input and head. Here they are parameters: one $W$ per block, the
    same for all channels and inputs. Row $i$ belongs to position $i$, so the model needs no
    position embedding (paper, section 2).

    The product costs $n^2 e / 2$ multiply-adds with the $e / 2$ channels of the gate. The scores
    and sums of attention cost $2 n^2 d$ (paper, section 2.1). Both grow with $n^2$.

    ```python
    projection = SpatialProjection(seq_len=128, causal=True)
    y = projection(torch.randn(8, 100, 64))  # [8, 100, 64]
    ```

    * `seq_len` is the longest sequence in tokens, the size of $W$
    * `causal` keeps only $j \le i$, for models that predict the next token (not in the paper)
    * `device` and `dtype` are those of the parameters

    Raises `ValueError` if `seq_len` is not a positive integer.
    """

    def __init__(
        self,
        seq_len: int | None,
        *,
        causal: bool = False,
        **factory: Any,
    ) -> None:
        super().__init__()
        seq_len = _check_size("seq_len", seq_len)
        # $W$ and $b$ are the only parameters.
        self.seq_len = seq_len
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(seq_len, seq_len, **factory))
        self.bias = nn.Parameter(torch.empty(seq_len, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draws $W$ from $N(0, 10^{-12})$ and sets $b = 1$.

        ### At initialisation

        With $W \approx 0$ and $b = 1$ the gate is 1, so $s(Z) \approx Z_1$. Each block starts as a
        feed-forward layer on single tokens, and training adds the mixing little by little. The
        paper calls this critical for stability (section 2.1). It says only "near zero"; the
        standard deviation of $10^{-6}$ is our choice.
        """
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.ones_(self.bias)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        r"""Returns $f_{W,b}(Z)$, `[B, n, c]`.

        * `z` is $Z$, `[B, n, c]`
        * `mask` is that of `GMLPBlock.forward`

        Raises `ValueError` if `z` or `mask` has the wrong shape or there are more than `seq_len`
        tokens, and `TypeError` if `mask` is not boolean.
        """
        # fold: checks
        if z.dim() != 3 or z.shape[1] > self.seq_len:
            wanted = f"[B, n, c] with n at most seq_len={self.seq_len}"
            raise ValueError(f"z must be {wanted}, got {list(z.shape)}")
        # A shorter sequence uses the top left corner of $W$ and the first entries of $b$. Negative
        # padding cuts them out; `weight[:n, :n]` cannot be exported with a dynamic $n$.
        n = z.shape[1]
        cut = n - self.seq_len
        weight = nn.functional.pad(self.weight, (0, cut, 0, cut))  # [n, n]
        bias = nn.functional.pad(self.bias, (0, cut))  # [n]
        # A causal model must not read the future: $W_{ij} = 0$ for $j > i$. The zeros stand in $W$,
        # before the product, because the product has already summed over all $j$.
        if self.causal:
            weight = weight.tril()  # [n, n]
        # Any other mask works the same way; true means that $i$ may read $j$.
        if mask is not None:
            _check_mask("mask", mask, (n, n), (z.shape[0], n, n))
            weight = weight * mask  # [n, n] or [B, n, n]
        # Eq. 2, $W Z + b$. `expand` gives each sequence a view of $W$. torch then multiplies a
        # batch of matrices, mostly faster than one that it broadcasts
        # ([measured](../../docs/design.md)).
        weight = weight.expand(z.shape[0], n, n)  # [B, n, n]
        return weight @ z + bias[:, None]  # [B, n, c]

    def extra_repr(self) -> str:
        return f"seq_len={self.seq_len}, causal={self.causal}"


# fold: argument checks
def _check_size(name: str, value: int | None) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value


def _check_given(name: str, layer: nn.Module | None, seq_len: int | None, causal: bool) -> None:
    if layer is not None and seq_len is not None:
        raise ValueError(f"seq_len must be None beside {name}, which has its own, got {seq_len}")
    if layer is not None and causal and getattr(layer, "causal", None) is not True:
        raise ValueError(f"{name} must be causal in a causal layer, got {type(layer).__name__}")


def _check_mask(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    # torch would silently broadcast a mask of one row and multiply $W$ by a mask of numbers.
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, true = may be read, got {kind}")
    if all(mask.shape != shape for shape in shapes):
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name} must be {allowed}, got {list(mask.shape)}")
