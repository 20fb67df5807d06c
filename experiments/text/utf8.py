r"""Helpers for UTF-8: decoding a stream of bytes, and checking text that may not be encodable.

# UTF-8
"""

import codecs
from collections.abc import Iterable, Iterator

N_BYTES = 256


def decode_stream(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yields each character as soon as its last byte arrives; invalid bytes become U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def check_utf8(prompt: str) -> None:
    r"""Checks that a prompt can be encoded as UTF-8.

    Python represents command-line bytes that it cannot decode as lone surrogates, which UTF-8
    cannot encode.

    Raises `ValueError` that lists the surrogates in `prompt`.
    """
    surrogates = {c for c in prompt if "\ud800" <= c <= "\udfff"}
    if surrogates:
        raise ValueError(
            f"prompt must be text that UTF-8 can encode, got {list_characters(surrogates)}"
        )


def list_characters(characters: Iterable[str]) -> str:
    """Characters and their code points for an error message, readable even if not printable."""
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(characters))
