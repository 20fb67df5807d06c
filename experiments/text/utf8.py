r"""
# Text as bytes

Bytes that come one after another are text only where a character ends, and text that came from a
command line may have no bytes at all.
"""

import codecs
from collections.abc import Iterable, Iterator

N_BYTES = 256


def characters_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """Each character as soon as its last byte has come, with U+FFFD for what is none."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def check_utf8(prompt: str) -> None:
    r"""
    What a command line could not read arrives as half a pair of UTF-16, which UTF-8 has no bytes
    for.

    Raises `ValueError` that names such characters in `prompt`.
    """
    halves = {c for c in prompt if "\ud800" <= c <= "\udfff"}
    if halves:
        raise ValueError(f"prompt must be text that UTF-8 can write, got {named(halves)}")


def named(characters: Iterable[str]) -> str:
    """Characters as an error message shows them, those that print nothing too."""
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in sorted(characters))
