r"""Zip archives, read with a limit on their unpacked size.

# Zip archives

torch and numpy both write zip archives. Python's `zipfile` verifies the checksum of each entry; the
limit on the size of all entries together is added here.
"""

import io
import struct
import zipfile

from labml_gmlp.weights.errors import WeightsError, short_repr

# Trained weights do not compress to half their size, but one storage can serve several tensors. The
# second number lets a small file of zeros pass.
MAX_EXPANSION, ALWAYS_ALLOWED = 16, 2**20  # times, bytes
EMPTY_SIZE = 22  # bytes
SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


def is_archive(data: bytes) -> bool:
    """Says whether `data` begins as a zip archive does."""
    return data[:4] in SIGNATURES


def size_limit(file_size: int) -> int:
    """Returns the largest number of bytes that all tensors of a file may have together."""
    return MAX_EXPANSION * file_size + ALWAYS_ALLOWED


def read_entries(data: bytes, *, compressed: bool) -> dict[str, bytes]:
    r"""Returns the content of each entry of an archive by its name.

    * `data` is the archive
    * `compressed` allows compressed entries; torch never writes any

    Raises `WeightsError` for an archive that exceeds the size limit or hides entries, and for an
    entry that is duplicate, encrypted or truncated; `zipfile.BadZipFile` for other damage.
    """
    limit = size_limit(len(data)) if compressed else len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            raise WeightsError("its archive has two entries of the same name")
        # `zipfile` reads the directory up to its declared size and ignores entries behind that.
        (declared,) = struct.unpack("<H", data[data.rfind(b"PK\x05\x06") + 10 :][:2])
        empty = not members and len(data) > EMPTY_SIZE
        if declared not in (len(members), 0xFFFF) or empty:
            raise WeightsError(f"the directory of its archive lists only {len(members)} entries")
        for member in members:
            allowed = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (0,)
            if member.compress_type not in allowed or member.flag_bits & 1:
                raise WeightsError("its archive is encrypted or uses an unsupported compression")
        # Entries that overlap or expand turn a small archive into a large one.
        if sum(member.file_size for member in members) > limit:
            raise WeightsError(f"its archive must unpack to at most {limit} bytes")
        contents = {}
        for member in members:
            # `read()` without a size would unpack the whole entry before checking its length.
            with archive.open(member) as entry:
                contents[member.filename] = entry.read(member.file_size + 1)
            if len(contents[member.filename]) != member.file_size:
                raise WeightsError(f"its entry {short_repr(member.filename)} is truncated")
    return contents
