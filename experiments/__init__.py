r"""
# Experiments

Each experiment is one file with its settings, its loop and its `main`:

* [autoregressive.py](autoregressive.py): a language model that predicts the next character, with
  gMLP blocks or with the Transformer baseline

They share functions, and no class to inherit:

* [settings.py](settings.py): flags from the fields of a dataclass
* [models.py](models.py): the two layers, and the encoders that stack them
* [texts.py](texts.py): where a text comes from
* [vocabulary.py](vocabulary.py): characters, bytes or pairs of bytes as tokens
* [tokens.py](tokens.py): tokens in a file that is mapped to memory
* [corpus.py](corpus.py): a text cut and encoded, and the order in which it is read
* [optimisation.py](optimisation.py): what decays, and how the rate moves
* [evaluation.py](evaluation.py): the loss over the whole validation part
* [checkpoint.py](checkpoint.py): state that survives a kill
* [records.py](records.py): what a run writes down about itself
* [progress.py](progress.py): what it says meanwhile
* [tracking.py](tracking.py): labml, behind an adapter
* [pictures.py](pictures.py) and [report.py](report.py): curves, matrices and the page of a run
"""
