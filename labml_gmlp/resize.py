r"""Resizes a trained model to another sequence length or image size.

# Resizing

The rows and columns of $W$ are positions, so a trained $W$ fits one sequence length or one image
size. "Longer" can mean two things, and each has its own way to carry $W$ over:

* **more tokens at the same spacing**, as in a longer text. `extend` keeps $W$ and continues it
  along its diagonals
* **the same extent at a higher resolution**, as in a larger image of the same scene. `interpolate`
  and `interpolate_image` stretch $W$

Shorter texts need neither, because every projection uses the top left corner of $W$ for them.
Convolutions and windows take any length and stay unchanged. Each function returns a new model and
does not modify its argument; build a new optimiser for it. All this is our addition: the paper
trains and tests each model at one size.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from labml_gmlp.blocks.gmlp import SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.multi_head import MultiHeadSpatialProjection
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier

Grid = tuple[int, int]
Change = Callable[[Tensor], Tensor]

# The projections whose $W$ has a weight of its own for each pair of positions.
FREE = (SpatialProjection, MultiHeadSpatialProjection)


def extend(model: nn.Module, seq_len: int) -> nn.Module:
    r"""Returns a copy of a model that accepts longer sequences.

    ## Longer texts

    $$W'_{ij} = W_{i - s, \, j - s}, \qquad s = \max(0, \max(i, j) - (n - 1))$$

    A new entry repeats the last entry on its diagonal, which has the same distance $i - j$.
    Distances that $W$ does not contain get zero. $b$ and other vectors over positions repeat their
    last entry. For up to $n$ tokens the outputs do not change.

    A character model trained on 64 tokens has a loss of 1.591 nats per character. Extended without
    further training it has 1.575 at 128 tokens and 1.568 at 256, so the new rows make use of the
    longer context. Stretched to 128 tokens by `interpolate` it fails, with 3.03 (`python -m
    benchmarks.resize`, Tiny Shakespeare, one run).

    * `model` is any module that contains spatial projections
    * `seq_len` is the new maximum length in tokens

    Returns the new model.

    Raises `ValueError` if `seq_len` is not a positive integer or not larger than before; if no
    layer of the model depends on the length; and if the model contains a `MixerBlock` or a position
    embedding, whose positions are learned separately and cannot be continued.

    ```python
    longer = extend(model, seq_len=512)
    logits = longer(tokens)  # [B, 512] tokens
    ```
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
        # Distances that $W$ does not contain lead to negative indices, and get zero.
        inside = (i >= s) & (j >= s)
        return weight[..., (i - s).clamp(min=0), (j - s).clamp(min=0)] * inside

    def change(layer: nn.Module, old: int) -> None:
        if isinstance(layer, (MixerBlock, LanguageModel)):
            raise ValueError(
                f"model must not learn its positions separately, got {type(layer).__name__} with "
                f"{old} positions; use interpolate()"
            )
        if seq_len <= old:
            raise ValueError(
                f"seq_len must be larger than {old}, got {seq_len}; the model accepts shorter "
                f"sequences as it is"
            )
        new = seq_len - old
        if isinstance(layer, FREE):
            _replace(layer, "weight", along_diagonals)
        elif isinstance(layer, ToeplitzProjection):
            sides = (0 if layer.causal else new, new)
            _replace(layer, "weight", lambda w: nn.functional.pad(w, sides))
        for name in _vectors(layer):
            _replace(layer, name, repeat_last)

    return _resized(model, seq_len, change)


def interpolate(model: nn.Module, seq_len: int) -> nn.Module:
    r"""Returns a copy of a model for the same sequences at another resolution.

    ## Finer or coarser sequences

    $$W'_{ij} = \frac{n}{n'} \, W(x_i, x_j), \qquad x_i = (i + \tfrac{1}{2}) \frac{n}{n'} -
      \tfrac{1}{2}$$

    where $W$ is interpolated linearly between its entries. With twice as many positions each covers
    half of an old one; the factor $n / n'$ keeps the sum of each row.

    * `model` is any module that contains spatial projections, `MixerBlock`s or position embeddings
    * `seq_len` is the new maximum length, longer or shorter than before

    Returns the new model.

    Raises `ValueError` if `seq_len` is not a positive integer, or if no layer of the model depends
    on the length.
    """
    _check_size("seq_len", seq_len)
    return _resized(model, seq_len, lambda layer, old: _stretch(layer, (1, old), (1, seq_len)))


