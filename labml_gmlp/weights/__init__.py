r"""
# Weights of other systems

Whoever has a gMLP, trained somewhere else, can bring it here, see that it computes the same, and
take a model of ours back out:

    from labml_gmlp import weights

    model = weights.load("gmlp_s16_224.safetensors")
    weights.save(model, "ours.safetensors", to="timm gmlp")

What is to be known of a system is one [table](translate/table.py) of names, read in both
directions, and a list of facts that no weight shows, such as the constants of the norms, in the
words of [config.py](translate/config.py). A [system](translate/system.py) is both together:

* [labml-nn](systems/labml_nn.py): its language model, its encoder, its block
* [g-mlp-pytorch](systems/g_mlp_pytorch.py): `gMLP` and `gMLPVision`
* [timm](systems/timm.py): gMLP and MLP-Mixer
* [PaddleViT](systems/paddlevit.py): gMLP
* [jaketae/g-mlp](systems/jaketae.py): the stack, with an embedding, and for images
* [mlp-gpt-jax](systems/mlp_gpt_jax.py): its language model
* [SauravMaheshkar/gMLP](systems/saurav.py): a gMLP that mixes no tokens
* [MLP-Mixer of its authors](systems/google_mixer.py)
* [danielelbrecht/mlp_mixer](systems/mlp_mixer.py): a Mixer whose tokens are the channels
* [ESPnet](systems/espnet.py): one cgMLP

Our tied heads and Toeplitz matrices are [written out](translate/rewrite.py) for systems that have
neither.

`python -m labml_gmlp.weights inspect FILE` says what is [in a file](__main__.py). Files of five
[formats](formats/files.py) are read without running anything in them; models of ours are saved as
[folders](pretrained.py), which may lie on [the hub](hub.py), as timm's do with the way in which
[images are prepared](preprocessing.py).

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

# In this order they are asked whether weights are theirs; at most one says yes.
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

# Where others keep a model inside of another module: torch's `DataParallel` and `torch.compile`,
# and what people write around a model themselves.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")


def recognise(state: State) -> System:
    r"""
    ## Whose weights are these?

    * `state` has the weights by their names

    Returns the system that they come from.

    Raises `WeightsError` when no system has such names.
    """
    for system in SYSTEMS:
        if system.matches(state):
            return system
    some = ", ".join(list(state)[:3]) or "none"
    raise WeightsError(f"no system has weights of these names: {some}, {len(state)} in all")


def unwrapped(state: State) -> State:
    r"""
    ## Without a wrapper

    Returns `state` with the names as the model itself has them, where all of them begin with one of
    `WRAPPERS`; several around each other are taken off too. Names that a system has itself are
    left: those of [jaketae/g-mlp](systems/jaketae.py) all begin with `model.`.
    """
    if any(system.matches(state) for system in SYSTEMS):
        return state
    for wrapper in WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return unwrapped({name.removeprefix(wrapper): v for name, v in state.items()})
    return state


def system_named(name: str, config: Config | None = None) -> System:
    r"""
    ## A system by its name

    * `name` may be the first word alone, as `timm`
    * `config` then decides among the systems of that name: the first that has such models

    Raises `WeightsError` for a name that no system has.
    """
    found = [s for s in SYSTEMS if name in (s.name, s.name.split()[0])]
    if not found:
        raise WeightsError(f"to must be one of {[s.name for s in SYSTEMS]}, got {name!r}")
    of_kind = [
        system
        for system in found
        if config is not None
        and all(config[k] == system.facts.get(k, config[k]) for k in ("kind", "layer"))
    ]
    return (of_kind or found)[0]


def from_state(state: State, **options: Any) -> nn.Module:
    r"""
    ## From weights to a model of ours

    * `state` has the weights of any system by their names, as its `state_dict()` does
    * `options` say what stands in no weight; each system lists its own

    Returns a model that computes the same function, with copies of the weights.

    Raises `WeightsError` for weights of no system, and what `System.model` raises.
    """
    state = unwrapped(state)
    return recognise(state).model(state, **options)


def to_state(model: nn.Module, to: str, *, approximate: bool = False) -> dict[str, Tensor]:
    r"""
    ## From a model of ours to weights

    * `to` is the name of the system that shall read them
    * `approximate` allows the constants of norms and the form of GELU to differ there

    Returns the weights as the `load_state_dict` of that system takes them.

    Raises `WeightsError` for a system that has no such model, with the reasons.
    """
    config = config_of(model)
    system = system_named(to, config)
    return system.state(model.state_dict(), config, approximate=approximate)


def load(path: str | Path, *, part: str | None = None, **options: Any) -> nn.Module:
    r"""
    ## From a file

    * `path` is a file in any of the [formats](formats/files.py)
    * `part` is the entry of a checkpoint that holds the weights, such as `ema`

    Returns the model of ours, as `from_state` does for the weights in it.

    Raises `WeightsError` for a file that cannot be read, and what `from_state` raises.
    """
    return from_state(files.read(path, part=part), **options)


def save(model: nn.Module, path: str | Path, *, to: str, approximate: bool = False) -> None:
    r"""
    ## Into a file

    Writes what `to_state` returns to `path`, whose ending says in which format.

    Raises what `to_state` and `files.write` raise.
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
    r"""
    ## From one system to another

    Reads the file at `path`, of whatever system, and writes it to `out` for the system `to`.

    Raises what `load` and `save` raise.
    """
    save(load(path, part=part, **options), out, to=to, approximate=approximate)
