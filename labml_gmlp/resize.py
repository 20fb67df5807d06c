r"""
# Resizing

$W$ belongs to one length and to one image size: its rows and columns are positions. A model that
was trained at one size goes on at another if its $W$ is carried over, and there are two ways, for
two meanings of "longer":

* **more of the same**: a longer text has further tokens, as far apart as before. `extend` keeps
  what is there and continues it along its diagonals
* **the same, finer**: a larger image shows the same scene in more patches. `interpolate` and
  `interpolate_image` stretch what is there

Shorter texts need neither, since every projection uses its corner for them. Each function returns a
new model and leaves the given one as it was; an optimiser must be built anew. Convolutions and
windows take any length and stay as they are. All this is ours: the paper trains and tests each
model at one size.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.gmlp import SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier

Grid = tuple[int, int]
Change = Callable[[Tensor], Tensor]


def extend(model: nn.Module, seq_len: int) -> nn.Module:
    r"""
    ## Longer texts

    $$W'_{ij} = W_{i - s, \, j - s}, \qquad s = \max(0, \max(i, j) - (n - 1))$$

    A new entry repeats the last one on its diagonal, that is, of the same distance $i - j$;
    distances that never occurred get zero. $b$ and other vectors over positions repeat their last
    entry. Up to $n$ tokens the new model gives what the old one gave.

    A character model trained on 64 tokens, with 1.591 nats per character, so reads 128 with 1.575
    and 256 with 1.568, without any further training: the continued rows are worth their longer
    context (`python -m benchmarks.resize`, Tiny Shakespeare, one run). Stretched, the same model
    fails, with 3.03 at 128.

    * `model` is any module with spatial projections in it
    * `seq_len` is the new longest sequence

    Returns the new model.

    Raises `ValueError` for a `seq_len` that is not a whole number larger than before, for a model
    without a layer that depends on the length, and for layers that have learned each position by
    itself: `MixerBlock` and position embeddings.
    """
    _check_size("seq_len", seq_len)

    def repeat_last(vector: Tensor) -> Tensor:
        new = vector[..., -1:].expand(*vector.shape[:-1], seq_len - vector.shape[-1])
        return torch.cat([vector, new], dim=-1)

    def along_diagonals(weight: Tensor) -> Tensor:
        last = weight.shape[-1] - 1
        i = torch.arange(seq_len, device=weight.device)[:, None]
        j = torch.arange(seq_len, device=weight.device)
        s = (torch.maximum(i, j) - last).clamp(min=0)
        # A distance that did not occur leads out of the old matrix, where there is nothing.
        inside = (i >= s) & (j >= s)
        return weight[..., (i - s).clamp(min=0), (j - s).clamp(min=0)] * inside

    def change(layer: nn.Module, old: int) -> None:
        if isinstance(layer, (MixerBlock, LanguageModel)):
            raise ValueError(
                f"model must not have learned each position by itself, as {type(layer).__name__} "
                f"has with {old} positions; interpolate() stretches them"
            )
        if seq_len <= old:
            raise ValueError(
                f"seq_len must be larger than {old}, got {seq_len}; shorter sequences need no "
                f"new model"
            )
        new = seq_len - old
        if isinstance(layer, SpatialProjection):
            _replace(layer, "weight", along_diagonals)
        elif isinstance(layer, ToeplitzProjection):
            sides = (0 if layer.causal else new, new)
            _replace(layer, "weight", lambda w: nn.functional.pad(w, sides))
        for name in _vectors(layer):
            _replace(layer, name, repeat_last)

    return _changed_somewhere(model, seq_len, change)


def interpolate(model: nn.Module, seq_len: int) -> nn.Module:
    r"""
    ## The same sequence, finer or coarser

    $$W'_{ij} = \frac{n}{n'} \, W(x_i, x_j), \qquad x_i = (i + \tfrac{1}{2}) \frac{n}{n'} -
      \tfrac{1}{2}$$

    with $W$ between its entries interpolated. Where there are twice as many positions, each stands
    for half of an old one; the factor in front keeps what a row of $W$ reads in sum.

    * `model` is any module with spatial projections, `MixerBlock` or learned positions in it
    * `seq_len` is the new longest sequence, longer or shorter than before

    Returns the new model.

    Raises `ValueError` for a `seq_len` that is not a positive whole number and for a model without
    a layer that depends on the length.
    """
    _check_size("seq_len", seq_len)
    return _changed_somewhere(
        model, seq_len, lambda layer, old: _stretch(layer, (1, old), (1, seq_len))
    )


def interpolate_image(model: ImageClassifier, image_size: int | tuple[int, int]) -> ImageClassifier:
    r"""
    ## Another image size

    $$W'_{pq} = \frac{n}{n'} \, W(\pi_p, \pi_q)$$

    As in `interpolate`, but $\pi_p$ is a place on the grid of patches, with a height and a width,
    where $x_i$ is one on a line: a row of $W$ is a picture of what position $p$ reads, and is
    stretched as a picture. Patches keep their size in pixels; there are more or fewer of them.

    * `model` is an `ImageClassifier`
    * `image_size` is the new size in pixels, one number or (height, width)

    Returns the new model.

    Raises `ValueError` for an `image_size` that the patches do not divide, and for projections that
    know one direction only, such as Toeplitz.
    """
    old = model.grid
    patch_size = model.patches.kernel_size
    changed = ImageClassifier(
        model.encoder,
        model.head.out_features,
        image_size=image_size,
        patch_size=(int(patch_size[0]), int(patch_size[1])),
        n_channels=model.n_channels,
        device="meta",
    )
    new = changed.grid
    for layer in model.modules():
        if isinstance(layer, ToeplitzProjection):
            raise ValueError(
                f"model must have projections that know the grid of patches, "
                f"got a {type(layer).__name__}, which knows distances along one line"
            )
    changed.patches, changed.head = copy.deepcopy(model.patches), copy.deepcopy(model.head)
    # Attention has nothing that belongs to a place; then there is nothing to do.
    changed.encoder, _ = _changed(
        model.encoder, changed.n_patches, lambda layer, _: _stretch(layer, old, new)
    )
    return changed.train(model.training)


# ## How it is done


def resample(values: Tensor, old: Grid, new: Grid) -> Tensor:
    r"""
    ### Between the places of a grid

    * `values` are numbers at the places of a grid, row by row, `[..., h w]`
    * `old` and `new` are (h, w); a sequence is a grid of one row

    Returns the values on the new grid, `[..., h' w']`, bilinear. Going to fewer places, each takes
    the mean of those it replaces, so that none is passed over.
    """
    picture = values.reshape(-1, 1, *old)
    picture = nn.functional.interpolate(picture, new, mode="bilinear", antialias=True)
    return picture.reshape(*values.shape[:-1], new[0] * new[1])


def _stretch(layer: nn.Module, old: Grid, new: Grid) -> None:
    ratio = old[0] * old[1] / (new[0] * new[1])

    def places(values: Tensor) -> Tensor:
        return resample(values, old, new)

    def matrix(weight: Tensor) -> Tensor:
        # What a causal layer holds above the diagonal never mattered; it must not leak below now.
        if isinstance(layer, SpatialProjection) and layer.causal:
            weight = weight.tril()
        return places(places(weight).mT).mT * ratio

    def distances(weight: Tensor) -> Tensor:
        # $w$ is a function of the distance, which is measured in tokens of the new length.
        n, n_new = old[1], new[1]
        zero, zero_new = (0, 0) if layer.causal else (n - 1, n_new - 1)
        there = torch.arange(zero_new + n_new, device=weight.device) - zero_new
        at = (there.to(weight) * (n / n_new) + zero).clamp(0, weight.shape[-1] - 1)
        below = at.floor().long()
        above = (below + 1).clamp(max=weight.shape[-1] - 1)
        return torch.lerp(weight[..., below], weight[..., above], at - below) * ratio

    if isinstance(layer, SpatialProjection):
        _replace(layer, "weight", matrix)
    elif isinstance(layer, ToeplitzProjection):
        _replace(layer, "weight", distances)
    elif isinstance(layer, MixerBlock):
        # $W_1$ reads all places and $W_2$ writes to them.
        _replace(layer.token_in, "weight", lambda weight: places(weight) * ratio)
        _replace(layer.token_out, "weight", lambda weight: places(weight.mT).mT)
        _replace(layer.token_out, "bias", places)
        layer.token_in.in_features = layer.token_out.out_features = new[0] * new[1]
    elif isinstance(layer, LanguageModel) and layer.positions is not None:
        _replace(layer.positions, "weight", lambda weight: places(weight.mT).mT)
        layer.n_positions = layer.positions.num_embeddings = new[1]
    for name in _vectors(layer):
        _replace(layer, name, places)


def _changed_somewhere(
    model: nn.Module, seq_len: int, change: Callable[[nn.Module, int], None]
) -> nn.Module:
    model, n_changed = _changed(model, seq_len, change)
    if not n_changed:
        raise ValueError("model must have a layer that depends on the length, got none")
    return model


def _changed(
    model: nn.Module, seq_len: int, change: Callable[[nn.Module, int], None]
) -> tuple[nn.Module, int]:
    model = copy.deepcopy(model)
    lengths = [(layer, _length(layer)) for layer in model.modules()]
    depends = [(layer, old) for layer, old in lengths if old is not None]
    for layer, old in depends:
        change(layer, old)
        if not isinstance(layer, LanguageModel):
            layer.seq_len = seq_len  # type: ignore[assignment]
    return model, len(depends)


def _length(layer: nn.Module) -> int | None:
    """The number of positions that the weights of this layer belong to."""
    if isinstance(layer, (SpatialProjection, ToeplitzProjection, MixerBlock)):
        return layer.seq_len
    return layer.n_positions if isinstance(layer, LanguageModel) else None


def _vectors(layer: nn.Module) -> list[str]:
    """The parameters of a projection with one entry for each position."""
    if isinstance(layer, DecayedToeplitzProjection):
        return ["bias", "row", "column"]
    return ["bias"] if isinstance(layer, (SpatialProjection, ToeplitzProjection)) else []


def _replace(layer: nn.Module, name: str, change: Change) -> None:
    old = getattr(layer, name)
    with torch.no_grad():
        new = change(old.detach()).contiguous()
    setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad))


def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
