r"""
# Classifying images

The paper's first experiment: gMLP-Ti, S and B on ImageNet (paper, section 3), with the recipe of
its appendix A.1, as reported. Any folder of images will do.

```
python -m experiments.imagenet --data FOLDER --config experiments/configs/gmlp_ti.yml
python -m experiments.imagenet validate --pretrained timm/gmlp_s16_224.ra3_in1k --data FOLDER
```

The paper reports a top-1 of 72.3, 79.6 and 81.6 %. None of this has been reproduced here: no GPU
was at hand. What is tested is that each part does what its page says.
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
from experiments.engine.settings.flags import from_dict
from experiments.engine.state import State, best_weights, load_run_checkpoint
from experiments.images.augment import Normalisation, augment
from experiments.images.decode import MODE, Crop
from experiments.images.distillation import distillation_loss
from experiments.images.folders import read_images
from experiments.images.mixing import cross_entropy, mix, smooth
from experiments.images.reading import Damaged, training_batches, validation_batches
from experiments.images.settings import DEFAULTS, Settings
from experiments.images.validate_command import validate_command
from experiments.images.validation import describe, validate
from experiments.models.images import load_pretrained, model_of, save_trained
from experiments.reporting.pictures import Curve
from experiments.reporting.run_page import matrices, write_run
from labml_gmlp.models.sizes import multiply_adds


def build(settings: Settings, training: Training, launch: Launch, fabric: Fabric) -> Task:
    r"""
    ## The task

    Raises `ValueError` or `OSError` for images, weights or sizes that cannot be used, and for
    micro-batches of one image, which has no other to be mixed with.
    """
    n_parts = fabric.world_size * launch.accumulate
    mixed = settings.mixing > 0 and (settings.mixup > 0 or settings.cutmix > 0)
    if mixed and training.batch < 2 * n_parts:
        raise ValueError(
            f"batch must be at least {2 * n_parts} for {fabric.world_size} processes that "
            f"accumulate {launch.accumulate} micro-batches, as mixup and cutmix need two images in "
            f"each, got {training.batch}; --mixing 0 mixes none"
        )
    train = read_images(launch.data, "train")
    held_out = read_images(launch.data, "val", train.classes)
    n_classes = len(train.classes)
    model, normalise = model_of(settings, n_classes, training.seed)
    model.encoder.checkpoint_layers = launch.checkpoint_layers  # type: ignore[assignment]
    n_multiply_adds = multiply_adds(model)
    damaged = Damaged()
    return Task(
        model=model,
        data={
            "name": launch.data.resolve().name,
            "classes": n_classes,
            "train": train.sha256,
            "validation": held_out.sha256,
        },
        about=(
            f"{len(train):,} images of {n_classes:,} classes, {len(held_out):,} to validate, "
            f"{n_multiply_adds / 1e9:.3f} G multiply-adds ({2 * n_multiply_adds / 1e9:.3f} GFLOPs) "
            f"each"
        ),
        batches=lambda step, share: training_batches(
            train,
            size=settings.image_size,
            crop=Crop(share=(settings.smallest_crop, 1.0)),
            batch=training.batch,
            seed=training.seed,
            step=step,
            share=share,
            workers=launch.workers,
            damaged=damaged,
        ),
        loss=make_loss(settings, n_classes, normalise, teacher_of(settings, n_classes, fabric)),
        evaluate=lambda model, fabric: validate(
            model,
            validation_batches(
                held_out,
                size=settings.image_size,
                share=settings.crop,
                mode=MODE,
                batch=settings.validation_batch,
                rank=fabric.global_rank,
                world=fabric.world_size,
                workers=launch.workers,
                damaged=damaged,
            ),
            normalise,
            fabric,
        ),
        monitor="error",
        describe=describe,
    )


Teacher = Callable[[Tensor], Tensor]


def teacher_of(settings: Settings, n_classes: int, fabric: Fabric) -> Teacher | None:
    r"""
    ## The teacher

    It sees the same images as the student, mixed and cut, in the norm that it was trained with.

    Raises `ValueError` for one of other images or other classes.
    """
    if settings.teacher is None:
        return None
    loaded = load_pretrained(settings.teacher)
    if (loaded.image_size, loaded.n_classes) != (settings.image_size, n_classes):
        raise ValueError(
            f"teacher must take images of {settings.image_size} pixels and know {n_classes} "
            f"classes, got {loaded.image_size} and {loaded.n_classes}"
        )
    normalise = loaded.normalise or settings.normalise
    model = fabric.to_device(loaded.model.float().eval())

    @torch.no_grad()
    def answer(pixels: Tensor) -> Tensor:
        with fabric.autocast():
            return model(normalise(pixels))

    return answer


def make_loss(
    settings: Settings, n_classes: int, normalise: Normalisation, teacher: Teacher | None
) -> Callable[[nn.Module, Batch], Tensor]:
    r"""
    ## The loss

    Pixels are changed, normalised and mixed, and labels smoothed and mixed, on the device. All that
    is drawn comes from the generator that the loop seeds at each step.

    Returns a function from the model and a micro-batch to the mean over its images.
    """
    how, mixing = settings.augmentation, settings.mixes
    mean, std = (torch.tensor(values)[:, None, None] for values in normalise)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        x = augment(images, how, normalise)
        x, targets = mix(x, smooth(labels, n_classes, settings.smoothing), mixing)
        logits = model(x)
        value = cross_entropy(logits, targets)
        if teacher is None:
            return value
        return distillation_loss(
            value,
            logits,
            teacher(x * std.to(x) + mean.to(x)),
            kind=settings.distil,
            share=settings.distil_share,
            temperature=settings.temperature,
        )

    return loss


def finish(folder: Path, record: dict[str, Any], state: State, fabric: Fabric) -> None:
    r"""
    ## At the end

    Writes the best weights as a folder that `from_pretrained` reads, with what is done to images
    first, and the report, and prints the result.
    """
    settings, training = from_dict((Settings, Training), record["settings"])
    best = load_run_checkpoint(folder / BEST)
    model, normalise = model_of(settings, record["data"]["classes"], training.seed)
    model.load_state_dict(best_weights(best))
    save_trained(model, folder / "model", normalise, settings.crop)
    found = best["best"]
    rate = training.batch * state.step / max(state.seconds, 1e-9)
    write_run(
        folder,
        record,
        state,
        title=f"gMLP-{settings.size.title()} on {record['data']['name']}",
        headline=(
            f"**top-1 {found['top1']:.2f} %** (top-5 {found['top5']:.2f} %) over the whole "
            f"validation part; {rate:,.0f} images a second in training"
        ),
        curve=Curve("nats", "nats per image"),
        parts=matrices(folder, state.model, best, causal=False),
    )
    print(f"validation: {describe(found)} at step {found['step']}")
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
