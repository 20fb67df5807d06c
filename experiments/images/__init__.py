r"""Image data: files, decoding, augmentation, mixing, distillation and validation.

# Images

The [ImageNet experiment](../imagenet.py) uses these modules, in this order:

* [settings.py](settings.py): the settings of a run, and the paper's three sizes
* [folders.py](folders.py): image files and their classes
* [decode.py](decode.py): decode and crop one file
* [reading.py](reading.py): decode in worker processes, in a random order
* [augment.py](augment.py), [policies.py](policies.py): augment a batch on the device
* [mixing.py](mixing.py): mixup, CutMix, label smoothing and their loss
* [distillation.py](distillation.py): learn from a teacher
* [classifier.py](classifier.py): build, load and save the model
* [validation.py](validation.py): top-1 and top-5 accuracy
* [validate_command.py](validate_command.py): the command that validates a trained model

The [digits experiment](../digits.py) reads its images from [digits.py](digits.py).
"""
