r"""
# Files of torch

Since version 1.6, `torch.save` writes an archive: the tree as a pickle, and the memory of each
tensor as an entry of its own. Before, it wrote both one behind the other.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.archives import entries
from labml_gmlp.weights.formats.arrays import checked_shape, short
from labml_gmlp.weights.formats.pickles import (
    DICTS,
    NUMPY,
    Call,
    Name,
    load_pickle,
    not_called,
    same_tuple,
)


# ## What torch's pickles call
@dataclass(frozen=True)
class Storage:
    r"""The memory of one or more tensors: its bytes and what numbers they are."""

    data: Tensor
    dtype: torch.dtype | None


def _view(
    storage: Any, offset: Any, shape: Any, strides: Any, dtype: torch.dtype | None = None
) -> Tensor:
    if not isinstance(storage, Storage):
        raise WeightsError(f"a tensor must have a storage, got a {type(storage).__name__}")
    dtype = storage.dtype if dtype is None else dtype
    shape, strides = checked_shape(shape), checked_shape(strides)
    (offset,) = checked_shape([offset])
    if dtype is None or len(shape) != len(strides):
        raise WeightsError("a tensor must have a type and a stride for each axis, got neither")
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if (last + 1) * dtype.itemsize > len(storage.data):
        raise WeightsError(
            f"a tensor of {short(list(shape))} must lie inside of its storage of "
            f"{len(storage.data)} bytes, got one that reaches further"
        )
    whole = storage.data[: len(storage.data) // dtype.itemsize * dtype.itemsize]
    flat = whole != 0 if dtype == torch.bool else whole.view(dtype)
    return flat.as_strided(shape, strides, offset)


def _rebuild_v2(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    return _view(storage, offset, shape, strides)


def _rebuild_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_: Any,
) -> Tensor:
    if not isinstance(dtype, Name) or dtype.text not in TORCH_DTYPES:
        raise WeightsError("a tensor must have a type of numbers, got another thing")
    return _view(storage, offset, shape, strides, TORCH_DTYPES[dtype.text])


def _parameter(data: Any, *_: Any) -> Any:
    return data


STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
TORCH_DTYPES = {str(dtype): dtype for dtype in [*STORAGES.values(), torch.uint16, torch.uint32]}
TORCH_DTYPES |= {
    str(dtype): dtype for dtype in (torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
}
TORCH: dict[str, Call] = {
    **NUMPY,
    **DICTS,
    "torch._utils._rebuild_tensor": _rebuild_v2,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": same_tuple,
    "torch.storage.UntypedStorage": not_called,
}
TORCH |= dict.fromkeys([*TORCH_DTYPES, *(f"torch.{name}" for name in STORAGES)], not_called)


def _storage_dtype(name: Any) -> torch.dtype | None:
    r"""
    Returns the dtype of a storage by the class that the file names; bytes of no kind have none.

    Raises `WeightsError` for what names no storage.
    """
    if isinstance(name, Name) and name.text == "torch.storage.UntypedStorage":
        return None
    dtype = STORAGES.get(name.text.removeprefix("torch.")) if isinstance(name, Name) else None
    if dtype is None:
        raise WeightsError("a storage must be of a class of torch, got another thing")
    return dtype


def torch_archive(data: bytes) -> Any:
    r"""
    ## The archive

    * `data` is the file

    Returns the tree with its tensors.

    Raises `WeightsError` for what is not as torch writes it; for damage, what zip archives raise.
    """
    found = entries(data, compressed=False)
    (root,) = [name.removesuffix("data.pkl") for name in found if name.endswith("data.pkl")]
    if found.get(f"{root}byteorder", b"little") != b"little":
        raise WeightsError("its numbers must have the lowest byte first, got the other order")
    storages: dict[Any, Storage] = {}

    def persistent(identity: Any) -> Storage:
        key, dtype, size = _storage(identity)
        if key not in storages:
            # The bytes of a file cannot be written to, and tensors can.
            content = bytearray(found[f"{root}data/{key}"])
            if len(content) != size * (1 if dtype is None else dtype.itemsize):
                raise WeightsError(f"its storage {short(key)} must have {size} numbers")
            storages[key] = Storage(_bytes_tensor(content), dtype)
        if storages[key].dtype != dtype:
            raise WeightsError(f"its storage {short(key)} must have one type, got two")
        return storages[key]

    return load_pickle(found[f"{root}data.pkl"], TORCH, persistent)


MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")


def torch_stream(data: bytes) -> Any:
    r"""
    ## The older form

    * `data` is the file

    Returns and raises the same.
    """
    # Magic number, version, facts of the machine, the tree, the keys of the storages: one pickle
    # behind the other, and then the storages themselves.
    stream = io.BytesIO(data)
    facts = [load_pickle(stream, {}) for _ in range(3)]
    if not isinstance(facts[2], dict) or facts[2].get("little_endian") is not True:
        raise WeightsError("its numbers must have the lowest byte first, got the other order")
    start = stream.tell()
    sizes: dict[Any, tuple[torch.dtype, int]] = {}

    def measured(identity: Any) -> None:
        key, dtype, size = _storage(identity)
        if dtype is None or sizes.setdefault(key, (dtype, size)) != (dtype, size):
            raise WeightsError(f"its storage {short(key)} must have one type, got another thing")

    # The tree comes before the storages but names their types, so it is read twice.
    silent = {name: call for name, call in TORCH.items() if "_rebuild_" not in name}
    silent |= dict.fromkeys(set(TORCH) - set(silent), lambda *_: None)
    load_pickle(stream, silent, measured)
    keys = load_pickle(stream, {})
    storages = {}
    for key in keys:
        dtype, size = sizes.pop(key)
        head, content = stream.read(8), stream.read(min(size * dtype.itemsize, len(data)))
        if head != struct.pack("<q", size) or len(content) != size * dtype.itemsize:
            raise WeightsError(f"its storage {short(key)} must have {size} numbers, got others")
        storages[key] = Storage(_bytes_tensor(bytearray(content)), dtype)
    if stream.read(1):
        raise WeightsError("its last storage must end it, got more")
    stream.seek(start)
    return load_pickle(stream, TORCH, lambda i: storages[_storage(i)[0]])


def _storage(identity: Any) -> tuple[str, torch.dtype | None, int]:
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise WeightsError("its storages must be named as torch does, got another thing")
    key, size = identity[2], identity[4]
    if not isinstance(key, str) or (len(identity) > 5 and identity[5] is not None):
        raise WeightsError("its storages must be named as torch does, got another thing")
    return key, _storage_dtype(identity[1]), checked_shape([size])[0]


def _bytes_tensor(content: bytearray) -> Tensor:
    if not content:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8)
