r"""File formats: bytes to named tensors and back.

# Formats

One file a format, with its reader and its writer: [safetensors](safetensors.py),
[torch](torch.py), [numpy](numpy.py), [Paddle](paddle.py) and [msgpack](msgpack.py). They share
[arrays](arrays.py), [archives](archives.py) and [pickles](pickles.py). [`files`](files.py)
recognises the format of a file.

To add one, write its file with a [`Format`](format.py) and list it in `FORMATS` of
[`files`](files.py).
"""
