r"""Write traced shapes in the letters of the paper.

# Sizes in the letters of the paper

A traced shape is a list of numbers such as `[5, 7, 8]`; a reader wants `[B, n, d_ffn/2]`. An
example therefore gives each size of the paper a distinct number. A number that is a half, double
or triple of one size, or a product or quotient of two, is written as such. If two expressions give
the same number, the example must choose other numbers or name that number itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence


class SizeNames:
    r"""The names of the sizes of an example.

    * `names` maps names to sizes, such as `{"B": 5, "n": 7}`; a name may be an expression, such as
      `n + 1`

    Raises `ValueError` if a name is not a string, a size is not a positive integer, or two names
    have the same size.

    ```python
    SizeNames({"B": 5, "n": 7, "d_ffn": 16}).format_shape((5, 7, 8))  # "[B, n, d_ffn/2]"
    ```
    """

    def __init__(self, names: Mapping[str, int]) -> None:
        self.by_size: dict[int, str] = {}
        for name, size in names.items():
            if not isinstance(name, str) or type(size) is not int or size < 1:
                raise ValueError(
                    f"SIZES must map names to positive integers, got {name!r}: {size!r}"
                )
            if size in self.by_size:
                raise ValueError(f"{self.by_size[size]} and {name} are both {size} in SIZES")
            self.by_size[size] = name
        self.names = dict(names)

    def format_shape(self, shape: Sequence[object]) -> str:
        """Return a shape as text, such as `[B, n, d_ffn/2]`.

        Raises `ValueError` if two expressions give the same size.
        """
        return f"[{', '.join(map(self.format_size, shape))}]"

    def format_size(self, size: object) -> str:
        """Return the name of a size, an expression for it, or else the number.

        Raises `ValueError` if two expressions give the same size.
        """
        if not isinstance(size, int):
            return str(size)
        exact = self.by_size.get(size)
        # 1 is a broadcast axis and 0 an empty one; neither is half of a size.
        if size < 2:
            return exact or str(size)
        # A triple is considered only if the size has no name of its own.
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
            # Division by 2 is already covered by the halves.
            if factor > 2 and value == size * factor:
                yield f"{name}/{other}"
