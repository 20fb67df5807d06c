"""Settings, and the flags and help texts that are made from them."""

import dataclasses
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.autoregressive import DEFAULTS
from experiments.autoregressive import AutoregressiveSettings as Settings
from experiments.autoregressive import SampleSettings as Sample
from experiments.engine.experiment import Training
from experiments.engine.launch import Launch
from experiments.engine.settings.errors import UserError, user_errors
from experiments.engine.settings.flags import (
    Parser,
    add_flags,
    field_help,
    first_difference,
    from_dict,
    given_values,
)
from tests.support.helpers import assert_raises
from tests.support.small_runs import experiment

CLASSES = [Settings, Training, Launch, Sample]


@dataclass(frozen=True)
class Example:
    r"""
    * `place` is where
    * `size` is a share of 100 %, in `units`
      of $x$
    * `low` and `high` are limits
    * `maybe` may be absent
    * `loud` says it aloud
    """

    place: str
    size: int = 3
    low: float = 0.5
    high: float = 1.5
    maybe: int | None = None
    loud: bool = True


def both(layer: str) -> dict[str, Any]:
    """The defaults of a layer as they are written down."""
    return {name: v for values in DEFAULTS[layer] for name, v in asdict(values).items()}


def parser_of(cls: type, defaults: object = None) -> Parser:
    parser = Parser("program", "[--flag value ...]")
    add_flags(parser, cls, defaults)
    return parser


def shown_defaults(text: str) -> dict[str, str]:
    """From `--help`: the default of each flag that shows one."""
    entries = re.split(r"\n  (?=--)", text)[1:]
    return {
        re.match(r"--([\w-]+)", entry)[1].replace("-", "_"): found[1]
        for entry in entries
        if (found := re.search(r"\(default:\s+(\S+?)[\s)]", entry))
    }


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_has_a_help_text_in_plain_words(cls):
    texts = field_help(cls)
    assert list(texts) == [field.name for field in dataclasses.fields(cls)]
    for text in texts.values():
        assert re.fullmatch(r"[^`$\\\n]{10,}", text)


@pytest.mark.parametrize("cls", CLASSES)
def test_no_bullet_names_a_field_that_does_not_exist(cls):
    named = re.findall(r"^ *\* (`.+?`)(?= [^a`])", cls.__doc__, re.MULTILINE)
    names = {name for names in named for name in re.findall(r"`(\w+)`", names)}
    assert names <= {field.name for field in dataclasses.fields(cls)}


def test_a_field_without_a_bullet_is_an_error():
    with pytest.raises(KeyError, match="size"):
        field_help(dataclasses.make_dataclass("Bare", [("size", int, 3)]))


def test_fields_may_share_a_bullet_and_a_bullet_may_take_two_lines():
    texts = field_help(Example)
    assert texts["low"] == texts["high"] == "limits"
    assert texts["size"] == "a share of 100 %, in units of x"


def test_a_field_is_a_flag_of_its_type_and_one_without_a_default_is_positional():
    line = ["here", "--size", "7", "--low", "2", "--maybe", "5", "--no-loud"]
    assert vars(parser_of(Example).parse_args(line)) == {
        "place": "here",
        "size": 7,
        "low": 2.0,
        "maybe": 5,
        "loud": False,
    }


def test_a_given_flag_is_told_from_a_default_even_if_it_has_the_same_value():
    parser = parser_of(Training)
    assert given_values(Training, parser.parse_args([])) == {}
    asked = given_values(Training, parser.parse_args(["--steps", str(Training.steps)]))
    assert asked == {"steps": Training.steps}


def test_given_takes_the_fields_of_its_class_only():
    parser = parser_of(Training)
    add_flags(parser, Launch)
    namespace = parser.parse_args(["--steps", "5", "--device", "cpu"])
    assert given_values(Training, namespace) == {"steps": 5}
    assert given_values(Launch, namespace) == {"device": "cpu"}


def test_the_help_shows_the_defaults_of_the_instance_or_else_those_of_the_class(capsys):
    for defaults, size in ((None, "3"), (Example("x", size=9), "9")):
        with pytest.raises(SystemExit, match=r"^0$"):
            parser_of(Example, defaults).parse_args(["--help"])
        shown = shown_defaults(capsys.readouterr().out)
        assert shown == {"size": size, "low": "0.5", "high": "1.5", "loud": "True"}


@pytest.mark.parametrize("layer", DEFAULTS)
@pytest.mark.parametrize("given_as", ["--layer {}", "--layer={}"])
def test_the_help_shows_the_defaults_of_the_layer_asked_for(layer, given_as, capsys):
    assert experiment(*given_as.format(layer).split(), "--help") == 0
    shown = shown_defaults(capsys.readouterr().out)
    want = {name: str(value) for name, value in both(layer).items()}
    assert {name: shown[name] for name in want} == want


def test_without_a_layer_the_help_shows_the_defaults_of_gmlp(capsys):
    assert experiment("--help") == 0
    assert shown_defaults(capsys.readouterr().out)["d_ffn"] == str(Settings().d_ffn)


