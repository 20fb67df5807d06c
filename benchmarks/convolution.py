r"""Times three ways to convolve along the tokens.

# Convolution

```
python -m benchmarks.convolution
```

Compares `ConvolutionProjection`, forward and backward, with two other ways to compute the same
result: one multiply-add for each kernel position on shifted tokens, and a single product over
unfolded windows, as the layer does under a mask. Each line gives their time relative to the layer.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.engine.run_folder import hardware
from labml_gmlp import ConvolutionProjection

# B, n, c, k: a language model with a short and a long kernel, speech, and one generation step.
SIZES = [(8, 256, 512, 7), (8, 256, 512, 31), (2, 1024, 256, 31), (1, 1, 512, 31)]


def shifted(layer: ConvolutionProjection, z: Tensor) -> Tensor:
    n, k = z.shape[1], layer.kernel_size
    z = nn.functional.pad(z, (0, 0, layer.left, layer.right))
    f = layer.bias.expand(z.shape[0], n, -1)
    for t in range(k):
        f = torch.addcmul(f, z[:, t : t + n], layer.weight[:, t])
    return f


def windows(layer: ConvolutionProjection, z: Tensor) -> Tensor:
    z = nn.functional.pad(z, (0, 0, layer.left, layer.right)).unfold(1, layer.kernel_size, 1)
    return torch.einsum("bict,ct->bic", z, layer.weight) + layer.bias


def seconds(call: Callable[..., Tensor], *arguments: object) -> float:
    began = time.perf_counter()
    call(*arguments).sum().backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Time three ways to convolve along the tokens.")
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds (default: 15)")
    arguments = parser.parse_args()
    print(f"{hardware(torch.device('cpu'))}, {torch.get_num_threads()} threads")
    for n_batch, n, c, k in SIZES:
        layer = ConvolutionProjection(c, k)
        z = torch.randn(n_batch, n, c, requires_grad=True)
        ways = {"shifted": shifted, "windows": windows}
        for way in ways.values():
            torch.testing.assert_close(way(layer, z), layer(z), rtol=0, atol=1e-4)
        ratios: dict[str, list[float]] = {name: [] for name in ways}
        own = []
        for _ in range(arguments.rounds):
            own.append(seconds(layer, z))
            for name, way in ways.items():
                ratios[name].append(seconds(way, layer, z) / own[-1])
        print(f"B {n_batch}, n {n}, c {c}, k {k}: {1e3 * statistics.median(own):.2f} ms")
        for name, values in ratios.items():
            print(
                f"  {name:8} / layer: median {statistics.median(values):.2f}, "
                f"min {min(values):.2f}, max {max(values):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
