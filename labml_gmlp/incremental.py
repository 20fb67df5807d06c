r"""Reading a sequence token by token with a causal model, at the cost of one row of each product.

# One token at a time

A causal model that writes text needs only the logits of the newest token. Its layers still need
something of the earlier tokens, which do not change any more. `incremental(model)` makes a copy
that shares all parameters with the model and remembers what each layer needs:

| layer | it remembers | to read token $i$ |
| --- | --- | --- |
| `SpatialProjection`, `MultiHeadSpatialProjection` | $Z$ of all tokens | row $i$ of $W$ times $Z$ |
| `ToeplitzProjection` | $Z$ of all tokens | $w$ backwards, times $Z$ |
| `DecayedToeplitzProjection` | $Z$ of all tokens | the same, with $x_i$ and $y_j$ |
| `WindowedProjection` | $Z$ of this window and the one before | one row of the shared $W$ |
| `ConvolutionProjection` | $Z$ of the last $k - 1$ tokens | the kernel once |
| `TinyAttention`, `TransformerLayer` | keys and values of all tokens | one query |
| `TokenShift` | the tokens within reach | a look-up |
| learned positions | the number of tokens | row $i$ of the table |

All other layers of this library treat each token alone and need nothing. The paper has no causal
model; all of this is ours.
"""

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gates import AdditiveGate, LinearGate, MultiplicativeGate
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.multi_head import MultiHeadSpatialProjection
from labml_gmlp.blocks.stochastic_depth import StochasticDepth
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.blocks.transformer import SelfAttention, TransformerLayer
from labml_gmlp.blocks.windowed import WindowedProjection
from labml_gmlp.models.amlp import AMLPBlock, AMLPGatingUnit
from labml_gmlp.models.language import LanguageModel, LearnedPositions

Layer = TypeVar("Layer", bound=nn.Module)


