r"""
# labml-nn

The package behind nn.labml.ai, version 0.5.1, MIT licence. Its gMLP is a block and goes into the
encoder of its Transformers, and that into the model of its experiment; weights of all three are
read.

Its norms and its GELU are those of torch, as here, and its block computes what ours computes to the
last digit. Three things differ around it:

* the sequence is the *first* axis of its tensors, the batch the second; ours is the other way
* its block takes a mask of `[n, n, 1]` where ours has `causal`. The model of the experiment makes
  the mask of a causal model itself. What stands above the diagonal of $W$ then is carried over and
  never read, there as here
* its embedding is multiplied by $\sqrt{d}$ and gets sinusoids added. Both are constants, so they
  are folded into our embedding and our learned positions. The sinusoids are in its files, and are
  written back as they came; the product with $\sqrt{d}$ is undone without rounding when $d$ is a
  power of four. For another $d$ the last digit of an embedding may change
"""

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.system import State, System, axis, inside
from labml_gmlp.weights.translate.table import Row, Table, layers_of

# $n$ is the number of tokens, $d$ the width of the model, $e$ that of $Z$ and $h$ half of it.
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
    *inside(BLOCK, "layers.{i}.", "layers.{i}."),
    Row("norm.weight", "norm.weight", "d"),
    Row("norm.bias", "norm.bias", "d"),
)


# $V$ is the number of tokens in the vocabulary, $m$ that of positions.
def language(d_model: int) -> tuple[Row, ...]:
    return (
        # The axis of length one is that of the batch.
        Row("positions.weight", "src_embed.positional_encodings", "m d", reshape="m 1 d"),
        Row("embedding.weight", "src_embed.linear.weight", "V d", scale=d_model**0.5),
        *inside(ENCODER, "encoder.", "encoder."),
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
CAUSAL = {"causal": "whether it was used with the mask of a causal model; false by default"}


def _sizes(state: State, prefix: str) -> Config:
    return {
        "n_layers": layers_of(state, prefix) if "{i}" in prefix else 1,
        "d_model": axis(state, f"{prefix}proj1.weight", 1),
        "d_ffn": axis(state, f"{prefix}proj1.weight", 0),
        "seq_len": axis(state, f"{prefix}sgu.bias", 0),
    }


def _language_config(state: State) -> Config:
    return {
        **_sizes(state, "encoder.layers.{i}."),
        "n_tokens": axis(state, "src_embed.linear.weight", 0),
        "n_positions": axis(state, "src_embed.positional_encodings", 0),
    }


LANGUAGE = System(
    "labml-nn language model",
    matches=lambda state: layers_of(state, "encoder.layers.{i}.proj1.") > 0,
    config=_language_config,
    table=lambda c: Table("labml-nn language model", language(c["d_model"]), c["n_layers"]),
    facts={**FACTS, "kind": "language", "causal": True, "tied": False},
    options={},
    notes="tensors are [n, B] there and [B, n] here; the model returns (logits, None) there",
)


def _encoder_config(state: State, causal: bool = False) -> Config:
    return {**_sizes(state, "layers.{i}."), "causal": causal}


def _block_config(state: State, causal: bool = False) -> Config:
    return {**_sizes(state, ""), "causal": causal}


ENCODER_ALONE = System(
    "labml-nn encoder",
    matches=lambda state: layers_of(state, "layers.{i}.proj1.") > 0,
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
