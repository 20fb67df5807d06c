r"""Progress on standard error: a bar on a terminal, plain lines in a pipe or a log.

# Progress

Standard output is for the result.
"""

import sys
import time
from collections.abc import Iterable, Iterator

from torch import Tensor
from tqdm import tqdm

# Number of plain lines in a run.
N_LINES = 20
# Interval at which the bar updates the loss.
LOSS_EVERY = 10  # steps
# Reading a file: delay of the bar, and interval between plain lines.
BAR_DELAY = 2  # seconds
LINE_EVERY = 10  # seconds


class Progress:
    r"""Progress of a run.

        with Progress(start=0, steps=2_000) as progress:
            progress.update(1, loss)

    * `start` is the step that a resumed run starts from
    * `steps` is the last step
    * `visible` is false in all processes but one
    """

    def __init__(self, start: int, steps: int, visible: bool = True) -> None:
        self.start, self.steps, self.visible = start, steps, visible
        self._began = time.monotonic()
        self._bar = None
        if visible and sys.stderr.isatty():
            self._bar = tqdm(
                total=steps, initial=start, unit="step", dynamic_ncols=True, file=sys.stderr
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, step: int, loss: Tensor) -> None:
        """Shows that a step is done."""
        # `.item()` waits for the device, so it is called only for a loss that is shown.
        if self._bar is not None:
            if step % LOSS_EVERY == 0:
                self._bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            self._bar.update(step - self._bar.n)
        elif self.visible and (step == self.steps or step % max(1, self.steps // N_LINES) == 0):
            rate = (step - self.start) / (time.monotonic() - self._began)
            self.print(
                f"step {step}/{self.steps}  loss {loss.item():.3f}  {rate:.1f} steps/s  "
                f"{(self.steps - step) / rate:.0f} s left"
            )

    def print(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif self.visible:
            print(text, file=sys.stderr, flush=True)


def with_progress(chunks: Iterable[bytes], size: int, what: str) -> Iterator[bytes]:
    r"""Yields the chunks of a file and shows how much of it has been read.

    Nothing is shown in the first seconds.

        for chunk in with_progress(chunks, path.stat().st_size, "reading"):
            digest.update(chunk)

    * `chunks` are the bytes of the file in order
    * `size` is their number
    * `what` is the label
    """
    began, printed, n = time.monotonic(), time.monotonic(), 0
    with tqdm(
        total=size,
        desc=what,
        unit="B",
        unit_scale=True,
        delay=BAR_DELAY,
        leave=False,
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
    ) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
            n += len(chunk)
            now = time.monotonic()
            if bar.disable and now - printed > LINE_EVERY:
                printed, left = now, (size - n) * (now - began) / n
                print(f"{what}: {n / size:.0%}, {left:.0f} s left", file=sys.stderr, flush=True)
