r"""
# Pickles, read without running them

A pickle is a program for a small stack machine, and Python's own machine lets it call any function
of any module. PyTorch's and Paddle's weights are pickles. This file is another machine for the same
programs. It knows how to put values on the stack and into dicts; a name of a module is a text to
it, and what a program may "call" is looked up in a short table of functions of ours. There is no
import, no attribute and no method that a file could reach.

Sizes are safe for the same reason: nothing here makes memory out of a number in the file. Two
examples of what does elsewhere: `pickle.loads` makes room for as many memo entries as a single
index claims, and the unpickler behind `torch.load(weights_only=True)` lets a file call
`bytearray(n)`.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import numpy_dtype, short, tensor_from


@dataclass(frozen=True)
class Name:
    r"""A function or class that a pickle speaks of. It stays a text."""

    text: str


class Unbuilt:
    r"""
    An object that the program fills later, by the operation BUILD: an array of numpy, whose numbers
    come last, or a dtype, whose byte order does.
    """

    def __init__(self, kind: str, value: Any = None) -> None:
        self.kind = kind
        self.value = value


Call = Callable[..., Any]
Persistent = Callable[[Any], Any]

# Operations whose argument is the value.
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_VALUES = _NUMBERS | _TEXTS | _BYTES
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
    data: bytes | io.BytesIO, calls: Mapping[str, Call], persistent: Persistent | None = None
) -> Any:
    r"""
    ## The machine

    * `data` is the pickle; of a stream, the first one from where it stands
    * `calls` are the functions that a program may name, by module and name
    * `persistent` makes what the program refers to by a number: the memory of torch's tensors

    Returns the value that the program leaves.

    Raises `WeightsError` for a name that is not in `calls`, for any operation that weights do not
    need, for an entry that comes twice, and for a program that does not come to an end.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def pop() -> Any:
        if not stack or stack[-1] is _MARK:
            raise WeightsError("a pickle must put down what it takes up, got one that does not")
        return stack.pop()

    def pop_to_mark() -> list[Any]:
        items: list[Any] = []
        while stack and stack[-1] is not _MARK:
            items.append(stack.pop())
        if not stack:
            raise WeightsError("a pickle must put down what it takes up, got one that does not")
        stack.pop()
        return items[::-1]

    def set_items(items: list[Any]) -> None:
        target = stack[-1] if stack else None
        if not isinstance(target, dict) or len(items) % 2:
            raise WeightsError("a pickle must put entries into dicts alone, got another thing")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of nested tuples can take longer than the universe.
            if not isinstance(key, (str, int)):
                raise WeightsError(f"a name must be a text, got {type(key).__name__}")
            if key in target:
                raise WeightsError(f"a file must hold each name once, got {short(key)} twice")
            target[key] = value

    # The parser of the standard library reads lengths and checks them against what is there.
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
                raise WeightsError("a pickle must append to lists alone, got another thing")
            stack[-1].extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            set_items([pop(), pop()][::-1] if code == "SETITEM" else pop_to_mark())
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            value = pop()
            memo[len(memo) if code == "MEMOIZE" else argument] = value
            stack.append(value)
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise WeightsError(f"a pickle must know what it repeats, got entry {argument}")
            stack.append(memo[argument])
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            if code == "GLOBAL":
                module, _, name = str(argument).partition(" ")
            else:
                name, module = pop(), pop()
            if f"{module}.{name}" not in calls:
                raise WeightsError(
                    f"a file of weights must hold numbers, got one that asks for "
                    f"{short(f'{module}.{name}')}; nothing of it was run"
                )
            stack.append(Name(f"{module}.{name}"))
        elif code in ("REDUCE", "NEWOBJ"):
            arguments, function = pop(), pop()
            if not isinstance(function, Name) or not isinstance(arguments, tuple):
                raise WeightsError("a pickle must call what it has named, got another thing")
            stack.append(calls[function.text](*arguments))
        elif code == "BUILD":
            state = pop()
            _build(stack[-1] if stack else None, state)
        elif code == "BINPERSID" and persistent is not None:
            stack.append(persistent(pop()))
        elif code == "STOP":
            break
        elif code not in ("PROTO", "FRAME"):
            raise WeightsError(f"a file of weights must not need the operation {code} of pickles")
    if len(stack) != 1:
        raise WeightsError(f"a pickle must leave one value, got {len(stack)}")
    return stack[0]


