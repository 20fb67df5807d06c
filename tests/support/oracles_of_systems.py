r"""Forward passes of other systems in numpy and float64, written without our code.

They use the names and layouts of each system's own files. A conversion is correct if our model with
the converted weights computes the same as the function here with the original weights.

Each function gives its source. *Read* means written from the public source code, *run* means that
the package was run and gave the same numbers.
"""

import math

import numpy as np

Array = np.ndarray
Parameters = dict[str, Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def child(p: Parameters, name: str, separator: str = ".") -> Parameters:
    """The parameters below `name`, without it."""
    start = name + separator
    return {key[len(start) :]: value for key, value in p.items() if key.startswith(start)}


def exact_gelu(x: Array) -> Array:
    return x * (1 + _erf(x / math.sqrt(2))) / 2


def tanh_gelu(x: Array) -> Array:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def norm(x: Array, scale: Array, shift: Array, eps: float) -> Array:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return scale * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) + shift


def torch_norm(x: Array, p: Parameters, name: str, eps: float) -> Array:
    return norm(x, p[f"{name}.weight"], p[f"{name}.bias"], eps)


def torch_linear(x: Array, p: Parameters, name: str) -> Array:
    return np.einsum("...k,ok->...o", x, p[f"{name}.weight"]) + p[f"{name}.bias"]


def paddle_linear(x: Array, p: Parameters, name: str) -> Array:
    """Paddle stores `[in, out]`."""
    return np.einsum("...k,ko->...o", x, p[f"{name}.weight"]) + p[f"{name}.bias"]


def flax_norm(x: Array, p: Parameters, name: str) -> Array:
    """The default epsilon of Flax is 1e-6."""
    return norm(x, p[f"{name}/scale"], p[f"{name}/bias"], 1e-6)


def flax_dense(x: Array, p: Parameters, name: str) -> Array:
    return np.einsum("...k,ko->...o", x, p[f"{name}/kernel"]) + p[f"{name}/bias"]


def haiku_norm(x: Array, p: Parameters, name: str) -> Array:
    return norm(x, p[f"{name}/scale"], p[f"{name}/offset"], 1e-5)


def haiku_linear(x: Array, p: Parameters, name: str) -> Array:
    return np.einsum("...k,ko->...o", x, p[f"{name}/w"]) + p[f"{name}/b"]


