r"""The error that every part of `labml_gmlp.weights` raises.

# Errors
"""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_QUOTED = 100  # characters


class WeightsError(ValueError):
    r"""Raised when a file, its names and shapes, or an option cannot be used.

    The message is one line and lists every fault that was found: a file with one wrong name usually
    has more of them.

        try:
            model = weights.load("gmlp.pt")
        except weights.WeightsError as error:
            print(error)
    """


def short_repr(value: Any) -> str:
    """Returns `repr(value)` on one line of bounded length, for values that come from a file."""
    # Python refuses to print integers of thousands of digits, and printing a deep tree takes long.
    if isinstance(value, int) and value.bit_length() > 256:
        return "an integer of hundreds of digits"
    if isinstance(value, (dict, set)) or (isinstance(value, tuple) and len(value) > 32):
        return type(value).__name__
    text = repr(value[:80] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 3] + "..."


def list_faults(faults: Mapping[str, Sequence[str]]) -> str:
    """Returns all faults of each kind on one line, or an empty string if there are none."""
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
