r"""Tables from the parameter names of another system to ours, readable in both directions.

# Tables of names

Every implementation of gMLP gives its parameters other names. The matrix $W$ of the third block is
`encoder.layers.2.sgu.projection.weight` here, `blocks.2.mlp_channels.gate.proj.weight` in timm and
`layers.2.fn.fn.fn.sgu.weight`, with one more axis, in g-mlp-pytorch. Most of the difference between
two systems is therefore a table of names. It is written once and read in both directions.

A row also states the layout: the axes of the parameter as letters, in the order of each system. The
letters are checked against the shapes of the weights, so an error in a table shows at the first
file. In this package, *here* means this library and *there* the other system.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError, list_faults


@dataclass(frozen=True)
class Row:
    r"""One parameter: its two names and its two layouts.

    ## Row

    * `ours` is its name here; `{i}` stands for the index of the layer
    * `theirs` is its name there, with `{i}` too if `ours` has it
    * `shape` names its axes here, a letter or word each: `"n n"`, `"d c p q"`. A number in front of
      a letter multiplies it, `"3a d"`, and a number alone is an axis of this length. Without
      `shape`, nothing is checked
    * `transpose` says that the matrix is transposed there, as in Flax, Haiku and Paddle
    * `reshape` names the axes there if more than a transpose differs: `"1 n n"` has an additional
      axis, `"p q c d"` another order, and `"d (c p q)"` has three axes flattened into one
    * `flip` says that the last axis is reversed there
    * `scale` is the factor from their values to ours; only a power of two is exact
    * `optional` allows the parameter to be missing on both sides

    For example, for a linear layer of Flax:

        Row("proj_in.weight", "proj_in/kernel", "e d", transpose=True)

    Raises `ValueError` for `{i}` in one name only, a `reshape` with other letters than `shape` or
    together with `transpose`, and a `transpose` with a `shape` of other than two axes.
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
            raise ValueError(
                f"{{i}} must be in both names or in none, got {self.ours!r} and {self.theirs!r}"
            )
        if self.transpose and self.reshape is not None:
            raise ValueError(f"reshape must be None with transpose, got {self.reshape!r}")
        if self.transpose and self.shape and len(_axes(self.shape)) != 2:
            raise ValueError(f"transpose needs a shape of two axes, got {self.shape!r}")
        if self.reshape is not None and sorted(_unflattened(self.reshape)) != sorted(
            _unflattened(self.shape)
        ):
            raise ValueError(
                f"reshape must have the letters of shape={self.shape!r}, got {self.reshape!r}"
            )

    @property
    def their_axes(self) -> str:
        """The axes there, in the notation of `shape`."""
        if self.transpose:
            return " ".join(reversed(self.shape.split()))
        return self.shape if self.reshape is None else self.reshape

    def to_ours(self, value: Tensor, sizes: Mapping[str, int]) -> Tensor:
        r"""Converts a parameter from their layout to ours.

        * `value` is the parameter in their layout, of the right shape
        * `sizes` has the length of each letter
        """
        if self.flip:
            value = value.flip(-1)
        if self.scale != 1.0:
            value = value * self.scale
        if not self.shape:
            return value.T.contiguous() if self.transpose else value
        order = self._order()
        back = [order.index(axis) for axis in range(len(order))]
        return _rearranged(value, self.their_axes, back, self.shape, sizes)

    def to_theirs(self, value: Tensor, sizes: Mapping[str, int]) -> Tensor:
        r"""Converts a parameter from our layout to theirs: the inverse of `to_ours`.

        * `value` is the parameter in our layout, of the right shape
        * `sizes` has the length of each letter
        """
        if self.shape:
            value = _rearranged(value, self.shape, self._order(), self.their_axes, sizes)
        elif self.transpose:
            value = value.T.contiguous()
        if self.scale != 1.0:
            value = value / self.scale
        return value.flip(-1) if self.flip else value

    def _order(self) -> list[int]:
        """Returns the index here of each axis there."""
        here = _unflattened(self.shape)
        # Both axes of $W$ have the letter $n$, so letters alone do not show that it is transposed.
        if self.transpose:
            return [1, 0]
        order: list[int] = []
        for letter in _unflattened(self.their_axes):
            order.append(
                next(a for a, other in enumerate(here) if other == letter and a not in order)
            )
        return order


