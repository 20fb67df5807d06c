r"""Trains a classifier of digits, with the blocks of gMLP or of MLP-Mixer.

# Digit classification

gMLP was first tried on images, as was MLP-Mixer, published in the same month. Both learn matrices
that mix patches across positions. Here both have the same size and train on the same images.

```
python -m experiments.digits
python -m experiments.digits --images mnist --layer mixer
python -m experiments.digits --images images-idx3-ubyte.gz --labels labels-idx1-ubyte.gz
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.command import run, run_as_main
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.order import BatchSplit, EpochOrder, micro_batches, row_generator
from experiments.engine.settings.errors import check_positive
from experiments.engine.settings.types import check_choices
from experiments.engine.validation import sum_over_rows
from experiments.images.digits import N_CLASSES, DigitImages, load_digit_images
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import plain_report
from labml_gmlp import Encoder, GMLPBlock, ImageClassifier, MixerBlock, n_patches


# ## The layers compared
#
# Each is built from the settings and the number of patches.
def gmlp(settings: DigitsSettings, n: int) -> nn.Module:
    return GMLPBlock(settings.d_model, settings.d_ffn, n)


def mixer(settings: DigitsSettings, n: int) -> nn.Module:
    return MixerBlock(settings.d_model, n, settings.d_tokens, settings.d_ffn)


LAYERS: dict[str, Callable[[DigitsSettings, int], nn.Module]] = {"gmlp": gmlp, "mixer": mixer}


def make_classifier(
    settings: DigitsSettings,
    image_size: tuple[int, int],
    seed: int,
    checkpoint_layers: bool = False,
) -> ImageClassifier:
    r"""Builds the classifier.

    ## The model

    * `image_size` is the (height, width) of the images in pixels
    * `seed` determines the initial weights
    * `checkpoint_layers` trades time for memory, as in [`Encoder`](../labml_gmlp/blocks/encoder.py)

    Raises `ValueError` if the patch does not divide the images, or if `d_ffn` is odd with gmlp.
    """
    patch = settings.patch_size or (4 if min(image_size) >= 16 else 2)
    torch.manual_seed(seed)
    encoder = Encoder(
        lambda: LAYERS[settings.layer](settings, n_patches(image_size, patch)),
        settings.n_layers,
        checkpoint_layers=checkpoint_layers,
    )
    return ImageClassifier(
        encoder, N_CLASSES, image_size=image_size, patch_size=patch, n_channels=1
    )


class DigitBatches:
    r"""Training batches in a random order, with randomly shifted images.

    ## The order of training images

    Each epoch reads each training image once, in a new random order. The seed, the step and the row
    in the batch alone determine the image and its shift.

    ```python
    images = load_digit_images("digits", labels=None, n_train=None, data=Path("data"))
    pixels, labels = DigitBatches(images, shift=2, batch=64, seed=0).at(step=0, rows=range(64))
    ```

    * `images` are the training and the held-out images
    * `shift` is the largest shift in pixels
    * `batch` is the number of images per step
    * `seed` determines order and shifts
    """

    def __init__(self, images: DigitImages, shift: int, batch: int, seed: int) -> None:
        self.pixels = images.pixels[: images.n_train]
        self.labels = images.labels[: images.n_train]
        self.shift = shift
        self.batch = batch
        self.seed = seed
        # Inputs are normalised to mean 0 and variance 1 over the training images.
        self.mean = self.pixels.float().mean().item()
        self.std = max(self.pixels.float().std().item(), 1e-6)
        self._order = EpochOrder(len(self.pixels), batch, seed)

    def at(self, step: int, rows: range) -> tuple[Tensor, Tensor]:
        """Returns these rows of a step: images `[rows, 1, height, width]` and labels `[rows]`."""
        indices, shifted = [self._order.item(step, row) for row in rows], []
        for index, row in zip(indices, rows, strict=True):
            generator = row_generator(self.seed, step, row)
            down, right = generator.integers(-self.shift, self.shift + 1, 2).tolist()
            shifted.append(shift_image(self.pixels[index], down, right))
        return self.normalise(torch.stack(shifted)), self.labels[indices]

    def normalise(self, pixels: Tensor) -> Tensor:
        """From `torch.uint8`, `[B, height, width]`, to float32, `[B, 1, height, width]`."""
        return ((pixels.float() - self.mean) / self.std)[:, None]


def shift_image(image: Tensor, down: int, right: int) -> Tensor:
    r"""Shifts an image and fills the uncovered pixels with background, zero.

    * `image` is `[height, width]`
    * `down` and `right` are in pixels; negative values shift up and left
    """
    height, width = image.shape
    down, right = max(-height, min(down, height)), max(-width, min(right, width))
    # Negative padding crops.
    return nn.functional.pad(image, (right, -right, down, -down))


def smoothed_loss(smoothing: float) -> Callable[[nn.Module, Batch], Tensor]:
    r"""Makes the cross-entropy loss with label smoothing.

    ## Loss

    $$\ell = - \sum_k q_k \ln p_k, \qquad q_k = (1 - s) \, [k = y] + s / K$$

    for $K$ classes, the label $y$ and $s$ = `smoothing`. Without smoothing, the loss keeps falling
    as the logits grow without bound.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        logits = model(images).float()
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    return loss


