r"""Results of running the code, shown beside it: traced shapes, and exhibits of real runs.

Read `trace.py` first: it runs an example and records shapes. `sizes.py` writes them in the paper's
letters, `shapes.py` stores them with the sources. `exhibits.py` reads figures, tables and values.
`artifacts.py` loads shapes and exhibits for a build.
"""
