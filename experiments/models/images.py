r"""
# The models of images

gMLP-Ti, S and B of the paper, with any of their sizes changed, or weights that were trained before.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from experiments.images.augment import Normalisation
from experiments.images.decode import MODE
from experiments.images.settings import SIZES, Settings
from labml_gmlp.blocks.gmlp import GMLPBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth, survival_at
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.preprocessing import Preprocessing
from labml_gmlp.weights.pretrained import from_pretrained, read_config, save_pretrained


def make_model(settings: Settings, n_classes: int) -> ImageClassifier:
    """A new model. Raises `ValueError` for sizes that do not fit together."""
    size = dataclasses.replace(
        SIZES[settings.size],
        n_layers=settings.n_layers,
        d_model=settings.d_model,
        d_ffn=settings.d_ffn,
        survival=settings.survival,
    )
    return size.build(
        n_classes=n_classes, image_size=settings.image_size, patch_size=settings.patch
    )


@dataclass(frozen=True)
class Pretrained:
    r"""
    ## A model with its weights

    * `model` is in evaluation
    * `image_size` is the side of its images in pixels
    * `normalise` is what belongs to it, `None` if its folder does not say: those of runs and of
      timm do, one that `save_pretrained` alone has written does not
    * `crop` and `mode` are how images were cut and resized, `None` likewise
    """

    model: ImageClassifier
    image_size: int
    normalise: Normalisation | None = None
    crop: float | None = None
    mode: str | None = None

    @property
    def n_classes(self) -> int:
        return self.model.head.out_features


def load_pretrained(name: str) -> Pretrained:
    r"""
    ## Weights that were trained before

    * `name` is a folder or the name of a model on the hub, as for
      [`from_pretrained`](../../labml_gmlp/weights/pretrained.py)

    Raises `ValueError` for what is no model of square images in three colours, and what
    `from_pretrained` raises.
    """
    model = from_pretrained(name)
    if not isinstance(model, ImageClassifier):
        raise ValueError(f"pretrained must be a model of images, got a {type(model).__name__}")
    height, width = model.image_size
    if height != width or model.n_channels != 3:
        raise ValueError(
            f"pretrained must take square images in 3 colours, got {height} x {width} in "
            f"{model.n_channels}"
        )
    config = read_config(name)
    if "pretrained_cfg" not in config:
        return Pretrained(model, height)
    found = Preprocessing.from_config(config)
    return Pretrained(model, height, Normalisation(found.mean, found.std), found.crop, found.mode)


def save_trained(
    model: ImageClassifier, folder: Path, normalise: Normalisation, crop: float
) -> None:
    r"""
    ## Weights of a run

    They are saved with what was done to their images, under timm's names.

    * `folder` is one that `load_pretrained` and `preprocessing_from` read
    * `normalise` and `crop` are those of the validation of the run

    Raises what `save_pretrained` raises.
    """
    preprocessing = Preprocessing(model.image_size, crop, MODE, normalise.mean, normalise.std)
    save_pretrained(model, folder, preprocessing=preprocessing)


def fine_tuned(
    pretrained: Pretrained, n_classes: int, survival: float, image_size: int
) -> ImageClassifier:
    r"""
    ## Going on with them

    A head for other classes starts anew. Stochastic depth is no part of the weights, and is that of
    this run.

    * `n_classes` is the number of classes of the data

    Raises `ValueError` for another `image_size`, and for a `survival` below 1 in a model whose
    layers are not gMLP's.
    """
    model = pretrained.model
    if image_size != pretrained.image_size:
        raise ValueError(
            f"image_size must be {pretrained.image_size}, that of the pretrained model, "
            f"got {image_size}"
        )
    layers = list(model.encoder.layers)  # type: ignore[arg-type]
    for index, layer in enumerate(layers):
        p = survival_at(index, len(layers), survival)
        if isinstance(layer, GMLPBlock):
            layer.dropout = StochasticDepth(p)
        elif p < 1:
            raise ValueError(f"survival must be 1 without layers of gMLP, got {survival}")
    if n_classes != pretrained.n_classes:
        model.head = nn.Linear(model.head.in_features, n_classes)
        model.reset_parameters()
    return model.float().train()


def model_of(
    settings: Settings, n_classes: int, seed: int
) -> tuple[ImageClassifier, Normalisation]:
    """The model to train, and the norm of its pixels."""
    torch.manual_seed(seed)
    if settings.pretrained is None:
        return make_model(settings, n_classes), settings.normalise
    loaded = load_pretrained(settings.pretrained)
    model = fine_tuned(loaded, n_classes, settings.survival, settings.image_size)
    return model, loaded.normalise or settings.normalise
