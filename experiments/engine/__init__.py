r"""The training engine: starts a run, trains it, and resumes it after a kill.

# Engine

It knows no text, no image and no layer: an [experiment](experiment.py) brings those. It imports
nothing from `text`, `images`, `models` or `reporting`.

Read the files in this order:

1. [experiment.py](experiment.py): the contract between an experiment and the engine
2. [command.py](command.py): from the command line to a finished run
3. [loop.py](loop.py): the training loop
4. [order.py](order.py): which rows a step reads
5. [optimiser.py](optimiser.py): AdamW and the learning rate
6. [state.py](state.py), [checkpoint.py](checkpoint.py): what survives a kill
7. [run_folder.py](run_folder.py): the files of a run
8. [launch.py](launch.py), [devices.py](devices.py), [sharding.py](sharding.py): processes and GPUs
9. [validation.py](validation.py), [progress.py](progress.py), [tracking.py](tracking.py),
   [download.py](download.py): helpers
10. [settings](settings): dataclasses as flags, YAML and JSON
"""
