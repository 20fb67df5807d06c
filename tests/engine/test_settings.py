"""Settings, their types, and the flags and help texts made from them."""

import dataclasses
import doctest
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest
import torch

from experiments.alignment import AlignmentSettings
from experiments.autoregressive import DEFAULTS, EXPERIMENT
from experiments.autoregressive import AutoregressiveSettings as Settings
from experiments.autoregressive import SampleSettings as Sample
from experiments.digits import DigitsSettings
from experiments.engine import experiment as contract
from experiments.engine import launch, order
from experiments.engine.command import read_flags
from experiments.engine.devices import PRECISIONS, STRATEGIES
from experiments.engine.experiment import Training
from experiments.engine.launch import KEPT_ON_RESUME, Launch
from experiments.engine.settings import types
from experiments.engine.settings.errors import UserError, user_errors
from experiments.engine.settings.flags import (
    Parser,
    add_flags,
    field_help,
    field_units,
    given_values,
)
from experiments.engine.settings.types import check_choices, field_types, from_dict, to_dict
from experiments.images.settings import ImageNetSettings
from experiments.images.validate_command import ValidateSettings
from experiments.masked import MaskedSettings
from tests.support.helpers import assert_names, assert_raises
from tests.support.small_runs import experiment

CLASSES = [Settings, Training, Launch, Sample]
# The settings with a `Literal` field, and the arguments that they need.
WITH_CHOICES: dict[type, dict[str, Any]] = {
    Settings: {},
    MaskedSettings: {},
    AlignmentSettings: {},
    DigitsSettings: {},
    ImageNetSettings: {},
    Launch: {},
    ValidateSettings: {"run": Path("runs/a")},
}


@dataclass(frozen=True)
class Example:
    # Where to write.
    place: str
    # A fraction of 1,
    # in `units` of $x$.
    size: int = 3  # tokens
    # Lower limit.
    low: float = 0.5
    # Upper limit.
    high: float = 1.5
    # Limit that may be absent.
    maybe: int | None = None
    # Folder to read.
    folder: Path = Path("data")
    # One of two.
    kind: Literal["a", "b"] = "a"
    # Say it aloud.
    loud: bool = True


def parser_of(cls: type, defaults: object = None) -> Parser:
    parser = Parser("program", "[--flag value ...]")
    add_flags(parser, cls, defaults)
    return parser


def parsed(cls: type, line: list[str]) -> dict[str, Any]:
    return given_values(cls, parser_of(cls).parse_args(line))


def help_of(capsys: pytest.CaptureFixture[str], defaults: object = None) -> str:
    with pytest.raises(SystemExit, match=r"^0$"):
        parser_of(Example, defaults).parse_args(["--help"])
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def shown_defaults(text: str) -> dict[str, str]:
    """From `--help`: the default of each flag that shows one."""
    entries = re.split(r"\n  (?=--)", text)[1:]
    return {
        re.match(r"--([\w-]+)", entry)[1].replace("-", "_"): found[1]
        for entry in entries
        if (found := re.search(r"\(default:\s+([^\s)]+)[^)]*\)", entry))
    }


# ## Flags and help


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_has_a_help_text_without_markup(cls):
    texts = field_help(cls)
    assert list(texts) == [field.name for field in dataclasses.fields(cls)]
    for text in texts.values():
        assert re.fullmatch(r"[^`$\\\n]{10,}", text)


def test_a_field_without_a_comment_is_an_error():
    assert_raises(
        lambda: field_help(dataclasses.make_dataclass("Bare", [("size", int, 3)])),
        KeyError,
        "size",
    )


def test_help_is_the_comment_above_a_field_and_the_unit_is_the_comment_after_it():
    assert field_help(Example)["size"] == "A fraction of 1, in units of x."
    assert field_units(Example) == {"size": "tokens"}


def test_a_field_is_a_flag_of_its_type_and_one_without_a_default_is_positional():
    line = ["here", "--size", "7", "--low", "2", "--maybe", "5", "--no-loud", "--kind=b"]
    found = parsed(Example, [*line, "--folder=there"])
    assert found == {
        "place": "here",
        "size": 7,
        "low": 2.0,
        "maybe": 5,
        "folder": Path("there"),
        "kind": "b",
        "loud": False,
    }
    assert type(found["low"]) is float


def test_a_flag_that_is_not_given_is_absent_even_if_its_default_is_known():
    assert parsed(Training, []) == {}
    assert parsed(Training, ["--steps", str(Training.steps)]) == {"steps": Training.steps}


def test_given_values_are_those_of_one_class():
    parser = parser_of(Training)
    add_flags(parser, Launch)
    namespace = parser.parse_args(["--steps", "5", "--device", "cpu"])
    assert given_values(Training, namespace) == {"steps": 5}
    assert given_values(Launch, namespace) == {"device": "cpu"}


