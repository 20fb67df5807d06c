r"""Reads and writes files of weights in all formats.

# Files of weights

`read` recognises the format by the content, not by the name; `write` chooses it by the suffix.
Whatever a file contains:

* nothing in it is executed; the pickles of torch and Paddle are read by [an
  interpreter](pickles.py) that imports nothing and calls only a short list of our functions
* no memory is allocated for a size that the file only claims; each is checked against the bytes
  there are
* an invalid file raises a `WeightsError` of one line
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.storage import atomic_write
from labml_gmlp.weights.errors import WeightsError, short_repr
from labml_gmlp.weights.formats import msgpack, numpy, paddle, safetensors
from labml_gmlp.weights.formats import torch as torch_format
from labml_gmlp.weights.formats.archives import size_limit
from labml_gmlp.weights.formats.format import Format
from labml_gmlp.weights.formats.pickles import Unbuilt

# The first format that recognises a file reads it. torch comes before numpy and Paddle, which
# accept any zip archive and any pickle.
FORMATS: tuple[Format, ...] = (
    safetensors.FORMAT,
    torch_format.FORMAT,
    numpy.FORMAT,
    paddle.FORMAT,
    msgpack.FORMAT,
)
WRITERS = {suffix: each for each in FORMATS for suffix in each.suffixes}
# Entries under which checkpoints keep the model, in the order in which they are tried.
PARTS = ("model", "state_dict", "model_state_dict", "params")
MAX_DEPTH = 64  # levels of nested trees


def read(path: str | os.PathLike[str], *, part: str | None = None) -> dict[str, Tensor]:
    r"""Reads the tensors of a file by name.

    ## Reading

    * `path` is a file of safetensors, torch (`.pt`, `.pth`), numpy (`.npz`), Paddle (`.pdparams`)
      or Flax (`.msgpack`), under any name
    * `part` is the entry of a checkpoint that holds the weights, such as `ema`. By default, a file
      of torch or Paddle without a tensor at its top level is searched for `model`, `state_dict`,
      `model_state_dict` and `params`

    Returns the tensors on the CPU, in the types of the file. Names of nested trees are joined by
    "/". A single number becomes a tensor of shape `[]`.

    Raises `WeightsError` if the file is missing, damaged or of another format, has no such `part`,
    holds something other than tensors, names a function to call, or needs a package that is not
    installed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e
    found = next((each for each in FORMATS if each.recognises(data)), None)
    if found is None:
        names = ", ".join(each.name for each in FORMATS)
        raise WeightsError(
            f"{path} must be a file of weights in one of the formats {names}, got {len(data)} "
            f"bytes of another format"
        )
    try:
        tree = _select(found.parse(data), part, search=found.holds_checkpoints)
        return _flatten(tree, len(data))
    except WeightsError as e:
        raise WeightsError(f"{path} is not a valid file of {found.name} weights: {e}") from e
    except ImportError as e:
        raise WeightsError(
            f"{path} is a file of {found.name}, and reading it needs {e.name}: pip install {e.name}"
        ) from e
    except MemoryError:
        # All sizes have been checked, so the file is valid and the machine too small.
        raise
    except Exception as e:
        # The parsers of four packages raise many types of errors for invalid bytes.
        reason = (str(e).strip().splitlines() or [""])[0][:200]
        reason = "".join(c if c.isprintable() else "?" for c in reason)
        message = f"{path} is not a valid file of {found.name} weights: {type(e).__name__} {reason}"
        raise WeightsError(message.rstrip()) from e


def write(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    r"""Writes tensors by name to a file, whole or not at all.

    ## Writing

    The content goes to a second file, which is flushed to the disk and then renamed.

    * `path` ends with `.safetensors`, `.pt`, `.pth`, `.npz`, `.pdparams` or `.msgpack`
    * `state` are the tensors by name; for `.msgpack`, names with "/" become nested trees
    * `metadata` are strings by name; only `.safetensors` stores them

    Raises `WeightsError` for another suffix, a value that is not a tensor, a type that the format
    cannot store (such as bfloat16 in `.pdparams`), a name that is a tensor and a tree at once, and
    a package that is not installed; `OSError` if the file cannot be written, which leaves an older
    file unchanged.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise WeightsError(
            f"path must end with one of {sorted(WRITERS)}, got {short_repr(path.name)}"
        )
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise WeightsError(
                f"state must map names to tensors, got a {type(tensor).__name__} under "
                f"{short_repr(name)}"
            )
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        content = WRITERS[path.suffix].serialise(on_cpu, metadata or {})
    except ImportError as e:
        raise WeightsError(f"writing {path.suffix} needs {e.name}: pip install {e.name}") from e
    atomic_write(path, content)


# ## From a tree to names
def _select(tree: Any, part: str | None, *, search: bool) -> Any:
    if not isinstance(tree, dict):
        raise WeightsError(f"it must map names to tensors, got a {type(tree).__name__}")
    if part is not None:
        if not isinstance(tree.get(part), dict):
            raise WeightsError(
                f"it must have a part {short_repr(part)} that maps names to tensors, got the parts "
                f"{short_repr(list(tree)[:8])}"
            )
        return tree[part]
    if search and not any(isinstance(value, Tensor) for value in tree.values()):
        return next((tree[name] for name in PARTS if isinstance(tree.get(name), dict)), tree)
    return tree


def _flatten(tree: Any, file_size: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    max_size, max_entries = size_limit(file_size), file_size + MAX_DEPTH
    size = n_entries = 0

    def visit(value: Any, name: str, depth: int) -> None:
        nonlocal size, n_entries
        if isinstance(value, Unbuilt):
            value = value.value
        # A tensor of Paddle inside a checkpoint: its second name and its array.
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            value = value[1].value if isinstance(value[1], Unbuilt) else value[1]
        if isinstance(value, dict):
            if depth == MAX_DEPTH:
                raise WeightsError(f"its names must have at most {MAX_DEPTH} levels")
            # A pickle can put one dict at many places, each with dicts at many places.
            n_entries += len(value)
            if n_entries > max_entries:
                raise WeightsError(f"it must have at most {max_entries} entries")
            for key, inner in value.items():
                key = key.decode() if isinstance(key, bytes) else str(key)
                visit(inner, f"{name}/{key}" if depth else key, depth + 1)
            return
        if type(value) in (bool, int, float):
            value = torch.tensor(value)
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"its entry {short_repr(name)} must be a tensor, got a {type(value).__name__}; "
                f"for a checkpoint, choose a part"
            )
        if name in state:
            raise WeightsError(f"it has two entries of the name {short_repr(name)}")
        size += value.numel() * value.dtype.itemsize
        if size > max_size:
            raise WeightsError(f"its tensors must have at most {max_size} bytes")
        state[name] = value.contiguous()

    visit(tree, "", 0)
    return state
