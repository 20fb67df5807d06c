r"""
# A language model in Flax

The [autoregressive](autoregressive.py) task once more, with the [Flax twin](../labml_gmlp/flax): a
causal model of characters, the same text, the same windows in the same order. It shows how the twin
is trained, and no more: no evaluation on the rest of the text, no checkpoints, no resuming.

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
    r"""
    ## The model

    One stream of random numbers makes all layers, so that each starts different.
    """
    rngs = nnx.Rngs(seed)
    encoder = Encoder(
        lambda: GMLPBlock(d_model, d_ffn, SEQ_LEN, causal=True, rngs=rngs), n_layers, rngs=rngs
    )
    return LanguageModel(n_tokens, encoder, rngs=rngs)


# The mean of $-\log p$ over all characters of a batch, in nats.
def _loss(model: LanguageModel, tokens: Array, targets: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(tokens), targets).mean()


# One step, compiled once. Model and optimiser are changed where they are.
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
    r"""
    ## Training

    * `model` is trained where it is
    * `steps` is the number of steps, `batch` the number of windows in each
    * `lr` is the peak rate, reached after a tenth of the steps; it falls to zero as a cosine
    * `clip` is the largest norm of the gradient

    Yields the loss of each step in nats per character, before its update.
    """
    warmup = -(-steps // 10)
    rate = optax.warmup_cosine_decay_schedule(0.1 * lr, lr, warmup, max(steps, warmup + 1))
    optimizer = nnx.Optimizer(
        model, optax.chain(optax.clip_by_global_norm(clip), optax.adamw(rate)), wrt=nnx.Param
    )
    windows = Windows(corpus.train, SEQ_LEN, batch, seed)
    for step in range(steps):
        tokens, targets = (jnp.asarray(part.numpy(), jnp.int32) for part in windows.at(step))
        yield float(_step(model, optimizer, tokens, targets))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.flax_autoregressive")
    parser.add_argument("--corpus", default="python", help="python, tiny_shakespeare or a file")
    parser.add_argument("--steps", type=int, default=200, help="number of steps")
    parser.add_argument("--seed", type=int, default=0, help="decides weights and data order")
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
