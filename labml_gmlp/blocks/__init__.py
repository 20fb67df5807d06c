r"""
# Blocks

Each file here needs torch and nothing else, and none imports another: a block that uses another
receives it as an argument. So each can be copied alone.

* [gmlp.py](gmlp.py): the spatial projection, the spatial gating unit, the gMLP block
* [toeplitz.py](toeplitz.py): projections whose $W$ depends on $i - j$
* [convolution.py](convolution.py): a depthwise convolution in the place of the spatial projection
* [windowed.py](windowed.py): a spatial projection of windows, for any length
* [tiny_attention.py](tiny_attention.py): turns gMLP into aMLP
* [gates.py](gates.py): the linear, the additive and the multiplicative gate of the ablation
* [stochastic_depth.py](stochastic_depth.py): lets sequences skip blocks in training
* [token_shift.py](token_shift.py): reads some channels from a neighbouring position
* [transformer.py](transformer.py): the baseline
* [mixer.py](mixer.py): MLP-Mixer's block
* [encoder.py](encoder.py): a stack of any of them
"""
