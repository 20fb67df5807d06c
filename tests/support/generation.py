"""Small language models and functions that generate from them."""

import torch
from torch import nn

from labml_gmlp import (
    Encoder,
    GMLPBlock,
    LanguageModel,
    MultiHeadSpatialProjection,
    SpatialGatingUnit,
    TransformerLayer,
    generate,
    generate_batch,
)
from tests.support.helpers import randomised

N_TOKENS, SEQ_LEN = 7, 5
PROMPT = torch.tensor([3, 1])


class Fixed(nn.Module):
    """Returns the same logits for every text and records its inputs."""

    def __init__(self, logits, dtype=torch.float32):
        super().__init__()
        self.logits = torch.tensor(logits, dtype=dtype)
        self.asked = []

    def forward(self, tokens):
        self.asked.append(tokens.tolist())
        # Only the last position may be read.
        out = torch.full((*tokens.shape, len(self.logits)), torch.nan, dtype=self.logits.dtype)
        out[:, -1] = self.logits
        return out


def layer_of(kind):
    if kind == "gMLP":
        return GMLPBlock(4, 6, SEQ_LEN, causal=True)
    if kind == "heads":
        projection = MultiHeadSpatialProjection(SEQ_LEN, 3, causal=True)
        return GMLPBlock(4, 6, causal=True, sgu=SpatialGatingUnit(6, projection=projection))
    return TransformerLayer(4, 2, 6, causal=True)


KINDS = ["gMLP", "heads", "Transformer"]


def model_of(kind="gMLP"):
    n_positions = SEQ_LEN if kind == "Transformer" else None
    encoder = Encoder(lambda: layer_of(kind), 2)
    return randomised(LanguageModel(N_TOKENS, encoder, n_positions=n_positions))


def recorded(model):
    """Returns a list that receives the tokens of each call of the model."""
    asked = []
    model.register_forward_pre_hook(lambda _, arguments: asked.append(arguments[0].tolist()))
    return asked


def draw(model, n_new=12, prompt=PROMPT, **options):
    defaults = {"seq_len": SEQ_LEN, "seed": 0, "slide": 1, "use_cache": not is_fixed(model)}
    return list(generate(model, prompt, n_new, **(defaults | options)))


def draw_batch(model, prompts, n_new=12, **options):
    """Returns one list for each prompt."""
    texts = [[] for _ in prompts]
    defaults = {"seq_len": SEQ_LEN, "seed": 0, "slide": 1, "use_cache": not is_fixed(model)}
    for b, token in generate_batch(model, prompts, n_new, **(defaults | options)):
        texts[b].append(token)
    return texts


def is_fixed(model):
    return isinstance(model, Fixed)
