r"""
# The equations once more, with loops

Numpy in float64, written from the equations and the parameter names alone and never from our code.
Slow on purpose: an index here is the index of the formula.

Parameters come as a dictionary from name to array, as in a state dict. A mask is boolean, true
where position $i$ may read position $j$. Every function takes and returns `[B, n, channels]`.
"""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Parameters = dict[str, Array]


def part(p: Parameters, name: str) -> Parameters:
    """The parameters of the child `name`, without its name in front."""
    return {key[len(name) + 1 :]: value for key, value in p.items() if key.startswith(name + ".")}


def allowed(mask: Array | None, causal: bool, b: int, i: int, j: int) -> bool:
    """Whether in sequence b the position i may read j: both the mask and the order must agree."""
    if causal and j > i:
        return False
    if mask is None:
        return True
    return bool(mask[i, j] if mask.ndim == 2 else mask[b, i, j])


def layer_norm(x: Array, p: Parameters, eps: float = 1e-5) -> Array:
    out = np.empty_like(x)
    for index in np.ndindex(*x.shape[:-1]):
        row = x[index]
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        for c, value in enumerate(row):
            normalised = (value - mean) / math.sqrt(variance + eps)
            out[index][c] = p["weight"][c] * normalised + p["bias"][c]
    return out


def linear(x: Array, p: Parameters) -> Array:
    r"""$y = x A^\top + c$; without `bias` in the parameters, $c = 0$."""
    n_out, n_in = p["weight"].shape
    out = np.zeros((*x.shape[:-1], n_out))
    for index in np.ndindex(*x.shape[:-1]):
        for o in range(n_out):
            total = sum(x[index][k] * p["weight"][o, k] for k in range(n_in))
            out[index][o] = total + (p["bias"][o] if "bias" in p else 0.0)
    return out


def gelu_exact(x: Array) -> Array:
    out = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        out[index] = 0.5 * x[index] * (1 + math.erf(x[index] / math.sqrt(2)))
    return out


def gelu_tanh(x: Array) -> Array:
    out = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        inner = math.sqrt(2 / math.pi) * (x[index] + 0.044715 * x[index] ** 3)
        out[index] = 0.5 * x[index] * (1 + math.tanh(inner))
    return out


GELU = {"none": gelu_exact, "tanh": gelu_tanh}