def patches(images: Array, kernel: Array, bias: Array) -> Array:
    """`[B, c, height, width]` and `[d, c, p, q]` to `[B, d, rows, columns]`."""
    n_batch, n_channels, height, width = images.shape
    p, q = kernel.shape[2:]
    cut = images.reshape(n_batch, n_channels, height // p, p, width // q, q)
    return np.einsum("bcrpsq,dcpq->bdrs", cut, kernel) + bias[:, None, None]


def as_tokens(image: Array) -> Array:
    """`[B, d, rows, columns]` to `[B, rows * columns, d]`, row by row."""
    return image.reshape(*image.shape[:2], -1).transpose(0, 2, 1)


def layers(p: Parameters, name: str) -> range:
    """The indices i for which a parameter's name begins with `name` and i."""
    found = {key[len(name) :].replace("/", ".").split(".")[0] for key in p if key.startswith(name)}
    return range(len({index for index in found if index.isdigit()}))


def causal_attention(qkv: Array) -> Array:
    """One head over `[n, 3a]`: queries, keys and values, concatenated."""
    q, k, v = np.split(qkv, 3, axis=-1)
    read = np.empty_like(v)
    for i in range(len(q)):
        powers = np.exp(k[: i + 1] @ q[i] / math.sqrt(q.shape[1]))
        read[i] = powers @ v[: i + 1] / powers.sum()
    return read


def paddlevit(images: Array, p: Parameters) -> Array:
    """PaddleViT's gMLP at 5ac7d89 (read). All norms have 1e-6, also the one in the gate."""
    x = as_tokens(
        patches(images, p["patch_embed.patch_embed.weight"], p["patch_embed.patch_embed.bias"])
    )
    for i in layers(p, "mixer_layers."):
        own = child(p, f"mixer_layers.{i}")
        z = exact_gelu(paddle_linear(torch_norm(x, own, "norm", 1e-6), own, "mlp_channels.fc1"))
        u, v = np.split(z, 2, axis=-1)
        v = torch_norm(v, own, "mlp_channels.gate.norm", 1e-6)
        # Paddle's linear layer on the last axis of the transposed tensor.
        v = paddle_linear(v.transpose(0, 2, 1), own, "mlp_channels.gate.proj").transpose(0, 2, 1)
        x = x + paddle_linear(u * v, own, "mlp_channels.fc2")
    return paddle_linear(torch_norm(x, p, "norm", 1e-6).mean(1), p, "head")


def jaketae(x: Array, p: Parameters) -> Array:
    """jaketae/g-mlp (read). Tokens, images or vectors, depending on the layers around the blocks.

    None of the three models has a last norm, and the language model has no head.
    """
    if "embed.weight" in p:
        x = p["embed.weight"][x]
    if "patcher.weight" in p:
        x = as_tokens(patches(x, p["patcher.weight"], p["patcher.bias"]))
    for i in layers(p, "model."):
        own = child(p, f"model.{i}")
        z = exact_gelu(torch_linear(torch_norm(x, own, "norm", 1e-5), own, "channel_proj1"))
        u, v = np.split(z, 2, axis=-1)
        v = torch_norm(v, own, "sgu.norm", 1e-5)
        # A convolution of length one whose channels are the tokens, `[out, in, 1]`.
        kernel, bias = own["sgu.spatial_proj.weight"], own["sgu.spatial_proj.bias"]
        v = np.einsum("oi,bic->boc", kernel[:, :, 0], v) + bias[:, None]
        x = x + torch_linear(u * v, own, "channel_proj2")
    return torch_linear(x.mean(1), p, "classifier") if "classifier.weight" in p else x


def saurav(x: Array, p: Parameters) -> Array:
    """SauravMaheshkar/gMLP 0.0.1 (read; the names are from a run).

    Its attention takes one sequence at a time. Nothing else mixes tokens.
    """
    if "params/to_embed/embedding" in p:
        x = p["params/to_embed/embedding"][x]
    out = []
    for sequence in x:
        h = sequence
        for i in layers(p, "params/layers_"):
            own = child(p, f"params/layers_{i}/layers_0", "/")
            normalised = flax_norm(h, own, "norm")
            own = child(own, "layers_0", "/")
            z = tanh_gelu(flax_dense(normalised, own, "proj_in"))
            u, gate = np.split(z, 2, axis=-1)
            gate = flax_norm(gate, own, "sgu/norm")
            if "attn/to_qkv/kernel" in own:
                read = causal_attention(flax_dense(normalised, own, "attn/to_qkv"))
                gate = gate + flax_dense(read, own, "attn/to_out")
            h = h + flax_dense(flax_dense(u * gate, own, "sgu/proj_out"), own, "proj_out")
        out.append(h)
    y = np.array(out)
    if "params/to_logits/layers_0/scale" not in p:
        return y
    y = flax_norm(y, p, "params/to_logits/layers_0")
    return flax_dense(y, p, "params/to_logits/layers_1")


def mlp_gpt_jax(tokens: Array, p: Parameters) -> Array:
    """mlp-gpt-jax 0.0.20 on Haiku 0.0.17 (run)."""
    p = child(p, "mlp_gpt/~", "/")
    out = []
    for x in p["embed/embeddings"][tokens]:
        h = x
        for i in layers(p, "gmlp"):
            own = child(p, f"gmlp{i}/~", "/")
            normalised = haiku_norm(h, own, "layer_norm")
            u, gate = np.split(tanh_gelu(haiku_linear(normalised, own, "linear")), 2, axis=-1)
            gate = haiku_norm(gate, own, "sgu/~/layer_norm")
            gate = np.tril(own["sgu/spatial_weights"]) @ gate + own["sgu/spatial_biases"]
            if "attention/~/linear/w" in own:
                read = causal_attention(haiku_linear(normalised, own, "attention/~/linear"))
                gate = gate + haiku_linear(read, own, "attention/~/linear_1")
            inner = haiku_linear(u * gate, own, "sgu/~/linear")
            h = h + haiku_linear(inner, own, "linear_1")
        out.append(haiku_linear(haiku_norm(h, p, "layer_norm"), p, "linear"))
    return np.array(out)


def google_mixer(images: Array, p: Parameters) -> Array:
    """The Mixer of google-research/vision_transformer (read), with our channels-first images."""
    x = as_tokens(patches(images, p["stem/kernel"].transpose(3, 2, 0, 1), p["stem/bias"]))
    for i in layers(p, "MixerBlock_"):
        own = child(p, f"MixerBlock_{i}", "/")
        y = flax_norm(x, own, "LayerNorm_0").transpose(0, 2, 1)
        y = flax_dense(
            tanh_gelu(flax_dense(y, own, "token_mixing/Dense_0")), own, "token_mixing/Dense_1"
        )
        x = x + y.transpose(0, 2, 1)
        y = flax_norm(x, own, "LayerNorm_1")
        y = tanh_gelu(flax_dense(y, own, "channel_mixing/Dense_0"))
        x = x + flax_dense(y, own, "channel_mixing/Dense_1")
    return flax_dense(flax_norm(x, p, "pre_head_layer_norm").mean(1), p, "head")


def mlp_mixer(images: Array, p: Parameters) -> Array:
    """danielelbrecht/mlp_mixer at b7361ba (read). The last axis is the patches."""
    x = patches(images, p["patch_embedding.weight"], p["patch_embedding.bias"])
    x = x.reshape(*x.shape[:2], -1)  # [B, E, P]
    for i in layers(p, "mixer_layers."):
        own = child(p, f"mixer_layers.{i}")
        y = torch_norm(x, own, "ln1", 1e-5).transpose(0, 2, 1)
        y = torch_linear(exact_gelu(torch_linear(y, own, "mlp1.fc1")), own, "mlp1.fc2")
        x = x + y.transpose(0, 2, 1)
        y = exact_gelu(torch_linear(torch_norm(x, own, "ln2", 1e-5), own, "mlp2.fc1"))
        x = x + torch_linear(y, own, "mlp2.fc2")
    y = x.reshape(len(x), -1)
    y = exact_gelu(torch_linear(y, p, "clf.0"))
    return torch_linear(exact_gelu(torch_linear(y, p, "clf.2")), p, "clf.4")


def espnet(x: Array, p: Parameters) -> Array:
    """ESPnet's `ConvolutionalGatingMLP` (read), without dropout, with the identity on the gate."""
    u, v = np.split(exact_gelu(torch_linear(x, p, "channel_proj1.0")), 2, axis=-1)
    v = torch_norm(v, p, "csgu.norm", 1e-12)
    kernel, bias = p["csgu.conv.weight"], p["csgu.conv.bias"]
    n_taps = kernel.shape[-1]
    before = (n_taps - 1) // 2
    gate = np.zeros_like(v)
    for i in range(v.shape[1]):
        for t in range(n_taps):
            if 0 <= i - before + t < v.shape[1]:
                gate[:, i] += kernel[:, 0, t] * v[:, i - before + t]
    gate += bias
    if "csgu.linear.weight" in p:
        gate = torch_linear(gate, p, "csgu.linear")
    return torch_linear(u * gate, p, "channel_proj2")
