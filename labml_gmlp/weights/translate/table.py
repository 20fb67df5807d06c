r"""
# Tables of weights

The same gMLP is written by many, and every one gives its parameters other names: the matrix $W$ of
the third block is `encoder.layers.2.sgu.projection.weight` here,
`blocks.2.mlp_channels.gate.proj.weight` in timm and `layers.2.fn.fn.fn.sgu.weight`, with an axis
more, in g-mlp-pytorch. Most of what lies between two systems is therefore a table of names, and a
table can be read in both directions. Nothing here is written twice: what takes weights out is the
row that brought them in.

A row says too how the numbers lie: by the letters of their axes, in the order that the other system
has. These letters are checked against the numbers that come, so they cannot be wrong for long.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError


@dataclass(frozen=True)
class Row:
    r"""
    ## One parameter

    * `ours` is its name here; `{i}` in it stands for the index of the layer
    * `theirs` is its name there, with `{i}` in the same place
    * `shape` are its axes here, a letter or word each: `"n n"`, `"d c p q"`. A number before a
      letter multiplies it, `"3a d"`, and a number alone is an axis of this length. Without a shape
      nothing is checked
    * `transpose` says that a matrix lies there turned over, as in Flax, Haiku and Paddle
    * `reshape` are the axes there, if it is more than that: `"1 n n"` has an axis more,
      `"p q c d"` another order, and `"d (c p q)"` has three axes written as one
    * `flip` says that the last axis runs backwards there
    * `scale` is what the numbers there are multiplied with here. Only a power of two does this
      without rounding
    * `optional` rows may be missing, on both sides

    Raises `ValueError` for a `{i}` on one side only, for a `reshape` without a `shape`, with other
    letters, or beside `transpose`, and for a `transpose` of what has not two axes.
    """

    ours: str
    theirs: str
    shape: str = ""
    transpose: bool = False
    reshape: str | None = None
    flip: bool = False
    scale: float = 1.0
    optional: bool = False

    def __post_init__(self) -> None:
        if ("{i}" in self.ours) != ("{i}" in self.theirs):
            raise ValueError(f"{{i}} must be in both names, got {self.ours!r} and {self.theirs!r}")
        if self.transpose and self.reshape is not None:
            raise ValueError(f"reshape must be None beside transpose, got {self.reshape!r}")
        if self.transpose and self.shape and len(_axes(self.shape)) != 2:
            raise ValueError(f"transpose needs a shape of two axes, got {self.shape!r}")
        if self.reshape is not None and sorted(_long(self.reshape)) != sorted(_long(self.shape)):
            raise ValueError(
                f"reshape must have the letters of shape={self.shape!r}, got {self.reshape!r}"
            )

    @property
    def there(self) -> str:
        r"""
        The axes there.
        """
        if self.transpose:
            return " ".join(reversed(self.shape.split()))
        return self.shape if self.reshape is None else self.reshape

    def to_ours(self, value: Tensor, sizes: Mapping[str, int]) -> Tensor:
        r"""
        * `value` are the numbers there, of the right shape
        * `sizes` has a number for each letter

        Returns them as they lie here.
        """
        if self.flip:
            value = value.flip(-1)
        if self.scale != 1.0:
            value = value * self.scale
        if not self.shape:
            return value.T.contiguous() if self.transpose else value
        order = self._order()
        back = [order.index(axis) for axis in range(len(order))]
        return _rearranged(value, self.there, back, self.shape, sizes)

    def to_theirs(self, value: Tensor, sizes: Mapping[str, int]) -> Tensor:
        r"""
        * `value` are the numbers here, of the right shape

        Returns them as they lie there: each step of `to_ours` undone, the last one first.
        """
        if self.shape:
            value = _rearranged(value, self.shape, self._order(), self.there, sizes)
        elif self.transpose:
            value = value.T.contiguous()
        if self.scale != 1.0:
            value = value / self.scale
        return value.flip(-1) if self.flip else value

    def _order(self) -> list[int]:
        r"""
        For each axis there, which one it is here.
        """
        here = _long(self.shape)
        # Both axes of $W$ have the letter $n$, so letters alone cannot tell that it is turned over.
        if self.transpose:
            return [1, 0]
        order: list[int] = []
        for letter in _long(self.there):
            order.append(
                next(a for a, other in enumerate(here) if other == letter and a not in order)
            )
        return order


@dataclass(frozen=True)
class Table:
    r"""
    ## All parameters of one model

    * `system` is the name of the other system, for messages
    * `rows` stand in the order of the other system. Neighbouring rows with `{i}` make up a layer,
      and are repeated together for each
    * `n_layers` is the number of layers
    * `sizes` gives numbers to letters. A letter that is not in it takes the length of the first
      axis that it stands for, and every other axis with this letter must agree
    * `ignored` are names there, with `{i}` if need be, that may come and carry nothing: counters,
      masks, constants that the code there computes again
    """

    system: str
    rows: tuple[Row, ...]
    n_layers: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def names(self) -> Iterator[tuple[Row, str, str]]:
        r"""
        Returns each row with its two names, layer after layer, in the order of the other system.
        """
        done = 0
        while done < len(self.rows):
            layer = []
            while done < len(self.rows) and "{i}" in self.rows[done].ours:
                layer.append(self.rows[done])
                done += 1
            for i in range(self.n_layers):
                for row in layer:
                    # Not `str.format`: the names of others may hold braces of their own.
                    yield row, _with_index(row.ours, i), _with_index(row.theirs, i)
            if not layer:
                yield self.rows[done], self.rows[done].ours, self.rows[done].theirs
                done += 1

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""
        * `state` are the parameters of the other system by their names

        Returns them by our names, as `load_state_dict` takes them.

        Raises `WeightsError`, once for everything that is missing, left over or of another shape.
        """
        names = list(self.names())
        indices = range(max(self.n_layers, 1))
        ignored = {_with_index(name, i) for name in self.ignored for i in indices}
        sizes = self._fitting_sizes(
            state,
            [(row, theirs, row.there) for row, _, theirs in names],
            left_over=[name for name in state if name not in ignored],
            where=f"the weights do not fit {self.system}",
        )
        return {
            ours: row.to_ours(state[theirs], sizes)
            for row, ours, theirs in names
            if theirs in state
        }

    def to_theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""
        * `state` are our parameters by our names, as `state_dict` gives them

        Returns them by the names of the other system, in its order.

        Raises `WeightsError`, once for everything that is missing, left over or of another shape.
        """
        names = list(self.names())
        sizes = self._fitting_sizes(
            state,
            [(row, ours, row.shape) for row, ours, _ in names],
            left_over=state,
            where=f"these weights cannot be written for {self.system}",
        )
        return {
            theirs: row.to_theirs(state[ours], sizes)
            for row, ours, theirs in names
            if ours in state
        }

    def _fitting_sizes(
        self,
        state: Mapping[str, Tensor],
        wanted: list[tuple[Row, str, str]],
        left_over: Iterable[str],
        where: str,
    ) -> dict[str, int]:
        r"""
        * `wanted` has for each row the name on this side and its axes on this side

        Returns a number for each letter.
        """
        sizes = dict(self.sizes)
        shapes = []
        for row, name, axes in wanted:
            if row.shape and name in state and not _fits(tuple(state[name].shape), axes, sizes):
                shape = " ".join(str(_length(axis, sizes) or "?") for axis in _axes(axes))
                got = list(state[name].shape)
                shapes.append(f"{name} must be [{axes}] = [{shape}], got {got}")
        known = {name for _, name, _ in wanted}
        wrong = {
            "missing": [n for row, n, _ in wanted if n not in state and not row.optional],
            "left over": [name for name in left_over if name not in known],
            "of another shape": shapes,
        }
        if any(wrong.values()):
            parts = [f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names]
            raise WeightsError(f"{where}; {'; '.join(parts)}")
        return sizes


def layers_of(names: Iterable[str], beginning: str) -> int:
    r"""
    ## Number of layers

    * `names` are those of a file
    * `beginning` is what names of a layer begin with, with `{i}` in it

    Returns how many layers there are: one more than the largest index, so that a layer that is
    missing between others is missed by name.
    """
    before, after = (re.escape(part) for part in beginning.split("{i}"))
    indices = [int(m[1]) for name in names if (m := re.match(rf"{before}(\d+){after}", name))]
    return max(indices, default=-1) + 1


def shaped(function: Callable[[Tensor], Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""
    ## One function for all values

    Returns `state` with each value replaced, in the same order: `shaped(Tensor.double, state)`.
    """
    return {name: function(value) for name, value in state.items()}


