"""Reads and writes files of weights: the import path of [formats/files.py](formats/files.py).

# Files of weights
"""

from labml_gmlp.weights.formats.files import read, write

__all__ = ["read", "write"]
