r"""
# The command that validates

```
python -m experiments.imagenet validate --pretrained timm/gmlp_s16_224.ra3_in1k --data FOLDER
python -m experiments.imagenet validate --run runs/NAME --data FOLDER
```
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from experiments.engine.checkpoint import BEST
from experiments.engine.devices import make_fabric, pick_device, pick_precision, rank_zero_first
from experiments.engine.experiment import Training
from experiments.engine.run_folder import read_record
from experiments.engine.settings.errors import check_positive, report_once, user_errors
from experiments.engine.settings.flags import Parser, add_flags, from_dict, given_values
from experiments.engine.state import best_weights, load_run_checkpoint
from experiments.images.decode import MODE
from experiments.images.folders import Images, read_images
from experiments.images.reading import Damaged, validation_batches
from experiments.images.settings import Settings
from experiments.images.validation import describe, validate
from experiments.models.images import Pretrained, load_pretrained, model_of
from labml_gmlp.models.sizes import multiply_adds

PROGRAM = "python -m experiments.imagenet validate"


@dataclass(frozen=True, kw_only=True)
class Validate:
    r"""
    ## Validate

    * `pretrained` is a folder or the name of a model on the hub
    * `run` is the folder of a run, whose best weights are taken
    * `data` is the folder of images
    * `crop` is the share of the shorter side to look at; by default that of the model
    * `batch` is the number of images that a process validates at once
    * `workers` is the number of processes that decode images
    * `device` is cpu or cuda; by default the GPU if there is one
    * `devices` is the number of processes, on GPUs one for each
    * `precision` is float32, bf16, or auto: bf16 where the hardware has it
    """

    pretrained: str | None = None
    run: Path | None = None
    data: Path = Path("data")
    crop: float | None = None
    batch: int = 256
    workers: int = 2
    device: str | None = None
    devices: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_positive(self, ("batch", "devices"))
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if (self.pretrained is None) == (self.run is None):
            raise ValueError(
                f"pretrained or run must be given, and not both, got {self.pretrained} and "
                f"{self.run}"
            )
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"crop must lie in (0, 1], got {self.crop}")


def validate_command(arguments: Sequence[str]) -> None:
    """Prints what a model knows of the validation part of the data."""
    parser = Parser(PROGRAM, "[--flag value ...]", "Validate a trained model.")
    add_flags(parser, Validate)
    namespace = parser.parse_args(arguments)
    with report_once(), user_errors():
        asked = Validate(**given_values(Validate, namespace))
        device = pick_device(asked.device)
        precision = pick_precision(asked.precision, device)
        fabric = make_fabric(device, asked.devices, "ddp", precision)
    fabric.launch()
    # A process that ends takes the others with it, so the first one has to speak before.
    loaded, fallback, images = rank_zero_first(fabric, lambda: model_and_images(asked))
    with user_errors():
        model: nn.Module = fabric.setup_module(loaded.model.float().eval())
    about = f"{sum(p.numel() for p in loaded.model.parameters()):,} parameters"
    n_multiply_adds = multiply_adds(loaded.model)
    if fabric.is_global_zero:
        print(
            f"{about}, {n_multiply_adds / 1e9:.3f} G multiply-adds "
            f"({2 * n_multiply_adds / 1e9:.3f} GFLOPs) an image, {len(images):,} images",
            file=sys.stderr,
        )
    batches = validation_batches(
        images,
        size=loaded.image_size,
        share=asked.crop or loaded.crop or fallback.crop,
        mode=loaded.mode or MODE,
        batch=asked.batch,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=asked.workers,
        damaged=Damaged(),
    )
    found = validate(model, batches, loaded.normalise or fallback.normalise, fabric)
    if fabric.is_global_zero:
        print(describe(found))


def model_and_images(asked: Validate) -> tuple[Pretrained, Settings, Images]:
    """What `trained` and `validation_images` give. Raises `UserError` for what they refuse."""
    with user_errors():
        loaded, fallback = trained(asked)
        return loaded, fallback, validation_images(asked.data, loaded.n_classes)


def trained(asked: Validate) -> tuple[Pretrained, Settings]:
    """The model to validate, and the settings that hold where it does not say otherwise."""
    if asked.pretrained is not None:
        return load_pretrained(asked.pretrained), Settings()
    assert asked.run is not None
    record = read_record(asked.run)
    settings, training = from_dict((Settings, Training), record["settings"])
    model, normalise = model_of(settings, record["data"]["classes"], training.seed)
    model.load_state_dict(best_weights(load_run_checkpoint(asked.run / BEST)))
    return Pretrained(model, settings.image_size, normalise), settings


def validation_images(data: Path, n_classes: int) -> Images:
    r"""
    The images of the validation part. Those of a list have the numbers of their classes; folders
    must be as many as the model has classes, as their names say nothing of its order.

    Raises `ValueError` for another number.
    """
    if (data / "val_list.txt").is_file():
        return read_images(data, "val", [str(label) for label in range(n_classes)])
    images = read_images(data, "val")
    if len(images.classes) != n_classes:
        raise ValueError(
            f"data must have the {n_classes} classes of the model, got {len(images.classes)} in "
            f"{data / 'val'}"
        )
    return images
