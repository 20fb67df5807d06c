r"""Translation: the names and layouts of another system to ours and back.

# Translation

* [table](table.py): names, shapes and layouts of parameters
* [config](config.py): the facts of a model that its weights do not show
* [system](system.py): both together, for one system
* [materialise](materialise.py): tied heads and Toeplitz matrices as ordinary parameters
* [folding](folding.py): two linear layers in sequence as one
"""