def spatial_projection(
    z: Array, p: Parameters, *, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""Eq. 2: $f(Z)_{ic} = \sum_j W_{ij} Z_{jc} + b_i$.

    With heads, `weight` is `[h, n, n]` and `bias` `[h, n]`: each head has an equal group of
    channels, in order.
    """
    n_batch, n, n_channels = z.shape
    # One head is written without an axis for it.
    weight = p["weight"] if p["weight"].ndim == 3 else p["weight"][None]
    bias = p["bias"] if p["bias"].ndim == 2 else p["bias"][None]
    per_head = n_channels // len(weight)
    out = np.zeros_like(z)
    for b in range(n_batch):
        for i in range(n):
            for c in range(n_channels):
                h = c // per_head
                for j in range(n):
                    if allowed(mask, causal, b, i, j):
                        out[b, i, c] += weight[h, i, j] * z[b, j, c]
                out[b, i, c] += bias[h, i]
    return out


def spatial_gating_unit(
    z: Array,
    p: Parameters,
    *,
    causal: bool = False,
    mask: Array | None = None,
    attended: Array | None = None,
    activation: Callable[[Array], Array] | None = None,
    eps: float = 1e-5,
) -> Array:
    r"""Eq. 4: $s(Z) = Z_1 \odot f(Z_2)$, $Z_2$ normalised over its channels.

    `attended`, `[B, n, c]`, is added to $f(Z_2)$, and the activation is applied to the sum.
    """
    half = z.shape[-1] // 2
    z1, z2 = z[:, :, :half], z[:, :, half:]
    z2 = layer_norm(z2, part(p, "norm"), eps)
    gate = spatial_projection(z2, part(p, "projection"), causal=causal, mask=mask)
    if attended is not None:
        gate = gate + attended
    if activation is not None:
        gate = activation(gate)
    return z1 * gate


def gmlp_block(
    x: Array,
    p: Parameters,
    *,
    causal: bool = False,
    mask: Array | None = None,
    eps: float = 1e-5,
    sgu_eps: float = 1e-5,
    approximate: str = "none",
) -> Array:
    r"""Eq. 1 with its norm and shortcut: $Y = X + s(\sigma(\mathrm{norm}(X) U)) V$."""
    z = GELU[approximate](linear(layer_norm(x, part(p, "norm"), eps), part(p, "proj_in")))
    z = spatial_gating_unit(z, part(p, "sgu"), causal=causal, mask=mask, eps=sgu_eps)
    return x + linear(z, part(p, "proj_out"))


def attention(
    x: Array,
    p_in: Parameters,
    p_out: Parameters,
    *,
    n_heads: int,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Softmax attention; query, key and value are stacked in `p_in`, heads are slices in order."""
    n_batch, n, d_model = x.shape
    d_head = d_model // n_heads
    stacked = linear(x, p_in)
    query, key, value = (stacked[:, :, k * d_model : (k + 1) * d_model] for k in range(3))
    read = np.zeros_like(x)
    for b in range(n_batch):
        for h in range(n_heads):
            channels = range(h * d_head, (h + 1) * d_head)
            for i in range(n):
                seen = [j for j in range(n) if allowed(mask, causal, b, i, j)]
                scores = [
                    sum(query[b, i, c] * key[b, j, c] for c in channels) / math.sqrt(d_head)
                    for j in seen
                ]
                weights = [math.exp(score - max(scores)) for score in scores]
                for j, weight in zip(seen, weights, strict=True):
                    for c in channels:
                        read[b, i, c] += weight / sum(weights) * value[b, j, c]
    return linear(read, p_out)


def transformer_layer(
    x: Array,
    p: Parameters,
    *,
    n_heads: int,
    causal: bool = False,
    mask: Array | None = None,
    eps: float = 1e-5,
    approximate: str = "none",
) -> Array:
    r"""$H = X + \mathrm{Attention}(\mathrm{norm}(X)) O$, $Y = H + \sigma(\mathrm{norm}(H) U) V$."""
    h = x + attention(
        layer_norm(x, part(p, "attention_norm"), eps),
        part(p, "attention_in"),
        part(p, "attention_out"),
        n_heads=n_heads,
        causal=causal,
        mask=mask,
    )
    z = linear(layer_norm(h, part(p, "norm"), eps), part(p, "proj_in"))
    return h + linear(GELU[approximate](z), part(p, "proj_out"))


def encoder(
    x: Array, layers: list[Callable[[Array], Array]], norm: Parameters, eps: float = 1e-5
) -> Array:
    """The layers in their order, then a last norm."""
    for layer in layers:
        x = layer(x)
    return layer_norm(x, norm, eps)


def language_model(
    tokens: Array,
    embedding: Array,
    run_encoder: Callable[[Array], Array],
    positions: Array | None = None,
    head: Parameters | None = None,
) -> Array:
    r"""$\mathrm{encoder}(E_t + P) E^\top$; of $P$, `positions`, the first n rows are used.

    `head` has a matrix $A$ and a bias of its own, $\mathrm{encoder}(E_t + P) A^\top + c$.
    """
    n_batch, n = tokens.shape
    x = np.zeros((n_batch, n, embedding.shape[1]))
    for b in range(n_batch):
        for i in range(n):
            x[b, i] = embedding[tokens[b, i]]
            if positions is not None:
                x[b, i] += positions[i]
    return linear(run_encoder(x), {"weight": embedding} if head is None else head)


def cut(
    function: Callable[..., Array], x: Array, kept: Array, mask: Array | None = None, **options
) -> Array:
    """Each sequence alone, its padding cut off.

    * `kept` is `[B, n]`, true for a real token; the padding must be at the end

    Positions that were cut hold NaN: the equations say nothing about them.
    """
    out = None
    for b in range(x.shape[0]):
        n = int(kept[b].sum())
        if not kept[b, :n].all():
            raise ValueError(f"sequence {b} has padding before a real token, this oracle cannot")
        own = None
        if mask is not None:
            own = (mask if mask.ndim == 2 else mask[b])[:n, :n]
        y = function(x[b : b + 1, :n], mask=own, **options)
        if out is None:
            out = np.full((*x.shape[:2], y.shape[-1]), np.nan)
        out[b, :n] = y[0]
    return out
