r"""
# Models

What stands around an encoder.

* [language.py](language.py): tokens to logits
* [vision.py](vision.py): images to logits
"""
