r"""
# Distillation

A student may learn from the answers of a trained model beside the labels (Hinton, Vinyals and Dean,
2015; the hard form is from DeiT, Touvron et al., 2021, [arXiv
2012.12877](https://arxiv.org/abs/2012.12877), section 4). The paper does not do this.
"""

from torch import Tensor, nn

KINDS = ("none", "soft", "hard")


def distillation_loss(
    loss: Tensor, student: Tensor, teacher: Tensor, *, kind: str, share: float, temperature: float
) -> Tensor:
    r"""
    ## Learning from a teacher

    $$\text{soft:} \quad (1 - \lambda) \, \ell + \lambda \, \tau^2 \, \mathrm{KL}\big(
      \mathrm{softmax}(z^t / \tau) \,\|\, \mathrm{softmax}(z^s / \tau) \big)$$
    $$\text{hard:} \quad (1 - \lambda) \, \ell +
      \lambda \, \mathrm{CE}(z^s, \mathrm{argmax}_c \, z^t_c)$$

    Hard with $\lambda = 1/2$ is DeiT's equation 3. The divergence is a mean over images; DeiT's
    code divides by the number of classes too, so that for ImageNet the teacher counts a thousand
    times less.

    * `loss` is $\ell$, that of the labels
    * `student` and `teacher` are $z^s$ and $z^t$, `[B, n_classes]`, for the same images
    * `kind` is one of `KINDS`, `share` is $\lambda$, `temperature` is $\tau$

    Returns a number.
    """
    if kind == "none":
        return loss
    student, teacher = student.float(), teacher.float()
    if kind == "hard":
        taught = nn.functional.cross_entropy(student, teacher.argmax(dim=-1))
    else:
        taught = temperature**2 * nn.functional.kl_div(
            (student / temperature).log_softmax(dim=-1),
            (teacher / temperature).log_softmax(dim=-1),
            reduction="batchmean",
            log_target=True,
        )
    return (1 - share) * loss + share * taught
