"""The table itself, on small made-up systems."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.table import Row, Table, layers_of, shaped
from tests.support.helpers import assert_raises, properties

SIZES = {"d": 2, "e": 3, "n": 4, "c": 5, "p": 6, "q": 7}

TABLE = Table(
    "another",
    rows=(
        Row("patches.weight", "stem", "d c p q", reshape="d (c p q)"),
        Row("layers.{i}.up", "block_{i}/up", "e d", transpose=True),
        Row("layers.{i}.mix", "block_{i}/mix", "n n", transpose=True),
        Row("layers.{i}.bias", "block_{i}/bias", "n", reshape="1 n", optional=True),
        Row("head", "head", "3d"),
    ),
    n_layers=2,
    sizes={"c": 5, "p": 6, "q": 7},
    ignored=("block_{i}/counter",),
)


def theirs() -> dict[str, torch.Tensor]:
    shapes = {
        "stem": (2, 210),
        "block_0/up": (2, 3),
        "block_0/mix": (4, 4),
        "block_0/bias": (1, 4),
        "block_1/up": (2, 3),
        "block_1/mix": (4, 4),
        "block_1/bias": (1, 4),
        "head": (6,),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def assert_same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].shape == value.shape
        assert torch.equal(got[name], value), name


def test_names_are_translated_and_values_laid_as_here():
    state = theirs()
    ours = TABLE.to_ours(state)
    assert list(ours) == [
        "patches.weight",
        "layers.0.up",
        "layers.0.mix",
        "layers.0.bias",
        "layers.1.up",
        "layers.1.mix",
        "layers.1.bias",
        "head",
    ]
    assert torch.equal(ours["patches.weight"], state["stem"].view(2, 5, 6, 7))
    assert torch.equal(ours["layers.1.up"], state["block_1/up"].T)
    # Square, so that no shape would tell.
    assert torch.equal(ours["layers.1.mix"], state["block_1/mix"].T)
    assert torch.equal(ours["layers.0.bias"], state["block_0/bias"][0])
    assert all(value.is_contiguous() for value in ours.values())


def test_there_and_back_is_the_same_in_bytes_and_in_order():
    state = theirs()
    assert_same(TABLE.to_theirs(TABLE.to_ours(state)), state)
    ours = TABLE.to_ours(state)
    assert_same(TABLE.to_ours(TABLE.to_theirs(ours)), ours)


@properties
@given(data=st.data(), transpose=st.booleans(), flip=st.booleans(), scale=st.sampled_from([1, 4]))
def test_any_order_of_axes_is_undone(data, transpose, flip, scale):
    letters = data.draw(st.lists(st.sampled_from("decpq"), min_size=2, max_size=4, unique=True))
    moved = data.draw(st.permutations(letters))
    # Any two neighbours may be written as one axis, and there may be an axis of one.
    at = data.draw(st.integers(0, len(moved) - 2))
    together = [*moved[:at], f"({moved[at]} {moved[at + 1]})", *moved[at + 2 :], "1"]
    if transpose:
        row = Row("a", "b", " ".join(letters[:2]), transpose=True, flip=flip, scale=scale)
    else:
        row = Row("a", "b", " ".join(letters), reshape=" ".join(together), flip=flip, scale=scale)
    table = Table("another", (row,), sizes=SIZES)
    shape = [SIZES[letter] for letter in (letters[:2] if transpose else letters)]
    ours = {"a": torch.arange(float(torch.Size(shape).numel())).view(shape)}
    there = table.to_theirs(ours)
    assert_same(table.to_ours(there), ours)
    # By an einsum, which reads letters in its own way.
    if not transpose and not flip:
        want = torch.einsum(f"{''.join(letters)}->{''.join(moved)}", ours["a"]).flatten()
        assert torch.equal(there["b"].flatten() * scale, want)


def test_the_last_axis_is_turned_round_and_the_values_are_scaled():
    table = Table("another", (Row("a", "b", "e", flip=True, scale=4.0),))
    assert table.to_ours({"b": torch.tensor([1.0, 2.0])})["a"].tolist() == [8.0, 4.0]


def test_one_error_lists_everything_that_is_missing_left_over_or_of_another_shape():
    state = theirs()
    del state["block_1/mix"], state["block_0/up"], state["block_1/bias"]
    state["head"], state["stem"] = torch.zeros(7), torch.zeros(2, 3)
    state |= {
        "unknown": torch.zeros(1),
        "block_2/up": torch.zeros(1),
        "block_1/counter": state["head"],
    }
    assert_raises(
        lambda: TABLE.to_ours(state),
        WeightsError,
        "the weights do not fit another; missing: block_0/up, block_1/mix; "
        "left over: unknown, block_2/up; "
        "of another shape: stem must be [d (c p q)] = [2 210], got [2, 3], "
        "head must be [3d] = [6], got [7]",
    )


def test_the_other_direction_lists_as_much():
    ours = TABLE.to_ours(theirs())
    del ours["head"]
    ours |= {"more": torch.zeros(1), "layers.1.mix": torch.zeros(4, 5)}
    assert_raises(
        lambda: TABLE.to_theirs(ours),
        WeightsError,
        "these weights cannot be written for another; missing: head; left over: more; "
        "of another shape: layers.1.mix must be [n n] = [4 4], got [4, 5]",
    )


def test_a_letter_means_one_length_everywhere():
    table = Table("another", (Row("a", "a", "n d"), Row("b", "b", "n")))
    table.to_ours({"a": torch.zeros(3, 2), "b": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"b must be \[n\] = \[3\], got \[2\]"):
        table.to_ours({"a": torch.zeros(3, 2), "b": torch.zeros(2)})


def test_a_row_without_a_shape_takes_any():
    table = Table("another", (Row("a", "b"), Row("c", "d", transpose=True)))
    state = {"b": torch.randn(1, 2, 3), "d": torch.randn(2, 3)}
    ours = table.to_ours(state)
    assert torch.equal(ours["c"], state["d"].T)
    assert_same(table.to_theirs(ours), state)


def test_types_are_kept():
    for dtype in (torch.float64, torch.bfloat16):
        ours = TABLE.to_ours(shaped(lambda value, to=dtype: value.to(to), theirs()))
        assert {value.dtype for value in ours.values()} == {dtype}


def test_layers_are_counted_up_to_the_last():
    names = ["a.0.b", "a.3.b.weight", "a.9.c", "xa.12.b", "a.x.b"]
    assert layers_of(names, "a.{i}.b") == 4
    assert layers_of(names, "a.{i}.") == 10
    assert layers_of(names, "q.{i}") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ours": "a.{i}", "theirs": "b"},
            "{i} must be in both names, got 'a.{i}' and 'b'",
        ),
        (
            {"ours": "a", "theirs": "b", "shape": "d e", "reshape": "d (n e)"},
            "reshape must have the letters of shape='d e', got 'd (n e)'",
        ),
        (
            {"ours": "a", "theirs": "b", "shape": "d e", "reshape": "e d", "transpose": True},
            "reshape must be None beside transpose, got 'e d'",
        ),
        (
            {"ours": "a", "theirs": "b", "shape": "d e n", "transpose": True},
            "transpose needs a shape of two axes, got 'd e n'",
        ),
    ],
)
def test_a_row_that_says_nothing_clear_is_refused(arguments, message):
    assert_raises(lambda: Row(**arguments), ValueError, message)
