r"""Trains the Flax model on the autoregressive task.

# Language model in Flax

The [autoregressive](autoregressive.py) task with the [Flax implementation](../labml_gmlp/flax): a
causal model of characters, with the same text and the same windows in the same order. It shows how
to train the Flax modules and leaves out validation, checkpoints and resuming.

```
python -m experiments.flax_autoregressive --steps 200
```
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from experiments.text.corpus import Corpus, load_corpus
from experiments.text.windows import Windows
from labml_gmlp.flax import Encoder, GMLPBlock, LanguageModel

SEQ_LEN = 64  # characters


def make_model(
    n_tokens: int, *, d_model: int = 64, d_ffn: int = 256, n_layers: int = 3, seed: int = 0
) -> LanguageModel:
    r"""Builds a causal gMLP language model in Flax.

    ## The model

    All layers share one stream of random numbers, so each starts with different weights.

    * `n_tokens` is the size of the vocabulary
    * `d_model`, `d_ffn` and `n_layers` are the sizes of the layers
    * `seed` determines the initial weights
    """
    rngs = nnx.Rngs(seed)
    encoder = Encoder(
        lambda: GMLPBlock(d_model, d_ffn, SEQ_LEN, causal=True, rngs=rngs), n_layers, rngs=rngs
    )
    return LanguageModel(n_tokens, encoder, rngs=rngs)


# The mean of $-\ln p$ over all characters of a batch, in nats.
def _loss(model: LanguageModel, tokens: Array, targets: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(tokens), targets).mean()


# One step, compiled once. It updates the model and the optimiser in place.
@nnx.jit
def _step(
    model: LanguageModel, optimizer: nnx.Optimizer[LanguageModel], tokens: Array, targets: Array
) -> Array:
    loss, gradient = nnx.value_and_grad(_loss)(model, tokens, targets)
    optimizer.update(model, gradient)
    return loss


def train(
    model: LanguageModel,
    corpus: Corpus,
    *,
    steps: int,
    batch: int = 12,
    lr: float = 4e-3,
    clip: float = 1.0,
    seed: int = 0,
) -> Iterator[float]:
    r"""Trains a model in place and yields the loss of each step.

    ## Training

    * `model` is the model
    * `corpus` is the text
    * `steps` is the number of steps
    * `batch` is the number of windows per step
    * `lr` is the peak learning rate, reached after a tenth of the steps; a cosine decays it to zero
    * `clip` is the maximum norm of the gradient
    * `seed` determines the order of the windows

    Yields the loss before the update of each step, in nats per character.
    """
    warmup = -(-steps // 10)
    rate = optax.warmup_cosine_decay_schedule(0.1 * lr, lr, warmup, max(steps, warmup + 1))
    optimizer = nnx.Optimizer(
        model, optax.chain(optax.clip_by_global_norm(clip), optax.adamw(rate)), wrt=nnx.Param
    )
    windows = Windows(corpus.train, SEQ_LEN, batch, seed)
    for step in range(steps):
        tokens, targets = (jnp.asarray(x.numpy(), jnp.int32) for x in windows.batch_at(step))
        yield float(_step(model, optimizer, tokens, targets))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.flax_autoregressive")
    parser.add_argument(
        "--corpus", default="python", help="python, tiny_shakespeare or the path of a UTF-8 file"
    )
    parser.add_argument("--steps", type=int, default=200, help="number of steps")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the weights and the data order"
    )
    flags = parser.parse_args()
    if flags.steps < 1:
        parser.error(f"--steps must be at least 1, got {flags.steps}")
    try:
        corpus = load_corpus(flags.corpus, SEQ_LEN, Path("data"))
    except (OSError, ValueError) as e:
        parser.error(str(e))
    model = make_model(len(corpus.vocabulary), seed=flags.seed)
    for step, loss in enumerate(train(model, corpus, steps=flags.steps, seed=flags.seed)):
        if step % 20 == 0 or step == flags.steps - 1:
            print(f"step {step:5d}  loss {loss:.4f} nats per character", flush=True)


if __name__ == "__main__":
    main()
