r"""The answer of each page of results, as a sentence with its numbers.

# Answers

The numbers come from the recorded runs. The words around them were chosen for these runs, so each
function checks that the runs still say what its sentence says.
"""

import statistics
from collections.abc import Mapping, Sequence

from experiments.reporting import scaling
from experiments.reporting.records import Measure, RunRecord
from experiments.reporting.tables import sorted_by_mean

Groups = Mapping[str, list[RunRecord]]


def autoregressive(groups: Groups, measure: Measure) -> str:
    """Does gMLP work as an autoregressive language model?"""
    order = sorted_by_mean(groups, measure)
    _check(_every_seed_is_better(groups, measure, "gmlp", "transformer"), "gMLP leads")
    _check(order[0] == "toeplitz", "a Toeplitz matrix is best")
    return (
        f"**Yes.** gMLP reaches a validation loss of {_mean(groups, measure, 'gmlp')} nats per "
        "character, a Transformer of nearly the same size "
        f"{_mean(groups, measure, 'transformer')} after as many steps. gMLP with a Toeplitz $W$ is "
        f"best, at {_mean(groups, measure, 'toeplitz')}."
    )


# The gates of the paper's ablation, and their names in a sentence.
GATES = {
    "additive": "additive",
    "linear": "linear",
    "gmlp": "split (gMLP)",
    "multiplicative": "multiplicative",
}


def gates(groups: Groups, measure: Measure) -> str:
    """Is the order of the gates that of the paper?"""
    order = [gate for gate in sorted_by_mean(groups, measure) if gate in GATES]
    _check(order == list(GATES), "the order of the gates")
    _check(sorted_by_mean(groups, measure)[0] == "toeplitz", "a Toeplitz matrix is best")
    found = [f"{GATES[gate]} {_mean(groups, measure, gate)}" for gate in order]
    return (
        "**The paper's order of gates did not come out here.** The losses are "
        f"{_listed(found)} nats per masked character; the paper's order, best first, is split, "
        "multiplicative, additive, linear. What matters more is the form of $W$: gMLP with a "
        f"Toeplitz $W$ has by far the lowest loss, {_mean(groups, measure, 'toeplitz')}."
    )


def toeplitz(fractions: Sequence[float], noise: float) -> str:
    """Does a free $W$ become Toeplitz?"""
    _check(statistics.mean(fractions) > 0.5 > 10 * noise, "most of W is Toeplitz")
    return (
        f"**Mostly.** On average {statistics.mean(fractions):.0%} of $\\lVert W \\rVert^2$ lies in "
        f"the nearest Toeplitz matrix, against {noise:.0%} for a random matrix; single blocks have "
        f"from {min(fractions):.0%} to {max(fractions):.0%}."
    )


def alignment(groups: Groups, measure: Measure, baseline: float) -> str:
    r"""Does attention help where two spans must be compared?

    * `baseline` is the error of a guess, in the unit of the measure
    """
    _check(_every_seed_is_better(groups, measure, "transformer", "amlp"), "attention is best")
    order = sorted_by_mean(groups, measure)
    overlap = not _every_seed_is_better(groups, measure, "amlp", "gmlp")
    _check(order == ["transformer", "amlp", "gmlp"] and overlap, "aMLP is between")
    return (
        "**Yes, on this task.** A Transformer is wrong in "
        f"{_mean(groups, measure, 'transformer')} % of the cases and gMLP in "
        f"{_mean(groups, measure, 'gmlp')} %; a guess is wrong in {baseline:.1f} %. With a tiny "
        f"attention (aMLP) it is {_mean(groups, measure, 'amlp')} %, but its seeds overlap with "
        "those of gMLP."
    )


def depth(lines: Mapping[str, list[scaling.Point]]) -> str:
    """Does gMLP improve with size as a Transformer does?"""
    gmlp, transformer = lines["gMLP"], lines["Transformer"]
    means = [point.mean for point in gmlp]
    _check(means == sorted(means, reverse=True), "gMLP improves at every size")
    best = min(transformer, key=lambda point: point.mean)
    last = transformer[-1]
    _check(transformer[0].mean > best.mean < last.mean, "the Transformer stops improving")
    return (
        "**gMLP improves at every size tried; the Transformer stops at "
        f"{best.n_layers} layers.** From {gmlp[0].n_layers} to {gmlp[-1].n_layers} blocks gMLP's "
        f"perplexity falls from {gmlp[0].mean:.2f} to {gmlp[-1].mean:.2f}. That of the Transformer "
        f"falls from {transformer[0].mean:.2f} to {best.mean:.2f} at {best.n_layers} layers and "
        f"is {last.mean:.2f} at {last.n_layers}. All models are trained for as many steps, so this "
        "says nothing about longer training."
    )


def layer_sizes(autoregressive: float, masked: float) -> str:
    """How much larger a Transformer layer is than a gMLP block, on both tasks."""
    return (
        f"A Transformer layer has {autoregressive:.2f} times the parameters of a gMLP block in the "
        f"autoregressive models and {masked:.2f} times in the masked ones, so fewer layers give "
        "the same size."
    )


def digits(groups: Groups, mnist: Groups, measure: Measure) -> str:
    """How does gMLP do on small images?"""
    for each in (groups, mnist):
        _check(_every_seed_is_better(each, measure, "gmlp", "mixer"), "gMLP leads")
    return (
        "**gMLP is better than MLP-Mixer of the same size.** It is wrong on "
        f"{_mean(groups, measure, 'gmlp')} % of scikit-learn's held-out digits (MLP-Mixer "
        f"{_mean(groups, measure, 'mixer')} %), and on {_mean(mnist, measure, 'gmlp')} % of the "
        f"images held out from MNIST's ten thousand (MLP-Mixer {_mean(mnist, measure, 'mixer')} %)."
    )


def _mean(groups: Groups, measure: Measure, name: str) -> str:
    return measure.format(statistics.mean(map(measure.of, groups[name])))


def _every_seed_is_better(groups: Groups, measure: Measure, low: str, high: str) -> bool:
    return max(map(measure.of, groups[low])) < min(map(measure.of, groups[high]))


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _check(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(f"answer must be rewritten, the runs no longer say that {words}")
