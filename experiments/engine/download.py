r"""Downloads with a checksum.

# Downloads
"""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from labml_gmlp.storage import atomic_writer


def download(url: str, sha256: str, path: Path, name: str = "corpus") -> Path:
    r"""Downloads a file unless it exists, verifies its checksum, and returns its path.

    * `url` is its address
    * `sha256` is its checksum, in hexadecimal
    * `path` is where to save it
    * `name` is the setting to name in error messages

    Raises `ValueError` if the download fails or the checksum differs, and `OSError` if the file
    cannot be written; a failed download leaves no file.
    """
    exists = path.exists()
    if exists:
        content = path.read_bytes()
    else:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise ValueError(
                f"{name} must be downloaded from {url}, got {e!r}; you can put the file at {path}"
            ) from e
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{name} file {path} must have the SHA-256 {sha256}, got {found}; "
            f"delete it to download it again"
        )
    if not exists:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path, shared=True) as file:
            file.write(content)
    return path
