r"""
# Progress

On a terminal a bar with the rate and the time left; in a pipe or a log plain lines, a few dozen
over the whole run. All of it goes to standard error: standard output is for the result.
"""

import sys
import time
from collections.abc import Iterable, Iterator

from torch import Tensor
from tqdm import tqdm

# Plain lines over a whole run, and steps between two readings of the loss for the bar.
LINES = 20
SHOWN_EVERY = 10
# Reading a file: seconds until the bar appears, and between two lines.
SHOWN_AFTER = 2
SAID_EVERY = 10


class Progress:
    r"""
    ## Progress of a run

    * `start` is the step that a resumed run begins with
    * `steps` is the last
    * `shown` is false in all processes but one

    `update` tells how far the run is, `say` prints a line that stays.
    """

    def __init__(self, start: int, steps: int, shown: bool = True) -> None:
        self.start, self.steps, self.shown = start, steps, shown
        self._began = time.monotonic()
        self._bar = None
        if shown and sys.stderr.isatty():
            self._bar = tqdm(
                total=steps, initial=start, unit="step", dynamic_ncols=True, file=sys.stderr
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, step: int, loss: Tensor) -> None:
        # Reading the loss waits for the device, so it is read only when it is shown.
        if self._bar is not None:
            if step % SHOWN_EVERY == 0:
                self._bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            self._bar.update(step - self._bar.n)
        elif self.shown and (step == self.steps or step % max(1, self.steps // LINES) == 0):
            rate = (step - self.start) / (time.monotonic() - self._began)
            self.say(
                f"step {step}/{self.steps}  loss {loss.item():.3f}  {rate:.1f} steps/s  "
                f"{(self.steps - step) / rate:.0f} s left"
            )

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)


def with_progress(chunks: Iterable[bytes], size: int, what: str) -> Iterator[bytes]:
    r"""
    ## Progress of reading

    Hands on the `chunks` of a file and shows how far it is: on a terminal as a bar, else in a line
    from time to time. What is over in a moment shows nothing.

    * `chunks` are its bytes in order
    * `size` is how many there are
    * `what` is done to them
    """
    began, said, n = time.monotonic(), time.monotonic(), 0
    with tqdm(
        total=size,
        desc=what,
        unit="B",
        unit_scale=True,
        delay=SHOWN_AFTER,
        leave=False,
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
    ) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
            n += len(chunk)
            now = time.monotonic()
            if bar.disable and now - said > SAID_EVERY:
                said, left = now, (size - n) * (now - began) / n
                print(f"{what}: {n / size:.0%}, {left:.0f} s left", file=sys.stderr, flush=True)
