r"""
# Images of digits

gMLP began with images, and so did its neighbour of the same month, MLP-Mixer. Both learn how
patches mix as matrices across positions, and both stand here at the same size before the same
images.

```
python -m experiments.digits
python -m experiments.digits --images mnist --layer mixer
python -m experiments.digits --images images-idx3-ubyte.gz --labels labels-idx1-ubyte.gz
```
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.engine.command import run, run_as_main
from experiments.engine.devices import BatchSplit
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.settings.errors import check_choice, check_positive
from experiments.engine.validation import sum_over_rows
from experiments.images.digits import N_CLASSES, Images, load_images
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import plain_report
from labml_gmlp import Encoder, GMLPBlock, ImageClassifier, MixerBlock, n_patches


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""
    ## Settings

    * `images` is digits (1,797 small ones of scikit-learn), mnist, t10k (the 10,000 on which MNIST
      tests), or the path of an IDX file
    * `labels` is the path of the IDX file with their labels, beside a path only
    * `train` is the number of images to train on, the others are held out; by default four fifths,
      and MNIST's own
    * `layer` is gmlp or mixer; the other defaults follow it
    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `d_tokens` is the number of rows of the first matrix across tokens, for the mixer only
    * `n_layers` is the number of layers
    * `patch_size` is the side of a patch in pixels; by default 4, and 2 for images below 16
    * `shift` is the number of pixels by which training moves an image at most, each way
    * `smoothing` is the share of the target that goes to all classes equally
    """

    images: str = "digits"
    labels: str | None = None
    train: int | None = None
    layer: str = "gmlp"
    d_model: int = 64
    d_ffn: int = 256
    d_tokens: int = 32
    n_layers: int = 4
    patch_size: int | None = None
    shift: int = 2
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_choice("layer", self.layer, LAYERS)
        check_positive(self, ("d_model", "d_ffn", "d_tokens", "n_layers"))
        for name in ("train", "patch_size"):
            if getattr(self, name) is not None:
                check_positive(self, (name,))
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0, got {self.shift}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing}")


# ## The layers compared
#
# Each from the settings and the number of patches.
def gmlp(settings: Settings, n: int) -> nn.Module:
    return GMLPBlock(settings.d_model, settings.d_ffn, n)


def mixer(settings: Settings, n: int) -> nn.Module:
    return MixerBlock(settings.d_model, n, settings.d_tokens, settings.d_ffn)


LAYERS: dict[str, Callable[[Settings, int], nn.Module]] = {"gmlp": gmlp, "mixer": mixer}

# Ten passes over 8,000 images. Sizes that give both about 0.11 million parameters.
_TRAINING = Training(batch=64, steps=1_250, lr=2e-3, warmup=125, evaluate_every=250)
DEFAULTS: dict[str, tuple[Settings, Training]] = {
    "gmlp": (Settings(), _TRAINING),
    "mixer": (Settings(layer="mixer", n_layers=3), _TRAINING),
}


def make_classifier(
    settings: Settings, side: tuple[int, int], seed: int, checkpoint_layers: bool = False
) -> ImageClassifier:
    r"""
    ## The model

    * `side` is the height and the width of the images in pixels
    * `seed` decides the initial weights

    Raises `ValueError` for a patch that does not divide the images, and what the layers raise.
    """
    patch = settings.patch_size or (4 if min(side) >= 16 else 2)
    torch.manual_seed(seed)
    encoder = Encoder(
        lambda: LAYERS[settings.layer](settings, n_patches(side, patch)),
        settings.n_layers,
        checkpoint_layers=checkpoint_layers,
    )
    return ImageClassifier(encoder, N_CLASSES, image_size=side, patch_size=patch, n_channels=1)


