"""Projections and an image classifier, resized."""

import torch

from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialProjection
from labml_gmlp.blocks.toeplitz import ToeplitzProjection
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.resize import extend, interpolate, interpolate_image

SIZES = {"n": 6, "seq_len": 11, "height": 9, "width": 14}

n, seq_len, height, width = SIZES.values()
torch.manual_seed(0)
extend(SpatialProjection(n, causal=True), seq_len)
interpolate(ToeplitzProjection(n), seq_len)
encoder = Encoder(lambda: GMLPBlock(13, 26, n), n_layers=2)
interpolate_image(ImageClassifier(encoder, 5, image_size=(2, 3), patch_size=1), (height, width))
