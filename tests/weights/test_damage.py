"""Damaged and malicious files: refused in one line, or read without loss and harm."""

import encodings.raw_unicode_escape  # noqa: F401  (the codec of strings in protocol 0)
import io
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats import files
from labml_gmlp.weights.formats.files import read, write
from tests.support.helpers import assert_names

pytest.importorskip("safetensors", reason="the extra `weights`")
msgpack = pytest.importorskip("msgpack", reason="the extra `weights`")

# One suffix of each format, and older forms of some.
KINDS = [each.suffixes[0].removeprefix(".") for each in files.FORMATS]
KINDS += ["old pt", "compressed npz", "old pdparams"]
# Of all kinds together.
N_DAMAGED = 1_200


def weights():
    generator = torch.Generator().manual_seed(0)
    return {
        "blocks.0.weight": torch.randn(4, 6, generator=generator),
        "blocks.0.bias": torch.randn(4, generator=generator),
        "blocks.1.weight": torch.randn(6, 4, generator=generator).half(),
        "count": torch.tensor(7),
        "kept": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 3),
    }


def file_of(kind, path):
    """Writes a valid file of this kind and returns its bytes."""
    state = weights()
    if kind == "old pt":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kind == "compressed npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: t.numpy() for name, t in state.items()})
        path.write_bytes(buffer.getvalue())
    elif kind == "old pdparams":
        path.write_bytes(pickle.dumps({name: t.numpy() for name, t in state.items()}, protocol=2))
    else:
        written = path.with_suffix(f".{kind}")
        write(written, state)
        written.rename(path)
    return path.read_bytes()


# ## Damage
#
# Each function returns the new bytes, and the largest number of changed bytes of values.


def truncated(random, data):
    return data[: random.randrange(len(data))], 0


def lengthened(random, data):
    return data + random.randbytes(random.randint(1, 40)), 0


def with_flipped_bits(random, data):
    new = bytearray(data)
    n = random.choice([1, 1, 1, 2, 8])
    for _ in range(n):
        new[random.randrange(len(new))] ^= 1 << random.randrange(8)
    return bytes(new), n


def replaced(data, old, new, count=-1):
    """Short strings may also occur among the values."""
    n = data.count(old) if count < 0 else min(count, data.count(old))
    return data.replace(old, new, count), n * len(old)


def renamed(random, data):
    old = random.choice([b"blocks.0.weight", b"blocks.0.bias", b"count", b"kept", b"empty"])
    new = random.choice(
        [bytes(reversed(old)), b"\x00" * len(old), b"\xff" * len(old), b"/" * len(old)]
    )
    return replaced(data, old, new)


def of_another_type(random, data):
    pairs = [
        *((b"F32", b"I32"), (b"F32", b"F64"), (b"F16", b"BF1"), (b"BOOL", b"BOOX"), (b"f4", b"f8")),
        *((b"f4", b"O8"), (b"f4", b"i4"), (b"<", b">"), (b"float32", b"objects"), (b"f2", b"V2")),
        *((b"float16", b"float64"), (b"FloatStorage", b"DoubleStorag"), (b"HalfSto", b"LongSto")),
    ]
    old, new = random.choice([pair for pair in pairs if pair[0] in data] or pairs)
    return replaced(data, old, new)


def of_another_shape(random, data):
    # As text, as integers of pickle, as integers of msgpack.
    pairs = [
        (b"[4,6]", b"[6,4]"),
        (b"[4,6]", b"[9,9]"),
        (b"(4, 6)", b"(6, 4)"),
        (b"(4, 6)", b"(-4,6)"),
    ]
    pairs += [
        (b"K\x04K\x06", b"K\x06K\x04"),
        (b"K\x04K\x06", b"K\xffK\xff"),
        (b"\x92\x04\x06", b"\x92\x06\x04"),
    ]
    pairs += [(b"\x92\x04\x06", b"\x92\xff\x7f"), (b"K\x04K\x06", b"K\x00K\x06")]
    old, new = random.choice([pair for pair in pairs if pair[0] in data] or pairs)
    return replaced(data, old, new, 1)