def test_the_layers_differ_in_their_other_defaults():
    assert DEFAULTS["gmlp"] == (Settings(), Training())
    assert list(DEFAULTS) == [settings.layer for settings, _ in DEFAULTS.values()]
    differing = {
        layer: {name for name, value in both(layer).items() if value != both("gmlp")[name]}
        for layer in DEFAULTS
    }
    assert {"layer", "d_ffn", "n_layers", "lr"} <= differing["transformer"]
    # The same data, in the same order, for the same number of steps.
    common = {"corpus", "vocabulary", "seq_len", "batch", "steps", "seed", "evaluate_every", "ema"}
    assert not any(names & common for names in differing.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--size three", "argument --size: invalid int value: 'three'"),
        ("--size 1e3", "argument --size: invalid int value: '1e3'"),
        ("--low high", "argument --low: invalid float value: 'high'"),
        ("--maybe None", "argument --maybe: invalid int value: 'None'"),
        ("--size", "argument --size: expected one argument"),
        ("--siz 4", "unrecognized arguments: --siz 4"),
        ("--colour 4", "unrecognized arguments: --colour 4"),
        ("there", "unrecognized arguments: there"),
    ],
)
def test_a_bad_flag_exits_with_status_2_and_one_line(line, message, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        parser_of(Example).parse_args(["here", *line.split()])
    printed = capsys.readouterr()
    assert printed.err == f"program: error: {message} (--help lists the arguments)\n"
    assert printed.out == ""


@pytest.mark.parametrize("layer", DEFAULTS)
def test_settings_survive_the_way_through_a_dict(layer):
    assert from_dict((Settings, Training), both(layer)) == list(DEFAULTS[layer])


def test_from_dict_names_what_is_missing_and_what_is_unknown():
    values = {"place": "x", "width": 1, "size": 3, "loud": True, "colour": 2}
    message = (
        "settings must be those of Example, got unknown ['colour', 'width'], "
        "missing ['high', 'low', 'maybe']"
    )
    assert_raises(lambda: from_dict([Example], values), ValueError, message)
    message = "settings must be those of Example and Training, got unknown ['colour', 'width'], "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        from_dict((Example, Training), values)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        *[("size", "3", "int"), ("size", 3.0, "int"), ("size", True, "int"), ("size", None, "int")],
        *[("low", "0.5", "float"), ("place", 5, "str"), ("loud", 1, "bool"), ("maybe", "5", "int")],
    ],
)
def test_from_dict_names_a_value_of_another_type(name, value, kind):
    values = {**asdict(Example("here")), name: value}
    message = f"{name} must be of type {kind}, got {value!r}"
    assert_raises(lambda: from_dict([Example], values), ValueError, message)


def test_from_dict_takes_a_whole_number_for_a_float_and_none_where_it_may_stand():
    values = {**asdict(Example("here")), "low": 2, "maybe": None}
    assert from_dict([Example], values) == [Example("here", low=2)]


def test_changed_finds_the_first_field_that_differs_and_none_if_all_are_equal():
    present = asdict(Example("here"))
    assert first_difference({"place": "here", "size": 3}, present) is None
    assert first_difference({"place": "here", "size": 4, "low": 9.0}, present) == ("size", 4, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": -4}, "batch must be above 0, got -4"),
        ({"evaluate_every": 0}, "evaluate_every must be above 0, got 0"),
        ({"lr": math.nan}, "lr must be above 0, got nan"),
        ({"lr": math.inf}, "lr must be finite, got inf"),
        ({"clip": math.inf}, "clip must be finite, got inf"),
        ({"clip": -1.0}, "clip must be above 0, got -1.0"),
        ({"steps": 50, "warmup": 50}, "warmup must lie in [0, steps=50), got 50"),
        ({"warmup": -1}, "warmup must lie in [0, steps=2000), got -1"),
        ({"weight_decay": -0.5}, "weight_decay must be finite and at least 0, got -0.5"),
        ({"beta1": 1.0}, "beta1 must lie in [0, 1), got 1.0"),
        ({"beta2": math.nan}, "beta2 must lie in [0, 1), got nan"),
        ({"seed": 2**31}, "seed must lie in [0, 2**31), got 2147483648"),
        ({"seed": -1}, "seed must lie in [0, 2**31), got -1"),
        ({"ema": 1.0}, "ema must lie in [0, 1), got 1.0"),
        ({"ema": -0.1}, "ema must lie in [0, 1), got -0.1"),
        ({"eps": 0.0}, "eps must be above 0, got 0.0"),
        ({"eps": math.inf}, "eps must be finite, got inf"),
    ],
)
def test_training_out_of_range_is_refused(values, message):
    assert_raises(lambda: Training(**values), ValueError, message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"d_model": 0}, "d_model must be above 0, got 0"),
        ({"n_tokens": -1}, "n_tokens must be above 0, got -1"),
        ({"vocabulary": "words"}, "vocabulary must be characters, bytes or bpe, got 'words'"),
        ({"dropout": 1.0}, "dropout must lie in [0, 1), got 1.0"),
        ({"dropout": math.nan}, "dropout must lie in [0, 1), got nan"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    assert_raises(lambda: Settings(**values), ValueError, message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"devices": 0}, "devices must be above 0, got 0"),
        ({"accumulate": -1}, "accumulate must be above 0, got -1"),
        (
            {"run": Path("here"), "resume": Path("there")},
            "run must be left out beside resume, got here",
        ),
    ],
)
def test_a_launch_that_makes_no_sense_is_refused(values, message):
    assert_raises(lambda: Launch(**values), ValueError, message)


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
def test_what_checks_raise_becomes_one_line_for_the_caller(error, message):
    def check():
        with user_errors():
            raise error

    assert_raises(check, UserError, message)


def test_a_mistake_of_our_own_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        torch.tensor(1 // 0)
