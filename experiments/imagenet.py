r"""Trains gMLP to classify ImageNet, or any folder of images.

# ImageNet classification

The paper's first experiment: gMLP-Ti, S and B on ImageNet (section 3), with the recipe of appendix
A.1 ([source](../docs/coverage.yml#hyper-parameters)).

```
python -m experiments.imagenet --data FOLDER --config experiments/configs/gmlp_ti.yml
python -m experiments.imagenet validate --pretrained timm/gmlp_s16_224.ra3_in1k --data FOLDER
```

The paper reports a top-1 accuracy of 72.3, 79.6 and 81.6 %
([source](../docs/coverage.yml#accuracies-of-vision-models)). We have not reproduced these results,
because no GPU was available. The tests check each part against its description.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from experiments.engine.checkpoint import BEST
from experiments.engine.command import run, run_as_main
from experiments.engine.experiment import Batch, Experiment, Task, Training
from experiments.engine.launch import Launch
from experiments.engine.settings.types import from_dict
from experiments.engine.state import State, best_weights, load_run_checkpoint
from experiments.images.augment import Normalisation, augment
from experiments.images.classifier import load_pretrained, make_classifier, save_classifier
from experiments.images.decode import INTERPOLATION, CropRange
from experiments.images.distillation import distillation_loss
from experiments.images.folders import find_images
from experiments.images.mixing import mix_batch, smooth_labels, soft_cross_entropy
from experiments.images.reading import DamagedFiles, training_batches, validation_batches
from experiments.images.settings import DEFAULTS, ImageNetSettings
from experiments.images.validate_command import validate_command
from experiments.images.validation import describe, validate
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import matrices, write_run
from labml_gmlp.models.sizes import multiply_adds


def build(settings: ImageNetSettings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""Builds the model and finds its data.

    ## The task

    Raises `ValueError` or `OSError` for images, sizes, pretrained weights or a teacher that cannot
    be used, and `ValueError` for mixing with micro-batches of one image.
    """
    n_parts = fabric.world_size * launch.accumulate
    mixed = settings.mixing > 0 and (settings.mixup > 0 or settings.cutmix > 0)
    if mixed and training.batch < 2 * n_parts:
        raise ValueError(
            f"batch must be at least {2 * n_parts} with {fabric.world_size} processes that "
            f"accumulate {launch.accumulate} micro-batches, because mixup and CutMix need two "
            f"images in each, got {training.batch}; --mixing 0 disables them"
        )
    train = find_images(launch.data, "train")
    held_out = find_images(launch.data, "val", train.classes)
    n_classes = len(train.classes)
    model, normalisation = make_classifier(settings, n_classes, training.seed)
    model.encoder.checkpoint_layers = launch.checkpoint_layers  # type: ignore[assignment]
    n_multiply_adds = multiply_adds(model)
    damaged = DamagedFiles()
    return Task(
        model=model,
        data={
            "name": launch.data.resolve().name,
            "classes": n_classes,
            "train": train.sha256,
            "validation": held_out.sha256,
        },
        about=(
            f"{len(train):,} training images of {n_classes:,} classes, {len(held_out):,} "
            f"validation images, {n_multiply_adds / 1e9:.3f} G multiply-adds "
            f"({2 * n_multiply_adds / 1e9:.3f} GFLOPs) per image"
        ),
        batches=lambda step, split: training_batches(
            train,
            size=settings.image_size,
            crop=CropRange(scale=(settings.smallest_crop, 1.0)),
            batch=training.batch,
            seed=training.seed,
            step=step,
            split=split,
            workers=launch.workers,
            damaged=damaged,
        ),
        loss=make_loss(
            settings, n_classes, normalisation, make_teacher(settings, n_classes, fabric)
        ),
        evaluate=lambda model, fabric: validate(
            model,
            validation_batches(
                held_out,
                size=settings.image_size,
                crop=settings.crop,
                interpolation=INTERPOLATION,
                batch=settings.validation_batch,
                rank=fabric.global_rank,
                world=fabric.world_size,
                workers=launch.workers,
                damaged=damaged,
            ),
            normalisation,
            fabric,
        ),
        monitor="error",
        describe=describe,
    )


