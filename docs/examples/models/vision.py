"""A classifier of small rectangular images with one block."""

import torch

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock
from labml_gmlp.models.vision import ImageClassifier, n_patches

SIZES = {"B": 5, "n": 9, "d": 11, "n_classes": 29, "n_channels": 2, "height": 24, "width": 21}

B, n, d, n_classes, n_channels, height, width = SIZES.values()
torch.manual_seed(0)
sizes = {"image_size": (height, width), "patch_size": (8, 7)}
encoder = Encoder(lambda: GMLPBlock(d, 26, n_patches(**sizes)), n_layers=1)
classifier = ImageClassifier(encoder, n_classes, n_channels=n_channels, **sizes)
classifier(torch.randn(B, n_channels, height, width))
