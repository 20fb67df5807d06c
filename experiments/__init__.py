r"""
# Experiments

Each experiment is one file with its settings, its task and its report:

* [autoregressive.py](autoregressive.py): a language model that predicts the next character
* [masked.py](masked.py): one that restores hidden characters, with each gate of the paper's
  ablation
* [alignment.py](alignment.py): two spans of symbols to be matched: does attention help?
* [digits.py](digits.py): images of digits, scikit-learn's or MNIST's
* [imagenet.py](imagenet.py): ImageNet, or any folder of images, by the paper's recipe
* [flax_autoregressive.py](flax_autoregressive.py): the Flax twin on text

They share the engine, which is functions and no class to inherit from:

* [command.py](command.py): flags, processes, a run made or resumed, training, report
* [training.py](training.py): the loop, and what it has to know of an experiment
* [devices.py](devices.py): processes, precision, shares of a batch
* [checkpoint.py](checkpoint.py), [state.py](state.py): state that survives a kill
* [optimisation.py](optimisation.py): what decays, and how the rate moves
* [settings.py](settings.py), [configuration.py](configuration.py): flags from the fields of a
  dataclass, and files of them
* [runs.py](runs.py), [records.py](records.py): a run's folder, and what it writes down about itself
* [progress.py](progress.py), [tracking.py](tracking.py): what it says meanwhile, and labml behind
  an adapter

What they read, and the models compared:

* [texts.py](texts.py), [vocabulary.py](vocabulary.py), [byte_pairs.py](byte_pairs.py),
  [utf8.py](utf8.py), [tokens.py](tokens.py), [corpus.py](corpus.py): from a text to tokens in a
  file that is mapped to memory, and the order in which they are read
* [digit_images.py](digit_images.py), [images](images): images
* [models.py](models.py): eight layers of one shape, and the encoders that stack them
* [evaluation.py](evaluation.py), [sums.py](sums.py), [toeplitz_share.py](toeplitz_share.py): what
  is measured

And what is made of the results:

* [run_page.py](run_page.py), [pictures.py](pictures.py): the page of a run
* [study.py](study.py): all runs behind a page of results
* [tables.py](tables.py), [report.py](report.py), [scaling.py](scaling.py): those pages
"""
