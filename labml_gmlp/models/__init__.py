r"""
# Models

What stands around an encoder.

* [language.py](language.py): tokens to logits
* [vision.py](vision.py): images to logits
* [sizes.py](sizes.py): the models in the papers' tables
"""
