r"""Checks of settings, and how a mistake of the user becomes one line and exit status 2.

# Errors

Library code raises `ValueError`, `TypeError` or `OSError`. Before training starts, these are
mistakes of the user and become a `UserError`. Later, a `ValueError` or `TypeError` is a bug and
keeps its traceback.
"""

import io
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class UserError(Exception):
    """A mistake that the user can correct, in one sentence; the command exits with status 2."""


@contextmanager
def user_errors() -> Iterator[None]:
    r"""Turns errors of settings, files and layers into `UserError`.

    Wrap only what runs before training starts.

        with user_errors():
            settings = Settings(d_model=-1)

    Raises `UserError` for a `ValueError`, `TypeError`, `OSError` or `RuntimeError` inside.
    """
    try:
        yield
    except (ValueError, TypeError) as e:
        raise UserError(str(e)) from e
    except OSError as e:
        raise UserError(f"{e.filename or 'file'}: {e.strerror or e}") from e
    except RuntimeError as e:
        # torch appends a C++ stack to the first line.
        text = (str(e).splitlines() or [type(e).__name__])[0]
        too_large = any(word in text.lower() for word in ("memory", "storage size"))
        raise UserError(f"model must fit into memory, got: {text}" if too_large else text) from e


def is_first_process() -> bool:
    """True in rank 0 of the processes that torchrun or Fabric has started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK"))


@contextmanager
def report_once() -> Iterator[None]:
    """Raises a `UserError` of all processes in rank 0 only; the others exit with status 2."""
    try:
        yield
    except UserError:
        if is_first_process():
            raise
        raise SystemExit(2) from None


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    r"""Runs a command and prints an error of the user as one line on standard error.

    Returns the exit status: 0, 2 for an error of the user or a full disk, 130 for Ctrl-C, and 141
    for a closed pipe.
    """
    # A character that the terminal cannot show must not end the run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        command(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has exited. Without this, Python prints an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        # Usually a full disk. Files written before are complete.
        print(f"error: {e.filename or 'output'}: {e.strerror or e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        if is_first_process():
            # A run that has started passes its folder in the exception.
            run = e.args[0] if e.args else "RUN"
            print(f"stopped; --resume {run} continues from the last checkpoint", file=sys.stderr)
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
