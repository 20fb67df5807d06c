r"""The settings of an ImageNet run, with the defaults of the paper's three sizes.

# ImageNet settings

The sizes are gMLP-Ti, S and B, and the recipe is that of appendix A.1
([source](../../docs/coverage.yml#hyper-parameters)).
"""

import math
from dataclasses import dataclass
from typing import Literal

from experiments.engine.experiment import Training
from experiments.engine.settings.errors import check_positive
from experiments.engine.settings.types import check_choices
from experiments.images.augment import Augmentation, Fill, Normalisation, Policy
from experiments.images.distillation import Distillation
from experiments.images.mixing import MixupCutmix
from labml_gmlp.models.sizes import GMLP_B, GMLP_S, GMLP_TI

SIZES = {"ti": GMLP_TI, "s": GMLP_S, "b": GMLP_B}


@dataclass(frozen=True, kw_only=True)
class ImageNetSettings:
    r"""The model, the data augmentation and the loss of an ImageNet run.

    ## Settings

    ```python
    settings = ImageNetSettings(size="s", d_model=256, d_ffn=1536, survival=0.95)
    print(settings.augmentation, settings.normalisation, settings.mixup_cutmix)
    ```

    Raises `ValueError` for an unknown choice, a size below 1, a value out of range, a teacher
    without distillation, and distillation without a teacher.
    """

    # Model size of the paper; other defaults depend on it.
    size: Literal["ti", "s", "b"] = "ti"
    # Width of the residual stream.
    d_model: int = 128  # channels
    # Width inside a layer.
    d_ffn: int = 768  # channels
    # Depth of the model.
    n_layers: int = 30  # layers
    # Side of a patch.
    patch: int = 16  # pixels
    # Side of an image.
    image_size: int = 224  # pixels
    # Survival probability of the last layer in stochastic depth; earlier layers survive more often.
    survival: float = 1.0
    # Folder or hub name of a pretrained model to start from; it also determines the sizes.
    pretrained: str | None = None
    # Mean subtracted from all channels; a pretrained model brings its own.
    mean: float = 0.5
    # Standard deviation that all channels are divided by; a pretrained model brings its own.
    std: float = 0.5
    # Smallest area of a random crop in training, as a fraction of the image.
    smallest_crop: float = 0.08
    # Fraction of the shorter side that validation keeps.
    crop: float = 0.875
    # Probability of a horizontal flip.
    flip: float = 0.5
    # Augmentation policy: RandAugment, AutoAugment or none.
    policy: Policy = "auto"
    # Number of operations of RandAugment.
    rand_layers: int = 2
    # Magnitude of RandAugment, from 0 to 10.
    rand_magnitude: float = 9.0
    # Maximum relative change of brightness, contrast and saturation.
    jitter: float = 0.0
    # Probability of random erasing.
    erasing: float = 0.0
    # Fill of the erased pixels: noise, or the mean pixel.
    erasing_fill: Fill = "noise"
    # Alpha of mixup's beta distribution; 0 disables mixup.
    mixup: float = 0.8
    # Alpha of CutMix's beta distribution; 0 disables CutMix.
    cutmix: float = 1.0
    # Probability of CutMix rather than mixup when both are enabled.
    switch: float = 0.5
    # Probability that an image is mixed at all.
    mixing: float = 1.0
    # Label smoothing: the target probability spread evenly over all classes.
    smoothing: float = 0.1
    # Kind of distillation.
    distil: Distillation = "none"
    # Folder or hub name of the pretrained teacher.
    teacher: str | None = None
    # Weight of the teacher's loss.
    distil_share: float = 0.5
    # Temperature of soft distillation.
    temperature: float = 3.0
    # Images that each process validates at once.
    validation_batch: int = 256

    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("d_model", "d_ffn", "n_layers", "patch", "image_size", "validation_batch")
        check_positive(self, (*sizes, "rand_layers", "temperature"))
        for name in ("flip", "erasing", "switch", "mixing", "distil_share", "mean", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("survival", "smallest_crop"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        # `Preprocessing.from_config`, which reads the saved model, has the same limits.
        if not 0 < self.std < 1e6:
            raise ValueError(f"std must be above 0 and below 1e6, got {self.std}")
        if not 0.01 <= self.crop <= 1:
            raise ValueError(f"crop must lie in [0.01, 1], got {self.crop}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing}")
        if not 0 <= self.rand_magnitude <= 10:
            raise ValueError(f"rand_magnitude must lie in [0, 10], got {self.rand_magnitude}")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if (self.teacher is None) != (self.distil == "none"):
            raise ValueError(
                f"teacher must be given if and only if distil is soft or hard, got {self.teacher} "
                f"with distil={self.distil}"
            )

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation((self.mean,) * 3, (self.std,) * 3)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            flip=self.flip,
            policy=self.policy,
            n_operations=self.rand_layers,
            magnitude=self.rand_magnitude,
            jitter=self.jitter,
            erasing=self.erasing,
            fill=self.erasing_fill,
        )

    @property
    def mixup_cutmix(self) -> MixupCutmix:
        return MixupCutmix(self.mixup, self.cutmix, self.switch, self.mixing)


# ## The paper's sizes and recipe
#
# 300 epochs of 1,281,167 images are 93,836 steps of 4096 images. Validation runs every five epochs
# (our choice).
RECIPE = Training(
    batch=4096,
    steps=93_836,
    lr=1e-3,
    warmup=10_000,
    weight_decay=0.05,
    beta1=0.9,
    beta2=0.999,
    eps=1e-6,
    clip=1.0,
    evaluate_every=1_564,
    save_every=313,
    log_every=20,
)
DEFAULTS = {
    name: (
        ImageNetSettings(
            size=name,  # type: ignore[arg-type]
            d_model=size.d_model,
            d_ffn=size.d_ffn,
            n_layers=size.n_layers,
            survival=size.survival,
        ),
        RECIPE,
    )
    for name, size in SIZES.items()
}
