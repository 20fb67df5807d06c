"""Bad input ends a command before training: one sentence, status 2, and no file changed."""

import hashlib
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.engine.checkpoint import load_checkpoint, save_checkpoint
from tests.support.helpers import assert_names
from tests.support.small_runs import copy_of, files, quick, small, start_main, text_file, words

Disk = namedtuple("Disk", "total used free")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert quick(*small(text_file(folder), folder / "run", steps=4, evaluate_every=2)) == 0
    return folder / "run"


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The error of a refused command, which must not change `folder`."""
    capsys.readouterr()
    before = files(folder)
    assert quick(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert files(folder) == before
    line = re.fullmatch(
        r"(?:python -m experiments\.autoregressive.*?: )?error: (.+)\n", printed.err
    )
    assert line, printed.err
    return line[1]


def refused_training(tmp_path: Path, capsys: Any, *flags: str, **changes: object) -> str:
    """The error of a small run with these flags; its other settings are valid."""
    corpus = text_file(tmp_path)
    return refusal(tmp_path, capsys, *small(corpus, tmp_path / "new", **changes), *flags)


# ## Texts


@pytest.mark.parametrize(
    "name", ["shakespeare", "Python", "no/such/file.txt", "a\nb", "\x00", "x" * 300]
)
def test_an_unknown_corpus_is_refused(name, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, corpus=name)
    assert_names(message, "corpus", "python", "tiny_shakespeare", repr(name))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["empty", "0 bytes"]),
        (b"\xffabc", ["UTF-8", "0xFF", "offset 0"]),
        # A letter of two bytes: the offset counts bytes, not characters.
        ("é".encode() * 50 + b"\x80", ["UTF-8", "0x80", "offset 100"]),
        (b"x" * 999 + b"\xc3", ["UTF-8", "0xC3", "offset 999"]),
        ("no".encode("utf-16"), ["UTF-8", "0xFF", "offset 0"]),
        # A surrogate, which UTF-8 does not allow.
        (b"ab\xed\xa0\x80", ["UTF-8", "0xED", "offset 2"]),
        (b"abcdefghij", [32, "seq_len=16", "9 and 1"]),
        (words(34).encode(), [32, "seq_len=16", "31 and 3"]),
    ],
    ids=["empty", "byte", "offset", "cut", "utf-16", "surrogate", "short", "a little short"],
)
def test_an_unusable_text_is_refused(content, parts, tmp_path, capsys):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert_names(refused_training(tmp_path, capsys, corpus=path), "corpus", *parts, path)


def test_a_text_of_unknown_characters_only_is_refused(tmp_path, capsys):
    path = tmp_path / "bad.txt"
    path.write_text("\ufffd" * 400, encoding="utf-8")
    assert refused_training(tmp_path, capsys, corpus=path).startswith("corpus must ")


def test_a_folder_is_not_a_corpus(tmp_path, capsys):
    message = refused_training(tmp_path, capsys, corpus=tmp_path)
    assert_names(message, "corpus", "folder", tmp_path)


def test_a_context_longer_than_the_text_is_refused(tmp_path, capsys):
    message = refused_training(tmp_path, capsys, seq_len=1801)
    assert_names(message, "corpus", 3602, "seq_len=1801", "3600 and 400", tmp_path / "text.txt")


def test_a_damaged_download_is_refused(tmp_path, capsys):
    (tmp_path / "tiny_shakespeare.txt").write_bytes(b"First Citizen")
    message = refused_training(tmp_path, capsys, f"--data={tmp_path}", corpus="tiny_shakespeare")
    assert hashlib.sha256(b"First Citizen").hexdigest() in message
    assert str(tmp_path / "tiny_shakespeare.txt") in message


# ## Numbers

SIZES = [
    *("d_model", "d_ffn", "n_layers", "n_heads", "d_attn", "kernel", "seq_len", "n_tokens"),
    *("batch", "steps", "evaluate_every", "save_every", "log_every", "devices", "accumulate"),
]


@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_a_positive_integer(name, tmp_path, capsys):
    for value in (0, -1):
        message = refused_training(tmp_path, capsys, **{name: value})
        assert_names(message, name, "above 0", value)
    message = refused_training(tmp_path, capsys, **{name: "1.5"})
    assert_names(message, name, "an integer", "'1.5'")


@pytest.mark.parametrize("value", ["1e3", "many", "", "0x10", "nan"])
def test_text_that_is_not_an_integer_is_refused(value, tmp_path, capsys):
    for name in ("seq_len", "warmup", "seed"):
        message = refused_training(tmp_path, capsys, **{name: value})
        assert_names(message, name, "an integer", repr(value))


@pytest.mark.parametrize("name", ["lr", "clip", "weight_decay", "beta1", "beta2", "eps", "ema"])
def test_a_rate_is_a_number_in_its_range(name, tmp_path, capsys):
    for value in ("nan", "inf", "-inf", "-0.5"):
        message = refused_training(tmp_path, capsys, **{name: value})
        assert_names(message, name, value)
        # The rule must be one that the value breaks.
        assert not (value == "inf" and message.startswith(f"{name} must be at least"))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"d_ffn": 33}, ["d_ffn", "even", 33]),
        ({"layer": "transformer", "n_heads": 3}, ["n_heads", "d_model=16", 3]),
        ({"layer": "rnn"}, ["layer", "gmlp", "transformer", "'rnn'"]),
        ({"layer": ""}, ["layer", "''"]),
        ({"dropout": 1}, ["dropout", "[0, 1)", 1.0]),
        ({"encoder": "keras"}, ["encoder", "labml_gmlp or labml_nn", "'keras'"]),
        (
            {"encoder": "labml_nn", "strategy": "fsdp"},
            ["strategy", "ddp", "encoder='labml_nn'", "'fsdp'"],
        ),
        ({"vocabulary": "words"}, ["vocabulary", "characters, bytes or bpe", "'words'"]),
        (
            {"encoder": "labml_nn", "checkpoint_layers": True},
            ["checkpoint_layers", "encoder='labml_nn'", True],
        ),
        ({"precision": "half"}, ["precision", "auto, float32 or bf16", "'half'"]),
        ({"strategy": "dp"}, ["strategy", "ddp or fsdp", "'dp'"]),
        ({"accumulate": 3}, ["batch", "multiple of 3", 4]),
        ({"warmup": 12}, ["warmup", "[0, steps=12)", 12]),
        ({"steps": 2}, ["warmup", "[0, steps=2)", 2]),
        ({"seed": 2**31}, ["seed", "[0, 2**31)", 2**31]),
        ({"lr": "fast"}, ["lr", "a number", "'fast'"]),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, parts, tmp_path, capsys):
    assert_names(refused_training(tmp_path, capsys, **changes), *parts)


@pytest.mark.parametrize(
    "flags",
    [["--colour=red"], ["--step=5"], ["there"], ["--labml=yes"], ["--seed"], ["--layer"]],
)
def test_unknown_and_incomplete_flags_are_refused(flags, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, *flags)
    assert flags[0].partition("=")[0] in message
    assert_names(message, "--help")


# `meta` exists by name only and holds no values.
@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta", "", "cpu cpu"])
def test_an_unavailable_device_is_refused(name, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, f"--device={name}")
    assert_names(message, "device", repr(name))


# ## The folder of the run


def test_a_run_does_not_overwrite_another(finished, tmp_path, capsys):
    run = copy_of(finished, tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for there in (run, tmp_path / "file", tmp_path / "empty"):
        message = refused_training(tmp_path, capsys, f"--run={there}")
        assert_names(message, "run", "new folder", there, f"--resume {there}")


def test_a_folder_that_cannot_be_created_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "inside"
    message = refused_training(tmp_path, capsys, f"--run={inside}")
    assert_names(message, "run", inside)


def test_a_folder_without_write_permission_is_refused(tmp_path, capsys, monkeypatch):
    # Root may write anywhere, so the error is simulated; the folder of the tokens stays writable.
    make = Path.mkdir

    def mkdir(path: Path, *arguments: object, **options: object) -> None:
        if path.is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refused_training(tmp_path, capsys)
    assert_names(message, "run", tmp_path / "new", "Permission denied")


@pytest.mark.parametrize(("ema", "free"), [(0, 0), (0, 126_000), (0.5, 168_000)])
def test_a_disk_without_room_for_the_checkpoints_is_refused(
    ema, free, tmp_path, capsys, monkeypatch
):
    # Four checkpoints of 2,640 parameters of 4 bytes, AdamW's two averages of each, and perhaps an
    # average of the weights: 126,720 or 168,960 bytes.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**9, 10**9 - free, free))
    message = refused_training(tmp_path, capsys, ema=ema)
    parts = (f"{0.2 if ema else 0.1} MB", f"{free / 1e6:.1f} MB", tmp_path)
    assert_names(message, "run", "free", *parts)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_resumed_run_needs_room_only_for_the_missing_checkpoints(
    missing, finished, tmp_path, capsys, monkeypatch
):
    run = copy_of(finished, tmp_path)
    for name in ("previous.pt",)[:missing]:
        (run / name).unlink()
    needed = (1 + missing) * 31_680
    asked = []

    def disk_usage(path: Path) -> Disk:
        asked.append(path)
        return Disk(10**9, 10**9 - free, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    free = needed - 1
    message = refusal(tmp_path, capsys, "--no-labml", f"--resume={run}")
    assert_names(message, "run", f"{needed / 1e6:.1f} MB", "free", run)
    free = needed
    assert quick("--no-labml", f"--resume={run}") == 0
    # The folder itself may be the mount point of a disk.
    assert asked == [run, run]


def test_the_disk_that_is_checked_is_that_of_the_new_run(tmp_path, capsys, monkeypatch):
    asked: list[Path] = []

    def disk_usage(path: Path) -> Disk:
        asked.append(path)
        return Disk(0, 0, 0)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    refused_training(tmp_path, capsys, f"--run={tmp_path / 'not' / 'yet' / 'there'}")
    assert asked == [tmp_path]


def test_a_run_cannot_be_resumed_into_another_folder(finished, tmp_path, capsys):
    message = refusal(tmp_path, capsys, f"--resume={finished}", f"--run={tmp_path / 'new'}")
    assert_names(message, "run", "resume", tmp_path / "new")


@pytest.mark.parametrize("arguments", [["--resume"], ["sample"]])
def test_a_folder_that_is_not_a_run_can_be_neither_resumed_nor_sampled(arguments, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "file", "empty"):
        message = refusal(tmp_path, capsys, *arguments, tmp_path / name)
        assert_names(message, "run", tmp_path / name, "settings.json")


# ## Checkpoints

Damage = Callable[[Path], object]


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this code ran",)


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Damage] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "altered": alter,
    "empty": lambda path: path.write_bytes(b""),
    "of another program": lambda path: torch.save({"model": {}}, path),
    "text": lambda path: path.write_text("weights\n"),
    "a folder": replace_by_folder,
    "a checkpoint without a run": lambda path: save_checkpoint(path, {"step": 1}),
    "code": lambda path: save_checkpoint(path, {**load_checkpoint(path), "best": Code()}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_with_only_damaged_checkpoints_is_refused(damage, finished, tmp_path, capsys):
    run = copy_of(finished, tmp_path)
    for name in ("previous.pt", "last.pt"):
        DAMAGES[damage](run / name)
    assert_names(refusal(tmp_path, capsys, "--no-labml", f"--resume={run}"), run / "last.pt")
    shutil.rmtree(run / "previous.pt") if damage == "a folder" else (run / "previous.pt").unlink()
    assert_names(refusal(tmp_path, capsys, "--no-labml", f"--resume={run}"), run / "last.pt")


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_damaged_best_checkpoint_is_neither_resumed_nor_sampled(
    damage, finished, tmp_path, capsys
):
    run = copy_of(finished, tmp_path)
    {**DAMAGES, "missing": Path.unlink}[damage](run / "best.pt")
    assert_names(refusal(tmp_path, capsys, "--no-labml", f"--resume={run}"), run / "best.pt")
    assert_names(refused_sample(run, capsys), run / "best.pt")


# ## Sampling


def refused_sample(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return refusal(run, capsys, "sample", run, *arguments)


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("--prompt=the Café", ["'C' (U+0043)", "'f' (U+0066)", "'\xe9' (U+00E9)"]),
        ("--prompt=\udcff\x1b", ["'\\x1b' (U+001B)", "'\\udcff' (U+DCFF)"]),
        ("--temperature=-0.5", ["at least 0", -0.5]),
        ("--temperature=nan", ["at least 0", "nan"]),
        ("--temperature=inf", ["finite", "inf"]),
        ("--temperature=hot", ["a number", "'hot'"]),
        ("--top-k=0", ["positive", 0]),
        ("--top-k=-2", ["positive", -2]),
        ("--characters=-1", ["at least 0", -1]),
        ("--characters=few", ["an integer", "'few'"]),
        ("--colour=red", ["--colour=red"]),
        (f"--seed={10**30}", [10**30]),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(flag, parts, finished, capsys):
    name = flag[2:].partition("=")[0].replace("-", "_")
    assert_names(refused_sample(finished, capsys, flag), name, *parts)


# ## The command itself


@pytest.mark.skipif(os.name != "posix", reason="needs a fork server")
def test_the_command_itself_ends_with_status_2_and_one_line(tmp_path):
    folder, out, err = (tmp_path / name for name in ("empty", "out", "err"))
    folder.mkdir()
    arguments = ["--corpus=nowhere.txt", f"--run={folder / 'run'}"]
    process = start_main(arguments, out, err)
    process.join(timeout=60)
    assert (process.exitcode, out.read_text()) == (2, "")
    assert_names(err.read_text().rstrip("\n"), "error", "corpus", "'nowhere.txt'")
    assert err.read_text().count("\n") == 1
    assert files(folder) == {}