def incremental(model: nn.Module) -> "IncrementalModel":
    r"""Returns a copy of a causal model that reads one or more new tokens at each call.

    ## A copy that remembers

    ```python
    reader = incremental(model)
    logits = reader(prompt)  # [B, n, n_tokens], the whole prompt
    logits = reader(next_token)  # [B, 1, n_tokens], one more token
    ```

    Each output equals that of `model` on the whole sequence, up to rounding. The copy shares its
    parameters with `model`, so it takes no memory for them and sees later changes. It computes no
    gradients.

    * `model` maps tokens `[B, n]` or vectors `[B, n, d]` to one output for each token. Every layer
      in it is causal and of a type that this page knows, or one that you have registered

    Raises `ValueError` if a layer is not causal, and `TypeError` if `model` is not a module or
    holds a layer of an unknown type.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    text = Text()
    return IncrementalModel(_copy(model, text, "model"), text)


def register(layer: type[nn.Module], twin: Callable[..., nn.Module] | None = None) -> None:
    r"""Adds a type of layer from elsewhere to those that `incremental` knows.

    ## Layers from elsewhere

    ```python
    register(MyHead)  # treats each token alone, like its children
    register(MyProjection, MyProjectionTwin)
    ```

    * `layer` is the type, without its subclasses
    * `twin` is the `Twin` of a layer that mixes tokens. `None` means that the layer mixes none by
      itself; its children are then looked at one by one

    Raises `TypeError` if `layer` is not a type of modules.
    """
    if not isinstance(layer, type) or not issubclass(layer, nn.Module):
        got = getattr(layer, "__name__", type(layer).__name__)
        raise TypeError(f"layer must be a type of torch modules, got {got}")
    _TWINS[layer] = twin


class IncrementalModel(nn.Module):
    r"""A model with the memory of one batch of sequences.

    ## The copy

    `incremental` builds it. `position` is the number of tokens read so far.
    """

    def __init__(self, model: nn.Module, text: "Text") -> None:
        super().__init__()
        self.model = model
        self._text = text

    @property
    def position(self) -> int:
        return self._text.position

    @torch.no_grad()
    def forward(self, new: Tensor) -> Tensor:
        r"""Reads new tokens and returns the model's output for them, `[B, m, ...]`.

        * `new` are the next $m$ tokens of each sequence, `[B, m]`, or vectors, `[B, m, d]`

        Raises `ValueError` if there is no new token, if the batch size, dtype or device is not that
        of the previous call, and what the layers raise, for example if there are more than
        `seq_len` tokens in total. The memory is then undefined until `clear`.
        """
        if new.dim() < 2 or not new.shape[1]:
            raise ValueError(
                f"new must be [B, m] or [B, m, d] with at least one token, got {list(new.shape)}"
            )
        output = self.model(new)
        # Only now have all layers read the new tokens.
        self._text.position += new.shape[1]
        self._text.step += 1
        return output

    def clear(self) -> None:
        r"""Starts new sequences, of any batch size."""
        self._text.position = 0
        self._text.step += 1


class Text:
    r"""What all layers must agree on: how many tokens they have read.

    ## The shared position

    * `position` is $p$, the number of tokens read before this step
    * `step` is the number of this step, counted over all texts
    """

    def __init__(self) -> None:
        self.position = 0
        self.step = 1


# ## Copying the model
#
# A shallow copy of a module shares its parameters, buffers and hooks. Only its children are
# replaced, by copies or twins. So a layer at two places becomes two twins with a memory each.
def _copy(module: nn.Module, text: Text, name: str) -> nn.Module:
    if type(module) not in _TWINS:
        raise TypeError(
            f"{name} must be of a type known to incremental, got {type(module).__name__}; "
            f"register it, or read the whole sequence again for each token"
        )
    twin = _TWINS[type(module)]
    # If an earlier token read a later one, what we remember of it would be outdated.
    if twin is not None and getattr(module, "causal", True) is not True:
        raise ValueError(
            f"{name} must be causal to be read token by token, got {type(module).__name__}"
        )
    copied = copy.copy(module)
    if twin is not None:
        return twin(copied, text)
    copied._modules = {
        child_name: None if child is None else _copy(child, text, f"{name}.{child_name}")
        for child_name, child in module._modules.items()
    }
    return copied


class Twin(nn.Module, Generic[Layer]):
    r"""A layer with a memory: the base class of the twins below.

    ## Twins

    A twin stands in the copied model where the layer stands in the model, and is called in the same
    way. It gets the activations of the $m$ new tokens, $p$ to $p + m - 1$, and no mask.

    * `layer` is the layer
    * `text` holds $p$ as `text.position`
    """

    causal = True

    def __init__(self, layer: Layer, text: Text) -> None:
        super().__init__()
        self.layer: Layer = layer
        self.text = text
        self._memory: Tensor | None = None
        self._step = 0

    def all_tokens(self, new: Tensor, at_most: int | None = None) -> Tensor:
        r"""Remembers new activations and returns those of all tokens.

        * `new` are the activations of the new tokens, `[B, m, ...]`
        * `at_most` is the largest number of tokens, if the layer has one

        Returns a view of the memory, `[B, p + m, ...]`.

        Raises `ValueError` if there are more than `at_most` tokens, if `new` has another batch
        size, width, dtype or device than the tokens before, and if the layer missed a step or is
        called twice in one.
        """
        start, stop = self.text.position, self.text.position + new.shape[1]
        if at_most is not None and stop > at_most:
            raise ValueError(f"the text must have at most seq_len={at_most} tokens, got {stop}")
        memory = self._before(new)
        # Doubling the memory keeps the cost of copying linear in the length of the text, and a
        # short text takes no memory for `at_most` tokens.
        if memory is None or memory.shape[1] < stop:
            size = max(stop, 64 if memory is None else 2 * memory.shape[1])
            size = size if at_most is None else min(size, at_most)
            grown = new.new_empty(new.shape[0], size, *new.shape[2:])
            if memory is not None:
                grown[:, :start] = memory[:, :start]
            memory = self._memory = grown
        memory[:, start:stop] = new
        return memory[:, :stop]

    def last_tokens(self, new: Tensor, reach: int) -> Tensor:
        r"""Remembers the last activations and returns them with the new ones behind.

        * `new` are the activations of the new tokens, `[B, m, ...]`
        * `reach` is the number of tokens to remember

        Returns `[B, r + m, ...]`, where $r$ is the smaller of $p$ and `reach`.

        Raises `ValueError` as `all_tokens`.
        """
        memory = self._before(new)
        if memory is not None and self.text.position:
            new = torch.cat([memory, new], dim=1)
        # A copy: a view would keep the whole text in memory, and change with the caller's tensor.
        self._memory = new[:, max(0, new.shape[1] - reach) :].clone()
        return new

    # The memory as the step before left it, or `None` if this text cannot use it.
    def _before(self, new: Tensor) -> Tensor | None:
        step, old = self.text.step, self._memory
        if self._step == step or (self.text.position and self._step != step - 1):
            raise ValueError(
                f"each layer must read each token once, got a {type(self.layer).__name__} called "
                f"{'twice' if self._step == step else 'too late'} at token {self.text.position}"
            )
        self._step = step
        if old is None or _kind(old) == _kind(new):
            return old
        if self.text.position:
            raise ValueError(
                f"new tokens must have the batch size, width, dtype and device of the earlier "
                f"ones, got {_kind(new)} after {_kind(old)}"
            )
        return None


def _kind(new: Tensor) -> tuple[object, ...]:
    return (new.shape[0], *new.shape[2:], new.dtype, new.device)


class SpatialTwin(Twin[SpatialProjection]):
    r"""The spatial projection of new tokens.

    ## Spatial projection: rows of W

    $$f_{W,b}(Z)_i = \sum_{j=1}^{i} W_{ij} Z_j + b_i$$

    Only the rows of the new tokens are needed. For one token this is a single row: the whole
    sequence costs $n^2$, this $n$.
    """

    def forward(self, new: Tensor, mask: None = None) -> Tensor:
        layer = self.layer
        z = self.all_tokens(new, layer.seq_len)  # [B, p + m, c]
        start, stop = self.text.position, z.shape[1]
        # A single row reads no later token, so `tril` only matters for $m > 1$.
        rows = layer.weight[start:stop, :stop].tril(start)  # [m, p + m]
        return rows @ z + layer.bias[start:stop, None]


class MultiHeadSpatialTwin(Twin[MultiHeadSpatialProjection]):
    r"""The multi-head spatial projection of new tokens.

    ## Heads: rows of each W
    """

    def forward(self, new: Tensor, mask: None = None) -> Tensor:
        layer = self.layer
        z = self.all_tokens(new, layer.seq_len)  # [B, p + m, c]
        start, stop = self.text.position, z.shape[1]
        rows = layer.weight[:, start:stop, :stop].tril(start)  # [h, m, p + m]
        heads = layer.split(z)  # [B, h, p + m, c / h]
        return layer.join(rows @ heads + layer.bias[:, start:stop, None])


class ToeplitzTwin(Twin[ToeplitzProjection]):
    r"""The Toeplitz projection of new tokens, decayed or not.

    ## Toeplitz projection: w backwards

    $$f_{w,b}(Z)_i = \sum_{j=1}^{i} w_{i-j} Z_j + b_i$$

    Row $i$ of $W$ is $w_{i-1}, \dots, w_1, w_0$: the first $i$ weights, read backwards.
    """

    def forward(self, new: Tensor, mask: None = None) -> Tensor:
        z = self.all_tokens(new, self.layer.seq_len)  # [B, p + m, c]
        return self.layer.project(z, start=self.text.position)


class WindowedTwin(Twin[WindowedProjection]):
    r"""The windowed projection of new tokens.

    ## Windowed projection: this window and the one before

    A token reads its own window and the one before it. What lies further back is forgotten.
    """

    def forward(self, new: Tensor, mask: None = None) -> Tensor:
        layer, w = self.layer, self.layer.window
        z = self.last_tokens(new, 2 * w - 1)
        start, stop = self.text.position, self.text.position + new.shape[1]
        held = stop - z.shape[1]
        heads = z.unflatten(-1, (layer.n_heads, -1)).transpose(1, 2)  # [B, h, n, c / h]
        parts = []
        # The new tokens of one window after the other. Column 0 of $W$ stands for the first token
        # of the window before, which does not exist for the first window.
        for begin in range(start - start % w, stop, w):
            first, last = max(start, begin), min(stop, begin + w)
            oldest = max(begin - w, 0)
            skip = oldest - (begin - w)
            weight = layer.weight[..., first - begin : last - begin, skip : w + last - begin]
            weight = weight.tril(w + first - begin - skip)
            bias = layer.bias[..., first - begin : last - begin, None]
            parts.append(weight @ heads[:, :, oldest - held : last - held] + bias)
        return torch.cat(parts, dim=2).transpose(1, 2).flatten(-2)


class ConvolutionTwin(Twin[ConvolutionProjection]):
    r"""The causal convolution over new tokens.

    ## Convolution: the last k - 1 tokens
    """

    def forward(self, new: Tensor, mask: None = None) -> Tensor:
        layer, m = self.layer, new.shape[1]
        z = self.last_tokens(new, layer.left)  # [B, up to k - 1 + m, c]
        # Before the first token $Z$ is zero.
        z = nn.functional.pad(z.mT, (layer.left + m - z.shape[1], 0))  # [B, c, k - 1 + m]
        weight = layer.weight[:, None]
        return nn.functional.conv1d(z, weight, layer.bias, groups=layer.n_channels).mT


class TokenShiftTwin(Twin[TokenShift]):
    r"""The token shift of new tokens.

    ## Token shift: the tokens within reach
    """

    def forward(self, new: Tensor, key_padding_mask: None = None) -> Tensor:
        x = self.last_tokens(new, max(self.layer.shifts))
        return self.layer(x)[:, x.shape[1] - new.shape[1] :]


class TinyAttentionTwin(Twin[TinyAttention]):
    r"""The tiny attention of new tokens.

    ## Tiny attention: keys and values

    A new token asks with its query; keys and values of the earlier tokens are remembered.
    """

    def forward(self, new: Tensor, mask: None = None, key_padding_mask: None = None) -> Tensor:
        query, *key_value = self.layer.attention_in(new).chunk(3, dim=-1)  # [B, m, a] each
        read = self.all_tokens(torch.cat(key_value, dim=-1))  # [B, p + m, 2 a]
        key, value = read.chunk(2, dim=-1)
        may_read = _causal_rows(new, self.text.position)
        return self.layer.attention_out(self.layer.attend(query, key, value, may_read))


class SelfAttentionTwin(Twin[SelfAttention]):
    r"""The attention of a Transformer layer for new tokens.

    ## Attention: keys and values
    """

    def forward(self, new: Tensor, mask: None = None, key_padding_mask: None = None) -> Tensor:
        query, key, value = new.chunk(3, dim=-1)  # [B, m, d] each
        read = self.all_tokens(torch.cat([key, value], dim=-1))  # [B, p + m, 2 d]
        key, value = read.chunk(2, dim=-1)
        return self.layer.attend(query, key, value, _causal_rows(new, self.text.position))


def _causal_rows(new: Tensor, start: int) -> Tensor:
    """Returns the last $m$ rows of the causal mask, `[m, p + m]`."""
    m = new.shape[1]
    return torch.ones(m, start + m, dtype=torch.bool, device=new.device).tril(start)


class LearnedPositionsTwin(Twin[LearnedPositions]):
    r"""The learned positions of new tokens.

    ## Learned positions: the number of tokens
    """

    def forward(self, new: Tensor) -> Tensor:
        return self.layer(new, self.text.position)


# ## The types of layers
#
# `None` stands for a layer that treats each token alone, like the layers inside it.
_TWINS: dict[type[nn.Module], Callable[..., nn.Module] | None] = {
    SpatialProjection: SpatialTwin,
    MultiHeadSpatialProjection: MultiHeadSpatialTwin,
    ToeplitzProjection: ToeplitzTwin,
    DecayedToeplitzProjection: ToeplitzTwin,
    WindowedProjection: WindowedTwin,
    ConvolutionProjection: ConvolutionTwin,
    TokenShift: TokenShiftTwin,
    TinyAttention: TinyAttentionTwin,
    SelfAttention: SelfAttentionTwin,
    LearnedPositions: LearnedPositionsTwin,
    **dict.fromkeys((LanguageModel, Encoder, GMLPBlock, AMLPBlock, TransformerLayer)),
    **dict.fromkeys((SpatialGatingUnit, AMLPGatingUnit)),
    **dict.fromkeys((LinearGate, AdditiveGate, MultiplicativeGate, StochasticDepth)),
    **dict.fromkeys((nn.Sequential, nn.ModuleList, nn.Identity, nn.Dropout)),
    **dict.fromkeys((nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm)),
    **dict.fromkeys((nn.GELU, nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Tanh)),
}
