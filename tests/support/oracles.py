r"""The equations in numpy float64 with loops: the oracles of the tests.

They are written from the equations and the parameter names, never from our code. They are slow on
purpose: each index is an index of the equation.

Parameters are a dictionary from name to array, like a state dict. A mask is boolean, true where
position $i$ may read position $j$. Every function takes and returns `[B, n, channels]`.
"""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Parameters = dict[str, Array]


def part(p: Parameters, name: str) -> Parameters:
    """Returns the parameters of the child `name`, without this prefix."""
    return {key[len(name) + 1 :]: value for key, value in p.items() if key.startswith(name + ".")}


def allowed(mask: Array | None, causal: bool, b: int, i: int, j: int) -> bool:
    """Whether position i may read position j in sequence b, by the mask and by causality."""
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

    With heads, `weight` is `[h, n, n]` and `bias` `[h, n]`; the heads own equal groups of channels,
    in order.
    """
    n_batch, n, n_channels = z.shape
    # One head has no axis.
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
    r"""Eq. 1 with its norm and residual: $Y = X + s(\sigma(\mathrm{norm}(X) U)) V$."""
    z = GELU[approximate](linear(layer_norm(x, part(p, "norm"), eps), part(p, "proj_in")))
    z = spatial_gating_unit(z, part(p, "sgu"), causal=causal, mask=mask, eps=sgu_eps)
    return x + linear(z, part(p, "proj_out"))


def toeplitz_projection(
    z: Array, p: Parameters, *, n_heads: int = 1, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""$f(Z)_{ic} = \sum_j w_{i-j} Z_{jc} + b_i$, with $w$ and $b$ of the head of channel c.

    `weight` starts with the smallest offset i - j, which is 0 if causal.
    """
    n_batch, n, n_channels = z.shape
    # One row for each head.
    weight, bias = np.atleast_2d(p["weight"]), np.atleast_2d(p["bias"])
    smallest = 0 if causal else -(weight.shape[1] - 1) // 2
    out = np.zeros_like(z)
    for b in range(n_batch):
        for i in range(n):
            for c in range(n_channels):
                h = c // (n_channels // n_heads)
                for j in range(n):
                    if allowed(mask, causal, b, i, j):
                        out[b, i, c] += weight[h, i - j - smallest] * z[b, j, c]
                out[b, i, c] += bias[h, i]
    return out


def decayed_toeplitz_projection(
    z: Array, p: Parameters, *, n_heads: int = 1, mask: Array | None = None
) -> Array:
    r"""$f(Z)_{ic} = \sum_{j \le i} x_i w_{i-j} y_j Z_{jc} + b_i$; x is `row`, y is `column`."""
    n_batch, n, n_channels = z.shape
    weight, bias = np.atleast_2d(p["weight"]), np.atleast_2d(p["bias"])
    x, y = np.atleast_2d(p["row"]), np.atleast_2d(p["column"])
    out = np.zeros_like(z)
    for b in range(n_batch):
        for i in range(n):
            for c in range(n_channels):
                h = c // (n_channels // n_heads)
                for j in range(i + 1):
                    if allowed(mask, True, b, i, j):
                        out[b, i, c] += x[h, i] * weight[h, i - j] * y[h, j] * z[b, j, c]
                out[b, i, c] += bias[h, i]
    return out


