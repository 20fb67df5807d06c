r"""Weights of the repository danielelbrecht/mlp_mixer.

# danielelbrecht/mlp_mixer

A small MLP-Mixer in torch, at commit b7361ba, without a licence. The table follows its source code,
which was not run. Unlike the Mixer paper, it normalises over the *patches* instead of the channels
and mixes the channels *first*. Both follow from its layout of `[B, channels, patches]`: it is a
Mixer of the transposed image, in which the *channels are the tokens*. Our
[block](../../blocks/mixer.py) computes the same with these arguments:

| there | here |
| --- | --- |
| `embedding_dim` | `seq_len`, the number of rows |
| number of patches | `d_model`, the width of a row |
| `mlp1`, across `embedding_dim` | $W_1$ and $W_2$, `token_in` and `token_out` |
| `mlp2`, across patches | $W_3$ and $W_4$, `proj_in` and `proj_out` |

Our models do not have the layers around its blocks, so those are built from layers of torch:
patches that are not transposed, no last norm, and a head of three layers on the flattened output.

GELU is exact, and norms have torch's epsilon of 1e-5. The repository contains no weights.
"""

from collections import OrderedDict

import torch
from torch import nn

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import CustomSystem, State, System, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $P$ is the number of patches, $E$ the number of channels, $m$ the hidden width of both MLPs.
BLOCK = (
    Row("token_norm.weight", "ln1.weight", "P"),
    Row("token_norm.bias", "ln1.bias", "P"),
    Row("token_in.weight", "mlp1.fc1.weight", "m E"),
    Row("token_in.bias", "mlp1.fc1.bias", "m"),
    Row("token_out.weight", "mlp1.fc2.weight", "E m"),
    Row("token_out.bias", "mlp1.fc2.bias", "E"),
    Row("norm.weight", "ln2.weight", "P"),
    Row("norm.bias", "ln2.bias", "P"),
    Row("proj_in.weight", "mlp2.fc1.weight", "m P"),
    Row("proj_in.bias", "mlp2.fc1.bias", "m"),
    Row("proj_out.weight", "mlp2.fc2.weight", "P m"),
    Row("proj_out.bias", "mlp2.fc2.bias", "P"),
)
# $c$ is the number of channels of the images, $p$ the side of a patch, $f$ the width of the head
# and $C$ the number of classes.
ROWS = (
    Row("patches.weight", "patch_embedding.weight", "E c p p"),
    Row("patches.bias", "patch_embedding.bias", "E"),
    *prefixed(BLOCK, "encoder.layers.{i}.", "mixer_layers.{i}."),
    Row("head.0.weight", "clf.0.weight", "f (E P)", reshape="f (E P)"),
    Row("head.0.bias", "clf.0.bias", "f"),
    Row("head.2.weight", "clf.2.weight", "f f"),
    Row("head.2.bias", "clf.2.bias", "f"),
    Row("head.4.weight", "clf.4.weight", "C f"),
    Row("head.4.bias", "clf.4.bias", "C"),
)
FACTS = {"layer": "mixer", "activation": "gelu", "norm_eps": 1e-5, "last_norm": False}


def _config(state: State) -> Config:
    return {
        "n_layers": count_layers(state, "mixer_layers.{i}.mlp1.fc1.weight"),
        "d_model": size_of(state, "mixer_layers.{i}.ln1.weight", 0),
        "seq_len": size_of(state, "patch_embedding.weight", 0),
        "d_tokens": size_of(state, "mixer_layers.{i}.mlp1.fc1.weight", 0),
        "d_ffn": size_of(state, "mixer_layers.{i}.mlp2.fc1.weight", 0),
        "n_channels": size_of(state, "patch_embedding.weight", 1),
        "patch_size": size_of(state, "patch_embedding.weight", 2),
        "d_head": size_of(state, "clf.0.weight", 0),
        "n_classes": size_of(state, "clf.4.weight", 0),
    }


def build(
    config: Config,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    r"""Returns the model, from images `[B, c, height, width]` to logits `[B, C]`.

    It accepts images of any height and width that make $P$ patches, but the head was trained for
    one of them.
    """
    c: Config = config
    options: Config = {"device": device, "dtype": dtype}
    sizes = c["d_model"], c["seq_len"], c["d_tokens"], c["d_ffn"]
    encoder = Encoder(
        lambda: MixerBlock(*sizes, norm_eps=c["norm_eps"], **options), c["n_layers"], **options
    )
    encoder.norm = nn.Identity()  # type: ignore[assignment]
    p, f = c["patch_size"], c["d_head"]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        patches=nn.Conv2d(c["n_channels"], c["seq_len"], p, p, **options),
        # Not transposed: a row is a channel.
        rows=nn.Flatten(2),  # [B, E, P]
        encoder=encoder,
        flat=nn.Flatten(1),  # [B, E P]
        head=nn.Sequential(
            nn.Linear(c["seq_len"] * c["d_model"], f, **options),
            nn.GELU(),
            nn.Linear(f, f, **options),
            nn.GELU(),
            nn.Linear(f, c["n_classes"], **options),
        ),
    )
    return nn.Sequential(layers)


MIXER = CustomSystem(
    "danielelbrecht/mlp_mixer",
    matches=lambda state: (
        "patch_embedding.weight" in state
        and count_layers(state, "mixer_layers.{i}.mlp1.fc1.weight") > 0
    ),
    config=_config,
    table=lambda c: Table("danielelbrecht/mlp_mixer", ROWS, c["n_layers"]),
    facts=FACTS,
    options={},
    notes="the channels are its tokens: a row is one channel of all patches",
    build=build,
)

SYSTEMS: tuple[System, ...] = (MIXER,)
