r"""Weights of the package labml-nn.

# labml-nn

The package behind nn.labml.ai, version 0.5.1, MIT licence. Weights of its gMLP block, of its
encoder and of the language model of its experiment are read.

Norms and GELU are those of torch, as here, and its block computes the same as ours to the last
digit. Three things around the block differ:

* its tensors are sequence first; ours are batch first
* its block takes a mask of `[n, n, 1]` where ours has `causal`; its language model makes the causal
  mask itself. The upper triangle of $W$ is copied but never read, there or here
* its embedding is multiplied by $\sqrt{d}$, and sinusoids are added. Both are constants and become
  part of our embedding and our learned positions. The sinusoids are in its files and are written
  back unchanged. Undoing the factor is exact if $d$ is a power of four; for another $d$ the last
  digit of an embedding may change
"""

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $n$ is the number of tokens, $d$ the width of the model and $h$ half the width of $Z$.
BLOCK = (
    Row("norm.weight", "norm.weight", "d"),
    Row("norm.bias", "norm.bias", "d"),
    Row("proj_in.weight", "proj1.weight", "2h d"),
    Row("proj_in.bias", "proj1.bias", "2h"),
    Row("sgu.projection.weight", "sgu.weight", "n n"),
    Row("sgu.projection.bias", "sgu.bias", "n"),
    Row("sgu.norm.weight", "sgu.norm.weight", "h"),
    Row("sgu.norm.bias", "sgu.norm.bias", "h"),
    Row("proj_out.weight", "proj2.weight", "d h"),
    Row("proj_out.bias", "proj2.bias", "d"),
)
ENCODER = (
    *prefixed(BLOCK, "layers.{i}.", "layers.{i}."),
    Row("norm.weight", "norm.weight", "d"),
    Row("norm.bias", "norm.bias", "d"),
)


# $V$ is the size of the vocabulary, $m$ the number of positions.
def language(d_model: int) -> tuple[Row, ...]:
    """Returns the rows of the language model."""
    return (
        # The axis of length one is the batch.
        Row("positions.weight", "src_embed.positional_encodings", "m d", reshape="m 1 d"),
        Row("embedding.weight", "src_embed.linear.weight", "V d", scale=d_model**0.5),
        *prefixed(ENCODER, "encoder.", "encoder."),
        Row("head.weight", "generator.projection.weight", "V d"),
        Row("head.bias", "generator.projection.bias", "V"),
    )


FACTS = {
    "layer": "gmlp",
    "projection": "dense",
    "n_heads": 1,
    "d_attn": None,
    "shifts": None,
    "activation": "gelu",
    "gate_activation": None,
    "norm_eps": 1e-5,
    "sgu_norm_eps": 1e-5,
    "last_norm": True,
    "last_norm_eps": 1e-5,
}
CAUSAL = {"causal": "whether the model was used with a causal mask; False by default"}


def _sizes(state: State, prefix: str) -> Config:
    return {
        "n_layers": count_layers(state, prefix) if "{i}" in prefix else 1,
        "d_model": size_of(state, f"{prefix}proj1.weight", 1),
        "d_ffn": size_of(state, f"{prefix}proj1.weight", 0),
        "seq_len": size_of(state, f"{prefix}sgu.bias", 0),
    }


def _language_config(state: State) -> Config:
    return {
        **_sizes(state, "encoder.layers.{i}."),
        "n_tokens": size_of(state, "src_embed.linear.weight", 0),
        "n_positions": size_of(state, "src_embed.positional_encodings", 0),
    }


LANGUAGE = System(
    "labml-nn language model",
    matches=lambda state: count_layers(state, "encoder.layers.{i}.proj1.") > 0,
    config=_language_config,
    table=lambda c: Table("labml-nn language model", language(c["d_model"]), c["n_layers"]),
    facts={**FACTS, "kind": "language", "causal": True, "tied": False},
    options={},
    notes="tensors are [n, B] there and [B, n] here; it returns (logits, None) there",
)


def _encoder_config(state: State, causal: bool = False) -> Config:
    return {**_sizes(state, "layers.{i}."), "causal": causal}


def _block_config(state: State, causal: bool = False) -> Config:
    return {**_sizes(state, ""), "causal": causal}


ENCODER_ALONE = System(
    "labml-nn encoder",
    matches=lambda state: count_layers(state, "layers.{i}.proj1.") > 0,
    config=_encoder_config,
    table=lambda c: Table("labml-nn encoder", ENCODER, c["n_layers"]),
    facts={**FACTS, "kind": "encoder"},
    options=CAUSAL,
    notes="tensors are [n, B, d] there and [B, n, d] here",
)
BLOCK_ALONE = System(
    "labml-nn block",
    matches=lambda state: "proj1.weight" in state or "proj2.weight" in state,
    config=_block_config,
    table=lambda _: Table("labml-nn block", BLOCK),
    facts={**FACTS, "kind": "block"},
    options=CAUSAL,
    notes="tensors are [n, B, d] there and [B, n, d] here",
)

SYSTEMS: tuple[System, ...] = (LANGUAGE, ENCODER_ALONE, BLOCK_ALONE)
