"""The cost of the smallest gMLP on a rectangular image."""

from labml_gmlp.models.sizes import GMLP_TI, multiply_adds

SIZES = {"n_channels": 3, "height": 32, "width": 48}

n_channels, height, width = SIZES.values()
multiply_adds(GMLP_TI.build(image_size=(height, width), n_channels=n_channels, device="meta"))
