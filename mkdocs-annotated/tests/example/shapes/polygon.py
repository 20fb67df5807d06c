r"""
# The polygon

Corners $(x_i, y_i)$, joined in their order. The area is the *shoelace* formula,

$$A = \frac12 \left| \sum_{i=1}^{n} x_i y_{i+1} - x_{i+1} y_i \right|$$
"""

from collections.abc import Sequence

Point = tuple[float, float]


class Polygon:
    def __init__(
        self,
        # At least three of them, none twice.
        corners: Sequence[Point],
    ) -> None:
        """A polygon that need not be convex."""
        if len(corners) < 3:
            raise ValueError(f"a polygon has three corners or more, got {len(corners)}")
        self.corners = list(corners)

    def area(self) -> float:
        """
        Compare the [circle](circle.py#Circle.area), and [its corners](circle.py).
        """
        total = 0.0
        # The last corner is joined to the first: $x_{n+1} = x_1$.
        for (x, y), (u, v) in zip(self.corners, self.corners[1:] + self.corners[:1], strict=True):
            total += x * v - u * y
        return abs(total) / 2
