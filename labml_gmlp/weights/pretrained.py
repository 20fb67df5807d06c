r"""Saves models to folders and loads them from folders or the Hugging Face hub.

# Saved models

A saved model is a folder of two files: `model.safetensors` has the weights and `config.json` has
the [layer tree](description.py) of the model. A model on the Hugging Face hub has the same files.

```python
save_pretrained(model, "folder")
again = from_pretrained("folder")
```
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labml_gmlp.storage import atomic_write
from labml_gmlp.weights import from_state
from labml_gmlp.weights.description import layer_tree, model_from_layer_tree
from labml_gmlp.weights.errors import WeightsError, list_faults, short_repr
from labml_gmlp.weights.formats.files import read, write
from labml_gmlp.weights.hub import find_file, read_json
from labml_gmlp.weights.preprocessing import Preprocessing

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "labml_gmlp"
VERSION = 1


def save_pretrained(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    preprocessing: Preprocessing | None = None,
) -> None:
    r"""Saves a model to a folder.

    ## Saving

    * `model` is a `LanguageModel` or an `ImageClassifier` of layers of this library
    * `folder` is created if missing; each of its two files is replaced atomically
    * `preprocessing` is [how its images are prepared](preprocessing.py), for `preprocessing_from`

    Raises `WeightsError` for any other model, a layer or activation that the layer tree cannot
    describe, or if `safetensors` is not installed; `OSError` if the folder cannot be written.
    """
    config = {"format": FORMAT, "version": VERSION, "model": layer_tree(model)}
    if preprocessing is not None:
        config["pretrained_cfg"] = preprocessing.to_config()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, model.state_dict(), {"system": FORMAT})
    atomic_write(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def from_pretrained(
    name_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> nn.Module:
    r"""Loads a model from a folder or from the hub.

    ## Loading

    * `name_or_folder` is a folder or the name of a model on the hub, `owner/name`: a model of this
      library, or one of timm such as `timm/gmlp_s16_224.ra3_in1k`
    * `revision` is a branch, tag or commit on the hub
    * `cache_dir` and `local_files_only` are passed to `huggingface_hub`

    Returns the model in evaluation mode, on the CPU and in the types of the file.

    Raises `WeightsError` if there is no such folder or model, if `config.json` is not valid JSON,
    has another format or version, or describes no model, if the file of weights is invalid, and if
    the names or shapes of weights and model differ, listing all differences.
    """
    hub: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    config = read_config(name_or_folder, **hub)
    # timm's config names an architecture of timm; the weights show everything needed to build it.
    if isinstance(config, dict) and "architecture" in config:
        return from_state(read(find_file(name_or_folder, WEIGHTS, **hub))).eval()
    # A config may ask for any size. On the meta device no memory is allocated before the file has
    # shown that it has as many numbers.
    with torch.device("meta"):
        model = _model_from(config)
    path = find_file(name_or_folder, WEIGHTS, **hub)
    state = read(path)
    _check_weights(path, model, state)
    model.load_state_dict(state, assign=True)
    return model.eval()


def preprocessing_from(
    name_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Preprocessing:
    r"""Loads how the images of a model are prepared.

    ## Loading the preprocessing

    * the arguments are those of `from_pretrained`, for a model of timm or one saved with
      `preprocessing`

    Returns the [preprocessing](preprocessing.py).

    Raises `WeightsError` if there is no such folder or model, and if `config.json` is not valid
    JSON, has no `pretrained_cfg`, or has invalid values there.
    """
    config = read_config(
        name_or_folder,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    return Preprocessing.from_config(config)


def read_config(
    name_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Any:
    r"""Returns the content of the `config.json` of a model.

    * the arguments are those of `from_pretrained`

    Raises `WeightsError` if there is no such folder or model, and if the file is not valid JSON.
    """
    path = find_file(
        name_or_folder,
        CONFIG,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    return read_json(path)


def _model_from(config: Any) -> nn.Module:
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise WeightsError(f"{CONFIG} must have the format {FORMAT!r}")
    if config.get("version") != VERSION:
        raise WeightsError(
            f"{CONFIG} must have the version {VERSION}, got {short_repr(config.get('version'))}"
        )
    return model_from_layer_tree(config.get("model"))


def _check_weights(path: Path, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in state.items()}
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [short_repr(name) for name in found if name not in wanted],
        "wrong shape": [
            f"{name} must be {shape}, got {found[name]}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ],
        "wrong type": [
            f"{name} must be floating, got {tensor.dtype}"
            for name, tensor in state.items()
            if name in wanted and not tensor.is_floating_point()
        ],
    }
    if any(faults.values()):
        raise WeightsError(
            f"{path} must have the weights that {CONFIG} describes; {list_faults(faults)}"
        )