def with_a_huge_number(random, data):
    n = random.choice([1, 2, 4, 8])
    start = random.choice([0, random.randrange(len(data))])
    huge = random.choice([b"\xff" * n, b"\x7f" + b"\xff" * (n - 1), b"\xff" * (n - 1) + b"\x7f"])
    return data[:start] + huge + data[start + n :], n


def with_spans_exchanged(random, data):
    n = random.randint(1, 8)
    first = random.randrange(len(data) - 2 * n)
    second = random.randrange(first + n, len(data) - n + 1)
    a, b = data[first : first + n], data[second : second + n]
    return data[:first] + b + data[first + n : second] + a + data[second + n :], 2 * n


def with_a_hole(random, data):
    n = random.randint(1, 16)
    start = random.randrange(len(data) - n)
    return data[:start] + data[start + n :], n


def with_a_span_twice(random, data):
    n = random.randint(1, 16)
    start = random.randrange(len(data) - n)
    return data[: start + n] + data[start:], n


DAMAGES = [
    *(truncated, lengthened, with_flipped_bits, with_flipped_bits, renamed, of_another_type),
    *(of_another_shape, with_a_huge_number, with_spans_exchanged, with_a_hole, with_a_span_twice),
]


def numbers(state):
    """Counts each byte among all values, regardless of names, types and order."""
    counted = Counter()
    for tensor in state.values():
        counted.update(tensor.reshape(-1).view(torch.uint8).tolist() if tensor.numel() else [])
    return counted


