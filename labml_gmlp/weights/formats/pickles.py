r"""Pickles of tensors, interpreted without importing or calling what they name.

# Pickles

A pickle is a program for a small stack machine, and Python's interpreter lets it call any function
of any module. The weights of PyTorch and Paddle are pickles. This file is another interpreter for
the same programs. It puts values on a stack and into dicts. The name of a function stays a string,
and a program may "call" only the functions of a short table, all of them ours. A file cannot reach
an import, an attribute or a method.

A number in the file cannot make this interpreter allocate memory. With other readers it can:
`pickle.loads` allocates as many memo entries as one index claims, and `torch.load` with
`weights_only=True` lets a file call `bytearray(n)`.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError, short_repr
from labml_gmlp.weights.formats.arrays import parse_numpy_dtype, tensor_from_bytes


@dataclass(frozen=True)
class Global:
    r"""The name of a function or class in a pickle; it is never imported.

    * `name` is its module and name, such as `numpy.dtype`
    """

    name: str


class Unbuilt:
    r"""An object that the operation BUILD fills later.

    * `kind` is `"array"` for an array of numpy, which gets its numbers from BUILD, or `"dtype"`,
      which gets its byte order from it
    * `value` is the tensor, or the code of the dtype
    """

    def __init__(self, kind: str, value: Any = None) -> None:
        self.kind = kind
        self.value = value


Call = Callable[..., Any]
PersistentLoad = Callable[[Any], Any]

# Operations whose argument is the value.
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_STRINGS = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_VALUES = _NUMBERS | _STRINGS | _BYTES
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def load_pickle(
    data: bytes | io.BytesIO,
    calls: Mapping[str, Call],
    persistent_load: PersistentLoad | None = None,
) -> Any:
    r"""Returns the value of a pickle.

    ## Stack machine

    * `data` is the pickle; a stream is read to the end of its next pickle
    * `calls` are the functions that the program may call, by module and name
    * `persistent_load` returns an object stored outside of the pickle, such as a storage of torch

    Raises `WeightsError` for a name that is not in `calls`, an operation that weights do not need,
    a dict key that is duplicate or neither string nor integer, and a malformed program;
    `ValueError` from `pickletools` for a truncated one.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def pop() -> Any:
        if not stack or stack[-1] is _MARK:
            raise WeightsError("its pickle pops a value from an empty stack")
        return stack.pop()

    def pop_to_mark() -> list[Any]:
        items: list[Any] = []
        while stack and stack[-1] is not _MARK:
            items.append(stack.pop())
        if not stack:
            raise WeightsError("its pickle pops a value from an empty stack")
        stack.pop()
        return items[::-1]

    def set_items(items: list[Any]) -> None:
        target = stack[-1] if stack else None
        if not isinstance(target, dict) or len(items) % 2:
            raise WeightsError("its pickle sets an item of something other than a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples can take exponential time.
            if not isinstance(key, (str, int)):
                raise WeightsError(f"a name must be a string, got a {type(key).__name__}")
            if key in target:
                raise WeightsError(f"it has two entries of the name {short_repr(key)}")
            target[key] = value

    # The parser of the standard library checks each length against the bytes there are.
    for operation, argument, _ in pickletools.genops(data):
        code = operation.name
        if code in _VALUES:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code]())
        elif code in _TUPLES:
            stack.append(tuple([pop() for _ in range(_TUPLES[code])][::-1]))
        elif code == "MARK":
            stack.append(_MARK)
        elif code == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif code == "LIST":
            stack.append(pop_to_mark())
        elif code == "DICT":
            items = pop_to_mark()
            stack.append({})
            set_items(items)
        elif code in ("APPEND", "APPENDS"):
            items = [pop()] if code == "APPEND" else pop_to_mark()
            if not stack or not isinstance(stack[-1], list):
                raise WeightsError("its pickle appends to something other than a list")
            stack[-1].extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            set_items([pop(), pop()][::-1] if code == "SETITEM" else pop_to_mark())
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            value = pop()
            memo[len(memo) if code == "MEMOIZE" else argument] = value
            stack.append(value)
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise WeightsError(f"its pickle reads the memo entry {argument} before it is set")
            stack.append(memo[argument])
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            if code == "GLOBAL":
                module, _, name = str(argument).partition(" ")
            else:
                name, module = pop(), pop()
            if f"{module}.{name}" not in calls:
                raise WeightsError(
                    f"its pickle names {short_repr(f'{module}.{name}')}, which weights do not "
                    f"need; nothing was executed"
                )
            stack.append(Global(f"{module}.{name}"))
        elif code in ("REDUCE", "NEWOBJ"):
            arguments, function = pop(), pop()
            if not isinstance(function, Global) or not isinstance(arguments, tuple):
                raise WeightsError("its pickle calls something other than a named function")
            stack.append(calls[function.name](*arguments))
        elif code == "BUILD":
            state = pop()
            _build(stack[-1] if stack else None, state)
        elif code == "BINPERSID" and persistent_load is not None:
            stack.append(persistent_load(pop()))
        elif code == "STOP":
            break
        elif code not in ("PROTO", "FRAME"):
            raise WeightsError(f"its pickle uses the operation {code}, which weights do not need")
    if len(stack) != 1:
        raise WeightsError(f"its pickle must end with one value on the stack, got {len(stack)}")
    return stack[0]