def _build(target: Any, state: Any) -> None:
    if isinstance(target, Unbuilt) and isinstance(state, tuple):
        if target.kind == "array" and len(state) == 5 and target.value is None:
            _, shape, dtype, by_columns, data = state
            target.value = _array(data, dtype, shape, by_columns is True)
            return
        if target.kind == "dtype" and len(state) >= 5 and state[1] in ("<", ">", "|", "="):
            # Fields and shapes inside of a type would stand here.
            if any(part is not None for part in state[2:5]):
                raise WeightsError("an array must hold numbers, got records")
            target.value = state[1] + target.value.lstrip("<>|=")
            return
    # torch notes the versions of layers on a state dict.
    if type(target) is dict and isinstance(state, dict):
        return
    raise WeightsError(f"a pickle must fill arrays alone, got a {type(target).__name__}")


# ## What numpy's pickles call
#
# `_reconstruct` and `dtype` in all of them, `scalar` for a single number, `_frombuffer` with
# protocol 5, and `encode` for bytes in protocols 0 to 2, which have none. numpy 2 calls its modules
# `_core`.
def _dtype(code: Any, *_: Any) -> Unbuilt:
    if not isinstance(code, str):
        raise WeightsError(f"an array must hold numbers, got the type {type(code).__name__}")
    return Unbuilt("dtype", code)


def _array(data: Any, dtype: Any, shape: Any, by_columns: bool) -> Tensor:
    if not isinstance(dtype, Unbuilt) or dtype.kind != "dtype":
        raise WeightsError("an array must say what numbers it holds, got one that does not")
    if not isinstance(data, (bytes, bytearray)):
        raise WeightsError(f"an array must hold numbers, got a {type(data).__name__}")
    kind, big_endian = numpy_dtype(dtype.value)
    return tensor_from(data, kind, shape, by_columns=by_columns, big_endian=big_endian)


def _encode(text: Any, encoding: Any = None) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise WeightsError("bytes in an old pickle must be a text in latin1, got another thing")
    return text.encode("latin1")


def _nothing(*arguments: Any) -> bytes:
    if arguments:
        raise WeightsError("bytes must be written as such, got a call that makes them")
    return b""


def same_tuple(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise WeightsError(f"a tuple must be made of a tuple, got a {type(items).__name__}")
    return items


def not_called(*_: Any) -> Any:
    raise WeightsError("a class that a file of weights names must not be called, got a call")


NUMPY: dict[str, Call] = {
    "numpy.ndarray": not_called,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _nothing,
    "__builtin__.bytes": _nothing,
}
for _core in ("numpy.core", "numpy._core"):
    NUMPY[f"{_core}.multiarray._reconstruct"] = lambda *_: Unbuilt("array")
    NUMPY[f"{_core}.multiarray.scalar"] = lambda dtype, data: _array(data, dtype, (), False)
    NUMPY[f"{_core}.numeric._frombuffer"] = lambda data, dtype, shape, order: _array(
        data, dtype, shape, order == "F"
    )


def _dict(*items: Any) -> dict[Any, Any]:
    # Protocols 0 to 2 of Python 2 hand the entries over.
    if items and items != ([],):
        raise WeightsError("a dict must be filled entry by entry, got a call that does it")
    return {}


DICTS: dict[str, Call] = {"collections.OrderedDict": _dict}
# A tensor inside of a larger checkpoint is a tuple of its name and its array with Paddle.
PADDLE = {**NUMPY, **DICTS, "builtins.tuple": same_tuple, "__builtin__.tuple": same_tuple}
# A state dict of Paddle has under this name a table from its names to those of variables.
PADDLE_NAMES = "StructuredToParameterName@@"
