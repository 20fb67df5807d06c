r"""Times generation with a cache against g_mlp_pytorch's wrapper, and against a memory bound.

# Speed of generation

```
python -m benchmarks.generation
```

Generates the same number of tokens with `generate` and with the `AutoregressiveWrapper` of
g_mlp_pytorch, starting from one token, with models of equal size. The two alternate every 64
tokens, so that drifts of the machine's speed affect both at the same position.

Each token needs at least one read of all weights, of one row of each $W$ and of the cache. The last
columns compare the speed with this bound: the bytes per token divided by the time per token, as a
fraction of the memory bandwidth. The bandwidth is measured in the same turns by matrix-vector
products, over as many bytes as each token reads and over 1 GiB, which exceeds the CPU caches.
"""

import argparse
import itertools
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.engine.run_folder import environment, write_json
from labml_gmlp import Encoder, GMLPBlock, LanguageModel, generate

N_TOKENS, D_MODEL, D_FFN, N_LAYERS = 256, 512, 2048, 6
# The wrapper always keeps the top tenth of the tokens.
TOP_K = int((1 - 0.9) * N_TOKENS)
TURN = 64  # tokens
FLOAT = 4  # bytes


def ours(seq_len: int) -> LanguageModel:
    encoder = Encoder(lambda: GMLPBlock(D_MODEL, D_FFN, seq_len, causal=True), N_LAYERS)
    return LanguageModel(N_TOKENS, encoder, tied=False).eval()


def theirs(seq_len: int) -> Any:
    from g_mlp_pytorch import gMLP
    from g_mlp_pytorch.autoregressive_wrapper import (
        AutoregressiveWrapper,
    )

    net = gMLP(
        num_tokens=N_TOKENS,
        dim=D_MODEL,
        depth=N_LAYERS,
        seq_len=seq_len,
        ff_mult=D_FFN // D_MODEL,
        causal=True,
    )
    return AutoregressiveWrapper(net).eval()


def bytes_read(model: LanguageModel, n: int) -> float:
    """The least number of bytes read for a token, averaged over positions 0 to n - 1."""
    small = ("embedding", "projection")
    weights = sum(
        p.numel() for name, p in model.named_parameters() if not any(s in name for s in small)
    )
    # One row of $E$; at position $i$ also $i + 1$ entries of $W$, as many rows of $Z_2$, and one
    # entry of $b$.
    rows = D_MODEL + N_LAYERS * (1 + (n + 1) / 2 * (1 + D_FFN // 2))
    return FLOAT * (weights + rows)


class Bandwidth:
    """Memory bandwidth in bytes per second, measured with matrix-vector products."""

    def __init__(self, size: float, repeats: int) -> None:
        n = max(1, round(size / (FLOAT * D_MODEL * D_FFN)))
        self.matrices = [torch.randn(D_FFN, D_MODEL) for _ in range(n)]
        self.repeats = repeats
        self.vector = torch.randn(1, 1, D_MODEL)
        self.seconds: list[float] = []

    @torch.no_grad()
    def measure(self) -> None:
        began = time.perf_counter()
        for _ in range(self.repeats):
            for matrix in self.matrices:
                torch.nn.functional.linear(self.vector, matrix)
        self.seconds.append((time.perf_counter() - began) / self.repeats)

    def per_second(self) -> float:
        """The mean over all measurements, as for the time of a token."""
        return FLOAT * D_MODEL * D_FFN * len(self.matrices) / statistics.mean(self.seconds)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def compare(n: int) -> dict[str, float]:
    """Generates a text of `n` tokens with each implementation."""
    torch.manual_seed(0)
    model, wrapper = ours(n), theirs(n)
    parameters = [sum(p.numel() for p in m.parameters()) for m in (model, wrapper)]
    assert parameters[0] == parameters[1], parameters
    size = bytes_read(model, n)
    near, far = Bandwidth(size, 10), Bandwidth(2**30, 1)
    start = torch.tensor([1])
    for bandwidth in (near, far):
        bandwidth.measure()
        bandwidth.seconds.clear()
    list(generate(model, start, 8, seq_len=n, top_k=TOP_K))
    wrapper.generate(start, 8)
    own_seconds = their_seconds = 0.0
    tokens, text = generate(model, start, n, seq_len=n, top_k=TOP_K, seed=0), start
    for done in range(0, n, TURN):
        turn = min(TURN, n - done)
        written, seconds = timed(lambda turn=turn: list(itertools.islice(tokens, turn)))  # type: ignore[misc]
        assert len(written) == turn
        own_seconds += seconds
        near.measure()
        far.measure()
        more, seconds = timed(lambda text=text, turn=turn: wrapper.generate(text, turn))  # type: ignore[misc]
        their_seconds += seconds
        text = torch.cat([text, more])
    return {
        "parameters": parameters[0],
        "ours, tokens/s": n / own_seconds,
        "wrapper, tokens/s": n / their_seconds,
        "times faster": their_seconds / own_seconds,
        "MB a token": size / 1e6,
        "GB/s, same size": near.per_second() / 1e9,
        "GB/s, 1 GiB": far.per_second() / 1e9,
        "of the bound, same size": size * n / own_seconds / near.per_second(),
        "of the bound, 1 GiB": size * n / own_seconds / far.per_second(),
    }


def table(record: dict[str, Any]) -> str:
    """A Markdown table of medians and ranges, one row for each length."""
    results: dict[str, list[dict[str, float]]] = record["results"]
    names = list(next(iter(results.values()))[0])[1:]
    lines = [f"| tokens | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for n, rounds in results.items():
        cells = []
        for name in names:
            values = [result[name] for result in rounds]
            cell = f"{statistics.median(values):.3g}"
            if len(values) > 1 and name != "MB a token":
                cell += f" ({min(values):.3g} to {max(values):.3g})"
            cells.append(cell)
        lines.append(f"| {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time generation with and without a cache.")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[256, 1024], help="tokens of each text"
    )
    parser.add_argument("--rounds", type=int, default=3, help="texts of each length (default: 3)")
    parser.add_argument(
        "--threads", type=int, help="threads of torch (default: torch's own choice)"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write all results to a JSON file"
    )
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    command = shlex.join(["python", "-m", "benchmarks.generation", *sys.argv[1:]])
    record: dict[str, Any] = {
        "environment": environment(torch.device("cpu"), command),
        "sizes": {
            "n_tokens": N_TOKENS,
            "d_model": D_MODEL,
            "d_ffn": D_FFN,
            "n_layers": N_LAYERS,
        },
        "results": {str(n): [] for n in arguments.lengths},
    }
    print(
        f"{record['environment']['hardware']}; torch {record['environment']['torch']}", flush=True
    )
    for n in arguments.lengths:
        for number in range(arguments.rounds):
            found = compare(n)
            record["results"][str(n)].append(found)
            print(
                f"{n} tokens, round {number + 1}: {found['times faster']:.1f} times faster",
                flush=True,
            )
            # Save after each round, so that an interruption keeps the results.
            if arguments.save is not None:
                write_json(arguments.save, record)
    print(f"\n{table(record)}")


if __name__ == "__main__":
    main()