def attention(
    x: Array,
    p_in: Parameters,
    p_out: Parameters,
    *,
    n_heads: int,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Softmax attention; `p_in` stacks query, key and value, and heads are slices in order."""
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
    """The layers in order, then a norm."""
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
    r"""$\mathrm{encoder}(E_t + P) E^\top$, with the first n rows of `positions` as $P$.

    With `head`, a matrix $A$ and a bias $c$: $\mathrm{encoder}(E_t + P) A^\top + c$.
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
    """Applies `function` to each sequence without its padding.

    * `kept` is `[B, n]`, true for a real token; the padding must be at the end

    Padded positions of the result are NaN, because the equations do not define them.
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


def mixer_block(x: Array, p: Parameters, *, eps: float = 1e-5, approximate: str = "none") -> Array:
    r"""MLP-Mixer, Eq. 1: one column of X at a time, then one row of U at a time."""
    gelu = GELU[approximate]
    normalised = layer_norm(x, part(p, "token_norm"), eps)
    u = np.empty_like(x)
    for b in range(x.shape[0]):
        for c in range(x.shape[2]):
            hidden = gelu(linear(normalised[b, :, c], part(p, "token_in")))
            u[b, :, c] = x[b, :, c] + linear(hidden, part(p, "token_out"))
    normalised = layer_norm(u, part(p, "norm"), eps)
    y = np.empty_like(u)
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            hidden = gelu(linear(normalised[b, i], part(p, "proj_in")))
            y[b, i] = u[b, i] + linear(hidden, part(p, "proj_out"))
    return y


def image_classifier(
    images: Array, p: Parameters, run_encoder: Callable[[Array], Array], patch: tuple[int, int]
) -> Array:
    """Images `[B, channels, height, width]` to logits; patches are ordered row by row."""
    n_batch, n_channels, height, width = images.shape
    rows, columns = height // patch[0], width // patch[1]
    d_model = p["patches.weight"].shape[0]
    x = np.zeros((n_batch, rows * columns, d_model))
    for b, row, column, c in np.ndindex(n_batch, rows, columns, d_model):
        total = p["patches.bias"][c]
        for channel, i, j in np.ndindex(n_channels, *patch):
            pixel = images[b, channel, row * patch[0] + i, column * patch[1] + j]
            total += p["patches.weight"][c, channel, i, j] * pixel
        x[b, row * columns + column, c] = total
    y = run_encoder(x)
    mean = np.array([sum(tokens) / len(tokens) for tokens in y])
    return linear(mean, part(p, "head"))


def tiny_attention(
    x: Array, p: Parameters, *, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""$O \sum_j A_{ij} v_j + o$, $A = \mathrm{softmax}_j(q_i \cdot k_j / \sqrt{a})$, or 0."""
    n_batch, n, _ = x.shape
    n_attn = p["attention_in.weight"].shape[0] // 3
    stacked = linear(x, part(p, "attention_in"))
    q, k, v = (stacked[:, :, s * n_attn : (s + 1) * n_attn] for s in range(3))
    read = np.zeros((n_batch, n, n_attn))
    for b in range(n_batch):
        for i in range(n):
            powers = {
                j: math.exp(sum(q[b, i, c] * k[b, j, c] for c in range(n_attn)) / n_attn**0.5)
                for j in range(n)
                if allowed(mask, causal, b, i, j)
            }
            for j, power in powers.items():
                for c in range(n_attn):
                    read[b, i, c] += power / sum(powers.values()) * v[b, j, c]
    return linear(read, part(p, "attention_out"))


def amlp_block(
    x: Array, p: Parameters, *, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""Eq. 1 with the gate $Z_1 \odot (f(Z_2) + \mathrm{tiny}(\mathrm{norm}(X)))$."""
    normalised = layer_norm(x, part(p, "norm"))
    z = gelu_exact(linear(normalised, part(p, "proj_in")))
    half = z.shape[-1] // 2
    z2 = layer_norm(z[:, :, half:], part(p, "sgu.norm"))
    gate = spatial_projection(z2, part(p, "sgu.projection"), causal=causal, mask=mask)
    gate = gate + tiny_attention(normalised, part(p, "attention"), causal=causal, mask=mask)
    return x + linear(z[:, :, :half] * gate, part(p, "proj_out"))


def gate_of_the_ablation(
    z: Array, p: Parameters, *, kind: str, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""$f(Z)$ with $W = I + W'$, $Z + f(Z)$ or $Z \odot f(Z)$ (Eq. 3); $f$ reads normalised $Z$."""
    normalised, projection = layer_norm(z, part(p, "norm")), part(p, "projection")
    if kind == "linear":
        projection["weight"] = projection["weight"] + np.eye(len(projection["weight"]))
    f = spatial_projection(normalised, projection, causal=causal, mask=mask)
    out = np.empty_like(z)
    for index in np.ndindex(*z.shape):
        out[index] = {
            "linear": f[index],
            "additive": z[index] + f[index],
            "multiplicative": z[index] * f[index],
        }[kind]
    return out


def stochastic_depth(y: Array, kept: Array, survival: float) -> Array:
    r"""$m_b / p \, Y_b$ for the draw $m$, which is `kept`, `[B]`."""
    out = np.zeros_like(y)
    for b, i, c in np.ndindex(*y.shape):
        if kept[b]:
            out[b, i, c] = y[b, i, c] / survival
    return out


def token_shift(x: Array, shifts: tuple[int, ...], mask: None = None) -> Array:
    r"""$X_{i - s_k, c}$ for channel $c$ of group $k$, zero outside; left-over channels stay."""
    n_batch, n, n_channels = x.shape
    out = np.zeros_like(x)
    for b in range(n_batch):
        for i in range(n):
            for c in range(n_channels):
                k = c // (n_channels // len(shifts))
                j = i - (shifts[k] if k < len(shifts) else 0)
                if 0 <= j < n:
                    out[b, i, c] = x[b, j, c]
    return out


def convolution_projection(
    z: Array, p: Parameters, *, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""$f(Z)_{ic} = \sum_t K_{ct} Z_{i-l+t,c} + b_c$, $Z = 0$ outside the sequence."""
    n_batch, n, n_channels = z.shape
    k = p["weight"].shape[1]
    left = k - 1 if causal else (k - 1) // 2
    out = np.zeros_like(z)
    for b in range(n_batch):
        for i in range(n):
            for c in range(n_channels):
                for t in range(k):
                    j = i - left + t
                    if 0 <= j < n and allowed(mask, causal, b, i, j):
                        out[b, i, c] += p["weight"][c, t] * z[b, j, c]
                out[b, i, c] += p["bias"][c]
    return out


def windowed_projection(
    z: Array, p: Parameters, *, causal: bool = False, mask: Array | None = None
) -> Array:
    r"""$f(Z)_{uw+r,c} = \sum_q W_{rq} Z_{(u-1)w+q,c} + b_r$; heads are slices of the channels."""
    n_batch, n, n_channels = z.shape
    weights = p["weight"] if p["weight"].ndim == 3 else p["weight"][None]
    biases = p["bias"] if p["bias"].ndim == 2 else p["bias"][None]
    n_heads, w, reach = weights.shape
    out = np.zeros_like(z)
    for b in range(n_batch):
        for i in range(n):
            u, r = divmod(i, w)
            for c in range(n_channels):
                h = c // (n_channels // n_heads)
                for q in range(reach):
                    j = (u - 1) * w + q
                    if 0 <= j < n and allowed(mask, causal, b, i, j):
                        out[b, i, c] += weights[h, r, q] * z[b, j, c]
                out[b, i, c] += biases[h, r]
    return out


def convolutional_gating_unit(
    z: Array, p: Parameters, *, causal: bool = False, mask: Array | None = None, eps: float = 1e-5
) -> Array:
    r"""Eq. 4 with a convolution: $s(Z) = Z_1 \odot f(Z_2)$, $Z_2$ normalised over its channels."""
    half = z.shape[-1] // 2
    z2 = layer_norm(z[:, :, half:], part(p, "norm"), eps)
    gate = convolution_projection(z2, part(p, "projection"), causal=causal, mask=mask)
    return z[:, :, :half] * gate


def espnet_gating_unit(z: Array, p: Parameters) -> Array:
    """ESPnet's `ConvolutionalSpatialGatingUnit` with its own parameter names, without dropout.

    Halves, the norm of the second with eps 1e-12, `conv` with (k - 1) // 2 zeros on each side and a
    weight `[c, 1, k]`, `linear` over the channels if there is one, and the product.
    """
    first, second = np.split(z, 2, axis=-1)
    second = layer_norm(second, part(p, "norm"), eps=1e-12)
    kernel = p["conv.weight"]
    k = kernel.shape[2]
    padded = np.pad(second, ((0, 0), ((k - 1) // 2, (k - 1) // 2), (0, 0)))
    gate = np.zeros_like(second)
    for b in range(gate.shape[0]):
        for i in range(gate.shape[1]):
            for c in range(gate.shape[2]):
                gate[b, i, c] = np.dot(kernel[c, 0], padded[b, i : i + k, c]) + p["conv.bias"][c]
    if "linear.weight" in p:
        gate = linear(gate, part(p, "linear"))
    return first * gate


def next_token(
    logits: Array,
    text: list[int],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
) -> Array:
    """The probability of each token after penalty, temperature, top-k and top-p, in this order."""
    n = len(logits)
    a = [float(logit) for logit in logits]
    for v in range(n):
        if v in text:
            a[v] = a[v] / repetition_penalty if a[v] > 0 else a[v] * repetition_penalty
    if temperature == 0:
        return np.array([float(v == a.index(max(a))) for v in range(n)])
    left = set(range(n))
    if top_k is not None:
        least = sorted(a, reverse=True)[min(top_k, n) - 1]
        left = {v for v in left if a[v] >= least}

    def chances() -> Array:
        weight = [np.exp((a[v] - max(a)) / temperature) if v in left else 0.0 for v in range(n)]
        return np.array(weight) / sum(weight)

    if top_p is not None:
        p, kept, total = chances(), set(), 0.0
        for v in sorted(left, key=lambda v: (-p[v], v)):
            if total < top_p:
                kept.add(v)
                total += p[v]
        left = kept
    return chances()
