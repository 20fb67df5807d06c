r"""
# Arrays from bytes

Every format says the same of an array: what kind of numbers, in which shape, and their bytes. Here
that becomes a tensor, and only if the three agree to the byte; so no array can be larger than the
bytes that the file really has.
"""

import math
import re
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError

# By the code that numpy writes, without the byte order. `V2` are two bytes that numpy has no name
# for: JAX and ml_dtypes store bfloat16 so.
DTYPES = {
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
# More axes than any weight has; torch itself takes more.
MOST_AXES = 32


def tensor_from(
    data: bytes | bytearray | memoryview,
    dtype: torch.dtype,
    shape: Any,
    *,
    by_columns: bool = False,
    big_endian: bool = False,
) -> Tensor:
    r"""
    ## One tensor

    * `data` are its bytes
    * `dtype` is that of the tensor, `shape` a list or tuple of whole numbers
    * `by_columns` says that the first axis runs fastest (numpy's "Fortran order")
    * `big_endian` says that the highest byte of a number comes first

    Returns a tensor with memory of its own.

    Raises `WeightsError` for a `shape` that is none, and one that has not the size of `data`.
    """
    shape = checked_shape(shape)
    size = math.prod(shape) * dtype.itemsize
    if size != len(data):
        raise WeightsError(
            f"an array of {short(list(shape))} in {dtype} must have {short(size)} bytes, "
            f"got {len(data)}"
        )
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if big_endian and not dtype.is_complex:
        flat = flat.view(-1, dtype.itemsize).flip(1).reshape(-1)
    elif big_endian:
        flat = flat.view(-1, dtype.itemsize // 2).flip(1).reshape(-1)
    # A byte that is neither 0 nor 1 is no truth value, and torch may do anything with it.
    flat = flat != 0 if dtype == torch.bool else flat.view(dtype)
    if by_columns:
        return flat.reshape(shape[::-1]).permute(*range(len(shape))[::-1]).contiguous()
    return flat.reshape(shape)


def numpy_dtype(code: Any) -> tuple[torch.dtype, bool]:
    r"""
    * `code` is numpy's, such as `<f4`

    Returns the dtype, and whether the highest byte comes first.

    Raises `WeightsError` for anything else, objects and records among it.
    """
    match = re.fullmatch(r"([<>|=]?)([a-zA-Z]\d{1,2})", code) if isinstance(code, str) else None
    if match is None or match[2] not in DTYPES:
        raise WeightsError(f"an array must hold numbers, got the type {short(code)}")
    return DTYPES[match[2]], match[1] == ">"


def checked_shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, (list, tuple)) or len(shape) > MOST_AXES:
        raise WeightsError(f"a shape must be at most {MOST_AXES} whole numbers, got another thing")
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise WeightsError(f"a shape must hold whole numbers below 2^63, got {short(size)}")
    return tuple(shape)


def short(value: Any) -> str:
    """What a message can show of a value from a file: one line, and not the whole of it."""
    # `repr` of a number with many digits is an error, and of a deep tree a long story.
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of hundreds of digits"
    if isinstance(value, (dict, set)) or (isinstance(value, tuple) and len(value) > MOST_AXES):
        return type(value).__name__
    text = repr(value[:80] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= 100 else text[:97] + "..."
