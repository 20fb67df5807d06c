"""Files of weights, read and written here and by the packages that own the formats."""

import functools
import importlib
import io
import pickle
import sys

import numpy as np
import pytest
import torch

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats import files
from labml_gmlp.weights.formats.files import read, write
from tests.support.helpers import assert_raises

pytest.importorskip("safetensors", reason="the extra `weights`")
msgpack = pytest.importorskip("msgpack", reason="the extra `weights`")

SUFFIXES = list(files.WRITERS)
DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16),
    *(torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.complex64),
]


def some_weights(suffix=".safetensors"):
    """All types, and tensors that are not ordinary matrices."""
    torch.manual_seed(0)
    state = {f"kinds/{dtype}": (4 * torch.randn(2, 3)).to(dtype) for dtype in DTYPES}
    whole = torch.randn(4, 5)
    state |= {
        "no axis": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "empty inside": torch.empty(2, 0, dtype=torch.bfloat16),
        "one": torch.tensor([-0.0, float("nan"), float("inf")]),
        "transposed": whole.T,
        "a view": whole[1:3, ::2],
        "expanded": torch.ones(1, 1).expand(3, 4),
        "a parameter": torch.nn.Parameter(torch.randn(2)),
        "Größe": torch.randn(1),
    }
    if suffix == ".pdparams":
        state = {name: t for name, t in state.items() if t.dtype != torch.bfloat16}
    return state


