r"""Weights of other gMLP and Mixer implementations: load, save, convert.

# Weights of other systems

A gMLP trained with another implementation becomes a model of this library that computes the same
function, and a model of ours can be written for another implementation:

    from labml_gmlp import weights

    model = weights.load("gmlp_s16_224.safetensors")
    weights.save(model, "ours.safetensors", to="timm gmlp")

A [system](translate/system.py) is one implementation. It has a [table](translate/table.py) of
parameter names, read in both directions, and a list of facts that the weights do not record, such
as the epsilons of the norms, in the keys of a [configuration](translate/config.py):

* [labml-nn](systems/labml_nn.py): its language model, its encoder, its block
* [g-mlp-pytorch](systems/g_mlp_pytorch.py): `gMLP` and `gMLPVision`
* [timm](systems/timm.py): gMLP and MLP-Mixer
* [PaddleViT](systems/paddlevit.py): gMLP
* [jaketae/g-mlp](systems/jaketae.py): the stack, the stack with an embedding, the image classifier
* [mlp-gpt-jax](systems/mlp_gpt_jax.py): its language model
* [SauravMaheshkar/gMLP](systems/saurav.py): a gMLP that mixes no tokens
* [MLP-Mixer of its authors](systems/google_mixer.py)
* [danielelbrecht/mlp_mixer](systems/mlp_mixer.py): a Mixer whose tokens are the channels
* [ESPnet](systems/espnet.py): its cgMLP layer

Our tied heads and Toeplitz matrices are [materialised](translate/materialise.py) for systems that
have neither.

Files of several [formats](formats/files.py) are read without executing anything in them, and
`python -m labml_gmlp.weights inspect FILE` [reports](__main__.py) the content of one. Our own
models are saved as [folders](pretrained.py), also on [the hub](hub.py), with the
[preprocessing](preprocessing.py) of their images.

The core library does not import this package.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats import files
from labml_gmlp.weights.systems import (
    espnet,
    g_mlp_pytorch,
    google_mixer,
    jaketae,
    labml_nn,
    mlp_gpt_jax,
    mlp_mixer,
    paddlevit,
    saurav,
    timm,
)
from labml_gmlp.weights.translate.config import Config, build, config_of
from labml_gmlp.weights.translate.system import State, System
from labml_gmlp.weights.translate.table import Row, Table

# The first system that recognises weights reads them; a test asserts that no second one would.
SYSTEMS: tuple[System, ...] = (
    *labml_nn.SYSTEMS,
    *g_mlp_pytorch.SYSTEMS,
    *timm.SYSTEMS,
    *paddlevit.SYSTEMS,
    *jaketae.SYSTEMS,
    *mlp_gpt_jax.SYSTEMS,
    *saurav.SYSTEMS,
    *google_mixer.SYSTEMS,
    *mlp_mixer.SYSTEMS,
    *espnet.SYSTEMS,
)

__all__ = [
    "SYSTEMS",
    "Config",
    "Row",
    "System",
    "Table",
    "WeightsError",
    "build",
    "config_of",
    "convert",
    "from_state",
    "load",
    "recognise",
    "save",
    "system_named",
    "to_state",
    "unwrapped",
]

# Prefixes of `DataParallel`, of `torch.compile`, and of attributes that hold a model.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")


def recognise(state: State) -> System:
    r"""Returns the system that weights come from, by their names.

    ## Recognising a system

    * `state` has the weights by name

    Raises `WeightsError` if no system has such names.
    """
    for system in SYSTEMS:
        if system.matches(state):
            return system
    some = ", ".join(list(state)[:3]) or "no names"
    raise WeightsError(
        f"state must have the names of a known system, got {some} ({len(state)} in all)"
    )


def unwrapped(state: State) -> State:
    r"""Removes the prefixes that wrappers such as `DataParallel` put before all names.

    ## Removing wrappers

    Returns `state` without all prefixes of `WRAPPERS` that its names share. Names that a system has
    itself are not changed: those of [jaketae/g-mlp](systems/jaketae.py) begin with `model.`.
    """
    if any(system.matches(state) for system in SYSTEMS):
        return state
    for wrapper in WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return unwrapped({name.removeprefix(wrapper): v for name, v in state.items()})
    return state


def system_named(name: str, config: Config | None = None) -> System:
    r"""Returns a system by its name.

    * `name` is a whole name, `timm gmlp`, or its first word, `timm`
    * `config` selects among the systems of the same first word: the first that has models of this
      kind and layer

    Raises `WeightsError` for an unknown name.
    """
    found = [s for s in SYSTEMS if name in (s.name, s.name.split()[0])]
    if not found:
        raise WeightsError(f"to must be one of {[s.name for s in SYSTEMS]}, got {name!r}")
    suitable = [
        system
        for system in found
        if config is not None
        and all(config[k] == system.facts.get(k, config[k]) for k in ("kind", "layer"))
    ]
    return (suitable or found)[0]


def from_state(state: State, **options: Any) -> nn.Module:
    r"""Builds a model of ours from the weights of any system.

    ## Weights to model

    * `state` has the weights by name, as `state_dict()` of the other implementation returns them
    * `options` state what the weights do not record; each system lists its own

    Returns a model that computes the same function, with copies of the weights.

    Raises `WeightsError` for weights of no known system, for weights that do not match the system,
    listing all faults, for an unknown option, and for a required one that is missing; `ValueError`
    for sizes that a layer rejects.
    """
    state = unwrapped(state)
    return recognise(state).from_state(state, **options)


def to_state(model: nn.Module, to: str, *, approximate: bool = False) -> dict[str, Tensor]:
    r"""Returns the weights of a model of ours for another system.

    ## Model to weights

    * `to` is the name of the system
    * `approximate` allows the epsilons of norms and the form of GELU to differ there

    Returns the weights as `load_state_dict` of the other implementation takes them.

    Raises `WeightsError` for an unknown system, for a model that is not made of our layers, and for
    one that the system cannot express, listing all reasons.
    """
    config = config_of(model)
    system = system_named(to, config)
    return system.to_state(model.state_dict(), config, approximate=approximate)


def load(path: str | Path, *, part: str | None = None, **options: Any) -> nn.Module:
    r"""Loads a model of ours from a file of weights of any system.

    ## Loading a file

    * `path` is a file in any of the [formats](formats/files.py)
    * `part` is the entry of a checkpoint that holds the weights, such as `ema`
    * `options` state what the weights do not record; each system lists its own

    Returns the model, as `from_state` does.

    Raises `WeightsError` for a file that is missing or invalid, for weights of no known system, for
    weights that do not match the system, for an unknown option, and for a required one that is
    missing; `ValueError` for sizes that a layer rejects.
    """
    return from_state(files.read(path, part=part), **options)


def save(model: nn.Module, path: str | Path, *, to: str, approximate: bool = False) -> None:
    r"""Saves the weights of a model of ours to a file for another system.

    ## Saving a file

    * `path` is the file to write; its suffix chooses the [format](formats/files.py)
    * `to` and `approximate` are those of `to_state`

    Raises `WeightsError` for an unknown system or suffix, for a model that the system cannot
    express, and for a type that the format cannot store; `OSError` if the file cannot be written.
    """
    files.write(path, to_state(model, to, approximate=approximate), {"system": to})


def convert(
    path: str | Path,
    out: str | Path,
    *,
    to: str,
    approximate: bool = False,
    part: str | None = None,
    **options: Any,
) -> None:
    r"""Converts a file of weights from any system to another.

    ## Converting a file

    * `path`, `part` and `options` are those of `load`
    * `out` is the file to write; `to` and `approximate` are those of `save`

    Raises `WeightsError`, `ValueError` and `OSError` under the conditions of `load` and `save`.
    """
    save(load(path, part=part, **options), out, to=to, approximate=approximate)
