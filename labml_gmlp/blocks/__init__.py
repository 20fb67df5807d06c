r"""
# Blocks

Each file here needs torch and nothing else, and none imports another: a block that uses another
receives it as an argument. So each can be copied alone.

* [gmlp.py](gmlp.py): the spatial projection, the spatial gating unit, the gMLP block
* [tiny_attention.py](tiny_attention.py): turns gMLP into aMLP
* [transformer.py](transformer.py): the baseline
* [mixer.py](mixer.py): MLP-Mixer's block
* [encoder.py](encoder.py): a stack of any of them
"""