def is_pickle(data: bytes) -> bool:
    """Says whether `data` begins as a pickle of protocols 2 to 5 does."""
    return data[:1] == b"\x80" and len(data) > 1 and data[1] <= 5


def _build(target: Any, state: Any) -> None:
    if isinstance(target, Unbuilt) and isinstance(state, tuple):
        if target.kind == "array" and len(state) == 5 and target.value is None:
            _, shape, dtype, fortran_order, data = state
            target.value = _array(data, dtype, shape, fortran_order is True)
            return
        if target.kind == "dtype" and len(state) >= 5 and state[1] in ("<", ">", "|", "="):
            # A subarray type, its field names and its fields.
            if any(part is not None for part in state[2:5]):
                raise WeightsError("an array must hold numbers, got records")
            target.value = state[1] + target.value.lstrip("<>|=")
            return
    # torch stores the versions of layers as an attribute of a state dict.
    if type(target) is dict and isinstance(state, dict):
        return
    raise WeightsError(f"its pickle sets the state of a {type(target).__name__}, not of an array")


# ## Calls that numpy's pickles make
#
# All of them call `_reconstruct` and `dtype`, a single number calls `scalar`, and protocol 5 calls
# `_frombuffer`. Protocols 0 to 2 have no bytes and call `encode`. numpy 2 renamed `core` to
# `_core`.
def _dtype(code: Any, *_: Any) -> Unbuilt:
    if not isinstance(code, str):
        raise WeightsError(f"an array must hold numbers, got the type {type(code).__name__}")
    return Unbuilt("dtype", code)


def _array(data: Any, dtype: Any, shape: Any, fortran_order: bool) -> Tensor:
    if not isinstance(dtype, Unbuilt) or dtype.kind != "dtype":
        raise WeightsError("an array must state its type")
    if not isinstance(data, (bytes, bytearray)):
        raise WeightsError(f"an array must hold numbers, got a {type(data).__name__}")
    kind, big_endian = parse_numpy_dtype(dtype.value)
    return tensor_from_bytes(data, kind, shape, fortran_order=fortran_order, big_endian=big_endian)


def _encode(text: Any, encoding: Any = None) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise WeightsError("bytes in an old pickle must be a string encoded in latin1")
    return text.encode("latin1")


def _empty_bytes(*arguments: Any) -> bytes:
    # `bytes(n)` would allocate n bytes.
    if arguments:
        raise WeightsError("its pickle calls bytes with an argument")
    return b""


def make_tuple(items: Any) -> tuple[Any, ...]:
    """Returns `items`, which must be a tuple already. Raises `WeightsError` if it is not."""
    if not isinstance(items, tuple):
        raise WeightsError(f"a tuple must be made from a tuple, got a {type(items).__name__}")
    return items


def refuse_call(*_: Any) -> Any:
    """Raises `WeightsError`: this class may be named, but not called."""
    raise WeightsError("its pickle calls a class that may only be named")


NUMPY_CALLS: dict[str, Call] = {
    "numpy.ndarray": refuse_call,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _empty_bytes,
    "__builtin__.bytes": _empty_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    NUMPY_CALLS[f"{_core}.multiarray._reconstruct"] = lambda *_: Unbuilt("array")
    NUMPY_CALLS[f"{_core}.multiarray.scalar"] = lambda dtype, data: _array(data, dtype, (), False)
    NUMPY_CALLS[f"{_core}.numeric._frombuffer"] = lambda data, dtype, shape, order: _array(
        data, dtype, shape, order == "F"
    )


def _dict(*items: Any) -> dict[Any, Any]:
    # Python 2 passes an empty list and sets the items afterwards.
    if items and items != ([],):
        raise WeightsError("its pickle builds a dict from arguments")
    return {}


DICT_CALLS: dict[str, Call] = {"collections.OrderedDict": _dict}