# ## Axes
#
# `"d (c p q)"` has two axes, `d` and `c p q`, and in long form four.
def _axes(pattern: str) -> list[str]:
    return [group or single for group, single in re.findall(r"\(([^)]*)\)|(\S+)", pattern)]


# An axis of length one is neither moved nor missed, so it is not counted.
def _long(pattern: str) -> list[str]:
    return [letter for axis in _axes(pattern) for letter in axis.split() if letter != "1"]


def _with_index(name: str, i: int) -> str:
    return name.replace("{i}", str(i))


def _factor(letter: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d*)(\w*)", letter)
    assert match is not None
    return int(match[1] or 1), match[2]


# `None` as long as one of the letters has no number.
def _length(axis: str, sizes: Mapping[str, int]) -> int | None:
    factors = [_factor(letter) for letter in axis.split()]
    if any(letter and letter not in sizes for _, letter in factors):
        return None
    return math.prod(factor * sizes.get(letter, 1) for factor, letter in factors)


# Gives a number to a letter that stands alone and has none yet.
def _fits(shape: tuple[int, ...], pattern: str, sizes: dict[str, int]) -> bool:
    axes = _axes(pattern)
    if len(axes) != len(shape):
        return False
    for axis, length in zip(axes, shape, strict=True):
        factor, letter = _factor(axis) if " " not in axis else (0, "")
        if letter and letter not in sizes and length % factor == 0:
            sizes[letter] = length // factor
    return [_length(axis, sizes) for axis in axes] == list(shape)


def _rearranged(
    value: Tensor, before: str, order: list[int], after: str, sizes: Mapping[str, int]
) -> Tensor:
    long = [_length(letter, sizes) or 0 for letter in _long(before)]
    shape = [_length(axis, sizes) or 0 for axis in _axes(after)]
    return value.reshape(long).permute(order).reshape(shape).contiguous()
