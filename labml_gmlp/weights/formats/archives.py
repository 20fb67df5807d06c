r"""
# Archives of weights

Both torch and numpy write zip archives. Each entry carries a checksum, which Python's library
verifies; what it does not ask is how large all entries together become.
"""

import io
import re
import struct
import zipfile

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import numpy_dtype, short, tensor_from

# All tensors together may be so many times larger than the file: a compressed one is smaller than
# its numbers, and one storage can serve several tensors. Weights that have been trained do not
# shrink to a half. The second number lets a small file of zeros pass.
LARGEST_FACTOR, LARGEST_BEYOND = 16, 2**20
EMPTY_SIZE = 22  # bytes


def entries(data: bytes, *, compressed: bool) -> dict[str, bytes]:
    r"""
    ## Entries

    * `data` is the archive
    * `compressed` allows entries to be smaller there than they are; torch never writes such

    Returns the content of each by its name.

    Raises `WeightsError` for an archive that swells beyond all weights, and for an entry that comes
    twice, is encrypted or is not whole; `zipfile.BadZipFile` for one that is damaged.
    """
    largest = LARGEST_FACTOR * len(data) + LARGEST_BEYOND if compressed else len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise WeightsError("its archive must hold each name once, got one twice")
        # The library reads the directory up to its size, and does not miss entries behind it.
        (declared,) = struct.unpack("<H", data[data.rfind(b"PK\x05\x06") + 10 :][:2])
        empty = not members and len(data) > EMPTY_SIZE
        if declared not in (len(members), 0xFFFF) or empty:
            raise WeightsError(f"its archive must have all its entries, got {len(members)}")
        for member in members:
            allowed = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (0,)
            if member.compress_type not in allowed or member.flag_bits & 1:
                raise WeightsError("its archive must not be encrypted or compressed another way")
        # Entries that share their bytes or swell are how a small archive becomes a large one.
        if sum(member.file_size for member in members) > largest:
            raise WeightsError(f"its archive must unfold to at most {largest} bytes, got more")
        found = {}
        for member in members:
            # Asked for all of an entry, the library unfolds it first and then looks at its size.
            with archive.open(member) as entry:
                found[member.filename] = entry.read(member.file_size + 1)
            if len(found[member.filename]) != member.file_size:
                raise WeightsError(f"its entry {short(member.filename)} must be whole, got a part")
    return found


def numpy_archive(data: bytes) -> dict[str, Tensor]:
    r"""
    ## Archives of numpy

    Returns the arrays of an `.npz` by name. Raises what `entries` raises, and `WeightsError` for an
    entry that is no array of numbers.
    """
    state = {}
    for name, entry in entries(data, compressed=True).items():
        if not name.endswith(".npy"):
            raise WeightsError(f"its archive must hold arrays of numpy, got {short(name)}")
        state[name.removesuffix(".npy")] = _npy(entry)
    return state


# The header of an array is a dict in Python's notation. numpy evaluates it; what numpy writes needs
# no more than a pattern.
_NPY_HEADER = re.compile(
    rb"\{ *'descr': *'([^']*)', *'fortran_order': *(True|False), *'shape': *"
    rb"\(((?:\d+L?, *)*(?:\d+L?)?)\),? *\}\s*"
)


def _npy(entry: bytes) -> Tensor:
    if entry[:6] != b"\x93NUMPY" or len(entry) < 12:
        raise WeightsError("its arrays must be those of numpy, got an entry that is none")
    # The length of the header has two bytes in the first version of the format, then four.
    start = 10 if entry[6] == 1 else 12
    stop = start + int.from_bytes(entry[8:start], "little")
    header = _NPY_HEADER.fullmatch(entry[start:stop]) if stop <= len(entry) else None
    if header is None:
        raise WeightsError("its arrays must say their type and shape, got one that does not")
    dtype, big_endian = numpy_dtype(header[1].decode("ascii"))
    sizes = [size.strip(b" L") for size in header[3].split(b",")]
    shape = [int(size) for size in sizes if size]
    return tensor_from(
        memoryview(entry)[stop:],
        dtype,
        shape,
        by_columns=header[2] == b"True",
        big_endian=big_endian,
    )
