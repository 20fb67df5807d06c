r"""Measures time and memory of a Toeplitz projection over the number of tokens.

# Cost of a Toeplitz projection

```
python -m benchmarks.toeplitz
python -m benchmarks.toeplitz --chart toeplitz.svg --save toeplitz.json
python -m benchmarks.toeplitz --sizes 256 512 768 1024 1536 2048 --channels 256 --batch 8
```

Compares forward and backward passes of three layers: `ToeplitzProjection` with the FFT, the same
with a materialised matrix, and `SpatialProjection`, whose matrix is free. The default of `fft_from`
was chosen with the last command.

Times are medians over rounds in which the layers alternate, and ratios compare times of the same
round. Memory is the growth of the peak of a separate process, from before the layer is built until
after the backward pass; it is measured on Linux only.

The recorded results in `benchmarks/results/` were measured under background load on two cores, so
their ranges are wide. With `--threads 1` they are narrower and give the same threshold.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.engine.run_folder import environment, write_json
from experiments.reporting.charts import (
    ChartLine,
    ChartPoint,
    describe_ends,
    line_chart,
    log_axis,
)
from labml_gmlp import SpatialProjection, ToeplitzProjection
from labml_gmlp.storage import atomic_write

FFT, ROWS, FREE = "FFT", "rows of W", "free W"
WAYS: dict[str, Callable[[int], nn.Module]] = {
    FFT: lambda n: ToeplitzProjection(n, fft_from=1),
    ROWS: lambda n: ToeplitzProjection(n, fft_from=None),
    FREE: lambda n: SpatialProjection(n),
}
SIZES = [2**k for k in range(8, 17)]
KIB, MIB, GIB = 2**10, 2**20, 2**30


def quadratic_bytes(n: int, batch: int) -> int:
    """Bytes for $W$, its gradient, and the gradient per sequence of `SpatialProjection`."""
    return 4 * n * n * (2 + batch)


def one_pass(layer: nn.Module, z: Tensor) -> float:
    """Seconds of a forward and a backward pass."""
    layer.zero_grad()
    z.grad = None
    began = time.perf_counter()
    layer(z).sum().backward()
    return time.perf_counter() - began


def times(
    n: int, ways: list[str], channels: int, batch: int, rounds: int, limit: float
) -> dict[str, list[float]]:
    r"""Times the forward and backward passes of several layers.

    ## Time

    * `n`, `channels` and `batch` are the sizes of the input
    * `ways` are keys of `WAYS`
    * `rounds` is the number of passes of each layer
    * `limit` is in seconds; a layer whose first pass takes longer is not timed again

    Returns the seconds of each pass, by layer.
    """
    z = torch.randn(batch, n, channels, requires_grad=True)
    layers = {way: WAYS[way](n) for way in ways}
    first = {way: one_pass(layer, z) for way, layer in layers.items()}
    taken: dict[str, list[float]] = {
        way: [seconds] if seconds > limit else [] for way, seconds in first.items()
    }
    turns = [way for way in ways if not taken[way]]
    for number in range(rounds):
        # Rotate the order, so that no layer always follows the same other one.
        for k in range(len(turns)):
            way = turns[(k + number) % len(turns)]
            taken[way].append(one_pass(layers[way], z))
    return taken


def memory(n: int, way: str, channels: int, batch: int) -> int | None:
    r"""Measures the peak memory of one pass in a new process.

    ## Memory

    Returns the growth of the peak in bytes, or `None` on other systems than Linux.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    arguments = ["--peak", way, "--sizes", str(n), "--channels", str(channels)]
    command = [sys.executable, "-m", "benchmarks.toeplitz", *arguments, "--batch", str(batch)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


def peak_growth(n: int, way: str, channels: int, batch: int) -> int:
    """Growth of the peak memory of this process in bytes."""
    # A first small pass, so that torch's own one-time allocations are not counted.
    one_pass(WAYS[way](64), torch.randn(batch, 64, channels, requires_grad=True))
    z = torch.randn(batch, n, channels, requires_grad=True)
    # Reset the peak to the current use.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    one_pass(WAYS[way](n), z)
    return _peak() - before


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise OSError("/proc/self/status has no VmHWM")


def table(points: list[dict[str, Any]]) -> str:
    r"""A Markdown table with a row for each length; a dash means too large to run."""
    ratios = [f"{way} / FFT" for way in (ROWS, FREE)]
    heads = ["tokens", *(f"{way}, ms" for way in WAYS), *ratios, *(f"{way}, MiB" for way in WAYS)]
    lines = [heads, ["---:"] * len(heads)]
    for point in points:
        seconds, peaks = point["seconds"], point["bytes"]
        line = [f"{point['n']:,}"]
        line += [
            f"{1e3 * statistics.median(seconds[w]):.1f}" if w in seconds else "-" for w in WAYS
        ]
        for way in (ROWS, FREE):
            line.append(_ratio(seconds[way], seconds[FFT]) if way in seconds else "-")
        line += [f"{peaks[w] / MIB:.1f}" if peaks.get(w) is not None else "-" for w in WAYS]
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _ratio(one: list[float], other: list[float]) -> str:
    if len(one) != len(other):
        return f"{statistics.median(one) / statistics.median(other):.2f}"
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def chart(points: list[dict[str, Any]], title: str) -> bytes:
    r"""Plots the time of a pass over the number of tokens, as an SVG.

    ## Chart

    Both axes are logarithmic, so a power of $n$ is a straight line whose slope is the exponent. A
    line is the median of the rounds, its band reaches from the fastest to the slowest.

    * `points` are the measurements
    * `title` says where they were made
    """
    lines = {}
    for colour, way in enumerate(WAYS):
        timed = [(p["n"], p["seconds"][way]) for p in points if way in p["seconds"]]
        drawn = [ChartPoint(n, statistics.median(t), min(t), max(t)) for n, t in timed]
        lines[way.replace("W", "$W$")] = ChartLine(drawn, colour)
    every = [point for line in lines.values() for point in line.points]
    return line_chart(
        lines,
        name="toeplitz-cost",
        title="Time of a forward and a backward pass over the number of tokens, both logarithmic",
        description=f"{title}. {describe_ends(lines)}",
        x_label="tokens",
        y_label="forward and backward, seconds",
        x=log_axis(every[0].x, max(point.x for point in every), (1, 3)),
        y=log_axis(min(p.low for p in every), max(p.high for p in every), (1,)),
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure time and memory of Toeplitz and free projections."
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of tokens")
    add("--channels", type=int, default=64, help="number of channels (default: 64)")
    add("--batch", type=int, default=1, help="number of sequences (default: 1)")
    add("--rounds", type=int, default=9, help="number of rounds (default: 9)")
    add("--memory-gb", type=float, default=4.0, help="largest matrix to build, in GiB (default: 4)")
    add(
        "--seconds",
        type=float,
        default=5.0,
        help="do not repeat a pass longer than this (default: 5)",
    )
    add("--threads", type=int, help="threads of torch (default: torch's own choice)")
    add("--chart", type=Path, metavar="FILE", help="write an SVG chart of the times")
    add("--save", type=Path, metavar="FILE", help="write all results to a JSON file")
    add("--peak", choices=list(WAYS), help="only print the memory of one layer at one size")
    return parser.parse_args(arguments)


def main() -> None:
    flags = parse(sys.argv[1:])
    c, batch = flags.channels, flags.batch
    if flags.threads:
        torch.set_num_threads(flags.threads)
    if flags.peak:
        print(peak_growth(flags.sizes[0], flags.peak, c, batch))
        return
    command = shlex.join(["python", "-m", "benchmarks.toeplitz", *sys.argv[1:]])
    where = environment(torch.device("cpu"), command)
    title = f"{where['hardware']}; torch {where['torch']}; {batch} x n x {c}"
    points: list[dict[str, Any]] = []
    for n in flags.sizes:
        fits = quadratic_bytes(n, batch) <= flags.memory_gb * GIB
        ways = list(WAYS) if fits else [FFT]
        print(f"{n} tokens: {', '.join(ways)}", file=sys.stderr)
        peaks = {way: memory(n, way, c, batch) for way in ways}
        seconds = times(n, ways, c, batch, flags.rounds, flags.seconds)
        points.append({"n": n, "seconds": seconds, "bytes": peaks})
        # Save after each length, so that an interruption keeps the results.
        if flags.save:
            record = {"environment": where, "channels": c, "batch": batch, "points": points}
            write_json(flags.save, record)
    print(f"{title}; medians of {flags.rounds} rounds; commit {where['commit']}\n")
    print(table(points), end="")
    if flags.chart:
        atomic_write(flags.chart, chart(points, title))


if __name__ == "__main__":
    main()
