r"""The `validate` command of the ImageNet experiment.

# Validating a trained model

```
python -m experiments.imagenet validate --pretrained timm/gmlp_s16_224.ra3_in1k --data FOLDER
python -m experiments.imagenet validate --run runs/NAME --data FOLDER
```
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from experiments.engine.checkpoint import BEST
from experiments.engine.devices import make_fabric, pick_device, pick_precision, rank_zero_first
from experiments.engine.experiment import Training
from experiments.engine.run_folder import read_record
from experiments.engine.settings.errors import check_positive, report_once, user_errors
from experiments.engine.settings.flags import Parser, add_flags, given_values
from experiments.engine.settings.types import check_choices, from_dict
from experiments.engine.state import best_weights, load_run_checkpoint
from experiments.images.classifier import Pretrained, load_pretrained, make_classifier
from experiments.images.decode import INTERPOLATION
from experiments.images.folders import ImageFiles, find_images
from experiments.images.reading import DamagedFiles, validation_batches
from experiments.images.settings import ImageNetSettings
from experiments.images.validation import describe, validate
from labml_gmlp.models.sizes import multiply_adds

COMMAND = "python -m experiments.imagenet validate"


@dataclass(frozen=True, kw_only=True)
class ValidateSettings:
    """The model, the images and the devices of a validation.

    Raises `ValueError` for an unknown precision, a count or `crop` out of range, and unless exactly
    one of `pretrained` and `run` is given.
    """

    # Folder or hub name of a pretrained model.
    pretrained: str | None = None
    # Folder of a run, whose best weights are used.
    run: Path | None = None
    # Folder of images.
    data: Path = Path("data")
    # Fraction of the shorter side to keep; by default that of the model.
    crop: float | None = None
    # Images that each process validates at once.
    batch: int = 256
    # Processes that decode images, for each process that validates.
    workers: int = 2
    # Device, cpu or cuda; by default the GPU if there is one.
    device: str | None = None
    # Number of processes, one per GPU; torchrun sets it itself.
    devices: int = 1
    # Precision of the computation; auto is bf16 where the hardware multiplies it, else float32.
    precision: Literal["auto", "float32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, ("batch", "devices"))
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if (self.pretrained is None) == (self.run is None):
            raise ValueError(
                f"exactly one of pretrained and run must be given, got {self.pretrained} and "
                f"{self.run}"
            )
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"crop must lie in (0, 1], got {self.crop}")


def validate_command(arguments: Sequence[str]) -> None:
    """Validates a trained model and prints the result.

    Raises `UserError` for flags, images or weights that cannot be used.
    """
    parser = Parser(COMMAND, "[--flag value ...]", "Validate a trained model.")
    add_flags(parser, ValidateSettings)
    namespace = parser.parse_args(arguments)
    with report_once(), user_errors():
        settings = ValidateSettings(**given_values(ValidateSettings, namespace))
        device = pick_device(settings.device)
        precision = pick_precision(settings.precision, device)
        fabric = make_fabric(device, settings.devices, "ddp", precision)
    fabric.launch()
    # Process 0 goes first, so that it reports an error before the other processes end.
    pretrained, images = rank_zero_first(fabric, lambda: load_model_and_images(settings))
    with user_errors():
        model: nn.Module = fabric.setup_module(pretrained.model.float().eval())
    n_multiply_adds = multiply_adds(pretrained.model)
    if fabric.is_global_zero:
        print(
            f"{sum(p.numel() for p in pretrained.model.parameters()):,} parameters, "
            f"{n_multiply_adds / 1e9:.3f} G multiply-adds "
            f"({2 * n_multiply_adds / 1e9:.3f} GFLOPs) per image, {len(images):,} images",
            file=sys.stderr,
        )
    defaults = ImageNetSettings()
    batches = validation_batches(
        images,
        size=pretrained.image_size,
        crop=settings.crop or pretrained.crop or defaults.crop,
        interpolation=pretrained.interpolation or INTERPOLATION,
        batch=settings.batch,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=settings.workers,
        damaged=DamagedFiles(),
    )
    normalise = pretrained.normalisation or defaults.normalisation
    metrics = validate(model, batches, normalise, fabric)
    if fabric.is_global_zero:
        print(describe(metrics))


def load_model_and_images(settings: ValidateSettings) -> tuple[Pretrained, ImageFiles]:
    """Returns the model and the images to validate. Raises `UserError` if they cannot be read."""
    with user_errors():
        if settings.pretrained is not None:
            pretrained = load_pretrained(settings.pretrained)
        else:
            assert settings.run is not None
            pretrained = load_run(settings.run)
        return pretrained, find_validation_images(settings.data, pretrained.n_classes)


def load_run(run: Path) -> Pretrained:
    r"""Loads the best weights of a run.

    Raises `ValueError` or `OSError` if the folder has no valid settings or best checkpoint, or if
    `make_classifier` refuses the settings.
    """
    record = read_record(run)
    settings, training = from_dict((ImageNetSettings, Training), record["settings"])
    model, normalisation = make_classifier(settings, record["data"]["classes"], training.seed)
    model.load_state_dict(best_weights(load_run_checkpoint(run / BEST)))
    return Pretrained(model, settings.image_size, normalisation, settings.crop)


def find_validation_images(data: Path, n_classes: int) -> ImageFiles:
    r"""Lists the images of the validation split for a model of `n_classes` classes.

    Labels in a list are the model's class numbers. There must be `n_classes` class folders, because
    their names do not say which classes of the model they are.

    Raises `ValueError` for another number of class folders and for data that `find_images` refuses.
    """
    if (data / "val_list.txt").is_file():
        return find_images(data, "val", [str(label) for label in range(n_classes)])
    images = find_images(data, "val")
    if len(images.classes) != n_classes:
        raise ValueError(
            f"data must have the {n_classes} classes of the model, got {len(images.classes)} in "
            f"{data / 'val'}"
        )
    return images
