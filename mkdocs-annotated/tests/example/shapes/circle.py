#!/usr/bin/env python3
r"""
---
summary: The circle, exactly and by corners.
---
# The circle

All points at the distance $r$ from one point. Its area and its circumference are

$$
\begin{align}
A &= \pi r^2 \\
C &= 2 \pi r = \frac{dA}{dr} \\
\end{align}
$$

The word *exactly* is relative: a float has 53 bits.[^1]

[^1]: See the standard library's `sys.float_info.mant_dig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Circle:
    r"""
    ## A circle around the origin

    * `radius` is $r$, in any unit of length

    Raises `ValueError` for a negative radius.

    >>> Circle(1.0).area()
    3.141592653589793
    """

    radius: float

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError(f"radius must not be negative, got {self.radius}")

    def area(self) -> float:
        r"""Returns $A$, in the square of the unit of $r$; backwards, $r = \sqrt{A / \pi}$."""
        return math.pi * self.radius**2

    def corners(self, n: int) -> list[tuple[float, float]]:
        r"""
        ### From the circle to a polygon

        A regular polygon of $n$ corners on the circle has the area

        $$A_n = \tfrac{n}{2}\, r^2 \sin \frac{2\pi}{n} \;\longrightarrow\; \pi r^2$$

        so that $A - A_n \approx \frac{2 \pi^3}{3 n^2} r^2$: each doubling of $n$ leaves a
        quarter of the error.

        | corners $n$ | fraction of the circle |
        | --: | --: |
        | 3 | 41.3 % |
        | 12 | 95.5 % |

        !!! note
            The corners run counterclockwise, which makes the area positive.
        """
        found = []
        for i in range(n):
            # $\varphi_i = 2 \pi i / n$, never by adding steps: errors would add up as well.
            angle = 2 * math.pi * i / n
            found.append((self.radius * math.cos(angle), self.radius * math.sin(angle)))
        #
        return found


# A price of $5 or $10 is no formula, and neither is `$x$` in code.
UNIT = Circle(1.0)  # the unit circle
