r"""
# Files of weights

Five formats, one function to read them and one to write them. What a file is follows from its first
bytes and not from its name, and whatever it is, reading it keeps three promises:

* nothing of it is executed; torch's and Paddle's pickles go through [a machine](pickles.py) that
  has no functions to call
* no memory is taken for a size that the file only claims: each is held against the bytes there are
* what cannot be read is refused in one sentence
"""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.storage import atomic_write
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats import pickles
from labml_gmlp.weights.formats.archives import LARGEST_BEYOND, LARGEST_FACTOR, numpy_archive
from labml_gmlp.weights.formats.arrays import checked_shape, short, tensor_from
from labml_gmlp.weights.formats.pickles import PADDLE_NAMES
from labml_gmlp.weights.formats.torch_files import MAGIC, TORCH_DTYPES, torch_archive, torch_stream
from labml_gmlp.weights.formats.writers import WRITERS

# Where checkpoints of a training keep the model, in the order in which they are tried.
PARTS = ("model", "state_dict", "model_state_dict", "params")
DEEPEST = 64


def read(path: str | os.PathLike[str], *, part: str | None = None) -> dict[str, Tensor]:
    r"""
    ## Reading

    * `path` is a file of safetensors, of torch (`.pt`, `.pth`), of numpy (`.npz`), of Paddle
      (`.pdparams`) or of Flax (`.msgpack`), whatever its name
    * `part` is the entry to take of a checkpoint that holds more than weights, such as `ema`. Where
      it is `None` and the file has no tensor at its top, torch's and Paddle's files are searched
      for `model`, `state_dict`, `model_state_dict` and `params`

    Returns the tensors by name, on the CPU and in the types of the file. Names of trees inside of
    trees are joined by "/". Numbers that stand alone become tensors without an axis.

    Raises `WeightsError` for a file that is missing, damaged, of another kind or without that
    `part`, and for one that asks to run anything.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise WeightsError(f"{path} must be a file of weights, got {e.strerror}") from e
    kind, parse = _recognised(path, data)
    try:
        return _flat(_chosen(parse(data), part, search=kind in ("torch", "Paddle")), len(data))
    except WeightsError as e:
        raise WeightsError(f"{path} must be a whole file of {kind}: {e}") from e
    except ImportError as e:
        raise WeightsError(f"reading a file of {kind} needs {e.name}: pip install {e.name}") from e
    except MemoryError:
        # Every size has been held against the file: the machine is too small for it.
        raise
    except Exception as e:
        # What parsers of four packages raise for bytes that are not theirs has no common name.
        reason = (str(e).strip().splitlines() or [""])[0][:200]
        reason = "".join(c if c.isprintable() else "?" for c in reason)
        raise WeightsError(
            f"{path} must be a whole file of {kind}, got one that cannot be read: "
            f"{type(e).__name__} {reason}".rstrip()
        ) from e


def _recognised(path: Path, data: bytes) -> tuple[str, Callable[[bytes], Any]]:
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        # torch puts its pickle in front; numpy knows nothing but arrays.
        if b"data.pkl" in data[:1024]:
            return "torch", torch_archive
        return "numpy", numpy_archive
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data):
        return "safetensors", _safetensors
    if data[:1] == b"\x80" and len(data) > 1 and data[1] <= 5:
        # Three numbers in front of the tensors mark the files that torch wrote before 1.6.
        if MAGIC in data[:32]:
            return "torch", torch_stream
        return "Paddle", _paddle
    # A map of msgpack, small, medium or large; an empty one is a single byte, and no weights.
    if data and (0x81 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF)):
        return "Flax", _msgpack
    raise WeightsError(
        f"{path} must be a file of weights in safetensors, torch, numpy, Paddle or Flax form, got "
        f"{len(data)} bytes that are none of them"
    )


# ## From a tree to names
def _chosen(tree: Any, part: str | None, *, search: bool) -> Any:
    if not isinstance(tree, dict):
        raise WeightsError(f"it must hold names and tensors, got a {type(tree).__name__}")
    if part is not None:
        if not isinstance(tree.get(part), dict):
            raise WeightsError(
                f"its part {short(part)} must hold names and tensors, got a file with "
                f"{short(list(tree)[:8])}"
            )
        return tree[part]
    if search and not any(isinstance(value, Tensor) for value in tree.values()):
        return next((tree[name] for name in PARTS if isinstance(tree.get(name), dict)), tree)
    return tree


def _flat(tree: Any, file_size: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    largest = LARGEST_FACTOR * file_size + LARGEST_BEYOND
    size = 0

    def visit(value: Any, name: str, depth: int) -> None:
        nonlocal size
        if isinstance(value, pickles.Unbuilt):
            value = value.value
        # Paddle's tensor inside of a checkpoint: its other name, and its array.
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            value = value[1].value if isinstance(value[1], pickles.Unbuilt) else value[1]
        if isinstance(value, dict):
            if depth == DEEPEST:
                raise WeightsError(f"its names must have at most {DEEPEST} levels, got more")
            for key, inner in value.items():
                key = key.decode() if isinstance(key, bytes) else str(key)
                visit(inner, f"{name}/{key}" if depth else key, depth + 1)
            return
        if type(value) in (bool, int, float):
            value = torch.tensor(value)
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"its entry {short(name)} must be a tensor, got a {type(value).__name__}; in a "
                f"checkpoint, choose a part"
            )
        if name in state:
            raise WeightsError(f"it must hold each name once, got {short(name)} twice")
        size += value.numel() * value.dtype.itemsize
        if size > largest:
            raise WeightsError(f"its tensors must have at most {largest} bytes, got more")
        state[name] = value.contiguous()

    visit(tree, "", 0)
    return state


# ## safetensors
#
# The package checks each length against the file, and that the tensors cover it without a gap.
def _safetensors(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    # The package returns them in any order, another one in each process.
    return dict(sorted(load(data).items()))


# ## Paddle
#
# A state dict carries a table from its names to those of Paddle's variables beside the arrays. It
# says nothing about the numbers.


def _paddle(data: bytes) -> Any:
    stream = io.BytesIO(data)
    tree = pickles.load_pickle(stream, pickles.PADDLE)
    if stream.read(1):
        raise WeightsError("its pickle must end it, got more")

    def without_names(tree: Any, depth: int = 0) -> Any:
        if not isinstance(tree, dict) or depth > DEEPEST:
            return tree
        # Arrays at the top have to be seen as tensors, to tell a state dict from a checkpoint.
        return {
            key: value.value
            if isinstance(value, pickles.Unbuilt)
            else without_names(value, depth + 1)
            for key, value in tree.items()
            if key != PADDLE_NAMES
        }

    return without_names(tree)


# ## Flax
#
# A tree in msgpack. An array is an extension, number 1: its shape, the name of its type and its
# bytes, in msgpack again; number 3 is a single number of numpy.
_FLAX_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TORCH_DTYPES.values()}


def _msgpack(data: bytes) -> Any:
    import msgpack

    def extension(code: int, content: bytes) -> Tensor:
        if code not in (1, 3):
            raise WeightsError(f"its entries must be arrays, got the extension {code}")
        shape, dtype, numbers = msgpack.unpackb(content, raw=True, max_array_len=MOST_IN_A_LIST)
        if not isinstance(dtype, bytes) or dtype.decode() not in _FLAX_DTYPES:
            raise WeightsError(f"an array must hold numbers, got the type {short(dtype)}")
        return tensor_from(numbers, _FLAX_DTYPES[dtype.decode()], shape)

    def entries(pairs: list[tuple[Any, Any]]) -> Any:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            raise WeightsError("it must hold each name once, got one twice")
        return _joined(tree) if "__msgpack_chunked_array__" in tree else tree

    # For a list, msgpack takes memory by the length that it declares, at each of up to a thousand
    # levels. Flax writes its lists as maps, and those are filled entry by entry.
    return msgpack.unpackb(
        data, ext_hook=extension, object_pairs_hook=entries, max_array_len=MOST_IN_A_LIST
    )


MOST_IN_A_LIST = 64


def _joined(tree: dict[str, Any]) -> Tensor:
    # What is larger than a gigabyte comes in pieces.
    shape, pieces = (
        [part[str(i)] for i in range(len(part))] for part in (tree["shape"], tree["chunks"])
    )
    return torch.cat(pieces).reshape(checked_shape(shape))


# ## Writing


def write(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    r"""
    The ending of the name says which format. The file is whole or not there: it is written aside,
    flushed to the disk, then renamed.

    * `path` ends with `.safetensors`, `.pt`, `.pth`, `.npz`, `.pdparams` or `.msgpack`
    * `state` are the tensors by name; for `.msgpack`, names with "/" become trees
    * `metadata` are texts by name; only `.safetensors` has a place for them, and elsewhere they are
      left out

    Raises `WeightsError` for another ending, for what the format has no place for (such as bfloat16
    with Paddle); `OSError` if it cannot be written, and then an older file is as it was.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise WeightsError(f"path must end with one of {sorted(WRITERS)}, got {short(path.name)}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise WeightsError(
                f"state must hold tensors by name, got a {type(tensor).__name__} by {short(name)}"
            )
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        content = WRITERS[path.suffix](kept, metadata)
    except ImportError as e:
        raise WeightsError(f"writing {path.suffix} needs {e.name}: pip install {e.name}") from e
    atomic_write(path, content)
