r"""The interface of a file format.

# A format
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Metadata = Mapping[str, str]


@dataclass(frozen=True)
class Format:
    r"""One file format: how to recognise, read and write it.

    * `name` is its name in messages
    * `suffixes` are the file name endings it is written under
    * `recognises` tells from the bytes of a file whether it has this format; formats listed earlier
      in `FORMATS` are asked first
    * `parse` turns the bytes of a file into names and tensors, or a tree of them. It checks each
      size against the bytes there are before it allocates memory
    * `serialise` turns tensors by name, on the CPU and contiguous, and metadata into the bytes of a
      file; most formats ignore the metadata
    * `holds_checkpoints` says that training checkpoints are stored in this format, so the model may
      be one entry among others

    For example:

        FORMAT = Format("numpy", (".npz",), _recognises, _parse, _serialise)
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    parse: Callable[[bytes], Any]
    serialise: Callable[[dict[str, Tensor], Metadata], bytes]
    holds_checkpoints: bool = False
