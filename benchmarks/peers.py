"""Imports other implementations without all of their dependencies."""

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any


def timm_mixer() -> Any:
    """`timm.models.mlp_mixer` of timm 1.0.31, without torchvision.

    `import timm` imports all models and transforms, which need torchvision. `mlp_mixer` needs
    only torch. Its packages are therefore created from their folders without running their
    `__init__.py`, and the modules that register and download models are replaced by stubs.

    Raises `ImportError` if timm is not installed, or not version 1.0.31.
    """
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        raise ImportError("timm is not installed")
    if metadata.version("timm") != "1.0.31":
        raise ImportError(f"compared with timm 1.0.31, found {metadata.version('timm')}")
    with _without_traces("timm"):
        for name in ("timm", "timm.layers", "timm.data", "timm.models"):
            package = ModuleType(name)
            package.__path__ = [str(Path(found.origin).parent.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
        data, layers = sys.modules["timm.data"], sys.modules["timm.layers"]
        _lift(data, "constants", "IMAGENET_DEFAULT_MEAN", "IMAGENET_DEFAULT_STD")
        _lift(layers, "helpers", "to_2tuple")
        _lift(layers, "patch_embed", "PatchEmbed")
        _lift(layers, "mlp", "Mlp", "GluMlp", "GatedMlp")
        _lift(layers, "drop", "DropPath")
        _lift(layers, "weight_init", "lecun_normal_")
        layers.__dict__["get_device_dtype"] = None
        for name, members in {
            "_builder": ["build_model_with_cfg"],
            "_features": ["feature_take_indices"],
            "_manipulate": ["checkpoint", "checkpoint_seq"],
            "_registry": ["generate_default_cfgs", "register_model_deprecations"],
        }.items():
            empty = ModuleType(f"timm.models.{name}")
            empty.__dict__.update(dict.fromkeys(members, lambda *_, **__: None))
            sys.modules[empty.__name__] = empty
        sys.modules["timm.models._registry"].__dict__["register_model"] = lambda function: function
        sys.modules["timm.models._manipulate"].__dict__["named_apply"] = _named_apply
        return importlib.import_module("timm.models.mlp_mixer")


def _lift(package: ModuleType, name: str, *members: str) -> None:
    """Copy `members` of a submodule into `package`, as its `__init__.py` would do."""
    module = importlib.import_module(f"{package.__name__}.{name}")
    package.__dict__.update({member: getattr(module, member) for member in members})


def _named_apply(function: Any, module: Any) -> None:
    """Stub of timm's initialisation; the weights are overwritten."""


@contextmanager
def _without_traces(root: str) -> Any:
    """Restore `sys.modules` afterwards, so that the real package can still be imported."""

    def taken() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == root]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)
