r"""The model sizes of the gMLP and MLP-Mixer papers, ready to build.

# Sizes of the paper

`sizes.GMLP_S.build()` builds gMLP-S with new weights, and `sizes.GMLP_S.build(device="meta")`
builds it without allocating memory.

The widths and depths are the papers' ([source](../../docs/coverage.yml#sizes-of-vision-models)).
Each row also records the parameter count that the paper prints and the one that our model has; a
test counts it.

The papers' norm epsilons, GELU variant and head initialisation are unknown. We use the defaults of
our blocks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth, survival_at
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import ToeplitzProjection
from labml_gmlp.models.amlp import AMLPBlock, AMLPGatingUnit
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier, n_patches


@dataclass(frozen=True, kw_only=True)
class VisionSize:
    r"""A gMLP for images from the paper's table.

    ## gMLP for images

    ```python
    classifier = GMLP_TI.build(n_classes=10, image_size=64)
    logits = classifier(torch.randn(8, 3, 64, 64))  # [8, 10]
    ```

    * `n_layers`, `d_model` and `d_ffn` are those of `Encoder` and `GMLPBlock`
    * `survival` is the survival probability of the last block, see [stochastic
      depth](../blocks/stochastic_depth.py)
    * `n_parameters` and `n_multiply_adds` (for one image) are those of `build()`
    * `printed_parameters` (millions) and `printed_flops` (billions) are those of the paper's table

    The paper counts an addition and a multiplication as two operations, so its FLOPs are twice our
    multiply-adds. The often quoted "4.5G" for gMLP-S are multiply-adds.
    """

    n_layers: int = 30
    d_model: int
    d_ffn: int
    survival: float
    n_parameters: int
    n_multiply_adds: int
    printed_parameters: float  # millions
    printed_flops: float  # billions

    def build(
        self,
        *,
        n_classes: int = 1000,
        image_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        n_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> ImageClassifier:
        r"""Builds the classifier, for ImageNet by default.

        * the arguments are those of [`ImageClassifier`](vision.py)

        Raises `ValueError` if an argument is not a positive integer (or two of them, for the
        sizes), or if `patch_size` does not divide `image_size`.
        """
        seq_len = n_patches(image_size, patch_size)

        def block(index: int) -> GMLPBlock:
            # The paper gives one probability per model. That it is the last block's, and that
            # earlier blocks survive more often, is our choice.
            survival = survival_at(index, self.n_layers, self.survival)
            return GMLPBlock(
                self.d_model,
                self.d_ffn,
                seq_len,
                dropout=StochasticDepth(survival) if survival < 1 else None,
                device=device,
                dtype=dtype,
            )

        return ImageClassifier(
            Encoder(block, self.n_layers, device=device, dtype=dtype),
            n_classes,
            image_size=image_size,
            patch_size=patch_size,
            n_channels=n_channels,
            device=device,
            dtype=dtype,
        )


# ### Ti, S and B
#
# For the two larger models, the paper prints slightly more parameters than these widths give, here,
# in timm and in g-mlp-pytorch. We do not know why.
GMLP_TI = VisionSize(
    d_model=128,
    d_ffn=768,
    survival=1.0,
    n_parameters=5_867_328,
    n_multiply_adds=1_328_989_184,
    printed_parameters=5.9,
    printed_flops=2.7,
)
GMLP_S = VisionSize(
    d_model=256,
    d_ffn=1536,
    survival=0.95,
    n_parameters=19_422_656,
    n_multiply_adds=4_392_060_928,
    printed_parameters=19.5,
    printed_flops=8.9,
)
GMLP_B = VisionSize(
    d_model=512,
    d_ffn=3072,
    survival=0.8,
    n_parameters=73_075_392,
    n_multiply_adds=15_720_452_096,
    printed_parameters=73.4,
    printed_flops=31.6,
)


@dataclass(frozen=True, kw_only=True)
class LanguageSize:
    r"""A gMLP or aMLP for language from the paper's table.

    ## gMLP and aMLP for language

    $W$ is a Toeplitz matrix, with $2n - 1$ parameters instead of $n^2$, as in the paper. This
    reproduces the printed parameter counts of all five models; with a full $W$, gMLP-base would
    have 142.6 million.

    ```python
    model = GMLP_BASE.build(causal=True)
    logits = model(torch.randint(32_000, (8, 100)))  # [8, 100, 32000]
    ```

    * `n_layers`, `d_model` and `d_ffn` are those of `Encoder` and `GMLPBlock`
    * `d_attn` is the width of aMLP's tiny attention; `None` means gMLP
    * `n_parameters` is that of `build()`, `printed_parameters` (millions) that of the paper's table
    """

    n_layers: int
    d_model: int
    d_ffn: int
    d_attn: int | None = None
    n_parameters: int
    printed_parameters: float  # millions

    def build(
        self,
        *,
        n_tokens: int = 32_000,
        seq_len: int = 512,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LanguageModel:
        r"""Builds the language model.

        * `n_tokens` and `seq_len` are by default those of the paper's masked language models
        * `causal` builds a next-token model instead (unlike the paper)

        Raises `ValueError` if `n_tokens` or `seq_len` is not a positive integer.
        """

        where: dict[str, Any] = {"device": device, "dtype": dtype}
        d, e, a = self.d_model, self.d_ffn, self.d_attn

        def block() -> GMLPBlock:
            projection = ToeplitzProjection(seq_len, causal=causal, **where)
            if a is None:
                unit = SpatialGatingUnit(e, projection=projection, **where)
                return GMLPBlock(d, e, sgu=unit, causal=causal, **where)
            attention = TinyAttention(d, e // 2, a, causal=causal, **where)
            unit = AMLPGatingUnit(e, projection=projection, **where)
            return AMLPBlock(d, e, sgu=unit, attention=attention, causal=causal, **where)

        encoder = Encoder(block, self.n_layers, device=device, dtype=dtype)
        return LanguageModel(n_tokens, encoder, device=device, dtype=dtype)


# ### Base, large and xlarge
GMLP_BASE = LanguageSize(
    n_layers=48, d_model=512, d_ffn=3072, n_parameters=130_073_552, printed_parameters=130
)
GMLP_LARGE = LanguageSize(
    n_layers=96, d_model=768, d_ffn=3072, n_parameters=365_274_528, printed_parameters=365
)
GMLP_XLARGE = LanguageSize(
    n_layers=144, d_model=1024, d_ffn=4096, n_parameters=940_582_768, printed_parameters=941
)
AMLP_BASE = LanguageSize(
    n_layers=36,
    d_model=512,
    d_ffn=3072,
    d_attn=64,
    n_parameters=108_791_516,
    printed_parameters=109,
)
AMLP_LARGE = LanguageSize(
    n_layers=72,
    d_model=768,
    d_ffn=3072,
    d_attn=128,
    n_parameters=315_627_960,
    printed_parameters=316,
)


@dataclass(frozen=True, kw_only=True)
class MixerSize:
    r"""A Mixer from table 1 of the MLP-Mixer paper.

    ## MLP-Mixer for images

    The models are named by size and patch. The counts agree with those of the paper.

    ```python
    classifier = MIXER_S_32.build(n_classes=10)
    logits = classifier(torch.randn(8, 3, 224, 224))  # [8, 10]
    ```

    * `n_layers`, `d_model`, `d_tokens` and `d_channels` are those of `Encoder` and `MixerBlock`
    * `patch_size` is the side of a patch in pixels
    * `n_parameters` is that of `build()`, `printed_parameters` (millions, without the head) the
      paper's
    """

    n_layers: int
    d_model: int
    d_tokens: int
    d_channels: int
    patch_size: int
    n_parameters: int
    printed_parameters: float  # millions, without the head

    def build(
        self,
        *,
        n_classes: int = 1000,
        image_size: int | tuple[int, int] = 224,
        n_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> ImageClassifier:
        r"""Builds the classifier, for ImageNet by default.

        * the arguments are those of [`ImageClassifier`](vision.py)

        Raises `ValueError` if an argument is not a positive integer (or two of them, for
        `image_size`), or if `patch_size` does not divide `image_size`.
        """
        seq_len = n_patches(image_size, self.patch_size)
        sizes = self.d_model, seq_len, self.d_tokens, self.d_channels
        encoder = Encoder(
            lambda: MixerBlock(*sizes, device=device, dtype=dtype),
            self.n_layers,
            device=device,
            dtype=dtype,
        )
        return ImageClassifier(
            encoder,
            n_classes,
            image_size=image_size,
            patch_size=self.patch_size,
            n_channels=n_channels,
            device=device,
            dtype=dtype,
        )


# ### S, B, L and H
def _mixer(n_layers: int, d_model: int, patch_size: int, counted: int, printed: float) -> MixerSize:
    # In each row, `d_tokens` is half of `d_model` and `d_channels` four times.
    return MixerSize(
        n_layers=n_layers,
        d_model=d_model,
        d_tokens=d_model // 2,
        d_channels=4 * d_model,
        patch_size=patch_size,
        n_parameters=counted,
        printed_parameters=printed,
    )


MIXER_S_32 = _mixer(8, 512, 32, 19_104_624, 19)
MIXER_S_16 = _mixer(8, 512, 16, 18_528_264, 18)
MIXER_B_32 = _mixer(12, 768, 32, 60_293_428, 60)
MIXER_B_16 = _mixer(12, 768, 16, 59_880_472, 59)
MIXER_L_32 = _mixer(24, 1024, 32, 206_939_264, 206)
MIXER_L_16 = _mixer(24, 1024, 16, 208_196_168, 207)
MIXER_H_14 = _mixer(32, 1280, 14, 432_350_952, 431)


def multiply_adds(classifier: ImageClassifier) -> int:
    r"""Returns the number of multiply-adds for one image, without running the model.

    ## Multiply-adds

    It counts the matrix products and convolutions, not norms, activations and biases. The
    `classifier` may be on the meta device.
    """
    # torch counts during a call, and a call on the meta device computes nothing. The classifier
    # itself stays on its device.
    parameters = dict(classifier.named_parameters())
    on_meta = {name: torch.empty_like(p, device="meta") for name, p in parameters.items()}
    dtype = classifier.head.weight.dtype
    size = (classifier.n_channels, *classifier.image_size)
    image = torch.empty(1, *size, device="meta", dtype=dtype)  # [1, n_channels, height, width]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(classifier, on_meta, image)
    # torch counts a multiply-add as two operations.
    return int(counter.get_total_flops()) // 2