def interpolate_image(model: ImageClassifier, image_size: int | tuple[int, int]) -> ImageClassifier:
    r"""Returns a copy of an image classifier for another image size.

    ## Another image size

    $$W'_{pq} = \frac{n}{n'} \, W(\pi_p, \pi_q)$$

    This is `interpolate` in two dimensions: $\pi_p$ is a point on the grid of patches. Each row of
    $W$ is an image of what position $p$ reads, and is resized as an image. Patches keep their size
    in pixels, so their number changes.

    * `model` is an `ImageClassifier`
    * `image_size` is the new size in pixels, an integer or (height, width)

    Returns the new model.

    Raises `ValueError` if `image_size` is not a positive integer or a pair of them, if the patch
    size does not divide it, and if the model contains a Toeplitz projection, whose distances are
    along one line.
    """
    old = model.grid
    patch_size = model.patches.kernel_size
    resized = ImageClassifier(
        model.encoder,
        model.head.out_features,
        image_size=image_size,
        patch_size=(int(patch_size[0]), int(patch_size[1])),
        n_channels=model.n_channels,
        device="meta",
    )
    new = resized.grid
    for layer in model.modules():
        if isinstance(layer, ToeplitzProjection):
            raise ValueError(
                f"model must have projections over the 2-D grid of patches, got a "
                f"{type(layer).__name__}, whose distances are along one line"
            )
    resized.patches, resized.head = copy.deepcopy(model.patches), copy.deepcopy(model.head)
    # A model of attention alone has no layer to resize, which is fine here.
    resized.encoder, _ = _resized_layers(
        model.encoder, resized.n_patches, lambda layer, _: _stretch(layer, old, new)
    )
    return resized.train(model.training)


# ## Implementation


def resample(values: Tensor, old: Grid, new: Grid) -> Tensor:
    r"""Resamples values from one grid to another by bilinear interpolation.

    ### Resampling a grid

    With fewer points than before, each averages the points that it replaces (antialiasing).

    * `values` holds one number for each grid point, row by row, `[..., h w]`
    * `old` and `new` are (h, w); a sequence is a grid of one row

    Returns the values on the new grid, `[..., h' w']`.
    """
    picture = values.reshape(-1, 1, *old)
    picture = nn.functional.interpolate(picture, new, mode="bilinear", antialias=True)
    return picture.reshape(*values.shape[:-1], new[0] * new[1])


def _stretch(layer: nn.Module, old: Grid, new: Grid) -> None:
    ratio = old[0] * old[1] / (new[0] * new[1])

    def stretched(values: Tensor) -> Tensor:
        return resample(values, old, new)

    def matrix(weight: Tensor) -> Tensor:
        # Entries above the diagonal of a causal layer are unused, and must not leak below it.
        if isinstance(layer, FREE) and layer.causal:
            weight = weight.tril()
        return stretched(stretched(weight).mT).mT * ratio

    def distances(weight: Tensor) -> Tensor:
        # $w$ is a function of the distance $i - j$; `at` is where each new distance falls in it.
        n, n_new = old[1], new[1]
        zero, zero_new = (0, 0) if layer.causal else (n - 1, n_new - 1)
        distance = torch.arange(zero_new + n_new, device=weight.device) - zero_new
        at = (distance.to(weight) * (n / n_new) + zero).clamp(0, weight.shape[-1] - 1)
        below = at.floor().long()
        above = (below + 1).clamp(max=weight.shape[-1] - 1)
        return torch.lerp(weight[..., below], weight[..., above], at - below) * ratio

    if isinstance(layer, FREE):
        _replace(layer, "weight", matrix)
    elif isinstance(layer, ToeplitzProjection):
        _replace(layer, "weight", distances)
    elif isinstance(layer, MixerBlock):
        # $W_1$ reads from positions, so its columns are stretched; $W_2$ writes to them.
        _replace(layer.token_in, "weight", lambda weight: stretched(weight) * ratio)
        _replace(layer.token_out, "weight", lambda weight: stretched(weight.mT).mT)
        _replace(layer.token_out, "bias", stretched)
        layer.token_in.in_features = layer.token_out.out_features = new[0] * new[1]
    elif isinstance(layer, LanguageModel) and layer.positions is not None:
        _replace(layer.positions, "weight", lambda weight: stretched(weight.mT).mT)
        layer.n_positions = layer.positions.num_embeddings = new[1]
    for name in _vectors(layer):
        _replace(layer, name, stretched)


def _resized(model: nn.Module, seq_len: int, change: Callable[[nn.Module, int], None]) -> nn.Module:
    model, n_resized = _resized_layers(model, seq_len, change)
    if not n_resized:
        raise ValueError("model must have a layer that depends on the length, got none")
    return model


# Returns the new model and how many of its layers were resized.
def _resized_layers(
    model: nn.Module, seq_len: int, change: Callable[[nn.Module, int], None]
) -> tuple[nn.Module, int]:
    model = copy.deepcopy(model)
    lengths = [(layer, _length(layer)) for layer in model.modules()]
    resized = [(layer, old) for layer, old in lengths if old is not None]
    for layer, old in resized:
        change(layer, old)
        if not isinstance(layer, LanguageModel):
            layer.seq_len = seq_len  # type: ignore[assignment]
    return model, len(resized)


# The number of positions in the weights of a layer; `None` if they do not depend on it.
def _length(layer: nn.Module) -> int | None:
    if isinstance(layer, (*FREE, ToeplitzProjection, MixerBlock)):
        return layer.seq_len
    return layer.n_positions if isinstance(layer, LanguageModel) else None


# The parameters of a projection with one entry for each position.
def _vectors(layer: nn.Module) -> list[str]:
    if isinstance(layer, DecayedToeplitzProjection):
        return ["bias", "row", "column"]
    return ["bias"] if isinstance(layer, (*FREE, ToeplitzProjection)) else []


def _replace(layer: nn.Module, name: str, change: Change) -> None:
    old = getattr(layer, name)
    with torch.no_grad():
        new = change(old.detach()).contiguous()
    setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad))


def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
