"""What cannot work stops before training: one sentence, status 2, and nothing half-written."""

import hashlib
import json
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
from tests.support.small_runs import command, copy_of, experiment, files, small, text_file, words

Disk = namedtuple("Disk", "total used free")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert experiment(*small(text_file(folder), folder / "run", steps=4, evaluate_every=2)) == 0
    return folder / "run"


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line of a command that is refused; what lies in `folder` is left as it was."""
    capsys.readouterr()
    before = files(folder)
    assert experiment(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert files(folder) == before
    line = re.fullmatch(
        r"(?:python -m experiments\.autoregressive.*?: )?error: (.+)\n", printed.err
    )
    assert line, printed.err
    return line[1].removesuffix(" (--help lists the arguments)")


def refused_training(tmp_path: Path, capsys: Any, *flags: str, **changes: object) -> str:
    """The line of a small run that all else is well with."""
    corpus = text_file(tmp_path)
    return refusal(tmp_path, capsys, *small(corpus, tmp_path / "new", **changes), *flags)


# ## Texts


@pytest.mark.parametrize("name", ["shakespeare", "Python", "no/such/file.txt", "a\nb", "\x00"])
def test_an_unknown_corpus_is_refused(name, tmp_path, capsys):
    assert refused_training(tmp_path, capsys, corpus=name) == (
        f"corpus must be python, tiny_shakespeare or the path of a text file, got {name!r}"
    )


def test_a_name_that_is_too_long_for_a_file_is_an_unknown_corpus(tmp_path, capsys):
    message = refused_training(tmp_path, capsys, corpus="x" * 300)
    assert message.startswith("corpus must be ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "corpus must not be empty, got {path} with 0 bytes"),
        (b"\xffabc", "corpus must be UTF-8 text, got byte 0xFF at offset 0 of {path}"),
        # A letter of two bytes shows that bytes are counted, not characters.
        (
            "é".encode() * 50 + b"\x80",
            "corpus must be UTF-8 text, got byte 0x80 at offset 100 of {path}",
        ),
        (b"x" * 999 + b"\xc3", "corpus must be UTF-8 text, got byte 0xC3 at offset 999 of {path}"),
        ("no".encode("utf-16"), "corpus must be UTF-8 text, got byte 0xFF at offset 0 of {path}"),
        # A surrogate, which UTF-8 does not allow.
        (b"ab\xed\xa0\x80", "corpus must be UTF-8 text, got byte 0xED at offset 2 of {path}"),
        (
            b"abcdefghij",
            "corpus must have at least 32 characters for training with seq_len=16 and one for "
            "validation, got 9 and 1 in {path}",
        ),
        (
            words(34).encode(),
            "corpus must have at least 32 characters for training with seq_len=16 and one for "
            "validation, got 31 and 3 in {path}",
        ),
    ],
    ids=["empty", "byte", "offset", "cut", "utf-16", "surrogate", "short", "a little short"],
)
def test_a_text_that_will_not_do_is_refused(content, message, tmp_path, capsys):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert refused_training(tmp_path, capsys, corpus=path) == message.format(path=path)


def test_a_text_of_unknown_characters_alone_has_nothing_to_learn(tmp_path, capsys):
    path = tmp_path / "bad.txt"
    path.write_text("\ufffd" * 400, encoding="utf-8")
    assert refused_training(tmp_path, capsys, corpus=path).startswith("corpus must ")


def test_a_folder_is_no_corpus(tmp_path, capsys):
    message = refused_training(tmp_path, capsys, corpus=tmp_path)
    assert message == f"corpus must be a file, got the folder {tmp_path}"


def test_a_context_longer_than_the_text_is_refused(tmp_path, capsys):
    assert refused_training(tmp_path, capsys, seq_len=1801) == (
        "corpus must have at least 3602 characters for training with seq_len=1801 and one for "
        f"validation, got 3600 and 400 in {tmp_path / 'text.txt'}"
    )


def test_a_damaged_download_is_refused(tmp_path, capsys):
    (tmp_path / "tiny_shakespeare.txt").write_bytes(b"First Citizen")
    message = refused_training(tmp_path, capsys, f"--data={tmp_path}", corpus="tiny_shakespeare")
    assert hashlib.sha256(b"First Citizen").hexdigest() in message
    assert str(tmp_path / "tiny_shakespeare.txt") in message


# ## Numbers

ALL_LAYERS = "gmlp, amlp, toeplitz, convolution, linear, additive, multiplicative or transformer"
SIZES = [
    *("d_model", "d_ffn", "n_layers", "n_heads", "d_attn", "kernel", "seq_len", "n_tokens"),
    *("batch", "steps", "evaluate_every", "save_every", "log_every", "devices", "accumulate"),
]


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_at_least_one(name, value, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, **{name: value})
    assert message == f"{name} must be above 0, got {value}"


@pytest.mark.parametrize("value", ["1.5", "1e3", "many", "", "0x10", "nan"])
@pytest.mark.parametrize("name", [*SIZES, "warmup", "seed"])
def test_a_size_is_a_whole_number(name, value, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, **{name: value})
    assert message == f"argument --{name.replace('_', '-')}: invalid int value: {value!r}"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.5"])
@pytest.mark.parametrize("name", ["lr", "clip", "weight_decay", "beta1", "beta2", "eps", "ema"])
def test_a_rate_is_a_number_in_its_range(name, value, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, **{name: value})
    assert re.fullmatch(rf"{name} must (be|lie) .+, got {re.escape(value)}", message)
    # No rule that the value keeps.
    assert not (value == "inf" and message.startswith(f"{name} must be at least"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_ffn": 33}, "d_ffn must be even to split Z into Z1 and Z2, got 33"),
        (
            {"layer": "transformer", "n_heads": 3},
            "n_heads must divide d_model=16, got 3",
        ),
        ({"layer": "rnn"}, f"layer must be {ALL_LAYERS}, got 'rnn'"),
        ({"layer": ""}, f"layer must be {ALL_LAYERS}, got ''"),
        ({"dropout": 1}, "dropout must lie in [0, 1), got 1.0"),
        ({"encoder": "keras"}, "encoder must be labml_gmlp or labml_nn, got 'keras'"),
        (
            {"encoder": "labml_nn", "strategy": "fsdp"},
            "strategy must be ddp with encoder='labml_nn', got 'fsdp'",
        ),
        ({"vocabulary": "words"}, "vocabulary must be characters, bytes or bpe, got 'words'"),
        (
            {"encoder": "labml_nn", "checkpoint_layers": True},
            "checkpoint_layers must be false with encoder='labml_nn', got True",
        ),
        ({"precision": "half"}, "precision must be auto, float32 or bf16, got 'half'"),
        ({"strategy": "dp"}, "strategy must be ddp or fsdp, got 'dp'"),
        ({"devices": 0}, "devices must be above 0, got 0"),
        (
            {"accumulate": 3},
            "batch must be a multiple of 3 for 1 processes that accumulate 3 micro-batches, got 4",
        ),
        ({"warmup": 12}, "warmup must lie in [0, steps=12), got 12"),
        ({"steps": 2}, "warmup must lie in [0, steps=2), got 2"),
        ({"seed": 2**31}, "seed must lie in [0, 2**31), got 2147483648"),
        ({"lr": "fast"}, "argument --lr: invalid float value: 'fast'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message, tmp_path, capsys):
    assert refused_training(tmp_path, capsys, **changes) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--colour=red"], "unrecognized arguments: --colour=red"),
        (["--step=5"], "unrecognized arguments: --step=5"),
        (["there"], "unrecognized arguments: there"),
        (["--labml=yes"], "argument --labml/--no-labml: ignored explicit argument 'yes'"),
        (["--seed"], "argument --seed: expected one argument"),
        (["--layer"], "argument --layer: expected one argument"),
    ],
)
def test_unknown_and_incomplete_flags_are_refused(flags, message, tmp_path, capsys):
    assert refused_training(tmp_path, capsys, *flags) == message


# A device that exists by name only has no numbers to train with.
@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta", "", "cpu cpu"])
def test_a_device_that_is_not_there_is_refused(name, tmp_path, capsys):
    message = refused_training(tmp_path, capsys, f"--device={name}")
    assert message.startswith("device must be one that torch has here, got ")
    assert repr(name) in message


# ## The folder of the run


def test_a_run_does_not_overwrite_another(finished, tmp_path, capsys):
    run = copy_of(finished, tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for there in (run, tmp_path / "file", tmp_path / "empty"):
        assert refused_training(tmp_path, capsys, f"--run={there}") == (
            f"run must be a new folder, got {there}, which exists; "
            f"--resume {there} goes on with a run"
        )


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "inside"
    message = refused_training(tmp_path, capsys, f"--run={inside}")
    assert message.startswith("run must ")
    assert str(inside) in message


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid"), reason="needs permissions")
def test_a_folder_that_must_not_be_written_to_is_refused(tmp_path, capsys, monkeypatch):
    # Permissions do not bind root, so the system's answer is made up.
    def mkdir(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refused_training(tmp_path, capsys)
    assert str(tmp_path / "new") in message
    assert "Permission denied" in message


@pytest.mark.parametrize(("ema", "free"), [(0, 0), (0, 1_000), (0, 126_000), (0.5, 168_000)])
def test_a_disk_without_room_for_the_checkpoints_is_refused(
    ema, free, finished, tmp_path, capsys, monkeypatch
):
    # 2,640 parameters of 4 bytes with AdamW's two averages of each, and perhaps their own, four
    # times: the last, the one before, the best, and one that is written.
    assert json.loads((finished / "result.json").read_text())["parameters"] * 4 * 12 == 126_720
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**9, 10**9 - free, free))
    message = refused_training(tmp_path, capsys, ema=ema)
    assert message == (
        f"run must have {0.2 if ema else 0.1} MB free on its disk for checkpoints, "
        f"got {free / 1e6:.1f} MB in {tmp_path}"
    )


@pytest.mark.parametrize("missing", [0, 1])
def test_a_resumed_run_needs_room_for_the_checkpoints_that_it_lacks(
    missing, finished, tmp_path, capsys, monkeypatch
):
    run = copy_of(finished, tmp_path)
    for name in ("previous.pt",)[:missing]:
        (run / name).unlink()
    needed = (1 + missing) * 31_680
    for free in (needed - 1, needed):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, f=free: Disk(10**9, 10**9 - f, f))
        if free < needed:
            message = f"run must have {needed / 1e6:.1f} MB free on its disk for checkpoints, "
            assert refusal(tmp_path, capsys, f"--resume={run}").startswith(message)
        else:
            assert experiment("--no-labml", f"--resume={run}") == 0


def test_room_for_the_checkpoints_is_looked_for_on_the_disk_of_the_run(
    tmp_path, capsys, monkeypatch
):
    asked: list[Path] = []

    def disk_usage(path: Path) -> Disk:
        asked.append(Path(path))
        return Disk(0, 0, 0)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    refused_training(tmp_path, capsys, f"--run={tmp_path / 'not' / 'yet' / 'there'}")
    assert asked == [tmp_path]
    # A folder that exists may be where a disk is mounted.
    run = tmp_path / "run"
    monkeypatch.undo()
    assert experiment(*small(text_file(tmp_path), run, steps=4, warmup=0)) == 0
    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    refusal(tmp_path, capsys, f"--resume={run}")
    assert asked[1:] == [run]


def test_one_cannot_resume_into_another_folder(finished, tmp_path, capsys):
    message = refusal(tmp_path, capsys, f"--resume={finished}", f"--run={tmp_path / 'new'}")
    assert message == f"run must be left out beside resume, got {tmp_path / 'new'}"


@pytest.mark.parametrize("arguments", [["--resume"], ["sample"]])
def test_what_is_no_run_can_be_neither_resumed_nor_sampled(arguments, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "file", "empty"):
        message = refusal(tmp_path, capsys, *arguments, tmp_path / name)
        assert message.startswith("run must be the folder of an earlier run, got ")
        assert f"{tmp_path / name} without settings.json" in message


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
    "a text": lambda path: path.write_text("weights\n"),
    "a folder": replace_by_folder,
    "a checkpoint without a run": lambda path: save_checkpoint(path, {"step": 1}),
    "code": lambda path: save_checkpoint(path, {**load_checkpoint(path), "best": Code()}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_with_damaged_checkpoints_alone_is_not_resumed(damage, finished, tmp_path, capsys):
    run = copy_of(finished, tmp_path)
    for name in ("previous.pt", "last.pt"):
        DAMAGES[damage](run / name)
    assert str(run / "last.pt") in refusal(tmp_path, capsys, "--no-labml", f"--resume={run}")
    shutil.rmtree(run / "previous.pt") if damage == "a folder" else (run / "previous.pt").unlink()
    assert str(run / "last.pt") in refusal(tmp_path, capsys, "--no-labml", f"--resume={run}")


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_damaged_best_checkpoint_is_found_before_training_goes_on(
    damage, finished, tmp_path, capsys
):
    run = copy_of(finished, tmp_path)
    {**DAMAGES, "missing": Path.unlink}[damage](run / "best.pt")
    assert str(run / "best.pt") in refusal(tmp_path, capsys, "--no-labml", f"--resume={run}")


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_damaged_best_checkpoint_draws_no_sample(damage, finished, tmp_path, capsys):
    run = copy_of(finished, tmp_path)
    {**DAMAGES, "missing": Path.unlink}[damage](run / "best.pt")
    assert str(run / "best.pt") in refused_sample(run, capsys)


# ## Sampling


def refused_sample(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return refusal(run, capsys, "sample", run, *arguments)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--prompt=the Café",
            "prompt must use characters of the training text only, "
            "got 'C' (U+0043), 'f' (U+0066), '\xe9' (U+00E9)",
        ),
        (
            "--prompt=\udcff\x1b",
            "prompt must use characters of the training text only, "
            "got '\\x1b' (U+001B), '\\udcff' (U+DCFF)",
        ),
        ("--temperature=-0.5", "temperature must be finite and at least 0, got -0.5"),
        ("--temperature=nan", "temperature must be finite and at least 0, got nan"),
        ("--temperature=inf", "temperature must be finite and at least 0, got inf"),
        ("--temperature=hot", "argument --temperature: invalid float value: 'hot'"),
        ("--top-k=0", "top_k must be a positive integer, got 0"),
        ("--top-k=-2", "top_k must be a positive integer, got -2"),
        ("--characters=-1", "characters must be at least 0, got -1"),
        ("--characters=few", "argument --characters: invalid int value: 'few'"),
        ("--colour=red", "unrecognized arguments: --colour=red"),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(flag, message, finished, capsys):
    assert refused_sample(finished, capsys, flag) == message


def test_a_seed_that_no_generator_takes_is_refused(finished, capsys):
    message = refused_sample(finished, capsys, f"--seed={10**30}")
    assert message.startswith("seed must ")
    assert str(10**30) in message


# ## As it is typed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus=nowhere.txt", "--run={run}"], "corpus must be .+, got 'nowhere.txt'"),
        (["sample", "{run}"], "run must be the folder of an earlier run, got {run} .+"),
    ],
)
def test_the_command_itself_ends_with_status_2_and_one_line(arguments, message, tmp_path):
    run = tmp_path / "run"
    done = command(*(argument.format(run=run) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: {message.format(run=re.escape(str(run)))}\n", done.stderr)
    assert files(tmp_path) == {}
