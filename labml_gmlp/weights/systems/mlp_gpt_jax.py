r"""
# mlp-gpt-jax

Phil Wang's language model of gMLP in Haiku, version 0.0.20, MIT licence. It was run, on Haiku
0.0.17, and its names are those that Haiku gave it: a `~` for each constructor that a layer was made
in.

* It is always causal. What stands above the diagonal of $W$ is never read, there as here
* $b$ is a column, `[n, 1]`; linear layers keep `[in, out]`
* A linear layer stands behind the gate, before $V$; it is [folded](../translate/special.py) into
  $V$
* Norms have a constant of 1e-5, as Haiku's do, and GELU is the approximation by tanh, as JAX's is
* It takes exactly $n$ tokens, without an axis of sequences; the model here takes batches of up to
  $n$
* Its arguments `heads` and `clamp_gate` do nothing. `layer_survival_prob` leaves out layers even
  when nothing is trained; here nothing is left out
"""

from labml_gmlp.weights.translate.config import Config
from labml_gmlp.weights.translate.special import FoldedTable
from labml_gmlp.weights.translate.system import State, System, axis, inside
from labml_gmlp.weights.translate.table import Row, Table, layers_of

# $n$ is the number of tokens, $d$ the width of the model and $h$ half of that of $Z$. `folded` has
# no parameters here.
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
# $V$ is the number of tokens in the vocabulary.
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
        "n_layers": layers_of(state, f"{LAYER}sgu/spatial_weights"),
        "d_model": axis(state, f"{LAYER}linear/w", 0),
        "d_ffn": axis(state, f"{LAYER}linear/w", 1),
        "seq_len": axis(state, f"{LAYER}sgu/spatial_biases", 0),
        "d_attn": axis(state, f"{LAYER}attention/~/linear_1/w", 0) or None,
        "n_tokens": axis(state, "mlp_gpt/~/embed/embeddings", 0),
    }


def _table(c: Config) -> Table:
    block = BLOCK if c["d_attn"] is None else (*BLOCK, *ATTENTION)
    layer = "encoder.layers.{i}."
    return FoldedTable(
        "mlp-gpt-jax",
        (*inside(block, layer, LAYER), *AROUND),
        c["n_layers"],
        folded=((f"{layer}folded", f"{layer}proj_out"),),
    )


LANGUAGE = System(
    "mlp-gpt-jax",
    matches=lambda state: layers_of(state, f"{LAYER}sgu/spatial_weights") > 0,
    config=_config,
    table=_table,
    facts=FACTS,
    options={},
    notes="takes one sequence of exactly n tokens there",
)

SYSTEMS: tuple[System, ...] = (LANGUAGE,)
