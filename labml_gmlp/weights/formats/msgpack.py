r"""The msgpack files of Flax: a tree of arrays.

# Flax msgpack

An array is extension 1: its shape, the name of its type and its bytes, packed in msgpack again.
Extension 3 is a single number of numpy.
"""

from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError, short_repr
from labml_gmlp.weights.formats.arrays import DTYPES, check_shape, tensor_from_bytes, to_numpy
from labml_gmlp.weights.formats.format import Format, Metadata

# msgpack allocates a list by its declared length, at each of up to a thousand levels. Flax writes
# its lists as maps, which are filled entry by entry.
MAX_LIST = 64


def _recognises(data: bytes) -> bool:
    # A map: small, medium or large. An empty map is a single byte and no weights.
    return bool(data) and (0x81 <= data[0] <= 0x8F or data[0] in (0xDE, 0xDF))


def _parse(data: bytes) -> Any:
    import msgpack

    def extension(code: int, content: bytes) -> Tensor:
        if code not in (1, 3):
            raise WeightsError(f"it has the extension {code}, which is not an array")
        shape, dtype, numbers = msgpack.unpackb(content, raw=True, max_array_len=MAX_LIST)
        if not isinstance(dtype, bytes) or dtype.decode() not in DTYPES:
            raise WeightsError(f"an array must hold numbers, got the type {short_repr(dtype)}")
        return tensor_from_bytes(numbers, DTYPES[dtype.decode()], shape)

    def entries(pairs: list[tuple[Any, Any]]) -> Any:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            raise WeightsError("it has two entries of the same name")
        return _join_chunks(tree) if "__msgpack_chunked_array__" in tree else tree

    return msgpack.unpackb(
        data, ext_hook=extension, object_pairs_hook=entries, max_array_len=MAX_LIST
    )


# Flax splits arrays of more than a gigabyte.
def _join_chunks(tree: dict[str, Any]) -> Tensor:
    shape, chunks = (
        [part[str(i)] for i in range(len(part))] for part in (tree["shape"], tree["chunks"])
    )
    return torch.cat(chunks).reshape(check_shape(shape))


def _serialise(state: dict[str, Tensor], _: Metadata) -> bytes:
    import msgpack

    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        *branches, leaf = name.split("/")
        place = tree
        for branch in branches:
            place = place.setdefault(branch, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or leaf in place:
            raise WeightsError(f"{short_repr(name)} is both a tensor and a tree of tensors")
        dtype = str(tensor.dtype).removeprefix("torch.")
        numbers = to_numpy(name, tensor, bfloat16="V2").tobytes()
        place[leaf] = msgpack.ExtType(1, msgpack.packb((list(tensor.shape), dtype, numbers)))
    return msgpack.packb(tree)


FORMAT = Format("Flax", (".msgpack",), _recognises, _parse, _serialise)
