r"""
# Texts

Where a corpus comes from: Python's own sources, a download, or a file. A text is read piece by
piece, more than once, and never held as a whole.
"""

import codecs
import hashlib
import stat
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.engine.download import download
from experiments.engine.progress import with_progress
from experiments.text import tokens
from experiments.text.tokens import chunks_of

TINY_SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class Text:
    r"""
    ## A text

    * `name` is what messages call it
    * `size` is its length in bytes
    * `chunks` reads it from the beginning, piece by piece
    """

    name: str
    size: int
    chunks: Callable[[], Iterator[bytes]]

    def checksum(self) -> str:
        """The SHA-256 of its bytes."""
        digest = hashlib.sha256()
        for chunk in with_progress(self.chunks(), self.size, "reading the text"):
            digest.update(chunk)
        return digest.hexdigest()

    def characters(self, what: str) -> Iterator[str]:
        r"""
        Its characters, piece by piece; `what` is done to them, for the progress. Raises
        `ValueError` for bytes that are not UTF-8, with the place.
        """
        return decoded(with_progress(self.chunks(), self.size, what), self.name)

    def unchanged(self, sha256: str, what: str) -> Iterator[str]:
        """The same. Raises `ValueError` at the end if it was not the text of that checksum."""
        digest = hashlib.sha256()

        def seen(chunks: Iterable[bytes]) -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        yield from decoded(seen(with_progress(self.chunks(), self.size, what)), self.name)
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"corpus must stay as it is while it is read, got other content of {self.name}"
            )


def find_text(name: str, data: Path) -> Text:
    r"""
    ## A text by its name

    * `name` is `python`, `tiny_shakespeare` or the path of a UTF-8 text
    * `data` is the folder that keeps what was downloaded

    Raises `ValueError` for a text that is missing, empty or no file.
    """
    if name == "python":
        content = standard_library().encode()
        return Text(name, len(content), lambda: _sliced(content))
    if name == "tiny_shakespeare":
        return file_text(download(TINY_SHAKESPEARE, TINY_SHAKESPEARE_SHA256, data / f"{name}.txt"))
    return file_text(Path(name))


def standard_library() -> str:
    r"""
    ## The default text

    Python's own standard library: the modules at its top, in the order of their names. It is on
    each machine that can run this, so the first run needs no network. It differs between versions
    of Python, and with it the loss.
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


def file_text(path: Path) -> Text:
    """The text of a file. Raises `ValueError` if it is none, empty, or may not be read."""
    try:
        found = path.stat()
        with path.open("rb"):
            pass
    except IsADirectoryError as e:
        raise ValueError(f"corpus must be a file, got the folder {path}") from e
    except PermissionError as e:
        raise ValueError(f"corpus must be a file that may be read, got {path}") from e
    except (OSError, ValueError) as e:
        # No such file, or a name that no file can have.
        raise ValueError(
            f"corpus must be python, tiny_shakespeare or the path of a text file, got {str(path)!r}"
        ) from e
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(
            f"corpus must be a file on a disk, as it is read more than once, got {path}"
        )
    if not found.st_size:
        raise ValueError(f"corpus must not be empty, got {path} with 0 bytes")

    def chunks() -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                yield from chunks_of(file)
        except OSError as e:
            raise ValueError(
                f"corpus must be a file that may be read, got {path} ({e.strerror})"
            ) from e

    return Text(str(path), found.st_size, chunks)


def decoded(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    r"""
    ## Bytes to characters

    A character whose bytes are cut by the end of a chunk comes with the next one.

    * `chunks` are the bytes of `name`

    Raises `ValueError` for bytes that are not UTF-8, with their place in the whole.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    n = 0
    pending = b""
    try:
        for chunk in chunks:
            # Where what the decoder looks at begins: it still holds the bytes of a cut character.
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


def _sliced(content: bytes) -> Iterator[bytes]:
    return (content[i : i + tokens.CHUNK] for i in range(0, len(content), tokens.CHUNK))
