r"""The image classifier of a run: built, loaded and saved.

# The classifier

The model is the paper's gMLP-Ti, S or B, perhaps with other sizes, or a pretrained model.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from experiments.images.augment import Normalisation
from experiments.images.decode import INTERPOLATION
from experiments.images.settings import SIZES, ImageNetSettings
from labml_gmlp.blocks.gmlp import GMLPBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth, survival_at
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.preprocessing import Preprocessing
from labml_gmlp.weights.pretrained import from_pretrained, read_config, save_pretrained


def make_classifier(
    settings: ImageNetSettings, n_classes: int, seed: int
) -> tuple[ImageClassifier, Normalisation]:
    r"""Builds the model to train, new or pretrained, and the normalisation of its images.

    * `n_classes` is the number of classes of the data
    * `seed` determines the initial weights

    Raises `ValueError` if the patch does not divide the image, or if the pretrained model is not a
    classifier of square RGB images of `image_size` or cannot have this `survival`. Raises
    `WeightsError` or `OSError` if its weights cannot be read.
    """
    torch.manual_seed(seed)
    if settings.pretrained is None:
        size = dataclasses.replace(
            SIZES[settings.size],
            n_layers=settings.n_layers,
            d_model=settings.d_model,
            d_ffn=settings.d_ffn,
            survival=settings.survival,
        )
        model = size.build(
            n_classes=n_classes, image_size=settings.image_size, patch_size=settings.patch
        )
        return model, settings.normalisation
    pretrained = load_pretrained(settings.pretrained)
    model = fine_tune(pretrained, n_classes, settings.survival, settings.image_size)
    return model, pretrained.normalisation or settings.normalisation


@dataclass(frozen=True)
class Pretrained:
    r"""A pretrained classifier with the preprocessing of its images.

    ## Pretrained classifiers

    ```python
    pretrained = load_pretrained("runs/NAME/model")
    print(pretrained.image_size, pretrained.n_classes, pretrained.crop)
    ```

    Folders written by our runs and timm's models on the hub include the preprocessing. Folders
    written by `save_pretrained` alone do not, and `normalisation`, `crop` and `interpolation` are
    `None`.

    * `model` is in evaluation mode
    * `image_size` is the side of its images in pixels
    * `normalisation` is that of its training images
    * `crop` and `interpolation` are the arguments of `centre_crop` in its validation
    """

    model: ImageClassifier
    image_size: int
    normalisation: Normalisation | None = None
    crop: float | None = None
    interpolation: str | None = None

    @property
    def n_classes(self) -> int:
        return self.model.head.out_features


def load_pretrained(name: str) -> Pretrained:
    r"""Loads a pretrained classifier of square RGB images.

    * `name` is a folder or the name of a model on the hub, as for
      [`from_pretrained`](../../labml_gmlp/weights/pretrained.py)

    Raises `ValueError` for any other model, and `WeightsError` or `OSError` as `from_pretrained`
    does.
    """
    model = from_pretrained(name)
    if not isinstance(model, ImageClassifier):
        raise ValueError(f"pretrained must be an ImageClassifier, got a {type(model).__name__}")
    height, width = model.image_size
    if height != width or model.n_channels != 3:
        raise ValueError(
            f"pretrained must take square images in 3 channels, got {height} x {width} in "
            f"{model.n_channels}"
        )
    config = read_config(name)
    if "pretrained_cfg" not in config:
        return Pretrained(model, height)
    found = Preprocessing.from_config(config)
    return Pretrained(model, height, Normalisation(found.mean, found.std), found.crop, found.mode)


def fine_tune(
    pretrained: Pretrained, n_classes: int, survival: float, image_size: int
) -> ImageClassifier:
    r"""Prepares a pretrained classifier for training on other data.

    The head is replaced if the number of classes differs. Stochastic depth is not part of the
    weights, so it is set to that of this run.

    * `n_classes` is the number of classes of the data
    * `survival` is the survival probability of the last layer
    * `image_size` is the side of the images in pixels

    Raises `ValueError` if `image_size` differs from that of the model, or if `survival` is below 1
    and a layer is not a `GMLPBlock`.
    """
    model = pretrained.model
    if image_size != pretrained.image_size:
        raise ValueError(
            f"image_size must be {pretrained.image_size}, as in the pretrained model, "
            f"got {image_size}"
        )
    layers = list(model.encoder.layers)  # type: ignore[arg-type]
    for index, layer in enumerate(layers):
        p = survival_at(index, len(layers), survival)
        if isinstance(layer, GMLPBlock):
            layer.dropout = StochasticDepth(p)
        elif p < 1:
            raise ValueError(
                f"survival must be 1 for layers other than GMLPBlock, got {survival} for "
                f"{type(layer).__name__}"
            )
    if n_classes != pretrained.n_classes:
        model.head = nn.Linear(model.head.in_features, n_classes)
        model.reset_parameters()
    return model.float().train()


def save_classifier(
    model: ImageClassifier, folder: Path, normalisation: Normalisation, crop: float
) -> None:
    r"""Saves a trained classifier with the preprocessing of its images.

    `load_pretrained` and `preprocessing_from` read it back. The preprocessing is stored under
    timm's names.

    * `normalisation` and `crop` are those of the validation

    Raises `OSError` if `folder` cannot be written, and `WeightsError` as `save_pretrained` does.
    """
    preprocessing = Preprocessing(
        model.image_size, crop, INTERPOLATION, normalisation.mean, normalisation.std
    )
    save_pretrained(model, folder, preprocessing=preprocessing)
