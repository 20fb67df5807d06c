r"""
# errors
"""


class WeightsError(ValueError):
    r"""
    ## What is wrong with the weights

    All of it in one sentence: a file with one wrong name mostly has more of them.
    """