@dataclass(frozen=True)
class Table:
    r"""All parameters of a model: their names and layouts in another system and here.

    ## Table

    * `system` is the name of the other system, for messages
    * `rows` are in the order of the other system. Adjacent rows with `{i}` form a layer and are
      repeated together for each layer
    * `n_layers` is the number of layers
    * `sizes` has the known lengths of letters. Any other letter takes the length of the first axis
      it names, and all other axes with this letter must have the same length
    * `ignored` are names there, with `{i}` if needed, that may be present and are not used:
      counters, masks, constants that the other code computes again

    For example:

        table = Table("system", (Row("layers.{i}.norm.weight", "blocks.{i}.ln/scale", "d"),), 12)
        ours = table.to_ours(state)
    """

    system: str
    rows: tuple[Row, ...]
    n_layers: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def names(self) -> Iterator[tuple[Row, str, str]]:
        """Yields each row with our name and their name, in the order of the other system."""
        done = 0
        while done < len(self.rows):
            layer = []
            while done < len(self.rows) and "{i}" in self.rows[done].ours:
                layer.append(self.rows[done])
                done += 1
            for i in range(self.n_layers):
                for row in layer:
                    yield row, with_index(row.ours, i), with_index(row.theirs, i)
            if not layer:
                yield self.rows[done], self.rows[done].ours, self.rows[done].theirs
                done += 1

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Returns parameters by our names, as `load_state_dict` takes them.

        * `state` are the parameters of the other system by their names

        Raises `WeightsError`, listing all parameters that are missing, unexpected or of another
        shape.
        """
        names = list(self.names())
        indices = range(max(self.n_layers, 1))
        ignored = {with_index(name, i) for name in self.ignored for i in indices}
        sizes = self._fitting_sizes(
            state,
            [(row, theirs, row.their_axes) for row, _, theirs in names],
            present=[name for name in state if name not in ignored],
            where=f"the weights do not match {self.system}",
        )
        return {
            ours: row.to_ours(state[theirs], sizes)
            for row, ours, theirs in names
            if theirs in state
        }

    def to_theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Returns parameters by the names of the other system, in its order.

        * `state` are our parameters by our names, as `state_dict` returns them

        Raises `WeightsError`, listing all parameters that are missing, unexpected or of another
        shape.
        """
        names = list(self.names())
        sizes = self._fitting_sizes(
            state,
            [(row, ours, row.shape) for row, ours, _ in names],
            present=state,
            where=f"the weights cannot be written for {self.system}",
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
        present: Iterable[str],
        where: str,
    ) -> dict[str, int]:
        r"""Returns the length of each letter, after checking all names and shapes of one side.

        * `wanted` has each row with its name and axes on this side
        * `present` are the names that must be among them
        * `where` begins the message
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
            "unexpected": [name for name in present if name not in known],
            "wrong shape": shapes,
        }
        if any(wrong.values()):
            raise WeightsError(f"{where}; {list_faults(wrong)}")
        return sizes


def with_index(name: str, i: int) -> str:
    """Returns `name` with `{i}` replaced; other braces in the names of a system are left alone."""
    return name.replace("{i}", str(i))


def count_layers(names: Iterable[str], pattern: str) -> int:
    r"""Returns the number of layers in a file: the largest index plus one.

    If a layer in between is missing, the table then reports its names.

    * `names` are those of the file
    * `pattern` is the beginning of the names of a layer, with `{i}` for its index
    """
    before, after = (re.escape(part) for part in pattern.split("{i}"))
    indices = [int(m[1]) for name in names if (m := re.match(rf"{before}(\d+){after}", name))]
    return max(indices, default=-1) + 1


# ## Axes
#
# `"d (c p q)"` has two axes, `d` and `c p q`, and four when unflattened.
def _axes(pattern: str) -> list[str]:
    return [group or single for group, single in re.findall(r"\(([^)]*)\)|(\S+)", pattern)]


# Axes of length one do not affect the order and are left out.
def _unflattened(pattern: str) -> list[str]:
    return [letter for axis in _axes(pattern) for letter in axis.split() if letter != "1"]


def _factor(letter: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d*)(\w*)", letter)
    assert match is not None
    return int(match[1] or 1), match[2]


# `None` while the length of a letter is unknown.
def _length(axis: str, sizes: Mapping[str, int]) -> int | None:
    factors = [_factor(letter) for letter in axis.split()]
    if any(letter and letter not in sizes for _, letter in factors):
        return None
    return math.prod(factor * sizes.get(letter, 1) for factor, letter in factors)


# Also sets the length of a letter that is an axis of its own and not known yet.
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
    lengths = [_length(letter, sizes) or 0 for letter in _unflattened(before)]
    shape = [_length(axis, sizes) or 0 for axis in _axes(after)]
    return value.reshape(lengths).permute(order).reshape(shape).contiguous()