def _loss_and_error(model: nn.Module, batch: Batch) -> Tensor:
    """Returns the unsmoothed loss of each image, and 1 for a wrong prediction, `[B, 2]`."""
    images, labels = batch
    logits = model(images).float()
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    return torch.stack([losses, (logits.argmax(-1) != labels).float()], dim=1)


def evaluate(model: nn.Module, fabric: Fabric, rows: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Returns the nats per image and the error rate over the held-out images."""
    loss, wrong = sum_over_rows(model, fabric, rows, _loss_and_error)
    return {"nats": loss / len(rows[0]), "error": wrong / len(rows[0])}


def describe(metrics: dict[str, float]) -> str:
    """Returns the metrics of an evaluation in one line."""
    return f"{metrics['error']:.2%} wrong, {metrics['nats']:.4f} nats per image"


def build(settings: DigitsSettings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""Loads the images and builds the model.

    ## The task

    Raises `ValueError` or `OSError` for images that cannot be read, and `ValueError` for sizes that
    do not fit together.
    """
    images = load_digit_images(settings.images, settings.labels, settings.train, launch.data)
    order = DigitBatches(images, settings.shift, training.batch, training.seed)
    n, height, width = images.pixels.shape
    held_out = (
        order.normalise(images.pixels[images.n_train :]),
        images.labels[images.n_train :],
    )

    def batches(step: int, split: BatchSplit) -> Iterator[Batch]:
        for number, rows in micro_batches(step, training.batch, split):
            yield order.at(number, rows)

    return Task(
        model=make_classifier(settings, (height, width), training.seed, launch.checkpoint_layers),
        data={"name": images.name, "sha256": images.sha256, "train": images.n_train},
        about=(
            f"{images.name}: {images.n_train:,} training images of {height} x {width}, "
            f"{n - images.n_train:,} held out"
        ),
        batches=batches,
        loss=smoothed_loss(settings.smoothing),
        evaluate=lambda model, fabric: evaluate(model, fabric, held_out),
        monitor="error",
        describe=describe,
    )


@dataclass(frozen=True, kw_only=True)
class DigitsSettings:
    r"""The images, the model and the loss of a digits run.

    ## Settings

    ```python
    settings = DigitsSettings(layer="mixer", n_layers=3)
    model = make_classifier(settings, (28, 28), seed=0)
    ```

    Raises `ValueError` for an unknown layer, a size below 1, a negative `shift`, and `smoothing`
    outside $[0, 1)$.
    """

    # Images: digits (scikit-learn's 1,797), mnist, t10k (the 10,000 test images of MNIST), or the
    # path of an IDX file.
    images: str = "digits"
    # Path of the IDX file of labels, if images is a path.
    labels: str | None = None
    # Number of training images; the rest are held out. By default four fifths; mnist has its own
    # split.
    train: int | None = None
    # Layer to stack; other defaults depend on it.
    layer: Literal["gmlp", "mixer"] = "gmlp"
    # Width of the residual stream.
    d_model: int = 64  # channels
    # Width inside a layer.
    d_ffn: int = 256  # channels
    # Width of the hidden layer across tokens, for mixer only.
    d_tokens: int = 32
    # Depth of the model.
    n_layers: int = 4  # layers
    # Side of a patch in pixels; by default 4, or 2 for images smaller than 16 x 16.
    patch_size: int | None = None
    # Largest random shift of a training image, in each direction.
    shift: int = 2  # pixels
    # Label smoothing: the target probability spread evenly over all classes.
    smoothing: float = 0.1

    # fold: checks
    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, ("d_model", "d_ffn", "d_tokens", "n_layers"))
        for name in ("train", "patch_size"):
            if getattr(self, name) is not None:
                check_positive(self, (name,))
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0, got {self.shift}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing}")


# Ten epochs of 8,000 images. The sizes give both models about 0.11 million parameters.
_TRAINING = Training(batch=64, steps=1_250, lr=2e-3, warmup=125, evaluate_every=250)
DEFAULTS: dict[str, tuple[DigitsSettings, Training]] = {
    "gmlp": (DigitsSettings(), _TRAINING),
    "mixer": (DigitsSettings(layer="mixer", n_layers=3), _TRAINING),
}


# ## The experiment
#
# The training curve includes label smoothing, so it is above the validation curve.
CURVE = Curve("nats", "nats per image")
EXPERIMENT = Experiment(
    name="digits",
    about="Train an image classifier on digits.",
    variant="layer",
    defaults=DEFAULTS,
    label=lambda settings: f"{Path(settings.images).stem}-{settings.layer}",
    build=build,
    finish=plain_report(
        lambda record: f"{record['settings']['layer']} on {record['data']['name']}",
        lambda record, metrics: describe(metrics),
        CURVE,
    ),
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
