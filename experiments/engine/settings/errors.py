r"""
# errors
"""

import io
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class UserError(Exception):
    """A mistake that the caller can mend, told in one sentence. A command ends with status 2."""


@contextmanager
def user_errors() -> Iterator[None]:
    r"""
    ## Errors of the caller

    Turns what the checks of settings, corpora and layers raise into `UserError`. It belongs around
    what happens before the work begins; afterwards a `ValueError` is our own mistake and
    deserves its traceback.
    """
    try:
        yield
    except (ValueError, TypeError) as e:
        raise UserError(str(e)) from e
    except OSError as e:
        raise UserError(f"{e.filename or 'file'}: {e.strerror or e}") from e
    except RuntimeError as e:
        # What torch says in several lines, often with a stack of its own below the first.
        text = (str(e).splitlines() or [type(e).__name__])[0]
        too_large = any(word in text.lower() for word in ("memory", "storage size"))
        raise UserError(f"model must fit into memory, got: {text}" if too_large else text) from e


def is_first_process() -> bool:
    """Of those that torchrun or Fabric has started, by what they were told of themselves."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK"))


@contextmanager
def report_once() -> Iterator[None]:
    """What all processes find wrong, the first one says; the others end with the same status."""
    try:
        yield
    except UserError:
        if is_first_process():
            raise
        raise SystemExit(2) from None


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    r"""
    ## A command and its status

    Runs `command` on its arguments. What the caller can mend becomes one line on standard error.

    Returns the exit status: 0, 2 for a mistake or a full disk, 130 for Ctrl-C, 141 if nobody reads
    the output any more.
    """
    # A text may hold characters that a terminal cannot show; they must not end the run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        command(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        # A full disk, most of all. What was written before is whole.
        print(f"error: {e.filename or 'output'}: {e.strerror or e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        if is_first_process():
            # A run that has begun says which it is.
            run = e.args[0] if e.args else "RUN"
            print(f"stopped; --resume {run} goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def check_positive(settings: Any, names: Sequence[str]) -> None:
    """Raises `ValueError` for the first of the named fields that is not above 0."""
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raises `ValueError` for a `value` that is not among the `choices`."""
    if value not in choices:
        *first, last = choices
        allowed = f"{', '.join(first)} or {last}" if first else last
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
