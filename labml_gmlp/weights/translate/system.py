r"""
# A system

What must be known of one system of gMLP, beside its [table](table.py), to bring its weights here
and back: how its files are told from others, and what is true of every model in it. A system is
data and three functions. To add one, write its file beside [those that are
there](../systems/timm.py) and list it in [the registry](../__init__.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from torch import Tensor, nn

from labml_gmlp.models.vision import n_patches
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.config import Config, build, complete
from labml_gmlp.weights.translate.rewrite import with_positions, written_out
from labml_gmlp.weights.translate.table import Row, Table, layers_of

State = Mapping[str, Tensor]

# Facts that move the last digits of a result, not what it means. Weights may be written for a
# system that differs in these, if this is asked for.
NUMERIC = {"norm_eps", "sgu_norm_eps", "last_norm_eps", "activation"}


@dataclass(frozen=True)
class System:
    r"""
    ## System

    * `name` is what people call it
    * `matches` tells its weights from those of all others by their names
    * `config` reads from weights, and from the `options`, what kind of model they are; the words
      are those of [config.py](config.py)
    * `table` is the table for a model of this kind
    * `facts` are the values that every model of this system has, in the same words
    * `options` are the arguments of `config` for what stands in no weight, each with its meaning
    * `notes` is what else somebody who comes from there should know
    """

    name: str
    matches: Callable[[State], bool]
    config: Callable[..., Config]
    table: Callable[[Config], Table]
    facts: Mapping[str, Any]
    options: Mapping[str, str]
    notes: str = ""
    build: Callable[..., nn.Module] = build

    def model(self, state: State, **options: Any) -> nn.Module:
        r"""
        * `state` are weights of this system; they are copied
        * `options` are those of this system

        Returns a model of ours that computes the same function.

        Raises `WeightsError` for weights that do not fit, with a list of all that is wrong, for an
        option that the system does not have, and one that is needed and was not given.
        """
        config = self.read_config(state, **options)
        ours = self.table(config).to_ours(state)
        # On `meta` nothing is allocated, so the parameters are there once, in the type that they
        # come in.
        model = self.build(config, device="meta")
        model.load_state_dict({name: v.clone() for name, v in ours.items()}, assign=True)
        return model

    def read_config(self, state: State, **options: Any) -> Config:
        r"""
        Returns all values for `state`. A size that is missing in it is zero: which names are
        missing is said by the table, all at once.

        Raises `WeightsError` for options, as `model` does.
        """
        return complete(self.known(state, **options))

    def known(self, state: State, **options: Any) -> Config:
        r"""Returns what facts, weights and options say, and nothing about what they leave open."""
        for name in options:
            if name not in self.options:
                raise WeightsError(
                    f"{name} is no option of {self.name}; it has {list(self.options) or 'none'}"
                )
        return {**self.facts, **self.config(state, **options)}

    def state(self, ours: State, config: Config, *, approximate: bool = False) -> dict[str, Tensor]:
        r"""
        * `ours` is the `state_dict` of a model of ours
        * `config` describes it
        * `approximate` allows the constants of norms and the form of GELU to differ

        Returns the weights for this system, [written out](rewrite.py) where it has no shorter form.

        Raises `WeightsError` for a model that the system does not have, with all the reasons.
        """
        ours, config = written_out(ours, config, self.facts)
        differ = [
            f"{key} is {config[key]!r} here and {value!r} there"
            for key, value in self.facts.items()
            if config[key] != value
            and not (approximate and key in NUMERIC)
            # What is true of an attention says nothing of a model without one.
            and not (key.startswith("attn_") and config["d_attn"] is None)
        ]
        if differ:
            numeric = all(reason.split()[0] in NUMERIC for reason in differ)
            remedy = "; approximate=True writes it all the same" if numeric else ""
            raise WeightsError(f"{self.name} computes something else: {', '.join(differ)}{remedy}")
        table = self.table(config)
        return table.to_theirs(with_positions(ours, config, table))


# ## What systems read
#
# One axis of a parameter, in the first layer that has it. Zero stands for what is missing.
def axis(state: State, name: str, which: int) -> int:
    indices = range(layers_of(state, name)) if "{i}" in name else [0]
    values = [state.get(name.replace("{i}", str(i))) for i in indices]
    return next((v.shape[which] for v in values if v is not None and v.dim() > which), 0)


# The same rows deeper down, as a block stands in an encoder and that in a model.
def inside(rows: tuple[Row, ...], ours: str, theirs: str) -> tuple[Row, ...]:
    return tuple(replace(row, ours=ours + row.ours, theirs=theirs + row.theirs) for row in rows)


def image_of(
    n: int,
    patch: tuple[int, int],
    image_size: int | tuple[int, int] | None,
) -> tuple[int, int]:
    r"""
    ## The size of the images

    Weights know the number of patches $n$ only: 16 of them may be 4 by 4 or 2 by 8.

    * `patch` is the size of one patch, (height, width)
    * `image_size` is what the caller says; `None` means a square of patches

    Returns (height, width).

    Raises `WeightsError` where there is no such square, and for an image of another number of
    patches.
    """
    if image_size is None:
        side = isqrt(n)
        if side * side != n:
            raise WeightsError(
                f"image_size must be given as (height, width), as {n} patches make no square"
            )
        return side * patch[0], side * patch[1]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if n and n_patches(size, patch) != n:
        raise WeightsError(f"image_size must make {n} patches of {patch}, got {size}")
    return size