class Reading:
    r"""
    ## The order of reading

    Each pass reads each image once, in a new random order, each moved a little. What belongs to a
    row of a step follows from the seed, the step and the row alone.

    * `images` are cut in two; the first part is read
    * `shift` is the largest move in pixels
    * `batch` is the number of images a step
    * `seed` decides order and moves
    """

    def __init__(self, images: Images, shift: int, batch: int, seed: int) -> None:
        self.pixels = images.pixels[: images.n_train]
        self.labels = images.labels[: images.n_train]
        self.shift = shift
        self.batch = batch
        self.seed = seed
        # The network reads numbers of mean 0 and variance 1, as the training images have them.
        self.mean = self.pixels.float().mean().item()
        self.deviation = max(self.pixels.float().std().item(), 1e-6)
        self._order = lru_cache(maxsize=2)(self._order_of_pass)

    def at(self, step: int, rows: range) -> tuple[Tensor, Tensor]:
        """Images and labels of these rows of a step, `[rows, 1, height, width]` and `[rows]`."""
        n, places, moved = len(self.pixels), [], []
        for row in rows:
            number, place = divmod(step * self.batch + row, n)
            places.append(int(self._order(number)[place]))
            random = np.random.default_rng((self.seed, step, row))
            down, right = random.integers(-self.shift, self.shift + 1, 2).tolist()
            moved.append(move(self.pixels[places[-1]], down, right))
        return self.normalised(torch.stack(moved)), self.labels[places]

    def normalised(self, pixels: Tensor) -> Tensor:
        """From `[B, height, width]`, whole numbers, to `[B, 1, height, width]`."""
        return ((pixels.float() - self.mean) / self.deviation)[:, None]

    def _order_of_pass(self, number: int) -> NDArray[np.int64]:
        # Three numbers where a row has two behind the seed, so that no stream is used twice.
        return np.random.default_rng((self.seed, number, 0, 1)).permutation(len(self.pixels))


def move(image: Tensor, down: int, right: int) -> Tensor:
    r"""
    ## Moving an image

    What leaves is lost, what enters is background: zero.

    * `image` is `[height, width]`
    * `down` and `right` are pixels; below zero they mean up and left
    """
    height, width = image.shape
    down, right = max(-height, min(down, height)), max(-width, min(right, width))
    # A negative padding cuts off.
    return nn.functional.pad(image, (right, -right, down, -down))


def smoothed_loss(smoothing: float) -> Callable[[nn.Module, Batch], Tensor]:
    r"""
    ## Loss

    $$\ell = - \sum_k q_k \ln p_k, \qquad q_k = (1 - s) \, [k = y] + s / K$$

    for $K$ classes, the label $y$ and $s$ = `smoothing`. No logit has to grow without end for it.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        logits = model(images).float()
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    return loss


# Of each image: its loss, without smoothing, and whether the answer is wrong.
def _measure(model: nn.Module, batch: Batch) -> Tensor:
    images, labels = batch
    logits = model(images).float()
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return torch.stack([losses, (logits.argmax(-1) != labels).float()], dim=1)  # [B, 2]


def evaluate(model: nn.Module, fabric: Fabric, rows: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Returns nats per image and the error rate, over the images held out."""
    loss, wrong = sum_over_rows(model, fabric, rows, _measure)
    return {"nats": loss / len(rows[0]), "error": wrong / len(rows[0])}


def describe(found: dict[str, float]) -> str:
    """An evaluation in a line."""
    return f"{found['error']:.2%} wrong, {found['nats']:.4f} nats per image"


def build(settings: Settings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""
    ## The task

    Raises `ValueError` or `OSError` for images or sizes that will not do.
    """
    images = load_images(settings.images, settings.labels, settings.train, launch.data)
    reading = Reading(images, settings.shift, training.batch, training.seed)
    n, height, width = images.pixels.shape
    held_out = (
        reading.normalised(images.pixels[images.n_train :]),
        images.labels[images.n_train :],
    )

    def batches(step: int, share: BatchSplit) -> Iterator[Batch]:
        shares = share.rows(training.batch)
        while True:
            for rows in shares:
                yield reading.at(step, rows)
            step += 1

    return Task(
        model=make_classifier(settings, (height, width), training.seed, launch.checkpoint_layers),
        data={"name": images.name, "sha256": images.sha256, "train": images.n_train},
        about=(
            f"{images.name}: {images.n_train:,} images of {height} x {width} to train, "
            f"{n - images.n_train:,} held out"
        ),
        batches=batches,
        loss=smoothed_loss(settings.smoothing),
        evaluate=lambda model, fabric: evaluate(model, fabric, held_out),
        monitor="error",
        describe=describe,
    )


# The curve of training is that of the smoothed targets, and lies higher.
CURVE = Curve("nats", "nats per image")
EXPERIMENT = Experiment(
    name="digits",
    about="Train a classifier of images of digits.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"{Path(settings.images).stem}-{settings.layer}",
    build=build,
    finish=plain_report(
        lambda record: f"{record['settings']['layer']} on {record['data']['name']}",
        lambda record, found: describe(found),
        CURVE,
    ),
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
