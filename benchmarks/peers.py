"""Other people's packages, where they cannot simply be imported."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def timm_mixer() -> Any:
    """`timm.models.mlp_mixer` without torchvision, Pillow and the Hugging Face hub.

    `import timm` needs them all, for models that nobody compares with here. Empty packages with the
    real search paths let the one file in that is wanted, and what it imports itself.
    """
    name = "timm.models.mlp_mixer"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        raise ImportError("timm is not installed")
    root = Path(found.origin).parent
    for package in ("timm", "timm.layers", "timm.data", "timm.models"):
        module = ModuleType(package)
        module.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
        sys.modules[package] = module
    layers = sys.modules["timm.layers"]
    sys.modules["timm.data"].__dict__.update(vars(importlib.import_module("timm.data.constants")))
    for part in ("patch_embed", "mlp", "drop", "weight_init", "helpers"):
        layers.__dict__.update(vars(importlib.import_module(f"timm.layers.{part}")))
    stubs = {
        "_builder": ["build_model_with_cfg"],
        "_features": ["feature_take_indices"],
        "_manipulate": ["named_apply", "checkpoint_seq", "checkpoint"],
        "_registry": ["generate_default_cfgs", "register_model", "register_model_deprecations"],
    }
    for part, names in stubs.items():
        module = ModuleType(f"timm.models.{part}")
        for attribute in names:
            setattr(module, attribute, lambda value=None, *args, **options: value)
        sys.modules[module.__name__] = module
    return importlib.import_module(name)
