r"""Where a text comes from: Python's standard library, a download or a file.

# Text sources

A source is read in chunks, several times, so a text may be larger than memory.
"""

import codecs
import hashlib
import stat
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from experiments.engine.download import download
from experiments.engine.progress import with_progress

TINY_SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

CHUNK_SIZE = 2**20  # bytes


@dataclass(frozen=True)
class TextSource:
    r"""A UTF-8 text that can be read from the beginning any number of times.

    ## Text source

    ```python
    source = find_source("python", Path("data"))
    first = next(source.characters("reading"))
    ```

    * `name` identifies the text in error messages
    * `size` is its length in bytes
    * `chunks` starts reading from the beginning and yields the bytes in chunks
    """

    name: str
    size: int
    chunks: Callable[[], Iterator[bytes]]

    def checksum(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in with_progress(self.chunks(), self.size, "reading the text"):
            digest.update(chunk)
        return digest.hexdigest()

    def characters(self, activity: str) -> Iterator[str]:
        r"""Yields the text in pieces.

        * `activity` labels the progress, such as "counting characters"

        Raises `ValueError` for bytes that are not UTF-8, with their offset.
        """
        return decode_utf8(with_progress(self.chunks(), self.size, activity), self.name)

    def verified_characters(self, sha256: str, activity: str) -> Iterator[str]:
        r"""Yields the text in pieces and verifies its checksum at the end.

        * `sha256` is the expected `checksum()`
        * `activity` labels the progress

        Raises `ValueError` for bytes that are not UTF-8, and if the checksum differs.
        """
        digest = hashlib.sha256()

        def hashed(chunks: Iterable[bytes]) -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        chunks = hashed(with_progress(self.chunks(), self.size, activity))
        yield from decode_utf8(chunks, self.name)
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"corpus must not change while it is encoded, got new content in {self.name}"
            )


def find_source(name: str, data: Path) -> TextSource:
    r"""Finds a text by its name and downloads it if necessary.

    ## Finding a text

    * `name` is `python`, `tiny_shakespeare` or the path of a UTF-8 text
    * `data` is the folder of downloads

    Raises `ValueError` for a text that is missing, empty, unreadable or not a regular file, and for
    a download that fails or has a wrong checksum. Raises `OSError` if it cannot be written.
    """
    if name == "python":
        content = standard_library().encode()
        return TextSource(name, len(content), lambda: _split_chunks(content))
    if name == "tiny_shakespeare":
        path = download(TINY_SHAKESPEARE, TINY_SHAKESPEARE_SHA256, data / f"{name}.txt")
        return file_source(path)
    return file_source(Path(name))


def standard_library() -> str:
    r"""The default text: the top-level modules of Python's standard library, in alphabetical order.

    ## Default text

    Every machine with Python has it, so the first run needs no network. It differs between versions
    of Python, and so do the losses.

    Raises `ValueError` if Python was installed without its sources.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    texts = []
    for path in sorted(folder.glob("*.py")):
        with tokenize.open(path) as file:
            texts.append(file.read())
    if not texts:
        raise ValueError(
            f"corpus python needs the standard library's sources, got none in {folder}"
        )
    return "".join(texts)


def file_source(path: Path) -> TextSource:
    r"""The text of a file.

    Raises `ValueError` for a file that is missing, empty, unreadable or not a regular file.
    """
    try:
        status = path.stat()
        with path.open("rb"):
            pass
    except IsADirectoryError as e:
        raise ValueError(f"corpus must be a file, got the folder {path}") from e
    except PermissionError as e:
        raise ValueError(f"corpus must be a readable file, got {path}") from e
    except (OSError, ValueError) as e:
        # The file does not exist, or the name is not valid for a file.
        raise ValueError(
            f"corpus must be python, tiny_shakespeare or the path of a text file, got {str(path)!r}"
        ) from e
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"corpus must be a regular file, because it is read several times, got {path}"
        )
    if not status.st_size:
        raise ValueError(f"corpus must not be empty, got {path} with 0 bytes")

    def chunks() -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                yield from read_chunks(file)
        except OSError as e:
            raise ValueError(f"corpus must be a readable file, got {path} ({e.strerror})") from e

    return TextSource(str(path), status.st_size, chunks)


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the content of an open file in chunks."""
    while chunk := file.read(CHUNK_SIZE):
        yield chunk


def decode_utf8(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    r"""Decodes a text chunk by chunk.

    A character that is split between two chunks is yielded with the second one.

    * `chunks` are the bytes of the text `name`

    Raises `ValueError` for bytes that are not UTF-8, with their offset in the text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    n = 0
    pending = b""
    try:
        for chunk in chunks:
            # The first bytes of a split character, which the decoder holds back. The positions in
            # its errors count them.
            pending = decoder.getstate()[0]
            if text := decoder.decode(chunk):
                yield text
            n += len(chunk)
        pending = decoder.getstate()[0]
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as e:
        raise ValueError(
            f"corpus must be UTF-8 text, got byte 0x{e.object[e.start]:02X} "
            f"at offset {n - len(pending) + e.start} of {name}"
        ) from e


def _split_chunks(content: bytes) -> Iterator[bytes]:
    return (content[i : i + CHUNK_SIZE] for i in range(0, len(content), CHUNK_SIZE))
