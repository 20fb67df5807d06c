r"""An image classifier in Flax: patch embedding, encoder, mean over patches and a linear head.

# The image classifier in Flax

Each patch of the image becomes a token, and the encoder may have layers of any kind. The paper
takes this input and output from the Vision Transformer (caption of figure 1).

This is the port of [the torch image classifier](../models/vision.py). As in torch, images have
their channels first; Flax's own layers have them last.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike


def n_patches(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]) -> int:
    r"""Returns $n$, the number of patches of one image; an encoder needs it as its `seq_len`.

    ## Number of patches

    * `image_size` and `patch_size` are pixels, one integer for a square or (height, width)

    Raises `ValueError` if a size is not a positive integer or two of them, or if `patch_size` does
    not divide `image_size`.
    """
    height, width = _grid(image_size, patch_size)
    return height * width


class ImageClassifier(nnx.Module):
    r"""Maps images to class logits.

    ## Image classifier

    $$X_i = P \, \mathrm{patch}_i + p, \qquad
      \mathrm{logits} = H \, \frac{1}{n} \sum_{i=1}^{n} \mathrm{Encoder}(X)_i + h$$

    The image is split into $n$ equal patches without overlap, ordered row by row.
    $\mathrm{patch}_i$ holds the pixels of one patch, and $P$ maps them to $d$ channels. There is no
    position embedding: the token-mixing matrices of gMLP know positions, but a Transformer would
    not.

    The encoder's final norm comes before the mean, on each token. This is our choice, and that of
    timm and g-mlp-pytorch.

    ```python
    rngs, n = nnx.Rngs(0), n_patches(image_size=32, patch_size=4)
    encoder = Encoder(lambda: GMLPBlock(64, 256, n, rngs=rngs), n_layers=6, rngs=rngs)
    model = ImageClassifier(encoder, 10, image_size=32, patch_size=4, rngs=rngs)
    logits = model(jnp.ones((8, 3, 32, 32)))  # [8, 10]
    ```

    * `encoder` maps `[B, n, d]` to `[B, n, d]` and has its width $d$ as `size`; it is built for
      `n_patches(image_size, patch_size)` tokens
    * `n_classes` is the number of logits
    * `image_size` and `patch_size` are pixels, one integer for a square or (height, width)
    * `n_channels` is 3 for colour images, 1 for grey ones

    The attribute `grid` is the number of patches as (rows, columns), `n_patches` their product.

    Raises `ValueError` if `n_classes`, `n_channels` or a size is not a positive integer (or two of
    them, for the sizes), or if `patch_size` does not divide `image_size`.
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
        # The convolution would silently drop pixels that no patch covers.
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
    raise ValueError(f"{name} must be a positive integer or (height, width), got {value!r}")


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
