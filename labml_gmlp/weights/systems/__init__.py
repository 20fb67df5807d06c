r"""One file per system: the names, layouts and facts of its weights.

# Systems

The tables of names are the documentation of each system's weights.
"""
