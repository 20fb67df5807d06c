r"""Commands that measure speed, memory and the effect of resizing.

# Benchmarks

Commands that compare speeds alternate between the implementations, within one process, and report
ratios, because the speed of a machine drifts over time and a ratio drifts less.
"""