def refusal(path):
    """Returns the message that reading raises, or the tensors. All errors are one short line."""
    try:
        return None, read(path)
    except WeightsError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert len(message.splitlines()) == 1
        assert len(message) < 600
        assert message.isprintable()
        return message, None


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_or_keeps_its_numbers(tmp_path, kind):
    path = tmp_path / "w"
    whole = file_of(kind, path)
    want = numbers(weights())
    rng = random.Random(f"seed of {kind}")
    n_refused = 0
    for i in range(N_DAMAGED // len(KINDS)):
        damage = DAMAGES[i % len(DAMAGES)]
        content, touched = damage(rng, whole)
        path.write_bytes(content)
        message, got = refusal(path)
        n_refused += message is not None
        if message is None:
            where = f"{damage.__name__}, number {i}"
            assert len(got) == len(weights()), where
            lost, new = want - numbers(got), numbers(got) - want
            # A tensor of torch is a view, which may omit some numbers and repeat others. The newer
            # form has a checksum.
            if kind != "old pt":
                assert lost.total() <= touched, where
                assert new.total() <= touched, where
    assert n_refused > N_DAMAGED // len(KINDS) // 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(tmp_path, kind):
    path = tmp_path / "w"
    whole = file_of(kind, path)
    for stop in [*range(20), *range(20, len(whole), 1 + len(whole) // 150), len(whole) - 1]:
        path.write_bytes(whole[:stop])
        assert refusal(path)[0] is not None, stop


@pytest.mark.parametrize("kind", ["pt", "npz", "compressed npz"])
def test_a_flipped_bit_in_a_value_of_an_archive_is_detected(tmp_path, kind):
    path = tmp_path / "w"
    whole = file_of(kind, path)
    rng = random.Random(0)
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if "data/" in m.filename or ".npy" in m.filename]
    for member in members:
        if member.file_size:
            name, extra = struct.unpack("<HH", whole[member.header_offset + 26 :][:4])
            start = member.header_offset + 30 + name + extra
            content = bytearray(whole)
            content[start + rng.randrange(member.compress_size)] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            assert refusal(path)[0] is not None, member.filename


# ## Malicious pickles


class Calls:
    """Pickled as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def as_pt(program):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", b"\0" * 16)
    return buffer.getvalue()


def as_old_pt(program):
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    front = buffer.getvalue().index(pickle.dumps({}, protocol=2), 60)
    return buffer.getvalue()[:front] + program + pickle.dumps([], protocol=2)


def malicious(canary):
    """Yields pickles that create `canary` when executed, by every operation that can call."""
    python = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch {canary}"
    for protocol in (2, 4):
        for function, arguments in [
            (os.system, (shell,)),
            (eval, (python,)),
            (exec, (python,)),
            (subprocess.call, (["touch", str(canary)],)),
            (compile, (python, "", "exec")),
            (__import__, ("os",)),
            (open, (str(canary), "w")),
            (Path.touch, (canary,)),
            (torch.load, (str(canary),)),
            (np.load, (str(canary),)),
        ]:
            yield pickle.dumps({"w": Calls(function, *arguments)}, protocol=protocol)
            yield pickle.dumps(Calls(function, *arguments), protocol=protocol)
            # As the key of an entry.
            yield pickle.dumps({Calls(function, *arguments): 1}, protocol=protocol)
    text = f"V{shell}\n".encode()
    # By operations other than REDUCE.
    yield b"\x80\x02(S'" + shell.encode() + b"'\nios\nsystem\n."
    yield b"\x80\x02(cos\nsystem\n" + text + b"o."
    yield b"\x80\x02cos\nsystem\n(" + text + b"t\x81."
    yield b"\x80\x04cos\nsystem\n(" + text + b"t}\x92."
    yield b"\x80\x02\x82\x01."
    yield b"\x80\x02Ptext\n."
    # By names close to allowed ones: attributes of them, other names in their modules.
    yield b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__class__.x\x93(" + text + b"tR."
    for module, name in [
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.core.multiarray", "numpy.os.system"),
        ("numpy", "dtype.__init__"),
        ("_codecs", "lookup"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch._utils", "_import_dotted_name"),
        ("torch", "load"),
        ("", "os.system"),
        ("builtins", "bytes.fromhex"),
    ]:
        yield f"\x80\x02c{module}\n{name}\n(V{shell}\ntR.".encode("latin1")
    # An allowed name, given attributes and then called.
    for inside in (
        b"}V__code__\nV1\ns",
        b"N}V__call__\nV1\ns\x86",
        b"}V__setstate__\ncnumpy\ndtype\ns",
    ):
        yield b"\x80\x02cnumpy\ndtype\n" + inside + b"b."
        yield b"\x80\x02ccollections\nOrderedDict\n" + inside + b"b."
    # Allowed names with other arguments.
    for name in (
        "builtins\nbytes",
        "torch\nSize",
        "numpy\ndtype",
        "numpy\nndarray",
        "torch\nFloatStorage",
    ):
        yield f"\x80\x02c{name}\n(V{shell}\ntR.".encode("latin1")


@pytest.mark.parametrize("form", ["pt", "old pt", "pdparams"])
def test_no_pickle_is_executed(tmp_path, form):
    canary, path = tmp_path / "canary", tmp_path / "w"
    wrap = {"pt": as_pt, "old pt": as_old_pt, "pdparams": lambda program: program}[form]
    # Importing a module executes it, so no new module may appear.
    programs = [*malicious(canary)]
    canary.unlink(missing_ok=True)
    modules = set(sys.modules)
    for program in programs:
        path.write_bytes(wrap(program))
        message, _ = refusal(path)
        assert message is not None, program
        assert not canary.exists(), program
    assert set(sys.modules) == modules


def test_attributes_of_a_dict_are_ignored(tmp_path):
    # torch stores the versions of layers so; here a string would replace a method.
    path = tmp_path / "w"
    program = b"\x80\x02ccollections\nOrderedDict\n)R}(Vitems\nV1\nV_metadata\n}ub."
    path.write_bytes(as_pt(program))
    assert read(path) == {}


@pytest.mark.filterwarnings("ignore")
def test_pickle_executes_the_programs_above(tmp_path):
    canary = tmp_path / "canary"
    n_run = 0
    for program in malicious(canary):
        try:
            value = pickle.loads(program)
            getattr(value, "close", lambda: None)()
        except Exception:
            pass
        n_run += canary.exists()
        canary.unlink(missing_ok=True)
    assert n_run > 20


def test_the_refused_name_is_in_the_message(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(pickle.dumps({"w": Calls(os.system, "true")}, protocol=2))
    name = repr(f"{os.system.__module__}.system")
    assert_names(refusal(path)[0], path, "Paddle", name, "nothing was executed")


def test_a_view_beyond_its_storage_is_refused(tmp_path):
    path = tmp_path / "w"

    def view(offset, shape, strides):
        storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
        sizes = pickle.dumps((offset, shape, strides), protocol=2)[2:-1]
        # The three values without their tuple.
        assert sizes.endswith(b"q\x02") or sizes[-2:-1] == b"q"
        values = b"".join(pickle.dumps(v, protocol=2)[2:-1] for v in (offset, shape, strides))
        end = b"\x89ccollections\nOrderedDict\n)RtRs."
        return as_pt(
            b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n" + storage + values + end
        )

    path.write_bytes(view(0, (2, 2), (2, 1)))
    assert read(path)["w"].shape == (2, 2)
    for offset, shape, strides in [
        (1, (2, 2), (2, 1)),
        (0, (2, 2), (3, 1)),
        (0, (5,), (1,)),
        (-1, (2,), (1,)),
        (2, (2,), (-1,)),
        (0, (2**40,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (2, 2), (1,)),
        (0, (2**62,), (2**62,)),
        (2**62, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, [2.0], (1,)),
    ]:
        path.write_bytes(view(offset, shape, strides))
        assert refusal(path)[0] is not None, (offset, shape, strides)


def test_endless_and_deep_trees_are_refused(tmp_path):
    path = tmp_path / "w"
    itself = {}
    itself["w"] = itself
    deep = {"w": 1}
    for _ in range(200):
        deep = {"w": deep}
    path.write_bytes(pickle.dumps(itself, protocol=4))
    assert_names(refusal(path)[0], path, "at most", 64)
    path.write_bytes(pickle.dumps({"x": deep}, protocol=4))
    assert_names(refusal(path)[0], path, "at most", 64)
    path.write_bytes(msgpack.packb(deep))
    assert_names(refusal(path)[0], path, "at most", 64)
    path.write_bytes(b"\x81\xa1w" * 100_000)
    assert refusal(path)[0] is not None
    # Nested tuples, whose hash takes 2^60 steps.
    path.write_bytes(b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s.")
    assert_names(refusal(path)[0], path, "name", "string")
    # Nested dicts with each dict at two places: 2^60 entries.
    twice = {}
    for _ in range(60):
        twice = {"a": twice, "b": twice}
    program = pickle.dumps({"w": twice}, protocol=2)
    for content in (program, as_pt(program)):
        path.write_bytes(content)
        assert_names(refusal(path)[0], path, "at most", len(content) + 64)


# ## Claimed sizes
#
# Each file has less than 700 kB. The child process may allocate 96 MiB.
CHILD = """
import resource, sys
from pathlib import Path
from labml_gmlp.weights.formats.files import read
from labml_gmlp.weights.errors import WeightsError
import msgpack, safetensors.torch, torch, zipfile

read(sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 96 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    try:
        read(path)
    except WeightsError as e:
        print(Path(path).name, "refused:", e)
    else:
        print(Path(path).name, "read")
"""


def npy(shape, data=b"", descr="<f4", length=None):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(header) if length is None else length
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", size) + header + data


def zipped(entries, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_size(archive, old, new):
    """Replaces the size that the directory of an archive states for an entry."""
    assert struct.pack("<I", old) in archive
    return archive.replace(struct.pack("<I", old), struct.pack("<I", new))


def safetensors_file(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def bombs():
    gigabytes = 2**33
    flat = b'{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}'
    expanding = zipped({"w.npy": npy("(33554432,)", b"\0" * 2**27)}, zipfile.ZIP_DEFLATED)
    yield "safetensors, length of the header", struct.pack("<Q", 2**27) + b"{" + b" " * 64
    yield "safetensors, shape", safetensors_file(flat % (gigabytes, 4 * gigabytes))
    yield "safetensors, shape against offsets", safetensors_file(flat % (gigabytes, 4), b"\0" * 4)
    yield "npz, shape", zipped({"w.npy": npy(f"({gigabytes},)")})
    yield "npz, shape of zeros", zipped({"w.npy": npy(f"({gigabytes}, 0, {2**64})")})
    yield "npz, header", zipped({"w.npy": npy("(3,)", length=65535)})
    yield "npz, digits", zipped({"w.npy": npy(f"({'9' * 6000},)")})
    yield "npz, text", zipped({"w.npy": npy("(1,)", descr="<U999999999")})
    yield "npz, expanding", expanding
    yield (
        "npz, many expanding entries",
        zipped(
            {f"{i}.npy": npy("(4194304,)", b"\0" * 2**24) for i in range(8)}, zipfile.ZIP_DEFLATED
        ),
    )
    size = len(npy("(33554432,)")) + 2**27
    yield "npz, an expanding entry that claims to be small", with_size(expanding, size, 200)
    yield (
        "npz, a small entry that claims to be large",
        with_size(zipped({"w.npy": npy("(3,)", b"\0" * 12)}), len(npy("(3,)", b"\0" * 12)), 2**31),
    )
    yield (
        "pt, expanding",
        zipped({"a/data.pkl": b"\x80\x02}" + b"N0" * 2**26}, zipfile.ZIP_DEFLATED),
    )
    for name, program in pickle_bombs(gigabytes):
        yield f"pdparams, {name}", program
        yield f"pt, {name}", as_pt(program)
        yield f"old pt, {name}", as_old_pt(program)
    yield "msgpack, list", b"\x81\xa1w\xdd\x7f\xff\xff\xff"
    yield "msgpack, lists in lists", b"\x81\xa1w" + b"\xdd\x00\x00\x3f\xff" * 900 + b"\x00" * 60_000
    yield "msgpack, map", b"\xdf\x7f\xff\xff\xff\xa1w\x01"
    yield "msgpack, text", b"\x81\xdb\x7f\xff\xff\xffw"
    yield "msgpack, bytes", b"\x81\xa1w\xc6\x7f\xff\xff\xff"
    yield "msgpack, extension", b"\x81\xa1w\xc9\x7f\xff\xff\xff\x01"
    for shape in ([gigabytes], [gigabytes, 0], [2**63, 2**63], [0, 2**63], [-1]):
        array = msgpack.packb((shape, "float32", b"")) if max(shape) < 2**64 else b""
        yield f"msgpack, shape {shape}", msgpack.packb({"w": msgpack.ExtType(1, array)})
    inner = msgpack.packb(([2] * 60, "float32", b""))
    yield "msgpack, axes", msgpack.packb({"w": msgpack.ExtType(1, inner)})


def memo_index(program):
    """Returns the memo index of the first array: it follows the first call."""
    operations = [(o.name, argument) for o, argument, _ in pickletools.genops(program)]
    first = [name for name, _ in operations].index("REDUCE")
    assert operations[first + 1][0] == "BINPUT"
    return operations[first + 1][1]


def pickle_bombs(gigabytes):
    yield "memo", b"\x80\x02}r\xff\xff\xff\x7f."
    yield "bytes", b"\x80\x04\x8e" + struct.pack("<Q", gigabytes)
    yield "short bytes", b"\x80\x03B" + struct.pack("<I", 2**31)
    yield "array of bytes", b"\x80\x05\x96" + struct.pack("<Q", gigabytes)
    yield "text", b"\x80\x04\x8d" + struct.pack("<Q", gigabytes)
    yield "frame", b"\x80\x04\x95" + struct.pack("<Q", gigabytes)
    yield "long", b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1)
    yield "digits", b"\x80\x02L" + b"9" * 100_000 + b"L\n."
    for name in (
        "__builtin__\nbytearray",
        "builtins\nbytearray",
        "builtins\nbytes",
        "__builtin__\nbytes",
    ):
        yield name.replace("\n", "."), f"\x80\x02c{name}\nJ".encode("latin1") + b"\0\0\0\x40\x85R."
    for name in ("FloatTensor", "FloatStorage", "Tensor"):
        yield name, f"\x80\x02ctorch\n{name}\nJ".encode("latin1") + b"\0\0\0\x40\x85R."
    array = pickle.dumps({"w": np.zeros(3, dtype="f4")}, protocol=2)
    assert array.count(b"K\x03\x85") == 1
    for shape in (gigabytes, 2**62, 2**70):
        yield (
            f"shape {shape}",
            array.replace(b"K\x03\x85", pickle.dumps(shape, protocol=2)[2:-1] + b"\x85"),
        )
    # numpy would allocate the array in this shape before reading its bytes.
    assert array.count(b"K\x00\x85") == 1
    yield "first shape", array.replace(b"K\x00\x85", b"J\0\0\0\x40\x85")
    array = pickle.dumps({"w": np.zeros(10_000, dtype="f4")}, protocol=3)
    names = b"".join(b"X\x05\0\0\0%05dh%cs" % (i, memo_index(array)) for i in range(9_000))
    yield "one array by many names", array[:-1] + names + b"."
    meta = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n"
    yield "meta", b"\x80\x02" + meta + b"ctorch\nfloat32\nJ\0\0\0\x40\x85K\x01\x85\x89(tR."


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_no_memory_is_allocated_for_a_claimed_size(tmp_path):
    script, fine = tmp_path / "child.py", tmp_path / "fine"
    script.write_text(textwrap.dedent(CHILD))
    file_of("msgpack", fine)
    paths = []
    for name, content in bombs():
        paths.append(tmp_path / name)
        assert len(content) < 700_000, name
        paths[-1].write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, str(script), str(fine), *map(str, paths)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(tuple(p.name for p in paths))] == []
    assert len(lines) == len(paths)
    # The content of these does not depend on the claimed number.
    harmless = [line.removesuffix(" read") for line in lines if "refused" not in line]
    kinds = ("pdparams", "pt", "old pt")
    assert harmless == [
        *(f"{kind}, memo" for kind in kinds),
        *(f"{kind}, first shape" for kind in kinds),
        f"msgpack, shape [{2**33}, 0]",
    ]
    (many,) = [line for line in lines if line.startswith("pdparams, one array by many names")]
    assert_names(many, "tensors", "at most")


# ## Duplicate and hidden names


def test_a_duplicate_name_is_refused(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(b"\x80\x02}(X\x01\0\0\0wK\x01X\x01\0\0\0wK\x02u.")
    assert_names(refusal(path)[0], path, "two entries", "'w'")
    path.write_bytes(b"\x82\xa1w\x01\xa1w\x02")
    assert_names(refusal(path)[0], path, "two entries")
    path.write_bytes(b"\x81\xa1w\x81\xa1v\x01".replace(b"\x81\xa1w", b"\x82\xa3w/v\x02\xa1w", 1))
    assert_names(refusal(path)[0], path, "two entries", "'w/v'")


def test_an_archive_whose_directory_hides_entries_is_refused(tmp_path):
    path = tmp_path / "w"
    whole = file_of("npz", path)
    with zipfile.ZipFile(path) as archive:
        n, start = len(archive.infolist()), archive.start_dir
    end = whole.rindex(b"PK\x05\x06")
    # The size of the directory, without its last entry.
    last = whole.rindex(b"PK\x01\x02")
    for size, count in [(last - start, n), (0, n), (0, 0)]:
        content = bytearray(whole)
        content[end + 8 : end + 16] = struct.pack("<HHI", count, count, size)
        # zipfile takes the bytes before the directory for another file in front.
        content[end + 16 : end + 20] = struct.pack("<I", start)
        kept = bytes(content[: start + size] + content[end:])
        path.write_bytes(kept)
        assert_names(refusal(path)[0], path, "directory", f"{size and n - 1} entries")
