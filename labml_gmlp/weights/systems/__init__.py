r"""
# Systems

One file each; the names inside are the whole documentation of their weights.
"""
