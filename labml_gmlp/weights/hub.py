r"""
# The hub

Where the files of a model are: in a folder, or on the Hugging Face hub, from where its package
fetches them once.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import short


def finder(
    name_or_folder: str | os.PathLike[str],
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> Callable[[str], Path]:
    r"""
    ## A folder here or there

    * `name_or_folder` is a folder, or else the name of a model on the hub
    * the others are those of `huggingface_hub`, which is asked for a name

    Returns a function from the name of a file to where it lies. It raises `WeightsError` for a name
    that the hub does not know or cannot be asked for.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return lambda file: folder / file
    options = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    return lambda file: _download(str(folder), file, options)


def read_json(path: Path) -> Any:
    r"""Raises `WeightsError` for a file that cannot be read and for text that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        reason = e.strerror if isinstance(e, OSError) else "text that is none"
        raise WeightsError(f"{path} must be a file of JSON, got {reason}") from e


def _download(name: str, file: str, options: dict[str, Any]) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as e:
        raise WeightsError(
            f"name_or_folder must be a folder where huggingface_hub is not installed, "
            f"got {short(name)}; to install it: pip install huggingface_hub"
        ) from e
    try:
        return Path(hf_hub_download(name, file, **options))
    except Exception as e:
        # A name that is none, no network, no such model, no right to it: the package has a class of
        # its own for each, and stories of several lines.
        raise WeightsError(
            f"name_or_folder must be a folder, or a model on the hub with {file}, got "
            f"{short(name)} ({type(e).__name__})"
        ) from e
