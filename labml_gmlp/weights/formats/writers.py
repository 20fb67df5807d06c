r"""
# Writing weights

Every writer takes the tensors by name, on the CPU and contiguous, and returns the bytes of a file.
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import short
from labml_gmlp.weights.formats.pickles import PADDLE_NAMES


def _write_safetensors(state: dict[str, Tensor], metadata: Mapping[str, str] | None) -> bytes:
    from safetensors.torch import save

    # The format has no place for memory that two names share.
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    # transformers will not read a file that does not say who wrote it.
    return save(apart, {"format": "pt", **(metadata or {})})


def _write_torch(state: dict[str, Tensor], _: Any) -> bytes:
    buffer = io.BytesIO()
    # A view would take all of its storage along.
    torch.save({name: tensor.clone() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


def _write_npz(state: dict[str, Tensor], _: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, tensor in state.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, _array(name, tensor, "V2"), allow_pickle=False)
    return buffer.getvalue()


def _write_pdparams(state: dict[str, Tensor], _: Any) -> bytes:
    # Paddle keeps the names of its variables here; they may be any, and it reads them as such.
    names = {name: name for name in state}
    arrays = {name: _array(name, tensor, None) for name, tensor in state.items()}
    return pickle.dumps({**arrays, PADDLE_NAMES: names}, protocol=4)


def _write_msgpack(state: dict[str, Tensor], _: Any) -> bytes:
    import msgpack

    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise WeightsError(f"a name must not be a tree too, got {short(name)}")
        if last in place:
            raise WeightsError(f"a name must not be a tree too, got {short(name)}")
        kind = str(tensor.dtype).removeprefix("torch.")
        numbers = _array(name, tensor, "V2").tobytes()
        place[last] = msgpack.ExtType(1, msgpack.packb((list(tensor.shape), kind, numbers)))
    return msgpack.packb(tree)


def _array(name: str, tensor: Tensor, bfloat16: str | None) -> Any:
    if tensor.dtype == torch.bfloat16 and bfloat16 is not None:
        return tensor.view(torch.int16).numpy().view(bfloat16)
    try:
        return tensor.numpy()
    except TypeError as e:
        raise WeightsError(
            f"{short(name)} must be of a type that the format has, got {tensor.dtype}"
        ) from e


WRITERS: dict[str, Callable[[dict[str, Tensor], Any], bytes]] = {
    ".safetensors": _write_safetensors,
    ".pt": _write_torch,
    ".pth": _write_torch,
    ".npz": _write_npz,
    ".pdparams": _write_pdparams,
    ".msgpack": _write_msgpack,
}
