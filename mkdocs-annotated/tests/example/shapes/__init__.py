r"""
# Shapes

Two figures of the plane:
* [circle](circle.py), whose area needs $\pi$
* [polygon](polygon.py), whose area needs only its corners
"""

from shapes.circle import Circle as Circle
from shapes.polygon import Polygon as Polygon
