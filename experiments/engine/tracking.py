r"""Optional tracking with labml.

# Tracking

[labml](https://pypi.org/project/labml/) records a run in the format of its tools. A run never
depends on it: `metrics.jsonl` has all values, and an error in labml is reported once and then
ignored.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Track = Callable[[int, dict[str, float]], None]


@contextlib.contextmanager
def tracking(enabled: bool, name: str, folder: Path, settings: dict[str, Any]) -> Iterator[Track]:
    r"""Context in which labml records a run.

        with tracking(True, "masked", folder, settings) as track:
            track(10, {"loss": 2.5})

    * `enabled` is false for `--no-labml`
    * `name` is the experiment
    * `folder` is the run's folder; labml writes into `folder/labml`
    * `settings` are recorded as labml's configuration

    Yields a function that records the values of a step.
    """
    with contextlib.ExitStack() as stack:
        track = _start(name, folder, settings, stack) if enabled else None
        broken = track is None

        def record(step: int, values: dict[str, float]) -> None:
            nonlocal broken
            if broken or track is None:
                return
            try:
                track(step, values)
            except Exception as e:
                broken = True
                _warn(e)

        yield record


# labml prints notices to standard output, where only the result belongs, so they are discarded. Any
# exception is caught: labml inspects the repository, the home folder and the calling file, each of
# which can fail on a machine where training works.
def _start(
    name: str, folder: Path, settings: dict[str, Any], stack: contextlib.ExitStack
) -> Track | None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from labml import experiment, lab, tracker

            lab.configure(
                {"path": str(folder), "experiments_path": "labml", "check_repo_dirty": False}
            )
            # Only the file writer: an unreachable server would keep the process alive.
            experiment.create(name=name, writers={"file"}, disable_screen=True)
            experiment.configs(settings)
            run = experiment.start()
            run.__enter__()
    except Exception as e:
        _warn(e)
        return None

    def stop(kind: Any, error: Any, traceback: Any) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run.__exit__(kind, error, traceback)
        except Exception as e:
            _warn(e)

    stack.push(stop)
    return lambda step, values: tracker.save(step, values)


def _warn(error: Exception) -> None:
    print(
        f"labml tracking is off for this run ({type(error).__name__}: {error}); "
        f"metrics.jsonl has all values",
        file=sys.stderr,
    )
