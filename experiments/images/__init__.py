r"""
# Images

What the [ImageNet experiment](../imagenet.py) does to images, in the order of their way:

* [folders.py](folders.py): which images there are, and the class of each
* [decode.py](decode.py): files to pixels of one size
* [reading.py](reading.py): that in worker processes, and the order in which images are read
* [augment.py](augment.py) and [policies.py](policies.py): random changes, on the device
* [mixing.py](mixing.py): mixup, cutmix, and the losses of mixed labels
* [distillation.py](distillation.py): learning from a teacher
* [validation.py](validation.py): how many of the answers are right
"""
