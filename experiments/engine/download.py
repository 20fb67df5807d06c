r"""
# download
"""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from labml_gmlp.storage import atomic_writer


def download(url: str, sha256: str, path: Path, name: str = "corpus") -> Path:
    r"""
    ## Downloading

    Fetches `url` to `path` if it is not there already. Raises `ValueError`, about the setting
    `name`, if the content does not have the checksum `sha256`, and leaves nothing behind then.
    """
    there = path.exists()
    if there:
        content = path.read_bytes()
    else:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise ValueError(
                f"{name} must be downloaded from {url}, got {e!r}; or put the file at {path}"
            ) from e
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{name} file {path} must have the SHA-256 {sha256}, got {found}; "
            f"without the file it is downloaded again"
        )
    if not there:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path, shared=True) as file:
            file.write(content)
    return path
