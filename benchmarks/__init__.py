r"""
# Benchmarks

Each is a command that measures ratios within one process, the things compared in turn: the speed
of a machine drifts, a ratio drifts less.
"""
