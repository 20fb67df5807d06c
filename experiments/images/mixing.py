r"""Mixup, CutMix, label smoothing, and the loss of soft targets.

# Mixup and CutMix

Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, 2018, [arXiv
1710.09412](https://arxiv.org/abs/1710.09412)) and CutMix (Yun, Han, Oh, Chun, Choe and Yoo, 2019,
[arXiv 1905.04899](https://arxiv.org/abs/1905.04899)) combine two images and ask for both classes.
The paper uses both, with label smoothing (appendix A.1,
[source](../../docs/coverage.yml#hyper-parameters)).

One mask $m$ describes both: the weight of the image at each pixel. Its partner has weight $1 - m$.

$$x' = m \odot x + (1 - m) \odot \tilde{x}, \qquad
  t' = \bar{m} \, t + (1 - \bar{m}) \, \tilde{t}, \qquad \bar{m} = \mathrm{mean}(m)$$
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class MixupCutmix(NamedTuple):
    r"""The probabilities and strengths of mixup and CutMix.

    ```python
    targets = smooth_labels(torch.arange(4), n_classes=4, smoothing=0.1)
    x, targets = mix_batch(torch.rand(4, 3, 32, 32), targets, MixupCutmix(mixup_alpha=0.2))
    ```

    * `mixup_alpha` and `cutmix_alpha` are the $\alpha$ of each, 0 to disable it
    * `switch_probability` is the probability of CutMix when both are enabled
    * `probability` is the probability that an image is mixed at all
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    switch_probability: float = 0.5
    probability: float = 1.0


def mixing_masks(n: int, height: int, width: int, mixing: MixupCutmix) -> Tensor:
    r"""Draws a mask for each image.

    ## Masks

    $$\lambda \sim \mathrm{Beta}(\alpha, \alpha), \qquad
      m = \begin{cases}
        \lambda \text{ everywhere} & \text{mixup} \\
        0 \text{ in a box of area } 1 - \lambda, \; 1 \text{ outside} & \text{CutMix}
      \end{cases}$$

    Each image draws its own $\lambda$ and its own choice between the two. Drawing once per batch,
    as other implementations do, has the same mean and a noisier gradient. This is our choice; the
    paper does not say.

    * `n`, `height` and `width` are the number of images and their size in pixels

    Returns $m$, `[n, 1, height, width]`, on the CPU.
    """
    mask = torch.ones(n, 1, height, width)
    if mixing.mixup_alpha == mixing.cutmix_alpha == 0:
        return mask
    both = mixing.mixup_alpha and mixing.cutmix_alpha
    switch = mixing.switch_probability if both else float(mixing.mixup_alpha == 0)
    cut = torch.rand(n) < switch
    mixed = torch.rand(n) < mixing.probability
    if mixing.mixup_alpha:
        lam = _beta(mixing.mixup_alpha, n)
        mask = torch.where((mixed & ~cut)[:, None, None, None], lam[:, None, None, None], mask)
    if mixing.cutmix_alpha:
        lam = _beta(mixing.cutmix_alpha, n)
        inside = cutmix_boxes(lam, torch.rand(n, 2), height, width)
        mask = torch.where((mixed & cut)[:, None, None] & inside, 0.0, mask[:, 0])[:, None]
    return mask


def _beta(alpha: float, n: int) -> Tensor:
    concentration = torch.tensor(alpha)
    return torch.distributions.Beta(concentration, concentration).sample((n,))


def cutmix_boxes(lam: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    r"""Computes the box that CutMix replaces in each image.

    ## CutMix boxes

    Each side of the box is $\sqrt{1 - \lambda}$ times that of the image, and its centre is anywhere
    in the image. The box is clipped at the edges, so its area is at most $1 - \lambda$. The targets
    use the area that was replaced, because $\bar{m}$ is the mean of the mask.

    * `lam` is $\lambda$, `[n]`
    * `centre` is the vertical and the horizontal centre, from 0 to 1, `[n, 2]`

    Returns true inside the box, `[n, height, width]`.
    """
    inside = []
    for axis, size in enumerate((height, width)):
        side = (size * (1 - lam).sqrt()).round()  # [n]
        first = (centre[:, axis] * size - side / 2).round()
        position = torch.arange(size)
        inside.append(
            (position >= first[:, None]) & (position < (first + side)[:, None])  # [n, size]
        )
    return inside[0][:, :, None] & inside[1][:, None, :]


def smooth_labels(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
    r"""Turns labels into smoothed target distributions.

    ## Label smoothing

    $$t_c = (1 - \varepsilon) [c = y] + \varepsilon / C$$

    * `labels` are $y$, `[B]`; `n_classes` is $C$ and `smoothing` $\varepsilon$

    Returns $t$, `[B, n_classes]`.
    """
    targets = nn.functional.one_hot(labels, n_classes).float()
    return (1 - smoothing) * targets + smoothing / n_classes


def mix_batch(images: Tensor, targets: Tensor, mixing: MixupCutmix) -> tuple[Tensor, Tensor]:
    r"""Mixes each image and its target with the previous one of the micro-batch.

    ## Mixing a batch

    The first image's partner $\tilde{x}$ is the last. Implementations that reverse the batch mix
    the middle image of an odd number with itself. A single image has no other partner, so the
    [experiment](../imagenet.py) rejects micro-batches of one.

    * `images` are $x$, `[B, c, height, width]`, and `targets` $t$, `[B, n_classes]`

    Returns $x'$ and $t'$ in the same shapes.
    """
    n, _, height, width = images.shape
    m = mixing_masks(n, height, width, mixing).to(images.device)
    images = m * images + (1 - m) * images.roll(1, 0)
    mean = m.mean(dim=(1, 2, 3))[:, None]  # [B, 1]
    return images, mean * targets + (1 - mean) * targets.roll(1, 0)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    r"""The cross-entropy of target distributions, averaged over the batch.

    ## Cross-entropy of soft targets

    $$-\frac{1}{B} \sum_b \sum_c t_{bc} \log \mathrm{softmax}(z_b)_c$$

    * `logits` are $z$ and `targets` $t$, `[B, n_classes]`

    Returns a scalar, computed in float32 for logits of any precision.
    """
    return -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()