@pytest.mark.parametrize(("defaults", "size"), [(None, "3 tokens"), (Example("x", 9), "9 tokens")])
def test_the_help_shows_choices_units_and_the_defaults_of_the_instance(defaults, size, capsys):
    text = help_of(capsys, defaults)
    assert f"(default: {size})" in text
    assert "--kind {a,b} One of two. (default: a)" in text
    assert "--maybe INT Limit that may be absent. --folder" in text


@pytest.mark.parametrize("layer", DEFAULTS)
@pytest.mark.parametrize("given_as", ["--layer {}", "--layer={}"])
def test_the_help_shows_the_defaults_of_the_layer_asked_for(layer, given_as, capsys):
    assert experiment(*given_as.format(layer).split(), "--help") == 0
    shown = shown_defaults(capsys.readouterr().out)
    want = {name: str(value) for name, value in to_dict(*DEFAULTS[layer]).items()}
    assert {name: shown[name] for name in want} == want


def test_the_help_groups_flags_by_their_purpose(capsys):
    assert experiment("--help") == 0
    groups = re.findall(r"^(\w+):$", capsys.readouterr().out, re.MULTILINE)
    assert groups == ["options", "autoregressive", "training", "launch"]


def test_without_a_layer_the_help_shows_the_defaults_of_gmlp(capsys):
    assert experiment("--help") == 0
    assert shown_defaults(capsys.readouterr().out)["d_ffn"] == str(Settings().d_ffn)


def test_the_layers_differ_in_their_other_defaults():
    assert DEFAULTS["gmlp"] == (Settings(), Training())
    assert list(DEFAULTS) == [settings.layer for settings, _ in DEFAULTS.values()]
    differing = {
        layer: {
            name for name, v in to_dict(*values).items() if v != to_dict(*DEFAULTS["gmlp"])[name]
        }
        for layer, values in DEFAULTS.items()
    }
    assert {"layer", "d_ffn", "n_layers", "lr"} <= differing["transformer"]
    # The same data, in the same order, for the same number of steps.
    common = {"corpus", "vocabulary", "seq_len", "batch", "steps", "seed", "evaluate_every", "ema"}
    assert not any(names & common for names in differing.values())


@pytest.mark.parametrize(
    ("line", "argument"),
    [
        ("--size", "--size"),
        ("--siz 4", "--siz"),
        ("--colour 4", "--colour"),
        ("there", "there"),
    ],
)
def test_an_unknown_or_incomplete_flag_exits_with_status_2_and_one_line(line, argument, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        parser_of(Example).parse_args(["here", *line.split()])
    printed = capsys.readouterr()
    assert_names(printed.err.rstrip("\n"), "program", "error", argument, "--help")
    assert printed.out == ""


# ## Types

INTEGER, NUMBER, TEXT, BOOL = "an integer", "a number", "text", "true or false"


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("size", "three", INTEGER),
        ("size", "1e3", INTEGER),
        ("size", "", INTEGER),
        ("low", "high", NUMBER),
        ("maybe", "None", INTEGER),
        ("kind", "c", "a or b"),
    ],
)
def test_text_that_is_not_a_value_of_its_flag_is_refused(name, text, rule):
    assert_raises(lambda: parsed(Example, ["x", f"--{name}={text}"]), ValueError, name, rule, text)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        *[("size", value, INTEGER) for value in ("3", 3.0, True, None, [3])],
        *[("low", value, NUMBER) for value in ("0.5", True, None)],
        *[
            ("place", 5, TEXT),
            ("loud", 1, BOOL),
            ("maybe", "5", INTEGER),
            ("maybe", False, INTEGER),
        ],
        *[("folder", 5, "a path"), ("kind", "c", "a or b"), ("kind", ["a"], TEXT)],
    ],
)
def test_a_value_of_another_type_is_refused(name, value, rule):
    values = {**asdict(Example("here")), name: value}
    assert_raises(lambda: from_dict([Example], values), ValueError, name, rule, repr(value))


def test_from_dict_refuses_an_integer_too_large_for_a_float():
    values = {**dataclasses.asdict(Example("here")), "low": 10**400}
    assert_raises(lambda: from_dict([Example], values), ValueError, "low", "float", "1329 bits")


def test_an_integer_is_taken_for_a_float_and_text_for_a_path():
    values = {**asdict(Example("here")), "low": 2, "maybe": None, "folder": "there"}
    [found] = from_dict([Example], values)
    assert found == Example("here", low=2.0, folder=Path("there"))
    assert type(found.low) is float


def test_missing_and_unknown_settings_are_listed():
    values = {"place": "x", "width": 1, "size": 3, "loud": True, "colour": 2}
    parts = ("Example", "unknown ['colour', 'width']", "'folder', 'high', 'kind', 'low', 'maybe'")
    assert_raises(lambda: from_dict([Example], values), ValueError, *parts)
    assert_raises(
        lambda: from_dict((Example, Training), values), ValueError, "Example and Training"
    )


@pytest.mark.parametrize("layer", DEFAULTS)
def test_settings_survive_a_dict_and_json(layer):
    values = json.loads(json.dumps(to_dict(*DEFAULTS[layer])))
    assert from_dict((Settings, Training), values) == list(DEFAULTS[layer])


