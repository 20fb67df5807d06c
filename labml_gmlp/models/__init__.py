r"""The aMLP block, and complete models around an encoder.

# Models

* [amlp.py](amlp.py): the aMLP block, a gMLP block with tiny attention
* [language.py](language.py): from tokens to logits
* [vision.py](vision.py): from images to logits
* [sizes.py](sizes.py): the models of the papers' tables
"""
