"""W before and after training, from recorded runs: a causal model and a masked one."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.reporting.pictures import spatial_matrices
from experiments.reporting.run_page import read_matrices
from labml_gmlp.blocks.gmlp import SpatialProjection

RESULTS = Path(__file__).resolve().parents[2] / "results"
CAUSAL, MASKED = 6, 3  # the blocks that are shown, from 1


def matrices() -> dict[str, NDArray[np.float32]]:
    causal = read_matrices(RESULTS / "tiny_shakespeare" / "gmlp-0")[CAUSAL - 1]
    masked = read_matrices(RESULTS / "masked" / "gmlp-0")[MASKED - 1]
    torch.manual_seed(0)
    before = SpatialProjection(seq_len=len(causal)).weight.detach().numpy()
    return {"before": before, "after, causal": causal, "after, masked": masked}


def learned() -> bytes:
    found = matrices()
    return spatial_matrices(list(found.values()), list(found))
