r"""The safetensors format, read and written by its own package.

# safetensors

A JSON header with names, types, shapes and offsets, then the numbers.
"""

from torch import Tensor

from labml_gmlp.weights.formats.format import Format, Metadata


def _recognises(data: bytes) -> bool:
    # The length of the header, eight bytes, then the header.
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data)


# The package checks every length against the file, and that the tensors cover it without a gap.
def _parse(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    # The package returns them in an order that differs between processes.
    return dict(sorted(load(data).items()))


def _serialise(state: dict[str, Tensor], metadata: Metadata) -> bytes:
    from safetensors.torch import save

    # The format cannot express memory that two names share.
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    # transformers refuses a file that does not name the framework that wrote it.
    return save(separate, {"format": "pt", **metadata})


FORMAT = Format("safetensors", (".safetensors",), _recognises, _parse, _serialise)
