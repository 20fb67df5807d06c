r"""
# Mixed images and their labels

Mixup (Zhang, Cisse, Dauphin and Lopez-Paz, 2018, [arXiv
1710.09412](https://arxiv.org/abs/1710.09412)) and CutMix (Yun, Han, Oh, Chun, Choe and Yoo, 2019,
[arXiv 1905.04899](https://arxiv.org/abs/1905.04899)) train on two images at once, and ask for both
classes. The paper uses both, with label smoothing (paper, appendix A.1, as reported).

One mask says both: what share of each pixel stays.

$$x' = m \odot x + (1 - m) \odot \tilde{x}, \qquad
  t' = \bar{m} \, t + (1 - \bar{m}) \, \tilde{t}, \qquad \bar{m} = \mathrm{mean}(m)$$
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Mixing(NamedTuple):
    r"""
    ## How much is mixed

    * `mixup` and `cutmix` are the $\alpha$ of each, 0 for never
    * `switch` is the probability of cutmix where both are on
    * `probability` is that of an image to be mixed at all
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    switch: float = 0.5
    probability: float = 1.0


def masks(n: int, height: int, width: int, mixing: Mixing) -> Tensor:
    r"""
    ## Masks

    $$\lambda \sim \mathrm{Beta}(\alpha, \alpha), \qquad
      m = \begin{cases}
        \lambda \text{ at each pixel} & \text{mixup} \\
        0 \text{ in a box of the area } 1 - \lambda, \; 1 \text{ outside} & \text{cutmix}
      \end{cases}$$

    Each image draws its own $\lambda$, and whether to mix or to cut; implementations that draw once
    for a batch get a noisier gradient for the same mean. (Our choice. The paper does not say.)

    * `n`, `height` and `width` are the number and the size of the images, in pixels

    Returns $m$, `[n, 1, height, width]`, on the CPU.
    """
    mask = torch.ones(n, 1, height, width)
    if mixing.mixup == mixing.cutmix == 0:
        return mask
    switch = mixing.switch if mixing.mixup and mixing.cutmix else float(mixing.mixup == 0)
    cuts = torch.rand(n) < switch
    mixed = torch.rand(n) < mixing.probability
    if mixing.mixup:
        alpha = torch.tensor(mixing.mixup)
        share = torch.distributions.Beta(alpha, alpha).sample((n,))
        mask = torch.where((mixed & ~cuts)[:, None, None, None], share[:, None, None, None], mask)
    if mixing.cutmix:
        alpha = torch.tensor(mixing.cutmix)
        share = torch.distributions.Beta(alpha, alpha).sample((n,))
        inside = boxes(share, torch.rand(n, 2), height, width)
        mask = torch.where((mixed & cuts)[:, None, None] & inside, 0.0, mask[:, 0])[:, None]
    return mask


def boxes(share: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    r"""
    ## Boxes of cutmix

    A box with the sides $\sqrt{1 - \lambda}$ of the image's, whose centre lies anywhere. What hangs
    over the edge is cut off, so that the area is at most $1 - \lambda$; the labels follow the area
    that was really cut, since $\bar{m}$ is measured on the mask.

    * `share` is $\lambda$, `[n]`
    * `centre` is from 0 to 1, down and across, `[n, 2]`

    Returns true inside the box, `[n, height, width]`.
    """
    inside = []
    for axis, size in enumerate((height, width)):
        side = (size * (1 - share).sqrt()).round()  # [n]
        first = (centre[:, axis] * size - side / 2).round()
        place = torch.arange(size)
        inside.append((place >= first[:, None]) & (place < (first + side)[:, None]))  # [n, size]
    return inside[0][:, :, None] & inside[1][:, None, :]


def smooth(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
    r"""
    ## Label smoothing

    $$t_c = (1 - \varepsilon) [c = y] + \varepsilon / C$$

    * `labels` are $y$, `[B]`; `n_classes` is $C$ and `smoothing` $\varepsilon$

    Returns $t$, `[B, n_classes]`.
    """
    targets = nn.functional.one_hot(labels, n_classes).float()
    return (1 - smoothing) * targets + smoothing / n_classes


def mix(images: Tensor, targets: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    r"""
    ## Mixing

    The partner $\tilde{x}$ is the image before in the micro-batch, and that of the first the last.
    In implementations that turn the batch around, the middle one of an odd number meets itself. A
    single image would too: the [experiment](../imagenet.py) refuses micro-batches of one.

    * `images` are $x$, `[B, c, height, width]`, and `targets` $t$, `[B, n_classes]`

    Returns $x'$ and $t'$ of the same shapes.
    """
    n, _, height, width = images.shape
    m = masks(n, height, width, mixing).to(images.device)
    images = m * images + (1 - m) * images.roll(1, 0)
    share = m.mean(dim=(1, 2, 3))[:, None]  # [B, 1]
    return images, share * targets + (1 - share) * targets.roll(1, 0)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    r"""
    ## Cross entropy with targets that share

    $$-\frac{1}{B} \sum_b \sum_c t_{bc} \log \mathrm{softmax}(z_b)_c$$

    * `logits` are $z$ and `targets` $t$, `[B, n_classes]`

    Returns a number. In float32, whatever the model computes in.
    """
    return -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()
