r"""Complete models around an encoder.

# Models

* [language.py](language.py): from tokens to logits
* [vision.py](vision.py): from images to logits
* [sizes.py](sizes.py): the models of the papers' tables
"""
