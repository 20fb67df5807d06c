r"""
# The image classifier in Flax

Images to logits: patches, the encoder, a mean over positions and a linear head. Each patch becomes
a token, and behind that the encoder knows nothing of images: gMLP, aMLP, MLP-Mixer or the
Transformer, whatever makes the layers. The paper takes these protocols for input and output from
the Vision Transformer (caption of figure 1).

This is the twin of [the image classifier in torch](../models/vision.py). It takes the same images,
channels first, so that one batch serves both; Flax itself puts channels last.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


def n_patches(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]) -> int:
    r"""
    ## Number of patches

    An encoder must know its `seq_len` before the classifier around it is built: this is it.

    * `image_size` and `patch_size` are pixels, one number for a square or (height, width)

    Returns $n$, the number of patches of one image.

    Raises `ValueError` for a size that is neither a positive whole number nor two of them, and for
    a `patch_size` that does not divide `image_size`.
    """
    height, width = _grid(image_size, patch_size)
    return height * width


class ImageClassifier(nnx.Module):
    r"""
    ## Image classifier

    $$X_i = P \, \mathrm{patch}_i + p, \qquad
      \mathrm{logits} = H \, \frac{1}{n} \sum_{i=1}^{n} \mathrm{Encoder}(X)_i + h$$

    The image is cut into $n$ equal rectangles without overlap, $\mathrm{patch}_i$ is the list of
    numbers in one of them, and one matrix $P$ turns each into $d$ channels. The patches are
    numbered as one reads, row by row. There is no position embedding: in gMLP and Mixer the
    matrices across tokens know positions already, but a Transformer layer in here would be blind to
    where a patch lies.

    The last norm belongs to the encoder, so it stands before the mean, on each token. This is our
    choice, and that of timm and g-mlp-pytorch.

    * `encoder` maps `[B, n, d]` to `[B, n, d]` and has its width as `size`, as `Encoder` does; its
      layers must be built for a `seq_len` of `n_patches(image_size, patch_size)`
    * `n_classes` is the number of logits
    * `image_size` and `patch_size` are pixels, one number for a square or (height, width)
    * `n_channels` is 3 for colours, 1 for grey

    Its attributes `grid` and `n_patches` are the number of patches, as (down, across) and in all.

    Raises `ValueError` for an `n_classes` or `n_channels` that is not a positive whole number, and
    what `n_patches` raises.
    """

    def __init__(
        self,
        encoder: nnx.Module,
        n_classes: int,
        *,
        image_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        n_channels: int = 3,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_size("n_classes", n_classes)
        _check_size("n_channels", n_channels)
        d_model = int(encoder.size)  # type: ignore[attr-defined]
        self.grid = _grid(image_size, patch_size)
        self.n_patches = self.grid[0] * self.grid[1]
        self.image_size = _pair("image_size", image_size)
        self.n_channels = n_channels
        # A convolution whose stride is its own size meets each number once: it is $P$ on every
        # patch, and $p$.
        patch = _pair("patch_size", patch_size)
        self.patches = nnx.Conv(
            n_channels,
            d_model,
            patch,
            patch,
            padding="VALID",
            rngs=rngs,
            param_dtype=param_dtype,
        )
        self.encoder = encoder
        # $H = 0$ and $h = 0$ make all classes equally likely at first, so that the loss starts at
        # $\log$ `n_classes` for any image. This is our choice, and that of timm.
        zeros = nnx.initializers.zeros
        self.head = nnx.Linear(
            d_model, n_classes, kernel_init=zeros, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(self, images: Array) -> Array:
        r"""
        * `images` are `[B, n_channels, height, width]`

        Returns the logits, `[B, n_classes]`.

        Raises `ValueError` for `images` of another shape.
        """
        height, width = self.image_size
        # JAX would cut off what no patch covers, and say nothing.
        if images.ndim != 4 or images.shape[1:] != (self.n_channels, height, width):
            wanted = f"[B, n_channels={self.n_channels}, {height}, {width}]"
            raise ValueError(f"images must be {wanted}, got {list(images.shape)}")
        # Flattening `[h, w]` writes one row of patches behind the other.
        x = self.patches(jnp.moveaxis(images, 1, -1))  # [B, h, w, d]
        x = x.reshape(x.shape[0], self.n_patches, x.shape[-1])  # [B, n, d]
        y = self.encoder(x)  # [B, n, d]
        return self.head(y.mean(axis=1))


# ## Sizes of images
#
# In `nnx.Conv` and `n_patches` alike, the height comes first.
def _pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    if type(value) is int and value >= 1:
        return value, value
    if type(value) is tuple and len(value) == 2:
        height, width = value
        if type(height) is int and type(width) is int and height >= 1 and width >= 1:
            return height, width
    raise ValueError(
        f"{name} must be a positive whole number or (height, width) of such, got {value!r}"
    )


def _grid(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = _pair("image_size", image_size)
    patch_height, patch_width = _pair("patch_size", patch_size)
    if height % patch_height or width % patch_width:
        raise ValueError(
            f"patch_size must divide image_size={(height, width)}, "
            f"got {(patch_height, patch_width)}"
        )
    return height // patch_height, width // patch_width


def _check_size(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
