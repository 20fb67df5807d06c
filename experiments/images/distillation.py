r"""The loss of a student that also learns from a teacher's predictions.

# Distillation

The student learns from a trained model's predictions as well as from the labels (Hinton, Vinyals
and Dean, 2015). The hard form is from DeiT (Touvron et al., 2021, [arXiv
2012.12877](https://arxiv.org/abs/2012.12877), section 4). The paper does not use distillation.
"""

from typing import Literal

from torch import Tensor, nn

Distillation = Literal["none", "soft", "hard"]


def distillation_loss(
    loss: Tensor,
    student: Tensor,
    teacher: Tensor,
    *,
    kind: Distillation,
    weight: float,
    temperature: float,
) -> Tensor:
    r"""Combines the loss of the labels with the loss against a teacher.

    ## Distillation loss

    $$\text{soft:} \quad (1 - \lambda) \, \ell + \lambda \, \tau^2 \, \mathrm{KL}\big(
      \mathrm{softmax}(z^t / \tau) \,\|\, \mathrm{softmax}(z^s / \tau) \big)$$
    $$\text{hard:} \quad (1 - \lambda) \, \ell +
      \lambda \, \mathrm{CE}(z^s, \mathrm{argmax}_c \, z^t_c)$$

    Hard distillation with $\lambda = 1/2$ is DeiT's equation 3. The divergence is averaged over
    images. Unlike here, DeiT's code also divides it by the number of classes, which makes the
    teacher's weight a thousand times smaller on ImageNet.

    * `loss` is $\ell$, the loss of the labels
    * `student` and `teacher` are the logits $z^s$ and $z^t$ of the same images, `[B, n_classes]`
    * `weight` is $\lambda$, the weight of the teacher, and `temperature` is $\tau$

    Returns a scalar.
    """
    if kind == "none":
        return loss
    student, teacher = student.float(), teacher.float()
    if kind == "hard":
        teacher_loss = nn.functional.cross_entropy(student, teacher.argmax(dim=-1))
    else:
        teacher_loss = temperature**2 * nn.functional.kl_div(
            (student / temperature).log_softmax(dim=-1),
            (teacher / temperature).log_softmax(dim=-1),
            reduction="batchmean",
            log_target=True,
        )
    return (1 - weight) * loss + weight * teacher_loss
