r"""
# Settings of images

What a run of the [ImageNet experiment](../imagenet.py) depends on, and the defaults of the paper's
three sizes.
"""

from dataclasses import dataclass

from experiments.engine.experiment import Training
from experiments.engine.settings.errors import check_choice, check_positive
from experiments.images.augment import FILLS, POLICIES, Augmentation, Normalisation
from experiments.images.distillation import KINDS
from experiments.images.mixing import Mixing
from labml_gmlp.models.sizes import GMLP_B, GMLP_S, GMLP_TI

SIZES = {"ti": GMLP_TI, "s": GMLP_S, "b": GMLP_B}


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""
    ## Settings

    * `size` is ti, s or b; the other defaults follow it
    * `d_model` is the number of channels between layers
    * `d_ffn` is the number of channels inside a layer
    * `n_layers` is the number of layers
    * `patch` is the side of a patch in pixels
    * `image_size` is the side of an image in pixels
    * `survival` is the chance of the last layer to be kept in a step; it is better for earlier ones
    * `pretrained` is a folder or a name on the hub to start from, whose sizes count then
    * `mean` and `std` are those of the pixels, for all channels; pretrained weights bring their own
    * `smallest_crop` is the smallest share of an image that training looks at
    * `crop` is the share of the shorter side that validation looks at
    * `flip` is the probability that left and right change places
    * `policy` is none, rand for RandAugment or auto for AutoAugment
    * `rand_layers` is the number of operations of RandAugment
    * `rand_magnitude` is how strong they are, from 0 to 10
    * `jitter` is the largest change of brightness, contrast and colour
    * `erasing` is the probability of random erasing
    * `erasing_fill` is noise or mean
    * `mixup` and `cutmix` are the numbers alpha of mixup and cutmix, 0 for never
    * `switch` is the probability of cutmix where both are on
    * `mixing` is the probability of an image to be mixed at all
    * `smoothing` is the share of a label that goes to all classes
    * `distil` is none, soft or hard
    * `teacher` is the pretrained model to learn from, a folder or a name on the hub
    * `distil_share` is the share of the teacher in the loss
    * `temperature` is that of soft distillation
    * `validation_batch` is the number of images that a process validates at once
    """

    size: str = "ti"
    d_model: int = 128
    d_ffn: int = 768
    n_layers: int = 30
    patch: int = 16
    image_size: int = 224
    survival: float = 1.0
    pretrained: str | None = None
    mean: float = 0.5
    std: float = 0.5
    smallest_crop: float = 0.08
    crop: float = 0.875
    flip: float = 0.5
    policy: str = "auto"
    rand_layers: int = 2
    rand_magnitude: float = 9.0
    jitter: float = 0.0
    erasing: float = 0.0
    erasing_fill: str = "noise"
    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5
    mixing: float = 1.0
    smoothing: float = 0.1
    distil: str = "none"
    teacher: str | None = None
    distil_share: float = 0.5
    temperature: float = 3.0
    validation_batch: int = 256

    def __post_init__(self) -> None:
        check_choice("size", self.size, SIZES)
        check_choice("policy", self.policy, POLICIES)
        check_choice("erasing_fill", self.erasing_fill, FILLS)
        check_choice("distil", self.distil, KINDS)
        sizes = ("d_model", "d_ffn", "n_layers", "patch", "image_size", "validation_batch")
        check_positive(self, (*sizes, "rand_layers", "temperature"))
        for name in ("flip", "erasing", "switch", "mixing", "distil_share", "mean", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("survival", "smallest_crop"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        # As the folder of the trained model is read: better to miss it now than at the end.
        if not 0 < self.std < 1e6:
            raise ValueError(f"std must be above 0 and below 1e6, got {self.std}")
        if not 0.01 <= self.crop <= 1:
            raise ValueError(f"crop must lie in [0.01, 1], got {self.crop}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing}")
        if not 0 <= self.rand_magnitude <= 10:
            raise ValueError(f"rand_magnitude must lie in [0, 10], got {self.rand_magnitude}")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if (self.teacher is None) != (self.distil == "none"):
            raise ValueError(
                f"teacher must be given with a distil that is not none, and only then, "
                f"got {self.teacher} with distil={self.distil}"
            )

    @property
    def normalise(self) -> Normalisation:
        return Normalisation((self.mean,) * 3, (self.std,) * 3)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            flip=self.flip,
            policy=self.policy,
            layers=self.rand_layers,
            magnitude=self.rand_magnitude,
            jitter=self.jitter,
            erasing=self.erasing,
            fill=self.erasing_fill,
        )

    @property
    def mixes(self) -> Mixing:
        return Mixing(self.mixup, self.cutmix, self.switch, self.mixing)


# ## The paper's sizes and its recipe
#
# 300 epochs of 1,281,167 images are 93,836 steps of 4096; validation comes every fifth epoch.
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
        Settings(
            size=name,
            d_model=size.d_model,
            d_ffn=size.d_ffn,
            n_layers=size.n_layers,
            survival=size.survival,
        ),
        RECIPE,
    )
    for name, size in SIZES.items()
}
