r"""Atomic file writes: a reader finds the old content or the new, never a part.

# Atomic file writes

Weights, checkpoints and reports may be opened, or the process killed, while they are being written.
The functions here are safe in both cases.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: Path, content: bytes) -> None:
    """Writes `content` to `path` with `atomic_writer`. Raises `OSError` if writing fails."""
    with atomic_writer(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_writer(
    path: Path, keep: Path | None = None, *, shared: bool = False
) -> Iterator[BinaryIO]:
    r"""Opens a temporary file that replaces `path` when the `with` block ends.

    ## Replacing a file

    The temporary file is in the same folder. It is flushed to disk and then renamed, so a reader
    finds either the old content or the new. If the block raises, `path` is unchanged and the
    temporary file is removed.

    * `path` is the file to write
    * `keep` is a second path, which receives the old content of `path`
    * `shared` gives the temporary file a random name, so that several processes may write `path` at
      once; the last one wins

    Yields the temporary file, open for writing bytes.

    Raises `OSError` if writing or renaming fails.

    ```python
    with atomic_writer(Path("model.bin")) as file:
        file.write(content)
    ```
    """
    own = f".{secrets.token_hex(8)}" if shared else ""
    new = path.with_name(f"{path.name}{own}.new")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _hard_link(path, keep)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    # The rename is an entry in the folder, which must reach the disk too. Windows cannot open
    # folders and does not need this.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# A hard link, not a rename, so that `path` exists at every moment.
def _hard_link(path: Path, keep: Path) -> None:
    name = keep.with_name(keep.name + ".new")
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:
        # Some file systems have no hard links.
        shutil.copyfile(path, name)
    name.replace(keep)
    # POSIX renames nothing if both names already link to one file, as after a kill right here.
    name.unlink(missing_ok=True)
