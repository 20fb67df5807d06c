r"""The `.pdparams` format of Paddle: a pickle of numpy arrays.

# Paddle

Beside the arrays, a state dict has a table from its names to the names of Paddle's variables. The
table carries no numbers.
"""

import io
import pickle
from typing import Any

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import to_numpy
from labml_gmlp.weights.formats.format import Format, Metadata
from labml_gmlp.weights.formats.pickles import (
    DICT_CALLS,
    NUMPY_CALLS,
    Unbuilt,
    is_pickle,
    load_pickle,
    make_tuple,
)

VARIABLE_NAMES = "StructuredToParameterName@@"
# Inside a larger checkpoint, a tensor is a tuple of its name and its array.
CALLS = {
    **NUMPY_CALLS,
    **DICT_CALLS,
    "builtins.tuple": make_tuple,
    "__builtin__.tuple": make_tuple,
}


def _parse(data: bytes) -> Any:
    stream = io.BytesIO(data)
    tree = load_pickle(stream, CALLS)
    if stream.read(1):
        raise WeightsError("bytes follow the end of its pickle")
    return _with_tensors(tree, {})


# Arrays become tensors here, so that a state dict can be told from a checkpoint. A pickle can put
# one dict at many places or inside itself; each is converted once.
def _with_tensors(tree: Any, converted: dict[int, dict[Any, Any]]) -> Any:
    if isinstance(tree, Unbuilt):
        return tree.value
    if not isinstance(tree, dict):
        return tree
    if id(tree) not in converted:
        new = converted[id(tree)] = {}
        for key, value in tree.items():
            if key != VARIABLE_NAMES:
                new[key] = _with_tensors(value, converted)
    return converted[id(tree)]


def _serialise(state: dict[str, Tensor], _: Metadata) -> bytes:
    # Paddle accepts any names of variables.
    names = {name: name for name in state}
    arrays = {name: to_numpy(name, tensor) for name, tensor in state.items()}
    return pickle.dumps({**arrays, VARIABLE_NAMES: names}, protocol=4)


# Any pickle that torch does not recognise.
FORMAT = Format("Paddle", (".pdparams",), is_pickle, _parse, _serialise, holds_checkpoints=True)