def assert_equal_states(got, want, *, ordered=True):
    assert (list(got) if ordered else set(got)) == (list(want) if ordered else set(want))
    for name, tensor in want.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape), name
        torch.testing.assert_close(got[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)
        assert got[name].is_contiguous()


def put(tmp_path, content, name="weights"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def arrays():
    """Arrays of numpy, some in Fortran order or big-endian."""
    return {
        "matrix": np.arange(6.0, dtype="f4").reshape(2, 3),
        "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(-3, 3, dtype=">i4").reshape(3, 2),
        "big half": np.array([1.5, -2.0], dtype=">f2"),
        "big complex": np.array([1 + 2j], dtype=">c8"),
        "no axis": np.array(3.0),
        "empty": np.zeros((0, 3), dtype="f2"),
        "truth": np.array([True, False]),
        "one": np.array([7], dtype="u1"),
    }


def as_tensors(arrays):
    return {
        name: torch.from_numpy(np.array(a, dtype=a.dtype.newbyteorder("="), order="C"))
        for name, a in arrays.items()
    }


# ## Round trips


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_written_file_is_read(tmp_path, suffix):
    path, state = tmp_path / f"weights{suffix}", some_weights(suffix)
    write(path, state)
    # safetensors sorts by size, and msgpack groups by tree.
    assert_equal_states(read(path), state, ordered=suffix not in (".safetensors", ".msgpack"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".msgpack"])
def test_an_empty_state_is_written_and_read(tmp_path, suffix):
    # An empty file of msgpack is one byte, which does not identify the format.
    write(tmp_path / f"w{suffix}", {})
    assert read(tmp_path / f"w{suffix}") == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_format_is_recognised_by_the_content(tmp_path, suffix):
    path, state = tmp_path / f"weights{suffix}", some_weights(suffix)
    write(path, state)
    for name in ("weights", "weights.npz", "weights.json"):
        assert_equal_states(read(path.rename(tmp_path / name)), state, ordered=False)
        path = tmp_path / name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_that_are_read_are_writable(tmp_path, suffix):
    write(tmp_path / f"w{suffix}", {"w": torch.ones(2)})
    state = read(tmp_path / f"w{suffix}")
    state["w"].mul_(2)
    assert state["w"].tolist() == [2, 2]


# ## Written here, read by the packages


def test_safetensors_reads_the_file_and_its_metadata(tmp_path):
    import safetensors
    from safetensors.torch import load_file

    path, state = tmp_path / "w.safetensors", some_weights()
    write(path, state, {"system": "timm gmlp"})
    assert_equal_states(load_file(path), state, ordered=False)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "system": "timm gmlp"}


def test_tensors_that_share_memory_can_be_written(tmp_path):
    tied = torch.randn(3, 2)
    for suffix in SUFFIXES:
        write(tmp_path / f"w{suffix}", {"embedding": tied, "head": tied, "part": tied[1:]})
        got = read(tmp_path / f"w{suffix}")
        assert torch.equal(got["head"], tied)
        assert torch.equal(got["part"], tied[1:])


def test_torch_reads_the_file_with_weights_only(tmp_path):
    path, state = tmp_path / "w.pt", some_weights()
    write(path, state)
    assert_equal_states(torch.load(path, weights_only=True), state)


def test_a_view_is_written_without_the_rest_of_its_storage(tmp_path):
    write(tmp_path / "w.pt", {"part": torch.zeros(100_000)[:2]})
    assert (tmp_path / "w.pt").stat().st_size < 4_000


def test_numpy_reads_the_file(tmp_path):
    path, state = tmp_path / "w.npz", some_weights()
    write(path, state)
    with np.load(path, allow_pickle=False) as archive:
        assert list(archive) == list(state)
        for name, tensor in state.items():
            want = tensor.detach()
            # bfloat16 is two bytes without a type, as JAX writes it.
            want = (
                want.view(torch.int16).numpy().view("V2")
                if "V" in archive[name].dtype.str
                else want
            )
            np.testing.assert_array_equal(archive[name], np.asarray(want))


def test_a_file_of_paddle_is_a_dict_of_arrays_with_variable_names(tmp_path):
    path, state = tmp_path / "w.pdparams", some_weights(".pdparams")
    write(path, state)
    tree = pickle.loads(path.read_bytes())
    assert tree.pop("StructuredToParameterName@@").keys() == state.keys()
    assert_equal_states(as_tensors(tree), state)


def test_flax_reads_the_file(tmp_path):
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    state = {"params/in/kernel": torch.randn(2, 3), "params/b": torch.randn(2).bfloat16()}
    write(tmp_path / "w.msgpack", state)
    tree = serialization.msgpack_restore((tmp_path / "w.msgpack").read_bytes())
    np.testing.assert_array_equal(tree["params"]["in"]["kernel"], state["params/in/kernel"])
    assert tree["params"]["b"].dtype.name == "bfloat16"
    assert tree["params"]["b"].astype("f4").tolist() == state["params/b"].float().tolist()


# ## Written by the packages, read here


@pytest.mark.parametrize("new", [True, False])
def test_both_forms_of_torch_files_are_read(tmp_path, new):
    state = some_weights()
    if not new:
        # This type is newer than the form.
        state = {name: t for name, t in state.items() if t.dtype != torch.uint16}
    torch.save(state, tmp_path / "w", _use_new_zipfile_serialization=new)
    assert_equal_states(read(tmp_path / "w"), state)


@pytest.mark.parametrize("new", [True, False])
def test_the_state_dict_of_a_module_is_read(tmp_path, new):
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save(layer.state_dict(), tmp_path / "w", _use_new_zipfile_serialization=new)
    assert_equal_states(read(tmp_path / "w"), layer.state_dict())


def test_float8_is_read(tmp_path):
    state = {"a": torch.randn(3).to(torch.float8_e4m3fn), "b": torch.randn(3).to(torch.float8_e5m2)}
    for suffix in (".pt", ".safetensors"):
        write(tmp_path / f"w{suffix}", state)
        assert_equal_states(read(tmp_path / f"w{suffix}"), state, ordered=False)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy_are_read(tmp_path, save):
    save(tmp_path / "w.npz", **arrays())
    assert_equal_states(read(tmp_path / "w.npz"), as_tensors(arrays()))


def test_a_highly_compressed_archive_of_zeros_is_read(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", zeros=np.zeros(200_000, dtype="f4"))
    assert (tmp_path / "w.npz").stat().st_size < 2_000
    assert read(tmp_path / "w.npz")["zeros"].shape == (200_000,)


@pytest.mark.parametrize("numpy", [1, 2])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_numpy_1_and_2_are_read_in_every_protocol(tmp_path, protocol, numpy):
    content = pickle.dumps(arrays(), protocol=protocol)
    assert b"numpy._core." in content
    if numpy == 1:
        # Protocol 4 stores the lengths of the name and of its frame.
        if protocol >= 4:
            frame = content.index(b"\x95") + 1
            length = int.from_bytes(content[frame : frame + 8], "little")
            shorter = length - content.count(b"numpy._core.")
            content = content[:frame] + shorter.to_bytes(8, "little") + content[frame + 8 :]
            for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
                old = bytes([0x8C, len(name)]) + name
                content = content.replace(
                    old, bytes([0x8C, len(name) - 1]) + name.replace(b"_", b"", 1)
                )
        content = content.replace(b"numpy._core.", b"numpy.core.")
    got = read(put(tmp_path, content))
    assert_equal_states(got, as_tensors(arrays()))


def test_single_numbers_of_numpy_are_read(tmp_path):
    content = pickle.dumps({"model": {"a": np.float32(2.5), "b": np.int64(-3)}}, protocol=4)
    got = read(put(tmp_path, content))
    assert_equal_states(got, {"a": torch.tensor(2.5), "b": torch.tensor(-3)})


class PaddleTensor:
    """Pickled as `paddle.save` pickles a tensor inside a checkpoint."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def __reduce__(self):
        return tuple, ((self.name, self.array),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_checkpoint_of_paddle_is_read(tmp_path, protocol):
    weight, average = np.arange(4.0, dtype="f4"), np.ones(4, dtype="f4")
    tree = {
        "model": {"w": PaddleTensor("linear_0.w_0", weight)},
        "model_ema": {"w": PaddleTensor("linear_1.w_0", average)},
        "epoch": 3,
        "lr_scheduler": {"last_lr": 0.5, "name": "cosine"},
    }
    path = put(tmp_path, pickle.dumps(tree, protocol=protocol))
    assert_equal_states(read(path), {"w": torch.from_numpy(weight)})
    assert_equal_states(read(path, part="model_ema"), {"w": torch.from_numpy(average)})


def test_a_state_of_flax_is_read(tmp_path):
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    tree = {
        "params": {"in": {"kernel": np.arange(6.0, dtype="f4").reshape(2, 3)}, "b": np.float32(2)},
        "opt_state": {"0": {"count": np.array(4)}},
        "step": 7,
    }
    path = put(tmp_path, serialization.msgpack_serialize(tree))
    kernel = torch.arange(6.0).reshape(2, 3)
    assert_equal_states(
        read(path),
        {
            "params/in/kernel": kernel,
            "params/b": torch.tensor(2.0),
            "opt_state/0/count": torch.tensor(4),
            "step": torch.tensor(7),
        },
        ordered=False,
    )
    params = {"in/kernel": kernel, "b": torch.tensor(2.0)}
    assert_equal_states(read(path, part="params"), params, ordered=False)


def test_chunked_arrays_of_flax_are_joined(tmp_path, monkeypatch):
    serialization = pytest.importorskip("flax.serialization", reason="flax is not installed")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 16)
    array = np.arange(15.0, dtype="f4").reshape(3, 5)
    content = serialization.msgpack_serialize({"params": {"kernel": array}})
    assert b"__msgpack_chunked_array__" in content
    got = read(put(tmp_path, content))
    assert_equal_states(got, {"params/kernel": torch.from_numpy(array)})


# ## Checkpoints


@pytest.mark.parametrize("name", files.PARTS)
def test_the_model_of_a_checkpoint_is_found(tmp_path, name):
    state = {"w": torch.ones(2)}
    torch.save({"epoch": 1, "optimizer": {"lr": "x"}, name: state}, tmp_path / "w")
    assert_equal_states(read(tmp_path / "w"), state)


def test_a_part_is_read_by_its_name(tmp_path):
    ema = {"w": torch.ones(2)}
    torch.save({"model": {"w": torch.zeros(2)}, "ema": ema, "args": "text"}, tmp_path / "w")
    assert_equal_states(read(tmp_path / "w", part="ema"), ema)
    assert_raises(
        lambda: read(tmp_path / "w", part="weights"),
        WeightsError,
        tmp_path / "w",
        "part 'weights'",
        "['model', 'ema', 'args']",
    )


def test_a_file_with_a_tensor_at_its_top_level_is_not_searched_for_parts(tmp_path):
    state = {"model": {"w": torch.ones(1)}, "b": torch.ones(2)}
    torch.save(state, tmp_path / "w")
    assert_equal_states(read(tmp_path / "w"), {"model/w": torch.ones(1), "b": torch.ones(2)})


# ## Errors


def test_missing_and_unknown_files_are_refused(tmp_path):
    assert_raises(
        lambda: read(tmp_path / "w"),
        WeightsError,
        tmp_path / "w",
        "No such file",
    )
    for content in (b"", b"text\n", b"\x1f\x8b" * 20):
        assert_raises(
            lambda content=content: read(put(tmp_path, content)),
            WeightsError,
            tmp_path / "weights",
            "safetensors, torch, numpy, Paddle, Flax",
            len(content),
        )


def test_a_name_cannot_be_a_tensor_and_a_tree(tmp_path):
    state = {"a": torch.ones(1), "a/b": torch.ones(1)}
    for order in (list, reversed):
        assert_raises(
            lambda order=order: write(
                tmp_path / "w.msgpack", {name: state[name] for name in order(list(state))}
            ),
            WeightsError,
            repr(list(order(list(state)))[1]),
            "tree",
        )


def test_a_state_that_cannot_be_written_is_refused(tmp_path):
    assert_raises(
        lambda: write(tmp_path / "w.pdparams", {"w": torch.ones(1, dtype=torch.bfloat16)}),
        WeightsError,
        "'w'",
        "torch.bfloat16",
    )
    assert_raises(
        lambda: write(tmp_path / "w.bin", {}),
        WeightsError,
        "path",
        "['.msgpack', '.npz', '.pdparams', '.pt', '.pth', '.safetensors']",
        "'w.bin'",
    )
    assert_raises(
        lambda: write(tmp_path / "w.pt", {"w": [1]}),
        WeightsError,
        "state",
        "list",
        "'w'",
    )
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_is_not_a_tensor_is_refused(tmp_path):
    torch.save({"w": torch.ones(1), "note": "text"}, tmp_path / "w")
    assert_raises(
        lambda: read(tmp_path / "w"),
        WeightsError,
        tmp_path / "w",
        "entry 'note'",
        "str",
        "choose a part",
    )


def test_a_pickled_module_is_refused_and_not_executed(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "w")
    assert_raises(
        lambda: read(tmp_path / "w"),
        WeightsError,
        tmp_path / "w",
        "'torch.nn.modules.linear.Linear'",
        "nothing was executed",
    )


@pytest.mark.parametrize(
    ("suffix", "package"), [(".msgpack", "msgpack"), (".safetensors", "safetensors")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, suffix, package):
    write(tmp_path / f"w{suffix}", {"w": torch.ones(1)})
    for module in (package, f"{package}.torch"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"w{suffix}"
    assert_raises(lambda: read(path), WeightsError, path, f"needs {package}", "pip install")
    assert_raises(lambda: write(path, {}), WeightsError, suffix, f"needs {package}", "pip install")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.pt"
    write(path, {"w": torch.ones(1)})
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, {"w": torch.zeros(1)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


def test_reading_needs_no_numpy(tmp_path, monkeypatch):
    for suffix in (".npz", ".pdparams", ".pt"):
        write(tmp_path / f"w{suffix}", some_weights(".pdparams"))
    monkeypatch.setitem(sys.modules, "numpy", None)
    for suffix in (".npz", ".pdparams", ".pt"):
        assert len(read(tmp_path / f"w{suffix}")) == len(some_weights(".pdparams"))


def test_an_object_array_is_refused(tmp_path):
    objects = np.array([{}, None], dtype=object)
    for content in (
        pickle.dumps({"w": objects}, protocol=4),
        pickle.dumps({"w": np.zeros(2, dtype=[("a", "f4")])}, protocol=4),
        pickle.dumps({"w": np.array(["text"])}, protocol=4),
    ):
        assert_raises(functools.partial(read, put(tmp_path, content)), WeightsError, "numbers")
    buffer = io.BytesIO()
    np.savez(buffer, w=objects)
    load = functools.partial(read, put(tmp_path, buffer.getvalue()))
    assert_raises(load, WeightsError, "array", "numbers", "type")


def test_the_public_module_has_the_same_functions():
    public = importlib.import_module("labml_gmlp.weights.files")
    assert (public.read, public.write) == (files.read, files.write)
