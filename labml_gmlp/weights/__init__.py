r"""
# Weights of other systems
"""
