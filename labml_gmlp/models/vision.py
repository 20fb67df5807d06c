r"""An image classifier: patch embedding, encoder, mean over patches and a linear head.

# The image classifier

Each patch of the image becomes a token. The encoder can be a gMLP, an aMLP, an MLP-Mixer or a
Transformer. The paper takes this input and output from the Vision Transformer (caption of figure
1).
"""

import torch
from torch import Tensor, nn


def n_patches(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]) -> int:
    r"""Returns $n$, the number of patches of one image; an encoder needs it as its `seq_len`.

    ## Number of patches

    * `image_size` and `patch_size` are pixels, one integer for a square or (height, width)

    Raises `ValueError` if a size is not a positive integer or two of them, or if `patch_size` does
    not divide `image_size`.
    """
    height, width = _grid(image_size, patch_size)
    return height * width


class ImageClassifier(nn.Module):
    r"""Maps images to class logits.

    ## Image classifier

    $$X_i = P \, \mathrm{patch}_i + p, \qquad
      \mathrm{logits} = H \, \frac{1}{n} \sum_{i=1}^{n} \mathrm{Encoder}(X)_i + h$$

    The image is split into $n$ equal patches without overlap, ordered row by row.
    $\mathrm{patch}_i$ holds the pixels of one patch, and $P$ maps them to $d$ channels. There is no
    position embedding: the token-mixing matrices of gMLP and Mixer know positions, but a
    Transformer would not.

    The encoder's final norm comes before the mean, on each token. This is our choice, and that of
    timm and g-mlp-pytorch.

    ```python
    encoder = Encoder(lambda: GMLPBlock(64, 256, seq_len=n_patches(32, 4)), n_layers=6)
    logits = ImageClassifier(encoder, 10, image_size=32, patch_size=4)(torch.randn(8, 3, 32, 32))
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
        encoder: nn.Module,
        n_classes: int,
        *,
        image_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        n_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_size("n_classes", n_classes)
        _check_size("n_channels", n_channels)
        d_model = int(encoder.size)  # type: ignore[arg-type]
        self.grid = _grid(image_size, patch_size)
        self.n_patches = self.grid[0] * self.grid[1]
        self.image_size = _pair("image_size", image_size)
        self.n_channels = n_channels
        # A convolution with stride equal to its kernel size applies $P$ and $p$ to each patch.
        patch = _pair("patch_size", patch_size)
        self.patches = nn.Conv2d(n_channels, d_model, patch, patch, device=device, dtype=dtype)
        self.encoder = encoder
        self.head = nn.Linear(d_model, n_classes, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Sets $H = 0$ and $h = 0$, so that all classes start equally likely.

        The loss then starts at $\log$ `n_classes` for any image. This is our choice, and that of
        timm. The encoder and the patch embedding are not reset.
        """
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        r"""Returns the logits, `[B, n_classes]`.

        * `images` are `[B, n_channels, height, width]`

        Raises `ValueError` if `images` has another shape.
        """
        height, width = self.image_size
        # The convolution would silently drop pixels that no patch covers.
        if images.dim() != 4 or images.shape[1:] != (self.n_channels, height, width):
            wanted = f"[B, n_channels={self.n_channels}, {height}, {width}]"
            raise ValueError(f"images must be {wanted}, got {list(images.shape)}")
        # Flattening `[h, w]` orders the patches row by row.
        x = self.patches(images).flatten(2).transpose(1, 2)  # [B, n, d]
        y = self.encoder(x)  # [B, n, d]
        return self.head(y.mean(dim=1))


# ## Argument checks
#
# The height comes first, as in `nn.Conv2d`.
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
