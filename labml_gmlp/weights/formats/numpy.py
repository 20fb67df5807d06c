r"""The `.npz` format of numpy: a zip archive with one array per entry.

# numpy

Reading needs no numpy.
"""

import io
import re
import zipfile

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError, short_repr
from labml_gmlp.weights.formats.archives import is_archive, read_entries
from labml_gmlp.weights.formats.arrays import parse_numpy_dtype, tensor_from_bytes, to_numpy
from labml_gmlp.weights.formats.format import Format, Metadata


def _parse(data: bytes) -> dict[str, Tensor]:
    state = {}
    for name, entry in read_entries(data, compressed=True).items():
        if not name.endswith(".npy"):
            raise WeightsError(f"its entry {short_repr(name)} is not a numpy array")
        state[name.removesuffix(".npy")] = _array(entry)
    return state


# The header of an array is a dict in Python's notation. numpy evaluates it as Python; a pattern is
# enough for everything that numpy writes.
_HEADER = re.compile(
    rb"\{ *'descr': *'([^']*)', *'fortran_order': *(True|False), *'shape': *"
    rb"\(((?:\d+L?, *)*(?:\d+L?)?)\),? *\}\s*"
)


def _array(entry: bytes) -> Tensor:
    if entry[:6] != b"\x93NUMPY" or len(entry) < 12:
        raise WeightsError("an entry is not a numpy array")
    # The length of the header has two bytes in the first version of the format, later four.
    start = 10 if entry[6] == 1 else 12
    stop = start + int.from_bytes(entry[8:start], "little")
    header = _HEADER.fullmatch(entry[start:stop]) if stop <= len(entry) else None
    if header is None:
        raise WeightsError("an array must state its type and shape")
    dtype, big_endian = parse_numpy_dtype(header[1].decode("ascii"))
    sizes = [size.strip(b" L") for size in header[3].split(b",")]
    shape = [int(size) for size in sizes if size]
    return tensor_from_bytes(
        memoryview(entry)[stop:],
        dtype,
        shape,
        fortran_order=header[2] == b"True",
        big_endian=big_endian,
    )


def _serialise(state: dict[str, Tensor], _: Metadata) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, tensor in state.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                array = to_numpy(name, tensor, bfloat16="V2")
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return buffer.getvalue()


# Any archive that torch does not recognise.
FORMAT = Format("numpy", (".npz",), is_archive, _parse, _serialise)
