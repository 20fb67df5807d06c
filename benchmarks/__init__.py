r"""Commands that measure speed, memory and the effect of resizing.

# Benchmarks

Each command alternates between the things that it compares, within one process, and reports ratios:
the speed of a machine drifts over time, a ratio drifts less.
"""
