r"""A system: how its weights are recognised and translated, and the facts of its models.

# Systems

A system is data and three functions. To add one, write its file beside
[the others](../systems/timm.py) and list it in [`SYSTEMS`](../__init__.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from torch import Tensor, nn

from labml_gmlp.models.vision import n_patches
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config, build, complete
from labml_gmlp.weights.translate.materialise import materialise, with_zero_positions
from labml_gmlp.weights.translate.table import Row, Table, count_layers, with_index

State = Mapping[str, Tensor]

# Facts that change a result only slightly. With `approximate`, weights may be written for a system
# that differs in these.
NUMERIC = {"norm_eps", "sgu_norm_eps", "last_norm_eps", "activation"}


@dataclass(frozen=True)
class System:
    r"""One system of gMLP or Mixer weights.

    ## System

    * `name` is its usual name
    * `matches` says whether weights are from this system, by their names
    * `config` returns what weights and `options` say of a model, in the keys of
      [a configuration](config.py); a size it cannot find is zero
    * `table` returns the table for a model of this configuration
    * `facts` are the values that all models of this system share, in the same keys
    * `options` are the arguments of `config` for what the weights do not record, with their meaning
    * `notes` are further differences that users of the system should know
    * `build` makes a model from a configuration

    For example:

        system = weights.recognise(state)
        model = system.from_state(state)
    """

    name: str
    matches: Callable[[State], bool]
    config: Callable[..., Config]
    table: Callable[[Config], Table]
    facts: Mapping[str, Any]
    options: Mapping[str, str]
    notes: str = ""
    build: Callable[..., nn.Module] = build

    def from_state(self, state: State, **options: Any) -> nn.Module:
        r"""Returns a model of ours that computes the same function, with copies of the weights.

        * `state` are weights of this system
        * `options` are those of this system

        Raises `WeightsError` for weights that do not fit, listing all faults, for an unknown
        option, and for a required one that is missing; `ValueError` for sizes that a layer rejects.
        """
        config = self.read_config(state, **options)
        ours = self.table(config).to_ours(state)
        # On `meta` no memory is allocated: the weights are stored once, in the type they come in.
        model = self.build(config, device="meta")
        model.load_state_dict({name: v.clone() for name, v in ours.items()}, assign=True)
        return model

    def read_config(self, state: State, **options: Any) -> Config:
        r"""Returns the complete configuration of the model that `state` belongs to.

        A size is zero where its parameter is missing: the table reports all missing names at once.

        Raises `WeightsError` for an unknown option, an invalid value, and a required one that is
        missing.
        """
        return complete(self.partial_config(state, **options))

    def partial_config(self, state: State, **options: Any) -> Config:
        """Returns what facts, weights and options state, without defaults for the other keys."""
        for name in options:
            if name not in self.options:
                raise WeightsError(
                    f"{self.name} has no option {name}; its options are {list(self.options)}"
                )
        return {**self.facts, **self.config(state, **options)}

    def to_state(
        self, ours: State, config: Config, *, approximate: bool = False
    ) -> dict[str, Tensor]:
        r"""Returns the weights of a model of ours for this system.

        * `ours` is the `state_dict` of the model, `config` is its configuration
        * `approximate` allows the epsilons of the norms and the form of GELU to differ

        Tied heads and Toeplitz matrices are [materialised](materialise.py) if the system has
        neither.

        Raises `WeightsError` for a model that the system cannot express, listing all reasons.
        """
        ours, config = materialise(ours, config, self.facts)
        differ = {
            key: f"{key} is {config[key]!r} here and {value!r} there"
            for key, value in self.facts.items()
            if config[key] != value
            and not (approximate and key in NUMERIC)
            # The biases of an attention do not matter in a model without one.
            and not (key.startswith("attn_") and config["d_attn"] is None)
        }
        if differ:
            remedy = (
                "; pass approximate=True to write it anyway" if differ.keys() <= NUMERIC else ""
            )
            raise WeightsError(
                f"{self.name} computes another function: {', '.join(differ.values())}{remedy}"
            )
        table = self.table(config)
        return table.to_theirs(with_zero_positions(ours, config, table))


@dataclass(frozen=True)
class CustomSystem(System):
    r"""A system whose model is built from our blocks but is not one of our models.

    ## System with its own model

    `build` makes its model, and `config` may have its own keys. No other system has this model, so
    its weights can only be written for the same system.

    For example, with a function `build` that returns an `nn.Module`:

        SYSTEM = CustomSystem("name", matches, config, table, facts={}, options={}, build=build)
    """

    def read_config(self, state: State, **options: Any) -> Config:
        r"""Returns the configuration of the model that `state` belongs to, in its own keys.

        Raises `WeightsError` for an unknown option or an invalid value.
        """
        return self.partial_config(state, **options)

    def to_state(
        self, ours: State, config: Config, *, approximate: bool = False
    ) -> dict[str, Tensor]:
        r"""Returns the weights for this system; `approximate` has no effect.

        Raises `WeightsError` for parameters that are missing, unexpected or of another shape.
        """
        return self.table(config).to_theirs(ours)


# ## Helpers for the files of systems
def size_of(state: State, name: str, axis: int) -> int:
    r"""Returns the length of one axis of a parameter, or zero if the parameter is missing.

    * `name` is its name; with `{i}`, the first layer that has the parameter counts
    """
    indices = range(count_layers(state, name)) if "{i}" in name else [0]
    values = [state.get(with_index(name, i)) for i in indices]
    return next((v.shape[axis] for v in values if v is not None and v.dim() > axis), 0)


def prefixed(rows: tuple[Row, ...], ours: str, theirs: str) -> tuple[Row, ...]:
    """Returns rows with prefixes to their names, as for a block inside an encoder."""
    return tuple(replace(row, ours=ours + row.ours, theirs=theirs + row.theirs) for row in rows)


def image_size_of(
    n: int,
    patch: tuple[int, int],
    image_size: int | tuple[int, int] | None,
) -> tuple[int, int]:
    r"""Returns the size of the images, (height, width).

    Weights record only the number of patches: 16 patches may be 4 by 4 or 2 by 8.

    * `n` is the number of patches, `patch` the size of one, (height, width)
    * `image_size` is the size given by the caller; `None` means a square of patches

    Raises `WeightsError` if `n` patches make no square, and for an `image_size` with another number
    of patches.
    """
    if image_size is None:
        side = isqrt(n)
        if side * side != n:
            raise WeightsError(
                f"image_size must be given as (height, width), since {n} patches make no square"
            )
        return side * patch[0], side * patch[1]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if n and n_patches(size, patch) != n:
        raise WeightsError(f"image_size must make {n} patches of {patch}, got {size}")
    return size