Teacher = Callable[[Tensor], Tensor]


def make_teacher(settings: ImageNetSettings, n_classes: int, fabric: Fabric) -> Teacher | None:
    r"""Loads the teacher, if there is one.

    ## The teacher

    It gets the same augmented and mixed images as the student, with its own normalisation.

    Returns a function from pixels, with values from 0 to 1, to logits.

    Raises `ValueError` for a teacher that is not a classifier of square RGB images or has another
    image size or number of classes, and `WeightsError` or `OSError` if it cannot be read.
    """
    if settings.teacher is None:
        return None
    pretrained = load_pretrained(settings.teacher)
    if (pretrained.image_size, pretrained.n_classes) != (settings.image_size, n_classes):
        raise ValueError(
            f"teacher must take images of {settings.image_size} pixels and have {n_classes} "
            f"classes, got {pretrained.image_size} and {pretrained.n_classes}"
        )
    normalise = pretrained.normalisation or settings.normalisation
    model = fabric.to_device(pretrained.model.float().eval())

    @torch.no_grad()
    def predict(pixels: Tensor) -> Tensor:
        with fabric.autocast():
            return model(normalise(pixels))

    return predict


def make_loss(
    settings: ImageNetSettings,
    n_classes: int,
    normalisation: Normalisation,
    teacher: Teacher | None,
) -> Callable[[nn.Module, Batch], Tensor]:
    r"""Makes the training loss, which augments and mixes the images first.

    ## The loss

    All of this runs on the device. Random numbers come from torch's global generator, which the
    training loop seeds at each step.

    Returns a function from the model and a micro-batch to the mean loss of its images.
    """
    augmentation, mixing = settings.augmentation, settings.mixup_cutmix
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        x = augment(images, augmentation, normalisation)
        x, targets = mix_batch(x, smooth_labels(labels, n_classes, settings.smoothing), mixing)
        logits = model(x)
        label_loss = soft_cross_entropy(logits, targets)
        if teacher is None:
            return label_loss
        return distillation_loss(
            label_loss,
            logits,
            teacher(x * std.to(x) + mean.to(x)),
            kind=settings.distil,
            weight=settings.distil_share,
            temperature=settings.temperature,
        )

    return loss


def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
    r"""Saves the best weights, writes the report of the run and prints its result.

    ## The result of a run

    `from_pretrained` reads the saved folder, and `preprocessing_from` the preprocessing in it.
    """
    settings, training = from_dict((ImageNetSettings, Training), record["settings"])
    best = load_run_checkpoint(folder / BEST)
    model, normalisation = make_classifier(settings, record["data"]["classes"], training.seed)
    model.load_state_dict(best_weights(best))
    save_classifier(model, folder / "model", normalisation, settings.crop)
    metrics = best["best"]
    rate = training.batch * state.step / max(state.seconds, 1e-9)
    write_run(
        folder,
        record,
        state,
        title=f"gMLP-{settings.size.title()} on {record['data']['name']}",
        headline=(
            f"**top-1 {metrics['top1']:.2f} %** (top-5 {metrics['top5']:.2f} %) on the whole "
            f"validation split; {rate:,.0f} images a second in training"
        ),
        curve=Curve("nats", "nats per image"),
        parts=matrices(folder, state.model, best, causal=False),
    )
    print(f"validation: {describe(metrics)} at step {metrics['step']}")
    print(f"training: {rate:,.0f} images a second\nmodel: {folder / 'model'}\nrun: {folder}")


EXPERIMENT = Experiment(
    name="imagenet",
    about="Train gMLP to classify images.",
    variant="size",
    defaults=DEFAULTS,
    label=lambda settings: f"imagenet-{settings.size}",
    build=build,
    finish=finish,
    commands={"validate": validate_command},
)
main = partial(run, EXPERIMENT)

if __name__ == "__main__":
    run_as_main(EXPERIMENT)
