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

* [command.py](engine/command.py): flags, processes, a run made or resumed, training, report
* [training.py](engine/loop.py): the loop, and what it has to know of an experiment
* [devices.py](engine/devices.py): processes, precision, shares of a batch
* [checkpoint.py](engine/checkpoint.py), [state.py](engine/state.py): state that survives a kill
* [optimisation.py](engine/optimiser.py): what decays, and how the rate moves
* [settings.py](engine/settings/flags.py), [configuration.py](engine/settings/config_file.py): flags
  from the fields of a dataclass, and files of them
* [runs.py](engine/run_folder.py), [records.py](engine/records.py): a run's folder, and what it
  writes down about itself
* [progress.py](engine/progress.py), [tracking.py](engine/tracking.py): what it says meanwhile, and
  labml behind an adapter

What they read, and the models compared:

* [texts.py](text/source.py), [vocabulary.py](text/vocabulary.py),
  [byte_pairs.py](text/byte_pairs.py), [utf8.py](text/utf8.py), [tokens.py](text/tokens.py),
  [corpus.py](text/corpus.py): from a text to tokens in a file that is mapped to memory, and the
  order in which they are read
* [digit_images.py](images/digits.py), [images](images): images
* [models.py](models/language.py): eight layers of one shape, and the encoders that stack them
* [evaluation.py](text/evaluation.py), [sums.py](engine/validation.py),
  [toeplitz_fraction.py](reporting/toeplitz_fraction.py): what is measured

And what is made of the results:

* [run_page.py](reporting/run_page.py), [pictures.py](reporting/pictures.py): the page of a run
* [study.py](study.py): all runs behind a page of results
* [tables.py](reporting/tables.py), [report.py](report.py), [scaling.py](reporting/scaling.py):
  those pages
"""
