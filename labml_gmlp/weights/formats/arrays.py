r"""Tensors from the bytes, type and shape that a file states.

# Arrays

Every format stores the same three things of an array: its type, its shape and its bytes. They
become a tensor only if they agree to the byte, so no array can be larger than the bytes that the
file really has.
"""

import math
import re
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError, short_repr

# By numpy's code, without the byte order. JAX and ml_dtypes store bfloat16 as `V2`, two bytes
# without a type.
NUMPY_DTYPES = {
    "b1": torch.bool,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "u2": torch.uint16,
    "u4": torch.uint32,
    "u8": torch.uint64,
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "c8": torch.complex64,
    "c16": torch.complex128,
    "V2": torch.bfloat16,
}
# By the name that torch, numpy and JAX share.
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (*NUMPY_DTYPES.values(), torch.float8_e4m3fn, torch.float8_e5m2)
}
MAX_AXES = 32


def tensor_from_bytes(
    data: bytes | bytearray | memoryview,
    dtype: torch.dtype,
    shape: Any,
    *,
    fortran_order: bool = False,
    big_endian: bool = False,
) -> Tensor:
    r"""Returns a tensor with its own memory from the bytes of an array.

    * `data` are the bytes
    * `shape` is a list or tuple of integers, not yet checked
    * `fortran_order` says that the first axis varies fastest
    * `big_endian` says that the highest byte of a number comes first

    Raises `WeightsError` for an invalid `shape` and for a length of `data` that does not match it.
    """
    shape = check_shape(shape)
    size = math.prod(shape) * dtype.itemsize
    if size != len(data):
        raise WeightsError(
            f"an array of shape {short_repr(list(shape))} and type {dtype} must have "
            f"{short_repr(size)} bytes, got {len(data)}"
        )
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if big_endian:
        n_bytes = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
        flat = flat.view(-1, n_bytes).flip(1).reshape(-1)
    # A boolean byte other than 0 and 1 is undefined behaviour in torch.
    flat = flat != 0 if dtype == torch.bool else flat.view(dtype)
    if fortran_order:
        return flat.reshape(shape[::-1]).permute(*range(len(shape))[::-1]).contiguous()
    return flat.reshape(shape)


def parse_numpy_dtype(code: Any) -> tuple[torch.dtype, bool]:
    r"""Returns the dtype of a code such as `<f4`, and whether it is big-endian.

    Raises `WeightsError` for anything else, including objects and records.
    """
    match = re.fullmatch(r"([<>|=]?)([a-zA-Z]\d{1,2})", code) if isinstance(code, str) else None
    if match is None or match[2] not in NUMPY_DTYPES:
        raise WeightsError(f"an array must hold numbers, got the type {short_repr(code)}")
    return NUMPY_DTYPES[match[2]], match[1] == ">"


def check_shape(shape: Any) -> tuple[int, ...]:
    r"""Returns `shape` as a tuple.

    Raises `WeightsError` unless it is a list or tuple of at most 32 integers in $[0, 2^{63})$.
    """
    if not isinstance(shape, (list, tuple)) or len(shape) > MAX_AXES:
        raise WeightsError(f"a shape must be a list of at most {MAX_AXES} integers")
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise WeightsError(f"a size must be an integer in [0, 2^63), got {short_repr(size)}")
    return tuple(shape)


def to_numpy(name: str, tensor: Tensor, *, bfloat16: str | None = None) -> Any:
    r"""Returns a tensor as a numpy array.

    * `name` is its name, for the message
    * `bfloat16` is the numpy code to store bfloat16 under, which numpy does not have

    Raises `WeightsError` for a type that numpy does not have.
    """
    if tensor.dtype == torch.bfloat16 and bfloat16 is not None:
        return tensor.view(torch.int16).numpy().view(bfloat16)
    try:
        return tensor.numpy()
    except TypeError as e:
        raise WeightsError(
            f"{short_repr(name)} has the type {tensor.dtype}, which this format cannot store"
        ) from e
