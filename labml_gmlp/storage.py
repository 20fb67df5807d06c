r"""
# On the disk

Weights, checkpoints and reports are files that somebody may open, or a kill may cut, while they are
written.
"""

import os
from pathlib import Path


def write_aside(path: Path, content: bytes) -> None:
    r"""
    ## All or nothing

    Writes a new file beside `path`, makes sure that it is on the disk, and renames it. Who opens
    `path` at any moment finds the old content or the new one, never a part.

    Raises `OSError` if it cannot be written, and leaves no half file then.
    """
    aside = path.with_name(path.name + ".new")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    # The new name is an entry of the folder, which has to reach the disk too. Windows cannot open
    # folders and does not need it.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
