r"""The layers, one copyable file each.

# Blocks

Each file imports only torch and the standard library, and no other block. A layer that uses another
takes it as an argument. So you can copy each file alone.

* [gmlp.py](gmlp.py): the spatial projection, the spatial gating unit, the gMLP block
* [multi_head.py](multi_head.py): a spatial projection with a matrix for each group of channels
* [toeplitz.py](toeplitz.py): spatial projections whose $W$ depends only on $i - j$
* [convolution.py](convolution.py): a depthwise convolution instead of the spatial projection
* [windowed.py](windowed.py): a spatial projection over windows, for any length
* [tiny_attention.py](tiny_attention.py): a single small attention head
* [gates.py](gates.py): the linear, additive and multiplicative gates of the ablation
* [stochastic_depth.py](stochastic_depth.py): skips residual branches at random in training
* [token_shift.py](token_shift.py): reads some channels from a neighbouring position
* [transformer.py](transformer.py): the Transformer baseline
* [mixer.py](mixer.py): the block of MLP-Mixer
* [encoder.py](encoder.py): a stack of layers of any kind
"""
