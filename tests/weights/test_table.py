"""Tables of names, on small invented systems."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.translate.table import Row, Table, count_layers
from tests.support.helpers import assert_raises, properties
from tests.support.packages import assert_same

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


def test_names_are_translated_and_values_take_our_layout():
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
    # Square, so the shape does not show a missing transpose.
    assert torch.equal(ours["layers.1.mix"], state["block_1/mix"].T)
    assert torch.equal(ours["layers.0.bias"], state["block_0/bias"][0])
    assert all(value.is_contiguous() for value in ours.values())


def test_a_round_trip_keeps_bytes_and_order():
    state = theirs()
    assert_same(TABLE.to_theirs(TABLE.to_ours(state)), state)
    ours = TABLE.to_ours(state)
    assert_same(TABLE.to_ours(TABLE.to_theirs(ours)), ours)


@properties
@given(data=st.data(), transpose=st.booleans(), flip=st.booleans(), scale=st.sampled_from([1, 4]))
def test_a_round_trip_undoes_any_order_of_axes(data, transpose, flip, scale):
    letters = data.draw(st.lists(st.sampled_from("decpq"), min_size=2, max_size=4, unique=True))
    moved = data.draw(st.permutations(letters))
    # Two adjacent axes are flattened into one, and an axis of length one is added.
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
    # The oracle is einsum.
    if not transpose and not flip:
        want = torch.einsum(f"{''.join(letters)}->{''.join(moved)}", ours["a"]).flatten()
        assert torch.equal(there["b"].flatten() * scale, want)


def test_the_last_axis_is_flipped_and_the_values_are_scaled():
    table = Table("another", (Row("a", "b", "e", flip=True, scale=4.0),))
    assert table.to_ours({"b": torch.tensor([1.0, 2.0])})["a"].tolist() == [8.0, 4.0]


def test_one_error_lists_missing_and_unexpected_names_and_wrong_shapes():
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
        "another",
        "missing: block_0/up, block_1/mix;",
        "unexpected: unknown, block_2/up;",
        "stem",
        "[d (c p q)] = [2 210]",
        "[2, 3]",
        "head",
        "[3d] = [6]",
        "[7]",
    )


def test_one_error_lists_all_faults_of_the_other_direction():
    ours = TABLE.to_ours(theirs())
    del ours["head"]
    ours |= {"more": torch.zeros(1), "layers.1.mix": torch.zeros(4, 5)}
    assert_raises(
        lambda: TABLE.to_theirs(ours),
        WeightsError,
        "another",
        "missing: head;",
        "unexpected: more;",
        "layers.1.mix",
        "[n n] = [4 4]",
        "[4, 5]",
    )


def test_a_letter_has_the_same_length_everywhere():
    table = Table("another", (Row("a", "a", "n d"), Row("b", "b", "n")))
    table.to_ours({"a": torch.zeros(3, 2), "b": torch.zeros(3)})
    wrong = {"a": torch.zeros(3, 2), "b": torch.zeros(2)}
    assert_raises(lambda: table.to_ours(wrong), WeightsError, "b must be [n] = [3], got [2]")


def test_a_row_without_a_shape_accepts_any_shape():
    table = Table("another", (Row("a", "b"), Row("c", "d", transpose=True)))
    state = {"b": torch.randn(1, 2, 3), "d": torch.randn(2, 3)}
    ours = table.to_ours(state)
    assert torch.equal(ours["c"], state["d"].T)
    assert_same(table.to_theirs(ours), state)


def test_dtypes_are_kept():
    for dtype in (torch.float64, torch.bfloat16):
        ours = TABLE.to_ours({name: value.to(dtype) for name, value in theirs().items()})
        assert {value.dtype for value in ours.values()} == {dtype}


def test_layers_are_counted_up_to_the_largest_index():
    names = ["a.0.b", "a.3.b.weight", "a.9.c", "xa.12.b", "a.x.b"]
    assert count_layers(names, "a.{i}.b") == 4
    assert count_layers(names, "a.{i}.") == 10
    assert count_layers(names, "q.{i}") == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"ours": "a.{i}"}, ("{i}", "'a.{i}'", "'b'")),
        ({"shape": "d e", "reshape": "d (n e)"}, ("reshape", "shape='d e'", "'d (n e)'")),
        ({"shape": "d e", "reshape": "e d", "transpose": True}, ("reshape", "transpose", "'e d'")),
        ({"shape": "d e n", "transpose": True}, ("transpose", "'d e n'")),
    ],
)
def test_an_invalid_row_is_refused(arguments, parts):
    assert_raises(lambda: Row(**{"ours": "a", "theirs": "b", **arguments}), ValueError, *parts)
