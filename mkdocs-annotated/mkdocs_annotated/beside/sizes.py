r"""
# Sizes in the paper's letters

A traced shape is a row of numbers, `[5, 7, 8]`; a reader wants `[B, n, d_ffn/2]`. An example gives
each size of the paper a number of its own, and a number that follows from one or two of them is
written that way. Where two readings are possible neither is shown: the example has to choose other
numbers, or to name the size itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence


class Sizes:
    r"""
    * `names` are the sizes of an example, such as `{"B": 5, "n": 7}`; a name may be a whole
      expression, such as `n + 1`

    Raises `ValueError` for names or sizes of another type, and for two names of one size.
    """

    def __init__(self, names: Mapping[str, int]) -> None:
        self.by_size: dict[int, str] = {}
        for name, size in names.items():
            if not isinstance(name, str) or type(size) is not int or size < 1:
                raise ValueError(f"SIZES must map names to positive whole numbers, got {name!r}")
            if size in self.by_size:
                raise ValueError(f"{self.by_size[size]} and {name} are both {size} in SIZES")
            self.by_size[size] = name
        self.names = dict(names)

    def shape(self, shape: Sequence[object]) -> str:
        """Such as `[B, n, d_ffn/2]`."""
        return f"[{', '.join(map(self.size, shape))}]"

    def size(self, size: object) -> str:
        """
        Its name, or what it is made of, or else the number.

        Raises `ValueError` for a size that reads in two ways.
        """
        if not isinstance(size, int):
            return str(size)
        exact = self.by_size.get(size)
        # Ones and zeros are axes that broadcast or are empty, nobody's half.
        if size < 2:
            return exact or str(size)
        # Three times a batch is no reading that could compete with a name.
        found = {exact: None} if exact else dict.fromkeys(self._tripled(size))
        found |= dict.fromkeys(self._derived(size))
        if len(found) > 1:
            one, other = [*found][:2]
            raise ValueError(
                f"{size} is {one} or {other}; choose other numbers for SIZES, or name {size} there"
            )
        return next(iter(found), str(size))

    def _tripled(self, size: int) -> Iterator[str]:
        return (f"3 {name}" for name, value in self.names.items() if 3 * value == size)

    def _derived(self, size: int) -> Iterator[str]:
        for name, value in self.names.items():
            if value == 2 * size:
                yield f"{name}/2"
            if size == 2 * value:
                yield f"2 {name}"
        for (name, value), (other, factor) in itertools.combinations(self.names.items(), 2):
            if value * factor == size:
                yield f"{name} {other}"
        for (name, value), (other, factor) in itertools.permutations(self.names.items(), 2):
            # Half of a size is no quotient by a batch of two.
            if factor > 2 and value == size * factor:
                yield f"{name}/{other}"
