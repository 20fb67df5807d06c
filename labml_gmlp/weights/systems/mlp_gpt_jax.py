r"""Weights of the Haiku language model mlp-gpt-jax.

# mlp-gpt-jax

Phil Wang's language model of gMLP in Haiku, version 0.0.20, MIT licence. The names are those that
Haiku 0.0.17 gave when it was run: a `~` for each constructor in which a layer was made.

* It is always causal. The upper triangle of $W$ is never read, there or here
* $b$ is a column, `[n, 1]`; linear layers store `[in, out]`
* A linear layer between the gate and $V$ is [folded](../translate/folding.py) into $V$
* Norms have an epsilon of 1e-5, Haiku's default, and GELU is the tanh approximation, JAX's default
* It takes one sequence of exactly $n$ tokens; the model here takes batches of up to $n$ tokens
* Its arguments `heads` and `clamp_gate` have no effect. `layer_survival_prob` skips layers even
  outside of training; here no layer is skipped
"""

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.folding import FoldedTable
from labml_gmlp.weights.translate.system import State, System, prefixed, size_of
from labml_gmlp.weights.translate.table import Row, Table, count_layers

# $n$ is the number of tokens, $d$ the width of the model and $h$ half the width of $Z$. `folded` is
# the layer that has no parameters here.
BLOCK = (
    Row("norm.weight", "layer_norm/scale", "d"),
    Row("norm.bias", "layer_norm/offset", "d"),
    Row("proj_in.weight", "linear/w", "2h d", transpose=True),
    Row("proj_in.bias", "linear/b", "2h"),
    Row("sgu.norm.weight", "sgu/~/layer_norm/scale", "h"),
    Row("sgu.norm.bias", "sgu/~/layer_norm/offset", "h"),
    Row("sgu.projection.weight", "sgu/spatial_weights", "n n"),
    Row("sgu.projection.bias", "sgu/spatial_biases", "n", reshape="n 1"),
    Row("folded.weight", "sgu/~/linear/w", "h h", transpose=True),
    Row("folded.bias", "sgu/~/linear/b", "h"),
    Row("proj_out.weight", "linear_1/w", "d h", transpose=True),
    Row("proj_out.bias", "linear_1/b", "d"),
)
# $a$ is the width of the attention.
ATTENTION = (
    Row("attention.attention_in.weight", "attention/~/linear/w", "3a d", transpose=True),
    Row("attention.attention_in.bias", "attention/~/linear/b", "3a"),
    Row("attention.attention_out.weight", "attention/~/linear_1/w", "h a", transpose=True),
    Row("attention.attention_out.bias", "attention/~/linear_1/b", "h"),
)
# $V$ is the size of the vocabulary.
AROUND = (
    Row("embedding.weight", "mlp_gpt/~/embed/embeddings", "V d"),
    Row("encoder.norm.weight", "mlp_gpt/~/layer_norm/scale", "d"),
    Row("encoder.norm.bias", "mlp_gpt/~/layer_norm/offset", "d"),
    Row("head.weight", "mlp_gpt/~/linear/w", "V d", transpose=True),
    Row("head.bias", "mlp_gpt/~/linear/b", "V"),
)
FACTS = {
    "kind": "language",
    "tied": False,
    "n_positions": None,
    "layer": "gmlp",
    "projection": "dense",
    "n_heads": 1,
    "causal": True,
    "shifts": None,
    "attn_in_bias": True,
    "attn_out_bias": True,
    "activation": "gelu_tanh",
    "gate_activation": None,
    "norm_eps": 1e-5,
    "sgu_norm_eps": 1e-5,
    "last_norm": True,
    "last_norm_eps": 1e-5,
}
LAYER = "mlp_gpt/~/gmlp{i}/~/"


def _config(state: State) -> Config:
    return {
        "n_layers": count_layers(state, f"{LAYER}sgu/spatial_weights"),
        "d_model": size_of(state, f"{LAYER}linear/w", 0),
        "d_ffn": size_of(state, f"{LAYER}linear/w", 1),
        "seq_len": size_of(state, f"{LAYER}sgu/spatial_biases", 0),
        "d_attn": size_of(state, f"{LAYER}attention/~/linear_1/w", 0) or None,
        "n_tokens": size_of(state, "mlp_gpt/~/embed/embeddings", 0),
    }


def _table(c: Config) -> Table:
    block = BLOCK if c["d_attn"] is None else (*BLOCK, *ATTENTION)
    layer = "encoder.layers.{i}."
    return FoldedTable(
        "mlp-gpt-jax",
        (*prefixed(block, layer, LAYER), *AROUND),
        c["n_layers"],
        folded=((f"{layer}folded", f"{layer}proj_out"),),
    )


LANGUAGE = System(
    "mlp-gpt-jax",
    matches=lambda state: count_layers(state, f"{LAYER}sgu/spatial_weights") > 0,
    config=_config,
    table=_table,
    facts=FACTS,
    options={},
    notes="takes one sequence of exactly n tokens there",
)

SYSTEMS: tuple[System, ...] = (LANGUAGE,)
