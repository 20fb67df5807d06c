r"""The files of `torch.save`, as zip archives and as older streams.

# torch

Since version 1.6, `torch.save` writes a zip archive: the tree of tensors as a pickle, and the
memory of each tensor, its storage, as an entry of its own. Older versions wrote both one after the
other into a stream.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError, short_repr
from labml_gmlp.weights.formats.archives import is_archive, read_entries
from labml_gmlp.weights.formats.arrays import DTYPES, check_shape
from labml_gmlp.weights.formats.format import Format, Metadata
from labml_gmlp.weights.formats.pickles import (
    DICT_CALLS,
    NUMPY_CALLS,
    Call,
    Global,
    is_pickle,
    load_pickle,
    make_tuple,
    refuse_call,
)


# ## Calls that torch's pickles make
@dataclass(frozen=True)
class Storage:
    r"""The memory of one or more tensors.

    * `data` are its bytes
    * `dtype` is the type of its numbers, or `None` if each tensor states its own
    """

    data: Tensor
    dtype: torch.dtype | None


def _view(
    storage: Any, offset: Any, shape: Any, strides: Any, dtype: torch.dtype | None = None
) -> Tensor:
    if not isinstance(storage, Storage):
        raise WeightsError(f"a tensor must have a storage, got a {type(storage).__name__}")
    dtype = storage.dtype if dtype is None else dtype
    shape, strides = check_shape(shape), check_shape(strides)
    (offset,) = check_shape([offset])
    if dtype is None or len(shape) != len(strides):
        raise WeightsError("a tensor must have a type, and a stride for each axis")
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if (last + 1) * dtype.itemsize > len(storage.data):
        raise WeightsError(
            f"a tensor of shape {short_repr(list(shape))} reaches beyond its storage of "
            f"{len(storage.data)} bytes"
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
    if not isinstance(dtype, Global) or dtype.name not in _TORCH_DTYPES:
        raise WeightsError("a tensor must have a type of numbers")
    return _view(storage, offset, shape, strides, _TORCH_DTYPES[dtype.name])


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}
_UNTYPED = "torch.storage.UntypedStorage"
_TORCH_DTYPES = {f"torch.{name}": dtype for name, dtype in DTYPES.items()}
_CALLS: dict[str, Call] = {
    **NUMPY_CALLS,
    **DICT_CALLS,
    "torch._utils._rebuild_tensor": _rebuild_v2,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": make_tuple,
    **dict.fromkeys([*_TORCH_DTYPES, *_STORAGES, _UNTYPED], refuse_call),
}


# The pickle refers to a storage by a tuple: "storage", its class, its key, its device, its size.
def _storage(identity: Any) -> tuple[str, torch.dtype | None, int]:
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise WeightsError("its pickle refers to a storage in an unknown form")
    kind, key, size = identity[1], identity[2], identity[4]
    # A sixth element would be a view into the storage, which torch no longer writes.
    if not isinstance(key, str) or (len(identity) > 5 and identity[5] is not None):
        raise WeightsError("its pickle refers to a storage in an unknown form")
    if not isinstance(kind, Global) or kind.name not in {*_STORAGES, _UNTYPED}:
        raise WeightsError("a storage must have a class of torch")
    return key, _STORAGES.get(kind.name), check_shape([size])[0]


# ## Archives
def _parse_archive(data: bytes) -> Any:
    entries = read_entries(data, compressed=False)
    (root,) = [name.removesuffix("data.pkl") for name in entries if name.endswith("data.pkl")]
    if entries.get(f"{root}byteorder", b"little") != b"little":
        raise WeightsError("its numbers must be little-endian")
    storages: dict[Any, Storage] = {}

    def persistent_load(identity: Any) -> Storage:
        key, dtype, size = _storage(identity)
        if key not in storages:
            # A copy, since tensors must be writable.
            content = bytearray(entries[f"{root}data/{key}"])
            if len(content) != size * (1 if dtype is None else dtype.itemsize):
                raise WeightsError(f"its storage {short_repr(key)} must hold {size} numbers")
            storages[key] = Storage(_bytes_tensor(content), dtype)
        if storages[key].dtype != dtype:
            raise WeightsError(f"its storage {short_repr(key)} has two types")
        return storages[key]

    return load_pickle(entries[f"{root}data.pkl"], _CALLS, persistent_load)


# ## Streams
#
# A magic number, a version, facts of the machine, the tree, the keys of the storages: five pickles
# one after the other. The storages themselves follow.
MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")


def _parse_stream(data: bytes) -> Any:
    stream = io.BytesIO(data)
    facts = [load_pickle(stream, {}) for _ in range(3)]
    if not isinstance(facts[2], dict) or facts[2].get("little_endian") is not True:
        raise WeightsError("its numbers must be little-endian")
    start = stream.tell()
    sizes: dict[Any, tuple[torch.dtype, int]] = {}

    def note_size(identity: Any) -> None:
        key, dtype, size = _storage(identity)
        if dtype is None or sizes.setdefault(key, (dtype, size)) != (dtype, size):
            raise WeightsError(f"its storage {short_repr(key)} must have one type and one size")

    # The tree comes before the storages but states their types, so it is read twice: first without
    # rebuilding tensors.
    without_tensors = {
        name: (lambda *_: None) if "_rebuild_" in name else call for name, call in _CALLS.items()
    }
    load_pickle(stream, without_tensors, note_size)
    keys = load_pickle(stream, {})
    storages = {}
    for key in keys:
        dtype, size = sizes.pop(key)
        head, content = stream.read(8), stream.read(min(size * dtype.itemsize, len(data)))
        if head != struct.pack("<q", size) or len(content) != size * dtype.itemsize:
            raise WeightsError(f"its storage {short_repr(key)} must hold {size} numbers")
        storages[key] = Storage(_bytes_tensor(bytearray(content)), dtype)
    if stream.read(1):
        raise WeightsError("bytes follow its last storage")
    stream.seek(start)
    return load_pickle(stream, _CALLS, lambda identity: storages[_storage(identity)[0]])


def _bytes_tensor(content: bytearray) -> Tensor:
    if not content:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8)


# ## Both forms
def _recognises(data: bytes) -> bool:
    # torch writes its pickle first, and numpy writes none.
    return (is_archive(data) and b"data.pkl" in data[:1024]) or _is_stream(data)


def _is_stream(data: bytes) -> bool:
    return is_pickle(data) and MAGIC in data[:32]


def _parse(data: bytes) -> Any:
    return _parse_stream(data) if _is_stream(data) else _parse_archive(data)


def _serialise(state: dict[str, Tensor], _: Metadata) -> bytes:
    buffer = io.BytesIO()
    # torch saves the whole storage of a view, so each tensor gets its own.
    torch.save({name: tensor.clone() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


FORMAT = Format("torch", (".pt", ".pth"), _recognises, _parse, _serialise, holds_checkpoints=True)
