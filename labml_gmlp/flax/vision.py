r"""Image classifier in Flax: patch embedding, encoder, mean pooling and a linear head.

# The image classifier in Flax

Each patch becomes one token, and the encoder may have layers of any kind. The paper takes the patch
embedding and the pooling from the Vision Transformer (caption of figure 1).

This is the port of [the torch image classifier](../models/vision.py). As in torch, images have
their channels first; Flax's own layers have them last.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


def n_patches(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]) -> int:
    r"""The number of patches in an image, which is the `seq_len` of the encoder.

    ## Number of patches

    * `image_size` and `patch_size` are in pixels, an integer for a square or (height, width)

    Returns $n$, the number of patches of one image.

    Raises `ValueError` if a size is not a positive integer or a pair of them, or if `patch_size`
    does not divide `image_size`.
    """
    height, width = _grid(image_size, patch_size)
    return height * width


class ImageClassifier(nnx.Module):
    r"""Patch embedding, encoder, mean over all positions and a linear head.

    ## Image classifier

    $$X_i = P \, \mathrm{patch}_i + p, \qquad
      \mathrm{logits} = H \, \frac{1}{n} \sum_{i=1}^{n} \mathrm{Encoder}(X)_i + h$$

    The image is cut into $n$ patches of equal size without overlap, numbered row by row. The matrix
    $P$ maps the pixels of each patch to $d$ channels. There is no position embedding: the
    token-mixing matrices of gMLP and Mixer know the positions, but attention would not.

    The final norm of the encoder is applied to each token, before the mean. This is our choice, as
    in timm and g-mlp-pytorch.

    ```python
    rngs, n = nnx.Rngs(0), n_patches(image_size=32, patch_size=4)
    encoder = Encoder(lambda: GMLPBlock(64, 256, n, rngs=rngs), n_layers=6, rngs=rngs)
    model = ImageClassifier(encoder, 10, image_size=32, patch_size=4, rngs=rngs)
    logits = model(jnp.ones((8, 3, 32, 32)))  # [8, 10]
    ```

    * `encoder` maps `[B, n, d]` to `[B, n, d]` and has an attribute `size`, its width $d$; its
      layers need a `seq_len` of `n_patches(image_size, patch_size)`
    * `n_classes` is the number of logits
    * `image_size` and `patch_size` are in pixels, an integer for a square or (height, width)
    * `n_channels` is 3 for RGB, 1 for grey

    The attribute `grid` holds the number of patches as (rows, columns), `n_patches` their product.

    Raises `ValueError` if `n_classes` or `n_channels` is not a positive integer, if a size is not a
    positive integer or a pair of them, or if `patch_size` does not divide `image_size`.
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
        # A convolution with stride equal to its kernel size applies $P$ and $p$ to each patch.
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
        # With $H = 0$ and $h = 0$ all classes are equally likely, so the initial loss is exactly
        # $\log$ `n_classes`. This is our choice, as in timm.
        zeros = nnx.initializers.zeros
        self.head = nnx.Linear(
            d_model, n_classes, kernel_init=zeros, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(self, images: Array) -> Array:
        r"""Returns the logits, `[B, n_classes]`.

        * `images` are `[B, n_channels, height, width]`

        Raises `ValueError` if `images` has another shape.
        """
        height, width = self.image_size
        # JAX would silently cut off pixels that no patch covers.
        if images.ndim != 4 or images.shape[1:] != (self.n_channels, height, width):
            wanted = f"[B, n_channels={self.n_channels}, {height}, {width}]"
            raise ValueError(f"images must be {wanted}, got {list(images.shape)}")
        # Flattening `[h, w]` numbers the patches row by row.
        x = self.patches(jnp.moveaxis(images, 1, -1))  # [B, h, w, d]
        x = x.reshape(x.shape[0], self.n_patches, x.shape[-1])  # [B, n, d]
        y = self.encoder(x)  # [B, n, d]
        return self.head(y.mean(axis=1))


# ## Argument checks
#
# As in `nnx.Conv`, the height comes first.
def _pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    if type(value) is int and value >= 1:
        return value, value
    if type(value) is tuple and len(value) == 2:
        height, width = value
        if type(height) is int and type(width) is int and height >= 1 and width >= 1:
            return height, width
    raise ValueError(f"{name} must be a positive integer or (height, width) of such, got {value!r}")


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
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