def test_only_the_choices_of_a_literal_are_accepted():
    assert_raises(
        lambda: check_choices(Example("x", kind="c")), ValueError, "kind", "a or b", "'c'"
    )
    check_choices(Example("x"))


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls in WITH_CHOICES
        for name, field in field_types(cls).items()
        if field.choices
    ],
)
def test_an_unknown_choice_is_refused_when_settings_are_built(cls, name):
    needed = WITH_CHOICES[cls]
    cls(**needed)
    choices = field_types(cls)[name].choices
    assert_raises(
        lambda: cls(**needed, **{name: "unknown"}), ValueError, name, *choices, "'unknown'"
    )


def test_the_choices_are_the_names_of_the_tables():
    hints = get_type_hints(Launch)
    assert get_type_hints(ValidateSettings)["precision"] == hints["precision"]
    assert get_args(hints["precision"]) == ("auto", *PRECISIONS)
    assert get_args(hints["strategy"]) == STRATEGIES
    assert set(KEPT_ON_RESUME) <= hints.keys()


# ## From flags and files to dataclasses


def test_flags_override_the_file_which_overrides_the_defaults_of_its_layer(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("layer: transformer\nlr: 1\nsteps: 500\nlabml: false\ndata: there\n")
    line = [f"--config={path}", "--steps=600", "--devices=2"]
    settings, training, launched = read_flags(EXPERIMENT, line)
    default, training_default = DEFAULTS["transformer"]
    assert settings == default
    assert training == dataclasses.replace(training_default, lr=1.0, steps=600)
    assert launched == Launch(config=path, devices=2, labml=False, data=Path("there"))
    assert read_flags(EXPERIMENT, [*line, "--layer=amlp"])[0] == DEFAULTS["amlp"][0]


# ## Examples of the docstrings


@pytest.mark.parametrize("module", [contract, launch, order, types])
def test_the_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


# ## Ranges


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"batch": -4}, "above 0"),
        ({"evaluate_every": 0}, "above 0"),
        ({"lr": math.nan}, "above 0"),
        ({"lr": math.inf}, "finite"),
        ({"clip": math.inf}, "finite"),
        ({"clip": -1.0}, "above 0"),
        ({"steps": 50, "warmup": 50}, "[0, steps=50)"),
        ({"warmup": -1}, "[0, steps=2000)"),
        ({"weight_decay": -0.5}, "finite and at least 0"),
        ({"beta1": 1.0}, "[0, 1)"),
        ({"beta2": math.nan}, "[0, 1)"),
        ({"seed": 2**31}, "[0, 2**31)"),
        ({"seed": -1}, "[0, 2**31)"),
        ({"ema": 1.0}, "[0, 1)"),
        ({"ema": -0.1}, "[0, 1)"),
        ({"eps": 0.0}, "above 0"),
        ({"eps": math.inf}, "finite"),
    ],
)
def test_training_out_of_range_is_refused(values, rule):
    name, value = list(values.items())[-1]
    assert_raises(lambda: Training(**values), ValueError, name, rule, value)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"d_model": 0}, "above 0"),
        ({"n_tokens": -1}, "above 0"),
        ({"vocabulary": "words"}, "characters, bytes or bpe"),
        ({"dropout": 1.0}, "[0, 1)"),
        ({"dropout": math.nan}, "[0, 1)"),
    ],
)
def test_settings_out_of_range_are_refused(values, rule):
    name, value = list(values.items())[-1]
    assert_raises(lambda: Settings(**values), ValueError, name, rule, value)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"devices": 0}, "above 0"),
        ({"accumulate": -1}, "above 0"),
        ({"workers": -1}, "at least 0"),
        ({"strategy": "dp"}, "ddp or fsdp"),
        ({"precision": "half"}, "auto, float32 or bf16"),
        ({"resume": Path("there"), "run": Path("here")}, "resume"),
    ],
)
def test_a_launch_out_of_range_is_refused(values, rule):
    name, value = list(values.items())[-1]
    assert_raises(lambda: Launch(**values), ValueError, name, rule, value)


def test_settings_at_the_edge_of_their_range_are_accepted():
    Training(steps=1, warmup=0, weight_decay=0, beta1=0, beta2=0, seed=2**31 - 1, ema=0, eps=1e-300)
    Settings(d_model=1, dropout=0)
    Launch(devices=1, accumulate=1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("size must be even, got 3"), "size must be even, got 3"),
        (TypeError("mask must be bool"), "mask must be bool"),
        (FileNotFoundError(2, "No such file", "there.txt"), "there.txt: No such file"),
        (
            RuntimeError("can't allocate memory: 9 GB\nframe 1\nframe 2"),
            "model must fit into memory, got: can't allocate memory: 9 GB",
        ),
        (RuntimeError("Error(s) in loading state_dict"), "Error(s) in loading state_dict"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_of_a_check_is_one_line_for_the_user(error, message):
    def check():
        with user_errors():
            raise error

    assert_raises(check, UserError, message)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        torch.tensor(1 // 0)
