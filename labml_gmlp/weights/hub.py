r"""Finds the files of a model in a folder or on the Hugging Face hub.

# The hub

The package `huggingface_hub` downloads a file once and keeps it in its cache.
"""

import json
import os
from pathlib import Path
from typing import Any

from labml_gmlp.weights.errors import WeightsError, short_repr


def find_file(
    name_or_folder: str | os.PathLike[str],
    file: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    r"""Returns the path of a file of a model, downloading it if needed.

    * `name_or_folder` is a folder, or else the name of a model on the hub
    * `file` is the name of the file
    * the others are passed to `huggingface_hub`

    Raises `WeightsError` if there is no such folder and `huggingface_hub` is not installed, or the
    hub does not have the file or cannot be reached.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder / file
    name = str(folder)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as e:
        raise WeightsError(
            f"name_or_folder must be a folder, or huggingface_hub must be installed, got "
            f"{short_repr(name)}: pip install huggingface_hub"
        ) from e
    try:
        path = hf_hub_download(
            name,
            file,
            revision=revision,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            local_files_only=local_files_only,
        )
    except Exception as e:
        # An invalid name, no network, no such model and no permission: the package has a class for
        # each of them, with messages of several lines.
        raise WeightsError(
            f"name_or_folder must be a folder, or a model on the hub with {file}, got "
            f"{short_repr(name)} ({type(e).__name__})"
        ) from e
    return Path(path)


def read_json(path: Path) -> Any:
    r"""Returns the content of a JSON file.

    Raises `WeightsError` if it cannot be read or is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e
    except RecursionError as e:
        raise WeightsError(f"{path} is not valid JSON: nested too deeply") from e
    except ValueError as e:
        raise WeightsError(f"{path} is not valid JSON: {e}") from e
