r"""
# On the disk

Weights, checkpoints and reports are files that somebody may open, or a kill may cut, while they are
written.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: Path, content: bytes) -> None:
    """Writes `content` as a whole, as `aside` does. Raises `OSError` if it cannot be written."""
    with atomic_writer(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_writer(
    path: Path, keep: Path | None = None, *, shared: bool = False
) -> Iterator[BinaryIO]:
    r"""
    ## All or nothing

    Yields a new file beside `path`; what is written to it is brought to the disk, and then the file
    is renamed. Who opens `path` at any moment finds the old content or the new one, never a part.

    * `keep` is where the old content stays
    * `shared` gives the new file a name that no other process gives it: several may write `path` at
      a time, and the last one stays

    Raises `OSError` if it cannot be written, and leaves no half file then.
    """
    own = f".{secrets.token_hex(8)}" if shared else ""
    new = path.with_name(f"{path.name}{own}.new")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _second_name(path, keep)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    # The new name is an entry of the folder, which has to reach the disk too. Windows cannot open
    # folders and does not need it.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# A second name for the same file: at no moment is `path` missing.
def _second_name(path: Path, keep: Path) -> None:
    name = keep.with_name(keep.name + ".new")
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:
        # Some file systems know no second names.
        shutil.copyfile(path, name)
    name.replace(keep)
    # Nothing is renamed if both are names of one file already, as a kill right here leaves it.
    name.unlink(missing_ok=True)
