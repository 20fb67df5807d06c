r"""Commands that train, compare and report models, on a common engine.

# Experiments

Each file in this folder is a command, `python -m experiments.NAME`:

| command | what it does |
|---|---|
| [autoregressive](autoregressive.py) | trains a language model that predicts the next character |
| [masked](masked.py) | trains a masked language model; includes the paper's ablation of the gate |
| [alignment](alignment.py) | matches two spans of symbols: is attention needed? |
| [digits](digits.py) | classifies the digits of scikit-learn, or MNIST |
| [imagenet](imagenet.py) | trains on ImageNet, or any folder of images, by the paper's recipe |
| [flax_autoregressive](flax_autoregressive.py) | trains the Flax modules on text |
| [study](study.py) | runs the experiments behind a page of results |
| [report](report.py) | rewrites the tables and figures of those pages |

To add an experiment, first read [engine/experiment.py](engine/experiment.py). It defines
`Experiment` and `Task`, which are all that the engine knows of an experiment.
[alignment.py](alignment.py) is the simplest example, because it needs no data.

| folder | content |
|---|---|
| [engine](engine) | settings, training loop, devices, checkpoints, run folders |
| [text](text) | text sources, vocabularies, token files, training windows, evaluation |
| [images](images) | image folders, decoding, augmentation, evaluation |
| [models](models) | the models compared, built from settings |
| [reporting](reporting) | pages of runs, figures, tables |

Commands import the folders, never the reverse. The engine imports no other folder, and `text` and
`images` do not import each other. A test checks these rules.
"""
